#include "compiler/ir/text.h"

#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cstdint>
#include <limits>
#include <random>

#include "tests/ir/support.h"

namespace weft::ir {
namespace {

using test::append;

void expect_round_trip(const Graph& graph) {
  const std::string text = print(graph);
  const Graph read = parse(text, test::table());
  EXPECT_EQ(print(read), text);
  std::string difference;
  EXPECT_TRUE(equal(graph, read, &difference)) << difference << "\n" << text;
}

TEST(Text, PrintsTheExample) { EXPECT_EQ(print(test::example()), test::example_text); }

TEST(Text, RoundTripsTheExample) { expect_round_trip(test::example()); }

TEST(Text, NumbersArePlacesInTheText) {
  // Ids differ from places here, and places are what is printed.
  Graph graph;
  graph.new_node(test::op("add"));
  const Value x = append(graph, graph.body(), "iota2", {})->result(1);
  append(graph, graph.body(), "exp", {x});
  EXPECT_EQ(print(graph),
            "graph @main {\n  %0#0, %0#1 = iota2 : i64[], f32[]\n  %1 = exp %0#1 : f32[]\n}\n");
  EXPECT_EQ(print(graph.clone()), print(graph));
}

TEST(Text, NamesSurviveExactly) {
  const std::vector<std::string> names = {"x",  "x",    "x~2", "12",         "0.weight", "a b",
                                          "%x", "x#1",  ".",   "\"",         "\\",       "\n\r\t",
                                          "é",  "\xff", "a.b", "// comment", "x",        "}"};
  Graph graph("}");
  for (const std::string& name : names) {
    append(graph, graph.body(), "iota2", {})->name = name;
    append(graph, graph.body(), "state", {},
           {{"name", name},
            {"dtype", DType::u8},
            {"shape", std::vector<std::int64_t>{static_cast<std::int64_t>(name.size())}}})
        ->name = name;
  }
  graph.body().nodes.back()->name = std::string("nul\0nul", 7);
  // States of one name have one type.
  for (Node* node : graph.body().nodes) {
    if (node->is("state")) node->attributes.set("name", std::to_string(node->id));
  }
  expect_round_trip(graph);
  const Graph read = parse(print(graph), test::table());
  for (std::size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(read.body().nodes[2 * i]->name, names[i]);
  }
}

TEST(Text, UniqueNames) {
  Graph graph;
  for (int i = 0; i < 3; ++i) append(graph, graph.body(), "iota2", {})->name = "x";
  const Names names(graph);
  EXPECT_EQ(names(*graph.body().nodes[0]), "%x");
  EXPECT_EQ(names(graph.body().nodes[2]->result(1)), "%x~3#1");
  EXPECT_EQ(names(Value{}), "%?");
}

TEST(Text, RealsRoundTripBitwise) {
  using limits = std::numeric_limits<double>;
  std::vector<double> reals = {0.0,
                               -0.0,
                               1.0,
                               -1.0,
                               0.1,
                               1e-300,
                               limits::max(),
                               limits::lowest(),
                               limits::min(),
                               limits::denorm_min(),
                               limits::infinity(),
                               -limits::infinity(),
                               limits::quiet_NaN(),
                               -limits::quiet_NaN(),
                               std::bit_cast<double>(0x7ff8000000000123),
                               9007199254740993.0,
                               1e22,
                               123456789.0,
                               1.0 / 3};
  std::mt19937_64 random(7);
  for (int i = 0; i < 20000; ++i) reals.push_back(std::bit_cast<double>(random()));
  Graph graph;
  const Value x = append(graph, graph.body(), "iota2", {})->result(1);
  append(graph, graph.body(), "fill", {x}, {{"factors", reals}});
  append(graph, graph.body(), "fill", {x}, {{"values", reals}});
  for (std::size_t i = 0; i < 19; ++i) {
    append(graph, graph.body(), "fill", {x}, {{"factor", reals[i]}});
  }
  expect_round_trip(graph);  // attributes compare bitwise
}

TEST(Text, RealsAreShort) {
  EXPECT_EQ(real_text(1), "1.0");
  EXPECT_EQ(real_text(0.1), "0.1");
  EXPECT_EQ(real_text(-0.0), "-0.0");
  EXPECT_EQ(real_text(-1.4427), "-1.4427");
  EXPECT_EQ(real_text(std::numeric_limits<double>::quiet_NaN()), "nan");
  EXPECT_EQ(real_text(-std::numeric_limits<double>::infinity()), "-inf");
}

TEST(Text, NumbersKeepTheirKind) {
  Graph graph;
  const std::vector<std::int64_t> scalar;
  const auto constant = [&](AttributeValue value) {
    append(graph, graph.body(), "constant", {},
           {{"dtype", DType::i64}, {"shape", scalar}, {"value", std::move(value)}});
  };
  constant(std::int64_t{1});
  constant(1.0);
  constant(std::numeric_limits<std::int64_t>::max());
  constant(std::numeric_limits<std::int64_t>::min());
  expect_round_trip(graph);
  const Graph read = parse(print(graph), test::table());
  EXPECT_EQ(read.body().nodes[0]->attributes.integer("value"), 1);
  EXPECT_EQ(read.body().nodes[1]->attributes.real("value"), 1);
}

TEST(Text, AttributeKindsComeFromTheRow) {
  const Graph graph = parse(R"(graph @main {
    %x#0, %x#1 = iota2 : i64[], f32[]
    %y = fill %x#1 {factor = 1, factors = [1, -0, 2.5], values = [1, 2], axes = [3]} : f32[]
    %z = fill %x#1 {values = [1, 2.5], factor = 1e3} : f32[]
  })",
                            test::table());
  const Attributes& y = graph.body().nodes[1]->attributes;
  EXPECT_EQ(y.real("factor"), 1.0);
  EXPECT_EQ((Attributes{{"factors", y.reals("factors")}}),
            (Attributes{{"factors", std::vector<double>{1, -0.0, 2.5}}}));
  EXPECT_EQ(y.integers("values"), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(y.integers("axes"), (std::vector<std::int64_t>{3}));
  const Attributes& z = graph.body().nodes[2]->attributes;
  EXPECT_EQ(z.reals("values"), (std::vector<double>{1, 2.5}));
  EXPECT_EQ(z.real("factor"), 1000);
}

TEST(Text, ReadsHandWrittenText) {
  // Names of one's own for several results, gaps in the numbers, comments, any white space.
  const Graph graph = parse(
      "// a comment\ngraph @main{%w=state{name=\"w\",dtype=f32,shape=[]}:f32[] // the weight\n"
      "%l,%m=loop %w,%w{count=3}(%i:i64[],%a:f32[],%b:f32[]){%58=add %a,%b:f32[]\nyield "
      "%58,%a}:f32[],f32[]\r\n\tstate_write %m{name=\"w\"}}",
      test::table());
  EXPECT_EQ(print(graph), R"(graph @main {
  %w = state {name = "w", dtype = f32, shape = []} : f32[]
  %1#0, %1#1 = loop %w, %w {count = 3} (%i: i64[], %a: f32[], %b: f32[]) {
    %5 = add %a, %b : f32[]
    yield %5, %a
  } : f32[], f32[]
  state_write %1#1 {name = "w"}
}
)");
  expect_round_trip(graph);
}

