#include <gtest/gtest.h>

#include <algorithm>

#include "compiler/ir/text.h"
#include "tests/ir/support.h"

namespace weft::ir {
namespace {

using test::append;
using test::error_of;

const Type matrix{DType::f32, {2, 2}};

struct Failure {
  const char* label;
  void (*damage)(Graph& graph);
  const char* expected;
};

Node*& top(Graph& graph, std::size_t index) { return graph.body().nodes[index]; }
Region& loop_body(Graph& graph) { return *top(graph, 2)->regions[0]; }

class VerifyFailure : public testing::TestWithParam<Failure> {};

TEST_P(VerifyFailure, NamesTheNode) {
  Graph graph = test::example();
  verify(graph, "before");
  GetParam().damage(graph);
  EXPECT_EQ(error_of([&] { verify(graph, "pass"); }), std::string("pass: ") + GetParam().expected);
}

const Failure failures[] = {
    {"null_node", [](Graph& g) { top(g, 3) = nullptr; }, "a null node in a region"},
    {"no_op", [](Graph& g) { top(g, 3)->op = nullptr; }, "node without an op(): has no op"},
    {"foreign_id", [](Graph& g) { top(g, 3)->id = 1000; }, "iota2(): belongs to another graph"},
    {"same_id", [](Graph& g) { top(g, 3)->id = top(g, 0)->id; },
     "iota2(): shares its id with another node"},
    {"twice", [](Graph& g) { g.body().nodes.push_back(top(g, 3)); },
     "iota2(): stands twice in the graph"},
    {"parent", [](Graph& g) { top(g, 3)->parent = &loop_body(g); },
     "iota2(): its parent is not the region that it stands in"},
    {"owner", [](Graph& g) { loop_body(g).owner = top(g, 0); },
     "loop(f32[2, 2], f32[2, 2]): owns a region whose owner is another node"},
    {"null_region", [](Graph& g) { top(g, 2)->regions[0] = nullptr; },
     "loop(f32[2, 2], f32[2, 2]): has a null region"},
    {"top_level_arguments", [](Graph& g) { test::argument(g, g.body(), matrix); },
     "the top level has arguments"},
    {"top_level_yields", [](Graph& g) { g.body().yields.push_back(top(g, 0)->result()); },
     "the top level yields values"},
    {"argument_among_nodes",
     [](Graph& g) {
       test::argument(g, g.body(), matrix);
       g.body().nodes.push_back(g.body().arguments[0]);
       g.body().arguments.clear();
     },
     "argument(): stands among the nodes of a region"},
    {"node_among_arguments", [](Graph& g) { loop_body(g).arguments[0]->op = test::op("iota2"); },
     "iota2(): stands among a body's arguments"},
    {"argument_types", [](Graph& g) { loop_body(g).arguments[0]->results.push_back(matrix); },
     "argument(): a body's argument needs one type"},
    {"null_operand", [](Graph& g) { top(g, 4)->operands[0] = {}; },
     "state_write(?): operand 0 is null"},
    {"null_yield", [](Graph& g) { loop_body(g).yields[1] = {}; },
     "loop(f32[2, 2], f32[2, 2]): yield 1 is null"},
    {"result_index", [](Graph& g) { top(g, 4)->operands[0].index = 2; },
     "state_write(?): operand 0 is result 2 of loop(f32[2, 2], f32[2, 2]), which has 2"},
    {"order", [](Graph& g) { std::swap(top(g, 2), top(g, 4)); },
     "state_write(f32[2, 2]): operand 0 is not defined before its use"},
    {"own_result", [](Graph& g) { top(g, 4)->operands[0] = {top(g, 4), 0}; },
     "state_write(?): operand 0 is not defined before its use"},
    {"out_of_scope", [](Graph& g) { top(g, 4)->operands[0] = loop_body(g).nodes[0]->result(); },
     "state_write(f32[2, 2]): operand 0, matmul(f32[2, 2], f32[2, 2]), belongs to a region that "
     "does not enclose its use"},
    {"sibling_region",
     [](Graph& g) {
       Graph& graph = g;
       Region* second = graph.new_region(nullptr);
       test::argument(graph, *second, {DType::i64, {}});
       append(graph, *second, "exp", {loop_body(g).nodes[0]->result()});
       append(graph, graph.body(), "loop", {}, {{"count", std::int64_t{1}}}, {second});
     },
     "exp(f32[2, 2]): operand 0, matmul(f32[2, 2], f32[2, 2]), belongs to a region that does not "
     "enclose its use"},
    {"arity", [](Graph& g) { loop_body(g).nodes[0]->operands.pop_back(); },
     "matmul(f32[2, 2]): takes 2 operands, has 1"},
    {"arity_range", [](Graph& g) { loop_body(g).nodes[1]->operands.clear(); },
     "fill(): takes 1 to 3 operands, has 0"},
    {"region_count", [](Graph& g) { top(g, 2)->regions.clear(); },
     "loop(f32[2, 2], f32[2, 2]): takes 1 region, has 0"},
    {"attribute_missing", [](Graph& g) { top(g, 5)->attributes.erase("every"); },
     "receiver(f32[2, 2], f32[2, 2]): attribute 'every' is missing"},
    {"attribute_unknown", [](Graph& g) { top(g, 3)->attributes.set("axis", std::int64_t{1}); },
     "iota2(): has no attribute 'axis'"},
    {"attribute_kind", [](Graph& g) { top(g, 5)->attributes.set("every", 1.0); },
     "receiver(f32[2, 2], f32[2, 2]): attribute 'every' is a real, not an integer"},
    {"attribute_twice",
     [](Graph& g) {
       top(g, 4)->attributes = {{"name", std::string("0.weight")}, {"name", std::string("b")}};
     },
     "state_write(f32[2, 2]): attribute 'name' is set twice"},
    {"shape_rule",
     [](Graph& g) { loop_body(g).nodes[2]->operands[1] = loop_body(g).arguments[0]->result(); },
     "add(f32[2, 2], i64[]): shapes differ: f32[2, 2] and i64[]"},
    {"result_types", [](Graph& g) { loop_body(g).nodes[0]->results[0].dtype = DType::f16; },
     "matmul(f32[2, 2], f32[2, 2]): has f16[2, 2], its shape rule gives f32[2, 2]"},
    {"negative_extent",
     [](Graph& g) { top(g, 0)->attributes.set("shape", std::vector<std::int64_t>{2, -2}); },
     "state(): type f32[2, -2] has a negative extent"},
    {"too_many_elements",
     [](Graph& g) {
       top(g, 0)->attributes.set("shape", std::vector<std::int64_t>(8, std::int64_t{1} << 32));
     },
     "state(): shape [4294967296, 4294967296, 4294967296, 4294967296, 4294967296, 4294967296, "
     "4294967296, 4294967296] has too many elements"},
    {"loop_arguments",
     [](Graph& g) {
       loop_body(g).yields[1] = loop_body(g).yields[0];
       loop_body(g).nodes.pop_back();
       loop_body(g).yields = {loop_body(g).nodes[0]->result(), loop_body(g).nodes[0]->result()};
       loop_body(g).arguments.pop_back();
     },
     "loop(f32[2, 2], f32[2, 2]): the body has 2 arguments and needs 3: the index and one for "
     "each operand"},
    {"loop_index", [](Graph& g) { loop_body(g).arguments[0]->results[0].dtype = DType::i32; },
     "loop(f32[2, 2], f32[2, 2]): argument 0 of the body is i32[], not i64[]"},
    {"loop_argument_type",
     [](Graph& g) {
       top(g, 2)->operands[1] = append(g, g.body(), "iota2", {})->result(1);
       std::rotate(g.body().nodes.begin(), g.body().nodes.end() - 1, g.body().nodes.end());
     },
     "loop(f32[2, 2], f32[]): argument 2 of the body is f32[2, 2], not f32[]"},
    {"loop_yields", [](Graph& g) { loop_body(g).yields.pop_back(); },
     "loop(f32[2, 2], f32[2, 2]): the body yields 1 value and carries 2"},
    {"loop_yield_type",
     [](Graph& g) { loop_body(g).yields[0] = loop_body(g).arguments[0]->result(); },
     "loop(f32[2, 2], f32[2, 2]): yield 0 is i64[], the carried value is f32[2, 2]"},
    {"loop_count", [](Graph& g) { top(g, 2)->attributes.set("count", std::int64_t{-1}); },
     "loop(f32[2, 2], f32[2, 2]): count is negative"},
    {"state_types",
     [](Graph& g) {
       append(g, g.body(), "state_write", {top(g, 3)->result(1)},
              {{"name", std::string("moment \"1\"\n")}});
     },
     "state_write(f32[]): state 'moment \"1\"\n' is f32[] here and f32[2, 2] before"},
    {"state_written_twice",
     [](Graph& g) {
       append(g, g.body(), "state_write", {top(g, 0)->result()},
              {{"name", std::string("0.weight")}});
     },
     "state_write(f32[2, 2]): state '0.weight' is written twice"},
    {"state_written_in_a_body",
     [](Graph& g) {
       append(g, loop_body(g), "state_write", {loop_body(g).yields[0]},
              {{"name", std::string("other")}});
     },
     "state_write(f32[2, 2]): writes state 'other' in a body; states are written on the top level "
     "only"},
    {"location",
     [](Graph& g) {
       top(g, 3)->attributes.set("axis", std::int64_t{1});
       top(g, 3)->location = {"model.cpp", 7};
     },
     "iota2(): has no attribute 'axis' (model.cpp:7)"},
};

INSTANTIATE_TEST_SUITE_P(Verify, VerifyFailure, testing::ValuesIn(failures),
                         [](const auto& tested) { return std::string(tested.param.label); });

TEST(Verify, ValuesOfAnotherGraphAreNotDefined) {
  Graph graph = test::example();
  Graph other = test::example();
  graph.body().nodes[4]->operands[0] = other.body().nodes[0]->result();
  EXPECT_EQ(error_of([&] { verify(graph, "pass"); }),
            "pass: state_write(f32[2, 2]): operand 0 is not defined before its use");
}

// A scan carries one value and slices another.
Graph scan_graph() {
  Graph graph;
  const Value carried = test::state(graph, "c", {DType::f32, {3}})->result();
  const Value xs = test::state(graph, "xs", {DType::f32, {5, 3}})->result();
  Region* body = graph.new_region(nullptr);
  test::argument(graph, *body, {DType::i64, {}});
  const Value c = test::argument(graph, *body, {DType::f32, {3}})->result();
  const Value x = test::argument(graph, *body, {DType::f32, {3}})->result();
  const Value sum = append(graph, *body, "add", {c, x})->result();
  body->yields = {sum, append(graph, *body, "exp", {sum})->result()};
  append(graph, graph.body(), "scan", {carried, xs},
         {{"length", std::int64_t{5}}, {"carried", std::int64_t{1}}, {"reverse", false}}, {body});
  return graph;
}

TEST(Verify, Scan) {
  Graph graph = scan_graph();
  verify(graph, "pass");
  Node* scan = graph.body().nodes[2];
  EXPECT_EQ(scan->results[1], (Type{DType::f32, {5, 3}}));

  scan->attributes.set("length", std::int64_t{4});
  EXPECT_EQ(error_of([&] { verify(graph, "pass"); }),
            "pass: scan(f32[3], f32[5, 3]): scanned operand 1 is f32[5, 3], its first extent is "
            "not the length 4");
  scan->attributes.set("length", std::int64_t{5});
  scan->attributes.set("carried", std::int64_t{3});
  EXPECT_EQ(error_of([&] { verify(graph, "pass"); }),
            "pass: scan(f32[3], f32[5, 3]): carries 3 of 2 operands");
  scan->attributes.set("carried", std::int64_t{1});
  scan->regions[0]->yields.clear();
  EXPECT_EQ(error_of([&] { verify(graph, "pass"); }),
            "pass: scan(f32[3], f32[5, 3]): the body yields 0 values and carries 1");
}

}  // namespace
}  // namespace weft::ir
