#include "support.h"

#include <cmath>

namespace weft::test {
namespace {

Tensor vector(std::initializer_list<double> values) {
  return constant(std::vector<double>(values), {static_cast<std::int64_t>(values.size())});
}

TEST(Backward, MatchesAHandGradient) {
  // loss = sum((x w - y)^2): d/dw = 2 x^T (x w - y).
  State state;
  const Program program = trace(state, [] {
    const Tensor w = parameter("w", {2, 1}, init::values({0.5, -1}));
    const Tensor x = constant({1, 2, 3, 4}, {2, 2});
    const Tensor y = constant({1, -2}, {2, 1});
    EXPECT_FALSE(w.has_grad());
    backward(sum(square(matmul(x, w) - y)));
    EXPECT_TRUE(w.has_grad());
    out("grad", w.grad());
  });
  check_graph(program);
  const double r0 = 1 * 0.5 + 2 * -1 - 1;
  const double r1 = 3 * 0.5 + 4 * -1 + 2;
  expect_near(evaluate(program, state).received["grad"][0][0],
              {2 * (1 * r0 + 3 * r1), 2 * (2 * r0 + 4 * r1)});
}

TEST(Backward, AddsUpUntilCleared) {
  State state;
  const Program program = trace(state, [] {
    Tensor w = parameter("w", {2}, init::values({1, 2}));
    const Tensor other = parameter("other", {2});
    backward(w * 3);  // not a scalar: the gradient of its sum
    backward(w * w);
    out("sum", w.grad());
    EXPECT_FALSE(other.has_grad());
    zero_grad();
    EXPECT_FALSE(w.has_grad());
    EXPECT_THROW(w.grad(), Error);
    backward(w * 5);
    w.grad() *= 2;
    out("scaled", w.grad());
    w.set_grad(vector({7, 8}));
    out("set", w.grad());
    zero_grad({w});
    EXPECT_FALSE(w.has_grad());
  });
  check_graph(program);
  const Outcome outcome = evaluate(program, state);
  expect_near(outcome.received.at("sum")[0][0], {3 + 2, 3 + 4});
  expect_near(outcome.received.at("scaled")[0][0], {10, 10});
  expect_near(outcome.received.at("set")[0][0], {7, 8});
}

TEST(Backward, TrainsInALoop) {
  // Gradient descent on (w - 3)^2 / 2 from 0: w = 3 (1 - (1 - r)^n).
  State state;
  const Program program = trace(state, [] {
    Tensor w = parameter("w", {}, init::zeros());
    loop(10, [&](Tensor) {
      zero_grad();
      const Tensor loss = square(w - 3) * 0.5;
      backward(loss);
      assign(w, w - 0.25 * w.grad());
      out("loss", loss);
    });
  });
  check_graph(program);
  const Outcome outcome = evaluate(program, state);
  expect_near(state.values("w"), {3 * (1 - std::pow(0.75, 10))}, 1e-6);
  ASSERT_EQ(outcome.received.at("loss").size(), 10U);
  expect_near(outcome.received.at("loss")[2][0], {std::pow(3 * 0.75 * 0.75, 2) / 2});
  // Gradients that are cleared before they are read are not carried.
  EXPECT_EQ(carried(program), std::vector<int>{1});
}

TEST(Backward, GradientsGoOnOverIterationsUntilCleared) {
  State state;
  const Program program = trace(state, [] {
    const Tensor w = parameter("w", {}, init::ones());
    loop(3, [&](Tensor) { backward(w * 2); });
    out("grad", w.grad());
  });
  check_graph(program);
  expect_near(evaluate(program, state).received["grad"][0][0], {6});
}

TEST(Backward, AccumulatesInANestedLoop) {
  // As many small batches as one large one, in each of several steps.
  State state;
  const Program program = trace(state, [] {
    Tensor w = parameter("w", {}, init::constant(2));
    loop(3, [&](Tensor) {
      zero_grad();
      loop(4, [&](Tensor batch) { backward(w * w * cast(batch, DType::f32)); });
      out("grad", w.grad());
      w -= 0.01 * w.grad();
    });
  });
  check_graph(program);
  const Outcome outcome = evaluate(program, state);
  double w = 2;
  for (std::size_t i = 0; i < 3; ++i) {
    const double gradient = 2 * w * (0 + 1 + 2 + 3);
    expect_near(outcome.received.at("grad")[i][0], {gradient}, 1e-6);
    w -= 0.01 * gradient;
  }
  expect_near(state.values("w"), {w}, 1e-6);
}

TEST(Backward, ClearingAtTheEndOfABodyIsTheSame) {
  State state;
  const Program program = trace(state, [] {
    Tensor w = parameter("w", {}, init::constant(2));
    loop(3, [&](Tensor) {
      loop(2, [&](Tensor) { backward(w * w); });
      out("grad", w.grad());
      w -= 0.1 * w.grad();
      zero_grad();
    });
  });
  check_graph(program);
  const Outcome outcome = evaluate(program, state);
  expect_near(outcome.received.at("grad")[0][0], {8});
  expect_near(outcome.received.at("grad")[1][0], {4 * 1.2}, 1e-6);
  expect_near(state.values("w"), {2 * std::pow(0.6, 3)}, 1e-6);
}

TEST(Backward, GoesThroughValuesComputedOutsideOfTheLoop) {
  // `scale` is computed from w once a step and read in the inner loop, which does not change it.
  State state;
  const Program program = trace(state, [] {
    Tensor w = parameter("w", {}, init::constant(3));
    loop(2, [&](Tensor) {
      zero_grad();
      const Tensor scale = exp(w * 0.5);
      loop(4, [&](Tensor batch) { backward(scale * cast(batch, DType::f32) + w * scale); });
      out("grad", w.grad());
      w -= 0.01 * w.grad();
    });
  });
  check_graph(program);
  const Outcome outcome = evaluate(program, state);
  double w = 3;
  for (std::size_t i = 0; i < 2; ++i) {
    const double scale = std::exp(0.5 * w);
    const double gradient = 0.5 * scale * 6 + 4 * (scale + w * 0.5 * scale);
    expect_near(outcome.received.at("grad")[i][0], {gradient}, 1e-6);
    w -= 0.01 * gradient;
  }
}

TEST(Backward, RefusesStaleValuesFromOutsideOfTheLoop) {
  // The loop changes w, but not what was computed from it before: no gradient describes that.
  const std::string later = error_of([] {
    Tensor w = parameter("w", {}, init::constant(3));
    const Tensor scale = exp(w);
    loop(2, [&](Tensor) {
      backward(scale * 2);
      w -= w.grad();
    });
  });
  EXPECT_TRUE(names(later, "'w' f32[] cannot change in this loop", __FILE__, __LINE__ - 3))
      << later;
  const std::string earlier = error_of([] {
    Tensor w = parameter("w", {}, init::constant(3));
    const Tensor scale = exp(w);
    loop(2, [&](Tensor) {
      w *= 0.5;
      backward(scale * w);
    });
  });
  EXPECT_TRUE(names(earlier, "computed outside of the loop from 'w'", __FILE__, __LINE__ - 3))
      << earlier;
}

TEST(Backward, AParameterIsALeafAfterAnUpdate) {
  // What was computed from an updated parameter has a gradient with respect to its new value, and
  // none that goes on into the update.
  State state;
  const Program program = trace(state, [] {
    Tensor w = parameter("w", {}, init::constant(2));
    const Tensor first = w * 3;
    assign(w, w * w);
    backward(w * 5);
    out("after", w.grad());
    backward(first);  // of the old value
    out("both", w.grad());
  });
  check_graph(program);
  const Outcome outcome = evaluate(program, state);
  expect_near(outcome.received.at("after")[0][0], {5});
  expect_near(outcome.received.at("both")[0][0], {8});
  expect_near(state.values("w"), {4});
}

TEST(Backward, Errors) {
  const std::string none = error_of([] {
    parameter("w", {});
    backward(constant(1));
  });
  EXPECT_TRUE(names(none, "backward: f32[] depends on no parameter", __FILE__, __LINE__ - 2));
  const std::string complex_loss = error_of([] {
    const Tensor w = parameter("w", {2});
    backward(complex(w, w));
  });
  EXPECT_TRUE(names(complex_loss, "backward: of a value of type c64[2]", __FILE__, __LINE__ - 2));
  const std::string integer = error_of([] { backward(arange(3)); });
  EXPECT_TRUE(names(integer, "backward: of a value of type i64[3]", __FILE__, __LINE__ - 1));
  const std::string stopped = error_of([] { backward(stop_gradient(parameter("w", {}))); });
  EXPECT_TRUE(names(stopped, "depends on no parameter", __FILE__, __LINE__ - 1));
  const std::string state = error_of([] { weft::state("s", {}).grad(); });
  EXPECT_TRUE(names(state, "grad: only parameters have one", __FILE__, __LINE__ - 1));
  const std::string through = error_of([] {
    const Tensor w = parameter("w", {});
    Tensor h = w * 2;
    loop(3, [&](Tensor) { h *= h; });
    backward(h);
  });
  EXPECT_NE(through.find("across a loop's boundary"), std::string::npos) << through;
}

TEST(Grad, DoesNotAccumulate) {
  State state;
  const Program program = trace(state, [] {
    const Tensor w = parameter("w", {2}, init::values({2, 3}));
    const Tensor x = vector({4, 5});
    const Tensor y = w * x * x;
    const std::vector<Tensor> gradients = grad(y, {x, w, constant({1, 1, 1}, {3})});
    EXPECT_FALSE(w.has_grad());
    out("x", gradients[0]);
    out("w", gradients[1]);
    out("independent", gradients[2]);
    out("seeded", grad(y, {x}, vector({1, 10}))[0]);
    // Twice: d/dx (2 w x) = 2 w.
    out("second", grad(gradients[0], {x})[0]);
  });
  check_graph(program);
  const Outcome outcome = evaluate(program, state);
  expect_near(outcome.received.at("x")[0][0], {16, 30});
  expect_near(outcome.received.at("w")[0][0], {16, 25});
  expect_near(outcome.received.at("independent")[0][0], {0, 0, 0});
  expect_near(outcome.received.at("seeded")[0][0], {16, 300});
  expect_near(outcome.received.at("second")[0][0], {4, 6});
}

TEST(Grad, OfIntermediateValuesInALoop) {
  State state;
  const Program program = trace(state, [] {
    Tensor x = constant(2);
    loop(3, [&](Tensor) {
      const Tensor h = x * x;
      out("gradients", stack(grad(h * h, {h, x})));
      x += 1;
    });
    const Tensor outer = x * x;
    loop(1, [&](Tensor) { out("outer", grad(outer * 3, {x})[0]); });
  });
  check_graph(program);
  const Outcome outcome = evaluate(program, state);
  for (std::size_t i = 0; i < 3; ++i) {
    const double x = 2 + static_cast<double>(i);
    expect_near(outcome.received.at("gradients")[i][0], {2 * x * x, 4 * x * x * x});
  }
  expect_near(outcome.received.at("outer")[0][0], {6 * 5});
}

TEST(Grad, ThroughAScan) {
  // h = h w + x over three steps: the gradient of the last h, and of a captured parameter.
  State state;
  const Program program = trace(state, [] {
    const Tensor w = parameter("w", {}, init::constant(0.5));
    const Tensor xs = vector({1, 2, 3});
    const ScanValues result = scan(3, {constant(0)}, {xs},
                                   [&](Tensor, const std::vector<Tensor>& carried,
                                       const std::vector<Tensor>& slices) -> ScanValues {
                                     const Tensor h = carried[0] * w + slices[0];
                                     return {{h}, {}};
                                   });
    backward(result.carried[0]);
    out("w", w.grad());
    out("xs", grad(result.carried[0], {xs})[0]);
  });
  check_graph(program);
  const Outcome outcome = evaluate(program, state);
  // h3 = (x1 w + x2) w + x3: d/dw = 2 x1 w + x2.
  expect_near(outcome.received.at("w")[0][0], {2 * 1 * 0.5 + 2});
  expect_near(outcome.received.at("xs")[0][0], {0.25, 0.5, 1});
}

}  // namespace
}  // namespace weft::test