TEST(Text, EmptyGraphAndEmptyBody) {
  expect_round_trip(Graph("empty"));
  expect_round_trip(Graph(""));
  const Graph graph = parse("graph @g { loop {count = 2} (%i: i64[]) { yield } }", test::table());
  EXPECT_EQ(print(graph), "graph @g {\n  loop {count = 2} (%i: i64[]) {\n  }\n}\n");
  expect_round_trip(graph);
}

TEST(Text, Locations) {
  Graph graph;
  append(graph, graph.body(), "iota2", {})->location = {"a \"b\".cpp", 12};
  EXPECT_EQ(print(graph), "graph @main {\n  %0#0, %0#1 = iota2 : i64[], f32[]\n}\n");
  const std::string text = print(graph, {.locations = true});
  EXPECT_EQ(text,
            "graph @main {\n  %0#0, %0#1 = iota2 : i64[], f32[] @ \"a \\\"b\\\".cpp\":12\n}\n");
  const Graph read = parse(text, test::table());
  EXPECT_EQ(read.body().nodes[0]->location.text(), "a \"b\".cpp:12");
  EXPECT_EQ(print(read, {.locations = true}), text);
  // Without one, the line of the text.
  EXPECT_EQ(parse(print(graph), test::table(), "g.weft").body().nodes[0]->location.text(),
            "g.weft:2");
}

