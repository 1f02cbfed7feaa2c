#include "compiler/ir/graph.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "compiler/ir/text.h"
#include "tests/ir/support.h"

namespace weft::ir {
namespace {

using test::append;
using test::error_of;

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

TEST(Attributes, SetFindErase) {
  Attributes attributes{{"axis", std::int64_t{2}}};
  attributes.set(std::string("sc") + "ale", 0.5);
  attributes.set("axis", std::int64_t{3});
  EXPECT_EQ(attributes.integer("axis"), 3);
  EXPECT_EQ(attributes.real("scale"), 0.5);
  EXPECT_EQ(attributes.entries().size(), 2U);
  EXPECT_EQ(error_of([&] { attributes.real("axis"); }), "attribute 'axis' is not a real");
  EXPECT_EQ(error_of([&] { attributes.flag("keep"); }), "attribute 'keep' is missing");
  attributes.erase("axis");
  EXPECT_FALSE(attributes.has("axis"));
}

TEST(Attributes, Equality) {
  const Attributes one{{"a", 1.0}, {"b", true}};
  EXPECT_EQ(one, (Attributes{{"b", true}, {"a", 1.0}}));
  EXPECT_FALSE(one == (Attributes{{"a", 1.0}}));
  EXPECT_FALSE(one == (Attributes{{"a", 1.0}, {"b", std::int64_t{1}}}));
  EXPECT_EQ((Attributes{{"a", not_a_number}}), (Attributes{{"a", not_a_number}}));
  EXPECT_FALSE((Attributes{{"a", 0.0}}) == (Attributes{{"a", -0.0}}));
  EXPECT_FALSE((Attributes{{"a", std::vector<double>{0.0}}}) ==
               (Attributes{{"a", std::vector<double>{-0.0}}}));
}

TEST(ValueMap, FollowsChainsAndNeverCycles) {
  Graph graph;
  const Value a = append(graph, graph.body(), "iota2", {})->result();
  const Value b = append(graph, graph.body(), "iota2", {})->result();
  const Value c = append(graph, graph.body(), "iota2", {})->result();
  ValueMap map;
  map.set(a, b);
  map.set(b, c);
  EXPECT_EQ(map.get(a), c);
  map.set(c, a);  // would close a cycle
  EXPECT_EQ(map.get(a), c);
  EXPECT_FALSE(map.has(c));
  EXPECT_TRUE(map.has(a));
  EXPECT_FALSE(map.has(a.node->result(1)));
  EXPECT_EQ(map.get(a.node->result(1)), a.node->result(1));
}

TEST(ValueMap, ChainsEndInAnotherGraph) {
  Graph from;
  Graph to;
  const Value a = append(from, from.body(), "iota2", {})->result();
  const Value b = append(from, from.body(), "iota2", {})->result();
  const Value x = append(to, to.body(), "iota2", {})->result();
  const Value y = append(to, to.body(), "iota2", {})->result();
  ValueMap map;
  map.set(a, y);  // y has b's id, x has a's
  map.set(b, x);
  EXPECT_EQ(map.get(a), y);
  EXPECT_EQ(map.get(b), x);
}

TEST(Graph, CloneIsEqualAndIndependent) {
  Graph graph = test::example();
  graph.new_node(test::op("add"));  // a dead node: not copied
  Graph copy = graph.clone();
  std::string difference;
  EXPECT_TRUE(equal(graph, copy, &difference)) << difference;
  EXPECT_EQ(copy.node_count() + 1, graph.node_count());
  verify(copy, "clone");
  // Ids are dense in order of appearance: a region's arguments follow its owner.
  std::uint32_t next = 0;
  const std::function<void(const Region&)> check = [&](const Region& region) {
    for (const Node* argument : region.arguments) EXPECT_EQ(argument->id, next++);
    for (const Node* node : region.nodes) {
      EXPECT_EQ(node->id, next++);
      for (const Region* nested : node->regions) check(*nested);
    }
  };
  check(copy.body());
  EXPECT_EQ(next, copy.node_count());

  const std::string before = print(graph);
  walk(copy.body(), [](Node& node) { node.name = "changed"; });
  EXPECT_EQ(print(graph), before);
}

TEST(Graph, SurvivesAMove) {
  Graph graph = test::example();
  const Node* first = graph.body().nodes[0];
  Graph moved = std::move(graph);
  EXPECT_EQ(moved.body().nodes[0], first);
  verify(moved, "move");
}

TEST(Graph, ReplaceUsesReachesNestedRegionsAndYields) {
  Graph graph = test::example();
  Node* loop = graph.body().nodes[2];
  Region& body = *loop->regions[0];
  ValueMap map;
  map.set(graph.body().nodes[0]->result(), graph.body().nodes[1]->result());
  map.set(body.arguments[2]->result(), body.arguments[1]->result());
  replace_uses(graph.body(), map);
  EXPECT_EQ(loop->operands[0], loop->operands[1]);
  EXPECT_EQ(body.nodes[0]->operands[1].node, graph.body().nodes[1]);
  EXPECT_EQ(body.yields[1].node, body.arguments[1]);
  verify(graph, "replace_uses");
}

TEST(Graph, CloneRegionInlinesABody) {
  Graph graph = test::example();
  Node* loop = graph.body().nodes[2];
  // One iteration of the loop, on the top level: arguments stand for the operands.
  ValueMap map;
  const Region& body = *loop->regions[0];
  Region* copy = graph.new_region(loop);
  map.set(body.arguments[1]->result(), loop->operands[0]);
  clone_region(body, graph, *copy, map);
  ASSERT_EQ(copy->nodes.size(), body.nodes.size());
  EXPECT_EQ(copy->nodes[0]->operands[1], loop->operands[0]);  // from outside: kept
  EXPECT_EQ(copy->yields[0].node, copy->nodes.back());
  EXPECT_EQ(copy->yields[1].node, copy->arguments[2]);
  EXPECT_EQ(map.get(body.yields[0]), copy->yields[0]);
}

TEST(Graph, WalkVisitsANodeBeforeItsRegions) {
  const Graph graph = test::example();
  std::vector<std::string> ops;
  walk(graph.body(), [&](const Node& node) { ops.emplace_back(node.op->name); });
  EXPECT_EQ(ops, (std::vector<std::string>{"state", "state", "loop", "matmul", "fill", "add",
                                           "iota2", "state_write", "receiver"}));
}

struct Difference {
  const char* label;
  void (*change)(Graph& graph);
  const char* expected;
};

class EqualDifference : public testing::TestWithParam<Difference> {};

TEST_P(EqualDifference, IsReported) {
  const Graph graph = test::example();
  Graph changed = graph.clone();
  GetParam().change(changed);
  std::string difference;
  EXPECT_FALSE(equal(graph, changed, &difference));
  EXPECT_EQ(difference, GetParam().expected);
  EXPECT_FALSE(equal(graph, changed));
}

Region& loop_body(Graph& graph) { return *graph.body().nodes[2]->regions[0]; }

INSTANTIATE_TEST_SUITE_P(
    Graph, EqualDifference,
    testing::Values(
        Difference{"graph_name", [](Graph& g) { g.name = "other"; }, "name: train step and other"},
        Difference{"op", [](Graph& g) { g.body().nodes[3]->op = test::op("receiver"); },
                   "node 3 op: iota2 and receiver"},
        Difference{"name", [](Graph& g) { loop_body(g).nodes[0]->name = "p"; },
                   "node 2 (loop(f32[2, 2], f32[2, 2])) region 0 node 0 (matmul(f32[2, 2], "
                   "f32[2, 2])) name:  and p"},
        Difference{"attribute",
                   [](Graph& g) { g.body().nodes[5]->attributes.set("every", std::int64_t{2}); },
                   "node 5 (receiver(f32[2, 2], f32[2, 2])) attribute 'every': one value and "
                   "another"},
        Difference{"attribute_missing",
                   [](Graph& g) { g.body().nodes[5]->attributes.erase("every"); },
                   "node 5 (receiver(f32[2, 2], f32[2, 2])) attribute 'every': one value and "
                   "none"},
        Difference{"operand", [](Graph& g) { g.body().nodes[4]->operands[0].index = 1; },
                   "node 4 (state_write(f32[2, 2])) operand 0: loop(f32[2, 2], f32[2, 2]) and "
                   "loop(f32[2, 2], f32[2, 2])"},
        Difference{"operand_count", [](Graph& g) { g.body().nodes[5]->operands.pop_back(); },
                   "node 5 (receiver(f32[2, 2], f32[2, 2])) number of operands: 2 and 1"},
        Difference{"type", [](Graph& g) { g.body().nodes[3]->results[1].shape = {1}; },
                   "node 3 (iota2()) type of result 1: f32[] and f32[1]"},
        Difference{"results", [](Graph& g) { g.body().nodes[3]->results.pop_back(); },
                   "node 3 (iota2()) number of results: 2 and 1"},
        Difference{"yields",
                   [](Graph& g) { std::swap(loop_body(g).yields[0], loop_body(g).yields[1]); },
                   "node 2 (loop(f32[2, 2], f32[2, 2])) region 0 yield 0: add(f32[2, 2], f32[2, "
                   "2]) and argument()"},
        Difference{"arguments", [](Graph& g) { loop_body(g).arguments.pop_back(); },
                   "node 2 (loop(f32[2, 2], f32[2, 2])) region 0 number of arguments: 3 and 2"},
        Difference{"nodes", [](Graph& g) { g.body().nodes.pop_back(); },
                   "number of nodes: 6 and 5"}),
    [](const auto& tested) { return std::string(tested.param.label); });

TEST(Graph, EqualIgnoresIdsAndLocations) {
  const Graph graph = test::example();
  Graph copy("train step");
  copy.new_node(test::op("add"));  // shifts the ids
  ValueMap map;
  clone_region(graph.body(), copy, copy.body(), map);
  copy.body().nodes[0]->location = {"elsewhere.cpp", 1};
  std::string difference;
  EXPECT_TRUE(equal(graph, copy, &difference)) << difference;
}

TEST(Graph, DescribeNamesOpAndTypes) {
  const Graph graph = test::example();
  EXPECT_EQ(describe(*graph.body().nodes[2]), "loop(f32[2, 2], f32[2, 2])");
  Node broken;
  broken.operands = {Value{}};
  EXPECT_EQ(describe(broken), "node without an op(?)");
}

}  // namespace
}  // namespace weft::ir
