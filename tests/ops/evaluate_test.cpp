// The reference evaluation of graphs: states, loops, scans, feeders and receivers.

#include <gtest/gtest.h>

#include "support.h"

namespace weft::test {
namespace {

using ir::Region;
using ir::Value;
using ops::Array;
using ops::Builder;

const Type scalar{DType::f64, {}};

class EvaluateTest : public testing::Test {
 protected:
  EvaluateTest() : b(graph, graph.body()) {}

  void write(Value value, const std::string& name) {
    b.emit(ops::op("state_write"), {value}, {{"name", name}});
  }
  Value feeder(const Type& type) {
    return b.emit1("feeder", {},
                   {{"name", std::string("input")},
                    {"dtype", type.dtype},
                    {"shape", std::vector<std::int64_t>(type.shape.begin(), type.shape.end())}});
  }
  /// Emits a loop whose body gets (index, carried) and returns what it yields.
  template <typename Body>
  Value loop(std::int64_t count, Value start, Body&& body) {
    Region& outer = b.region();
    Region* region = graph.new_region(nullptr);
    const Value index = b.argument(*region, {DType::i64, {}});
    const Value carried = b.argument(*region, start.type());
    b.set_region(*region);
    region->yields = {body(index, carried)};
    b.set_region(outer);
    return b.emit(ops::op("loop"), {start}, {{"count", count}}, {region})->result();
  }

