#include "compiler/passes/differentiate.h"

#include <gtest/gtest.h>

#include <numeric>

#include "compiler/ir/text.h"
#include "compiler/passes/dead_code.h"
#include "compiler/passes/lower_scan.h"
#include "compiler/passes/simplify.h"
#include "gradient_check.h"
#include "support.h"

namespace weft::test {
namespace {

using ir::Node;
using ir::Region;
using ir::Value;
using ops::Array;
using ops::Builder;

Value total(Builder& b, Value x) {
  std::vector<std::int64_t> axes(static_cast<std::size_t>(x.type().rank()));
  std::iota(axes.begin(), axes.end(), 0);
  return ops::sum(b, x, axes);
}

Value matmul(Builder& b, Value x, Value y) { return ops::dot(b, x, y, {1}, {0}); }

/// A graph under test whose states are filled with random values.
struct Model {
  ir::Graph graph;
  Builder b{graph, graph.body()};
  std::map<std::string, Array> states;
  std::map<std::string, Value> values;
  ops::Random random{21};

  Value parameter(const std::string& name, const Shape& shape, DType dtype = DType::f64) {
    const Type type{dtype, shape};
    states[name] = random_values(random, type);
    return values[name] = state(b, name, type);
  }

  /// Writes the loss and its gradients with respect to all parameters, then checks them.
  void check(Value loss, double tolerance = 1e-6) {
    write(b, "loss", loss);
    std::vector<std::string> names;
    std::vector<Value> xs;
    for (const auto& [name, value] : values) {
      names.push_back(name);
      xs.push_back(value);
    }
    const std::vector<Value> gradients = compiler::gradients(b, loss, xs);
    for (std::size_t i = 0; i < xs.size(); ++i) {
      ASSERT_TRUE(gradients[i]) << names[i];
      write(b, "d" + names[i], gradients[i]);
    }
    SCOPED_TRACE(ir::print(graph));
    ASSERT_NO_THROW(ir::verify(graph, "differentiate"));
    ASSERT_NO_FATAL_FAILURE(check_gradients(graph, states, names, tolerance));

    // Passes keep the values: scans as loops, then everything simplified.
    const std::map<std::string, Array> expected = run(graph, states);
    compiler::lower_scan(graph);
    ASSERT_NO_THROW(ir::verify(graph, "lower_scan"));
    compiler::simplify(graph);
    ASSERT_NO_THROW(ir::verify(graph, "simplify"));
    const std::map<std::string, Array> simplified = run(graph, states);
    for (const std::string& name : names) {
      const Array& gradient = expected.at("d" + name);
      const double tolerance_simplified = 256 * epsilon(DType::f64) * (1 + magnitude(gradient));
      SCOPED_TRACE(name);
      ASSERT_NO_FATAL_FAILURE(
          expect_near(simplified.at("d" + name), gradient, tolerance_simplified));
    }
  }
};

/// Builds a scan: `step` gets the body's builder and its arguments (index, carried..., slices...).
template <typename Step>
Node* scan(Builder& b, std::int64_t length, std::vector<Value> carried, std::vector<Value> xs,
           bool reverse, const Step& step) {
  Region* body = b.graph().new_region(nullptr);
  Builder inner(b.graph(), *body);
  std::vector<Value> arguments = {inner.argument(*body, {DType::i64, {}})};
  for (const Value value : carried) arguments.push_back(inner.argument(*body, value.type()));
  for (const Value x : xs) {
    Type slice = x.type();
    slice.shape.erase(0);
    arguments.push_back(inner.argument(*body, slice));
  }
  body->yields = step(inner, arguments);
  std::vector<Value> operands = carried;
  operands.insert(operands.end(), xs.begin(), xs.end());
  return b.emit(ops::op("scan"), operands,
                {{"length", length},
                 {"carried", static_cast<std::int64_t>(carried.size())},
                 {"reverse", reverse}},
                {body});
}

TEST(Differentiate, TwoLayerPerceptron) {
  Model m;
  const Value x = m.parameter("x", {5, 3});
  const Value w1 = m.parameter("w1", {3, 7});
  const Value b1 = m.parameter("b1", {7});
  const Value w2 = m.parameter("w2", {7, 2});
  const Value b2 = m.parameter("b2", {2});
  const Value target = m.parameter("target", {5, 2});
  Value h = ops::add(m.b, matmul(m.b, x, w1), ops::broadcast_to(m.b, b1, {5, 7}));
  h = ops::unary(m.b, "tanh", h);
  const Value y = ops::add(m.b, matmul(m.b, h, w2), ops::broadcast_to(m.b, b2, {5, 2}));
  const Value error = ops::sub(m.b, y, target);
  m.check(ops::mean(m.b, ops::mul(m.b, error, error), {0, 1}));
}

TEST(Differentiate, ContributionsOfSeveralUsesAreAdded) {
  Model m;
  const Value x = m.parameter("x", {4});
  const Value y = ops::exp(m.b, x);
  m.check(total(m.b, ops::mul(m.b, ops::add(m.b, x, y), ops::mul(m.b, x, y))));
}

TEST(Differentiate, SourceBehindSourceIsReached) {
  Model m;
  const Value x = m.parameter("x", {3});
  const Value y = ops::mul(m.b, x, x);
  const Value z = total(m.b, ops::mul(m.b, y, y));
  const std::vector<Value> xs = {x, y};
  const std::vector<Value> gradients = compiler::gradients(m.b, z, xs);
  write(m.b, "dx", gradients[0]);
  write(m.b, "dy", gradients[1]);
  const auto results = run(m.graph, m.states);
  for (std::size_t i = 0; i < 3; ++i) {
    const double value = m.states["x"].re[i];
    EXPECT_NEAR(results.at("dy").re[i], 2 * value * value, 1e-14);
    EXPECT_NEAR(results.at("dx").re[i], 4 * value * value * value, 1e-14);
  }
}

TEST(Differentiate, SecondDerivative) {
  Model m;
  const Value x = m.parameter("x", {4});
  const Value y = total(m.b, ops::unary(m.b, "tanh", ops::mul(m.b, x, x)));
  const std::vector<Value> xs = {x};
  const Value slope = compiler::gradients(m.b, y, xs)[0];
  m.check(total(m.b, ops::mul(m.b, slope, slope)));
}

TEST(Differentiate, NonScalarTakesOnesOrASeed) {
  Model m;
  const Value x = m.parameter("x", {3});
  const Value seed = state(m.b, "seed", x.type());
  m.states["seed"] = array(x.type(), {2, -1, 0.5});
  const Value y = ops::mul(m.b, x, x);
  const std::vector<Value> xs = {x};
  write(m.b, "ones", compiler::gradients(m.b, y, xs)[0]);
  write(m.b, "seeded", compiler::gradients(m.b, y, xs, seed)[0]);
  const auto results = run(m.graph, m.states);
  for (std::size_t i = 0; i < 3; ++i) {
    const double value = m.states["x"].re[i];
    EXPECT_DOUBLE_EQ(results.at("ones").re[i], 2 * value);
    EXPECT_DOUBLE_EQ(results.at("seeded").re[i], 2 * value * m.states["seed"].re[i]);
  }
}

TEST(Differentiate, UnrelatedAndStoppedAreNull) {
  Model m;
  const Value x = m.parameter("x", {3});
  const Value other = m.parameter("other", {3});
  const Value stopped = m.parameter("stopped", {3});
  const Value y =
      total(m.b, ops::mul(m.b, x, ops::unary(m.b, "stop_gradient", ops::exp(m.b, stopped))));
  const std::vector<Value> xs = {x, other, stopped};
  const std::vector<Value> gradients = compiler::gradients(m.b, y, xs);
  EXPECT_TRUE(gradients[0]);
  EXPECT_FALSE(gradients[1]);
  EXPECT_FALSE(gradients[2]);
}

TEST(Differentiate, GradientsHaveTheLineOfTheForwardNode) {
  Model m;
  const Value x = m.parameter("x", {3});
  m.b.set_location(Location("model.cpp", 17));
  const Value y = ops::exp(m.b, x);
  m.b.set_location(Location("model.cpp", 18));
  const Value z = total(m.b, y);
  m.b.set_location(Location("model.cpp", 30));
  const std::vector<Value> xs = {x};
  const Value gradient = compiler::gradients(m.b, z, xs)[0];
  EXPECT_EQ(gradient.node->location.line, 17U);
  EXPECT_EQ(m.b.location().line, 30U);
}

TEST(Differentiate, OnlyNodesOnThePathAreVisited) {
  Model m;
  const Value x = m.parameter("x", {3});
  const Value w = m.parameter("w", {3});
  const Value frozen = ops::exp(m.b, x);  // not on a path from w
  const Value y = total(m.b, ops::mul(m.b, frozen, w));
  const std::size_t before = m.graph.body().nodes.size();
  const std::vector<Value> xs = {w};
  compiler::gradients(m.b, y, xs);
  for (std::size_t i = before; i < m.graph.body().nodes.size(); ++i) {
    EXPECT_TRUE(m.graph.body().nodes[i]->is("constant") ||
                m.graph.body().nodes[i]->is("broadcast") ||
                m.graph.body().nodes[i]->is("reshape") || m.graph.body().nodes[i]->is("mul"))
        << ir::print(m.graph);
  }
}

TEST(Differentiate, ComplexInside) {
  Model m;
  const Value x = m.parameter("x", {2, 6});
  const Value z = m.b.emit1(
      "complex", {ops::cast(m.b, x, DType::f32), ops::cast(m.b, ops::mul(m.b, x, x), DType::f32)});
  const Value square = ops::mul(m.b, z, ops::conj(m.b, z));
  const Value scaled = ops::mul(m.b, square, z);
  const Value y = ops::add(m.b, m.b.emit1("real", {scaled}), m.b.emit1("imag", {scaled}));
  // The casts round to f32: differences of 1e-2 see some 1e-5 of that, and 1e-4 of curvature.
  write(m.b, "loss", ops::cast(m.b, total(m.b, y), DType::f64));
  const std::vector<Value> xs = {x};
  write(m.b, "dx", compiler::gradients(m.b, total(m.b, y), xs)[0]);
  check_gradients(m.graph, m.states, {"x"}, 1e-3, 1e-2);
}

// ---- regions ------------------------------------------------------------------------------------

/// Gradient descent inside a loop: the body captures the data and carries the weights.
TEST(Differentiate, InsideALoop) {
  Model m;
  const Value x = m.parameter("x", {4});
  const Value w0 = m.parameter("w", {4});
  const Value scaled = ops::mul(m.b, x, 0.5);  // captured, computed outside
  Region* body = m.graph.new_region(nullptr);
  Builder inner(m.graph, *body);
  inner.argument(*body, {DType::i64, {}});
  const Value w = inner.argument(*body, w0.type());
  const Value loss = total(inner, ops::mul(inner, ops::mul(inner, w, w), scaled));
  const std::vector<Value> xs = {w, x};
  const std::vector<Value> gradients = compiler::gradients(inner, loss, xs);
  ASSERT_TRUE(gradients[0]);
  ASSERT_TRUE(gradients[1]);  // through `scaled`, which stands outside
  const Value step = ops::add(inner, gradients[0], gradients[1]);
  body->yields = {ops::sub(inner, w, ops::mul(inner, step, 0.1))};
  const Node* loop = m.b.emit(ops::op("loop"), {w0}, {{"count", std::int64_t{3}}}, {body});
  write(m.b, "w", const_cast<Node*>(loop)->result());
  ir::verify(m.graph, "differentiate");
  const auto results = run(m.graph, m.states);
  for (std::size_t i = 0; i < 4; ++i) {
    double value = m.states["w"].re[i];
    const double data = m.states["x"].re[i];
    for (int iteration = 0; iteration < 3; ++iteration) {
      value -= 0.1 * (2 * value * data * 0.5 + value * value * 0.5);
    }
    EXPECT_NEAR(results.at("w").re[i], value, 1e-14);
  }
}

class DifferentiateScan : public testing::TestWithParam<bool> {};

/// h' = tanh(h W + x U + b), y = h' * h; W, U and b are captured.
TEST_P(DifferentiateScan, RecurrentNetwork) {
  Model m;
  const Value h0 = m.parameter("h0", {2, 3});
  const Value xs = m.parameter("xs", {5, 2, 4});
  const Value w = m.parameter("w", {3, 3});
  const Value u = m.parameter("u", {4, 3});
  const Value bias = m.parameter("bias", {3});
  Node* node = scan(m.b, 5, {h0}, {xs}, GetParam(),
                    [&](Builder& b, const std::vector<Value>& arguments) -> std::vector<Value> {
                      const Value h = arguments[1];
                      Value next = ops::add(b, matmul(b, h, w), matmul(b, arguments[2], u));
                      next = ops::add(b, next, ops::broadcast_to(b, bias, {2, 3}));
                      next = ops::unary(b, "tanh", next);
                      return {next, ops::mul(b, next, h)};
                    });
  const Value last = total(m.b, ops::exp(m.b, node->result(0)));
  const Value ys = total(m.b, ops::mul(m.b, node->result(1), node->result(1)));
  m.check(ops::add(m.b, last, ys));
}

/// Only the stacked results are used, the index takes part, and one carried value is an integer.
TEST_P(DifferentiateScan, IndexAndIntegersTakePart) {
  Model m;
  const Value c0 = m.parameter("c0", {3});
  const Value xs = m.parameter("xs", {4, 3});
  const Value counter = ops::constant(m.b, DType::i64, 2);
  Node* node = scan(m.b, 4, {counter, c0}, {xs}, GetParam(),
                    [&](Builder& b, const std::vector<Value>& arguments) -> std::vector<Value> {
                      // Small factors: the steps must not amplify the differences too much.
                      const Value step = ops::add(b, arguments[0], arguments[1]);
                      const Value factor = ops::mul(b, ops::cast(b, step, DType::f64), 0.2);
                      const Value scaled =
                          ops::mul(b, arguments[2], ops::broadcast_to(b, factor, {3}));
                      const Value next = ops::add(b, ops::unary(b, "sin", scaled), arguments[3]);
                      return {ops::add(b, arguments[1], 1.0), next, scaled};
                    });
  m.check(total(m.b, ops::mul(m.b, node->result(2), node->result(2))));
}

/// A scan in a scan; the inner one captures what the outer one carries and what is outside both.
TEST_P(DifferentiateScan, Nested) {
  Model m;
  const Value c0 = m.parameter("c0", {2});
  const Value xs = m.parameter("xs", {3, 4, 2});
  const Value w = m.parameter("w", {2});
  Node* node = scan(m.b, 3, {c0}, {xs}, GetParam(),
                    [&](Builder& b, const std::vector<Value>& arguments) -> std::vector<Value> {
                      const Value c = arguments[1];
                      Node* inner = scan(
                          b, 4, {ops::unary(b, "sin", c)}, {arguments[2]}, !GetParam(),
                          [&](Builder& ib, const std::vector<Value>& ia) -> std::vector<Value> {
                            const Value next =
                                ops::add(ib, ops::mul(ib, ia[1], w), ops::mul(ib, ia[2], c));
                            return {ops::unary(ib, "tanh", next)};
                          });
                      return {ops::mul(b, inner->result(), ops::unary(b, "cos", c))};
                    });
  m.check(total(m.b, node->result()));
}

/// As a map: nothing is carried, and captured values still collect their gradient.
TEST_P(DifferentiateScan, NothingCarried) {
  Model m;
  const Value xs = m.parameter("xs", {4, 3});
  const Value w = m.parameter("w", {3});
  Node* node = scan(m.b, 4, {}, {xs}, GetParam(),
                    [&](Builder& b, const std::vector<Value>& arguments) -> std::vector<Value> {
                      return {ops::exp(b, ops::mul(b, arguments[1], w))};
                    });
  m.check(total(m.b, node->result()));
}

/// The gradient of a gradient goes through both scans.
TEST_P(DifferentiateScan, SecondDerivative) {
  Model m;
  const Value c0 = m.parameter("c0", {2});
  const Value w = m.parameter("w", {2});
  Node* node = scan(m.b, 3, {c0}, {}, GetParam(),
                    [&](Builder& b, const std::vector<Value>& arguments) -> std::vector<Value> {
                      return {ops::unary(b, "tanh", ops::mul(b, arguments[1], w))};
                    });
  const std::vector<Value> xs = {w};
  const Value slope = compiler::gradients(m.b, total(m.b, node->result()), xs)[0];
  m.check(total(m.b, ops::mul(m.b, slope, slope)));
}

INSTANTIATE_TEST_SUITE_P(Directions, DifferentiateScan, testing::Bool(),
                         [](const auto& test) { return test.param ? "reverse" : "forward"; });

/// A second gradient of the same scan shares the stacked values of the first.
TEST(DifferentiateScanOnce, CarriedValuesAreStackedOnce) {
  Model m;
  const Value c0 = m.parameter("c0", {2});
  Node* node = scan(m.b, 3, {c0}, {}, false,
                    [&](Builder& b, const std::vector<Value>& arguments) -> std::vector<Value> {
                      return {ops::unary(b, "sin", arguments[1])};
                    });
  const std::vector<Value> xs = {c0};
  compiler::gradients(m.b, total(m.b, node->result()), xs);
  EXPECT_EQ(node->results.size(), 2U);
  compiler::gradients(m.b, total(m.b, ops::exp(m.b, node->result())), xs);
  EXPECT_EQ(node->results.size(), 2U);
}

// ---- errors -------------------------------------------------------------------------------------

template <typename Function>
std::string error_of(const Function& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(DifferentiateErrors, ComplexIntegerAndSeed) {
  Model m;
  const Value x = m.parameter("x", {2}, DType::f32);
  m.b.set_location(Location("model.cpp", 5));
  const Value z = m.b.emit1("complex", {x, x});
  const Value i = ops::cast(m.b, x, DType::i32);
  const Value s = total(m.b, x);
  const std::vector<Value> xs = {x};
  EXPECT_EQ(error_of([&] { compiler::gradients(m.b, z, xs); }),
            "gradient of a complex value: c64[2] (model.cpp:5)");
  EXPECT_EQ(error_of([&] { compiler::gradients(m.b, i, xs); }),
            "gradient of a value without derivative: i32[2] (model.cpp:5)");
  EXPECT_EQ(error_of([&] { compiler::gradients(m.b, s, xs, x); }),
            "gradient: the seed has type f32[2], the value f32[] (model.cpp:5)");
}

TEST(DifferentiateErrors, LoopOnThePath) {
  Model m;
  const Value x = m.parameter("x", {2});
  const Value w = m.parameter("w", {2});
  Region* body = m.graph.new_region(nullptr);
  Builder inner(m.graph, *body);
  inner.argument(*body, {DType::i64, {}});
  const Value carried = inner.argument(*body, x.type());
  body->yields = {ops::mul(inner, carried, w)};
  m.b.set_location(Location("model.cpp", 9));
  Node* loop = m.b.emit(ops::op("loop"), {x}, {{"count", std::int64_t{3}}}, {body});
  const Value y = total(m.b, loop->result());
  for (const Value source : {x, w}) {  // carried, and captured by the body
    const std::vector<Value> xs = {source};
    EXPECT_EQ(error_of([&] { compiler::gradients(m.b, y, xs); }),
              "loop: differentiation across a loop's boundary is not built (model.cpp:9)");
  }
  // A loop beside the path is no obstacle.
  const Value z = total(m.b, ops::mul(m.b, x, loop->result()));
  const Value other = m.parameter("other", {2});
  const std::vector<Value> xs = {other};
  EXPECT_FALSE(compiler::gradients(m.b, z, xs)[0]);
}

TEST(DifferentiateErrors, NodeWithoutDerivative) {
  static const ops::Op opaque(
      {"opaque", ir::Pattern::elementwise, 1, 1, 0, {}, ops::infer_same}, ops::floating_types(),
      ops::Derivative::none("it is opaque"), ops::Reference::none("it is a test"),
      ops::Lower::none("it is a test"), ops::Decompose::none("it is a test"),
      ops::Generate::none("it is a test"), 1, "a row without derivative");
  Model m;
  const Value x = m.parameter("x", {2});
  const Value w = m.parameter("w", {2});
  m.b.set_location(Location("model.cpp", 12));
  const Value y = m.b.emit(opaque, {x})->result();
  const Value z = total(m.b, ops::mul(m.b, y, w));
  const std::vector<Value> needed = {x};
  EXPECT_EQ(error_of([&] { compiler::gradients(m.b, z, needed); }),
            "opaque(f64[2]): a gradient is needed through it, but it has none: it is opaque "
            "(model.cpp:12)");
  // Beside the path it does not matter.
  const std::vector<Value> beside = {w};
  EXPECT_TRUE(compiler::gradients(m.b, z, beside)[0]);
}

TEST(DifferentiateErrors, FeederInAScan) {
  Model m;
  const Value c0 = m.parameter("c0", {2});
  Node* node = scan(m.b, 3, {c0}, {}, false,
                    [&](Builder& b, const std::vector<Value>& arguments) -> std::vector<Value> {
                      b.set_location(Location("model.cpp", 3));
                      const Value fed = b.emit1("feeder", {},
                                                {{"name", std::string("input")},
                                                 {"dtype", DType::f64},
                                                 {"shape", std::vector<std::int64_t>{2}}});
                      return {ops::mul(b, arguments[1], fed)};
                    });
  const Value y = total(m.b, node->result());
  const std::vector<Value> xs = {c0};
  EXPECT_EQ(error_of([&] { compiler::gradients(m.b, y, xs); }),
            "feeder: differentiation of a scan whose body contains it is not built "
            "(model.cpp:3)");
}

}  // namespace
}  // namespace weft::test