TEST(Text, PrintsBrokenGraphsForDebugging) {
  Graph graph = test::example();
  graph.body().nodes[3]->op = nullptr;
  graph.body().nodes[4]->operands[0] = {};
  EXPECT_NE(print(graph).find("%9#0, %9#1 = ? : i64[], f32[]\n  state_write %? {name"),
            std::string::npos);
}

TEST(Text, DeepNestingUpToTheLimit) {
  const auto nested = [](int depth) {
    std::string text = "graph @deep {";
    for (int i = 0; i < depth; ++i) {
      text += " loop {count = 1} (%i" + std::to_string(i) + ": i64[]) {";
    }
    for (int i = 0; i <= depth; ++i) text += '}';
    return text;
  };
  expect_round_trip(parse(nested(64), test::table()));
  EXPECT_EQ(test::error_of([&] { parse(nested(65), test::table(), "t"); }).substr(0, 4), "t:1:");
  EXPECT_NE(test::error_of([&] {
              parse(nested(100000), test::table());
            }).find("regions nest deeper than 64"),
            std::string::npos);
}

TEST(Text, TakesTimeProportionalToTheText) {
  Graph graph;
  Value x = append(graph, graph.body(), "iota2", {})->result(1);
  for (int i = 0; i < 20000; ++i) {
    Node* node = append(graph, graph.body(), "add", {x, x});
    node->name = "x";
    x = node->result();
  }
  const auto start = std::chrono::steady_clock::now();
  expect_round_trip(graph);
  // Quadratic work would take minutes.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

// ---- random graphs ------------------------------------------------------------------------------

/// A random valid graph: nested loops over values of all enclosing regions.
class Generator {
 public:
  explicit Generator(std::uint64_t seed) : random_(seed) {}

  Graph operator()() {
    Graph graph("g" + std::to_string(below(100)));
    std::vector<Value> visible = {test::state(graph, "seed", {DType::f32, {2, 2}})->result()};
    fill(graph, graph.body(), visible, 3);
    return graph;
  }

 private:
  std::size_t below(std::size_t bound) { return random_() % bound; }
  Value any(const std::vector<Value>& values) { return values[below(values.size())]; }

  void fill(Graph& graph, Region& region, std::vector<Value>& visible, int depth) {
    const std::size_t count = 1 + below(6);
    for (std::size_t i = 0; i < count; ++i) {
      Node* node = nullptr;
      switch (below(depth > 0 ? 5 : 4)) {
        case 0:
          node = append(graph, region, "add", {any(visible), any(visible)});
          break;
        case 1:
          node = append(graph, region, "matmul", {any(visible), any(visible)});
          break;
        case 2:
          node = append(graph, region, "fill", {any(visible)},
                        {{"factors", std::vector<double>{std::bit_cast<double>(random_())}},
                         {"note", std::string(below(4), static_cast<char>(random_()))},
                         {"exact", below(2) == 0}});
          break;
        case 3:
          node = append(graph, region, "receiver", {any(visible)},
                        {{"name", std::string("r")}, {"every", std::int64_t{1}}});
          break;
        default:
          node = loop(graph, region, visible, depth);
          break;
      }
      if (below(3) == 0) node->name = std::string(1, static_cast<char>('a' + below(3)));
      for (std::uint32_t r = 0; r < node->results.size(); ++r) visible.push_back(node->result(r));
    }
  }

  Node* loop(Graph& graph, Region& region, const std::vector<Value>& visible, int depth) {
    std::vector<Value> carried(below(3));
    for (Value& value : carried) value = any(visible);
    Region* body = graph.new_region(nullptr);
    test::argument(graph, *body, {DType::i64, {}}, "i");
    std::vector<Value> inside = visible;
    for (const Value value : carried) {
      inside.push_back(test::argument(graph, *body, value.type())->result());
    }
    fill(graph, *body, inside, depth - 1);
    for (std::size_t i = 0; i < carried.size(); ++i) body->yields.push_back(any(inside));
    return append(graph, region, "loop", carried, {{"count", std::int64_t{2}}}, {body});
  }

  std::mt19937_64 random_;
};

TEST(Text, RoundTripsRandomGraphs) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const Graph graph = Generator(seed)();
    verify(graph, "generated");
    expect_round_trip(graph);
    const Graph copy = graph.clone();
    EXPECT_EQ(print(copy), print(graph));
    EXPECT_TRUE(equal(copy, graph));
    if (HasFailure()) FAIL() << "seed " << seed;
  }
}

}  // namespace
}  // namespace weft::ir