  ir::Graph graph;
  Builder b;
  ops::Environment environment;
};

TEST_F(EvaluateTest, StatesAreReadBeforeAndWrittenAfter) {
  const Value x = state(b, "x", scalar);
  write(ops::add(b, x, 1), "x");
  write(ops::mul(b, state(b, "x", scalar), 10), "y");
  environment.state["x"] = array(scalar, {4});
  ops::evaluate(graph, environment);
  EXPECT_EQ(environment.state["x"].re[0], 5);
  EXPECT_EQ(environment.state["y"].re[0], 40);
}

TEST_F(EvaluateTest, LoopCarriesAndCounts) {
  const Value x = state(b, "x", scalar);
  write(loop(4, x,
             [&](Value index, Value carried) {
               return ops::add(b, ops::mul(b, carried, 2), ops::cast(b, index, DType::f64));
             }),
        "y");
  write(loop(0, x, [&](Value, Value carried) { return ops::mul(b, carried, 2); }), "z");
  environment.state["x"] = array(scalar, {1});
  ops::evaluate(graph, environment);
  // 1 -> 2 -> 5 -> 12 -> 27
  EXPECT_EQ(environment.state["y"].re[0], 27);
  EXPECT_EQ(environment.state["z"].re[0], 1);
}

TEST_F(EvaluateTest, NestedLoopsNumberIterations) {
  std::vector<std::int64_t> fed;
  std::vector<std::pair<std::int64_t, double>> received;
  environment.feed = [&](const std::string&, const Type& type, std::int64_t iteration) {
    fed.push_back(iteration);
    return array(type, {static_cast<double>(iteration)});
  };
  environment.receive = [&](const std::string& name, std::int64_t iteration,
                            std::span<const Array> arrays) {
    EXPECT_EQ(name, "output");
    received.emplace_back(iteration, arrays[0].re[0]);
  };
  loop(2, ops::constant(b, DType::f64, 0), [&](Value, Value outer) {
    return loop(3, outer, [&](Value, Value inner) {
      const Value sum = ops::add(b, inner, feeder(scalar));
      b.emit(ops::op("receiver"), {sum},
             {{"name", std::string("output")}, {"every", std::int64_t{2}}});
      return sum;
    });
  });
  ops::evaluate(graph, environment);
  EXPECT_EQ(fed, (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(received, (std::vector<std::pair<std::int64_t, double>>{{0, 0}, {2, 3}, {4, 10}}));
}

TEST_F(EvaluateTest, IterationsContinueAcrossRuns) {
  std::vector<std::int64_t> fed;
  environment.feed = [&](const std::string&, const Type& type, std::int64_t iteration) {
    fed.push_back(iteration);
    return Array(type);
  };
  write(feeder(scalar), "y");
  for (environment.iteration = 5; environment.iteration < 8; ++environment.iteration) {
    ops::evaluate(graph, environment);
  }
  EXPECT_EQ(fed, (std::vector<std::int64_t>{5, 6, 7}));
}

TEST_F(EvaluateTest, ScanForwardAndReverse) {
  const Value start = ops::constant(b, DType::f64, 1);
  const Value xs = state(b, "xs", {DType::f64, {3}});
  for (const bool reverse : {false, true}) {
    Region* region = graph.new_region(nullptr);
    const Value index = b.argument(*region, {DType::i64, {}});
    const Value carried = b.argument(*region, scalar);
    const Value x = b.argument(*region, scalar);
    b.set_region(*region);
    const Value next = ops::add(b, ops::mul(b, carried, 2), x);
    region->yields = {next, carried, index};
    b.set_region(graph.body());
    const ir::Node* node =
        b.emit(ops::op("scan"), {start, xs},
               {{"length", std::int64_t{3}}, {"carried", std::int64_t{1}}, {"reverse", reverse}},
               {region});
    ASSERT_EQ(node->results.size(), 3U);
    EXPECT_EQ(node->results[1].text(), "f64[3]");
    EXPECT_EQ(node->results[2].text(), "i64[3]");
    ir::Node* results = region->owner;
    for (std::uint32_t i = 0; i < 3; ++i) {
      write(results->result(i), fmt::format("{}{}", reverse ? "r" : "f", i));
    }
  }
  environment.state["xs"] = array({DType::f64, {3}}, {10, 20, 30});
  ops::evaluate(graph, environment);
  const auto& states = environment.state;
  // 1 -> 12 -> 44 -> 118, and with 30, 20, 10: 1 -> 32 -> 84 -> 178
  EXPECT_EQ(states.at("f0").re[0], 118);
  EXPECT_EQ(states.at("f1").re, (std::vector<double>{1, 12, 44}));
  EXPECT_EQ(states.at("f2").integers, (std::vector<std::int64_t>{0, 1, 2}));
  EXPECT_EQ(states.at("r0").re[0], 178);
  EXPECT_EQ(states.at("r1").re, (std::vector<double>{84, 32, 1}));
  EXPECT_EQ(states.at("r2").integers, (std::vector<std::int64_t>{0, 1, 2}));
}

TEST_F(EvaluateTest, ScalarsHaveDefaults) {
  write(b.emit1("scalar", {}, {{"name", std::string("lr")}, {"value", 0.5}}), "y");
  ops::evaluate(graph, environment);
  EXPECT_EQ(environment.state["y"].re[0], 0.5);
  environment.scalars["lr"] = 0.25;
  ops::evaluate(graph, environment);
  EXPECT_EQ(environment.state["y"].re[0], 0.25);
}

TEST_F(EvaluateTest, ObservesEveryNode) {
  write(ops::neg(b, ops::constant(b, DType::f64, 3)), "y");
  std::vector<std::string> seen;
  environment.observe = [&](const ir::Node& node, std::span<const Array> results) {
    seen.push_back(fmt::format("{} {}", node.op->name, results.empty() ? 0 : results[0].at(0)));
  };
  ops::evaluate(graph, environment);
  EXPECT_EQ(seen, (std::vector<std::string>{"constant 3", "neg -3", "state_write 0"}));
}

TEST_F(EvaluateTest, ErrorsNameTheNodeAndKeepStates) {
  b.set_location({intern("model.cpp"), 7});
  const Value x = state(b, "x", {DType::f32, {2}});
  write(ops::mul(b, x, 2), "x");
  write(state(b, "missing", scalar), "y");
  environment.state["x"] = array({DType::f32, {2}}, {1, 2});
  try {
    ops::evaluate(graph, environment);
    FAIL() << "no error";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("there is no state \"missing\""), std::string::npos) << message;
    EXPECT_NE(message.find("model.cpp:7"), std::string::npos) << message;
  }
  EXPECT_EQ(environment.state["x"].re, (std::vector<double>{1, 2}));

  environment.state["missing"] = array({DType::f64, {1}}, {1});
  try {
    ops::evaluate(graph, environment);
    FAIL() << "no error";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("f64[1]"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace weft::test
