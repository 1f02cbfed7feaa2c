// Every derivative rule of the table against central differences of the reference evaluation.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "compiler/ir/text.h"
#include "compiler/passes/differentiate.h"
#include "support.h"

namespace weft::test {
namespace {

using ir::Value;
using ops::Array;
using ops::Builder;
using ops::Op;

/// constant_data with the array's values.
Value constant_of(Builder& b, const Array& array) {
  std::vector<double> values;
  for (std::size_t i = 0; i < array.re.size(); ++i) {
    values.push_back(array.re[i]);
    if (!array.im.empty()) values.push_back(array.im[i]);
  }
  const Shape& shape = array.type.shape;
  return b.emit1("constant_data", {},
                 {{"dtype", array.type.dtype},
                  {"shape", std::vector<std::int64_t>(shape.begin(), shape.end())},
                  {"values", std::move(values)}});
}

Value sum_all(Builder& b, Value x) {
  std::vector<std::int64_t> axes;
  for (int axis = 0; axis < x.type().rank(); ++axis) axes.push_back(axis);
  return ops::sum(b, x, axes);
}

/// A loss L = sum of Re(conj(w) y) over the differentiable results y, with random weights w.
struct Loss {
  Use use;
  std::vector<Array> weights;  ///< one for each result; empty type where not differentiable
  Value total;                 ///< of type `dtype`: f64, f32, f16 or bf16
};

Loss make_loss(const Op& op, DType dtype, ops::Random& random) {
  Loss loss{random_use(op, dtype, random), {}, {}};
  Builder b(*loss.use.graph, loss.use.graph->body());
  for (std::uint32_t i = 0; i < loss.use.node->results.size(); ++i) {
    const Value y = loss.use.node->result(i);
    loss.weights.emplace_back();
    if (!is_differentiable(y.dtype())) continue;
    Array& weight = loss.weights.back();
    weight = ops::random_array(random, {y.type(), -1, 1});
    Value term = ops::mul(b, ops::conj(b, constant_of(b, weight)), y);
    if (is_complex(y.dtype())) term = ops::unary(b, "real", term);
    term = sum_all(b, term);
    if (loss.total) term = ops::cast(b, term, loss.total.dtype());
    loss.total = loss.total ? ops::add(b, loss.total, term) : term;
  }
  return loss;
}

struct Sum {
  double value = 0;
  double magnitude = 0;  ///< sum of the absolute terms
};

/// The loss for other values of the operands, straight from the reference of the op.
Sum loss_of(const Loss& loss, const std::vector<Array>& operands) {
  const std::vector<Array> results = evaluate(*loss.use.node, operands);
  Sum sum;
  const auto add = [&](const std::vector<double>& w, const std::vector<double>& y) {
    for (std::size_t i = 0; i < y.size(); ++i) {
      sum.value += w[i] * y[i];
      sum.magnitude += std::abs(w[i] * y[i]);
    }
  };
  for (std::size_t r = 0; r < results.size(); ++r) {
    add(loss.weights[r].re, loss.weights[r].re.empty() ? std::vector<double>{} : results[r].re);
    add(loss.weights[r].im, loss.weights[r].im.empty() ? std::vector<double>{} : results[r].im);
  }
  return sum;
}

/// Gradients of the loss for the operands; no array for those without one.
std::vector<std::optional<Array>> gradients_of(const Loss& loss) {
  const Use& use = loss.use;
  Builder b(*use.graph, use.graph->body());
  const std::vector<Value> gradients = compiler::gradients(b, loss.total, use.inputs);
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (!gradients[i]) continue;
    EXPECT_EQ(gradients[i].type().text(), use.inputs[i].type().text());
    b.emit(ops::op("state_write"), {gradients[i]}, {{"name", fmt::format("g{}", i)}});
  }
  ir::verify(*use.graph, "gradients");
  ops::Environment environment;
  for (std::size_t i = 0; i < use.values.size(); ++i) {
    environment.state[fmt::format("x{}", i)] = use.values[i];
  }
  ops::evaluate(*use.graph, environment);
  std::vector<std::optional<Array>> results(gradients.size());
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (gradients[i]) results[i] = environment.state.at(fmt::format("g{}", i));
  }
  return results;
}

/// The derivative by central differences and a bound of its error: of the truncation, by comparison
/// with the doubled step, whose error is four times as large; of the rounding of both losses.
struct Difference {
  double slope = 0;
  double error = 0;
};

Difference difference(const Loss& loss, std::vector<Array> operands, std::size_t operand,
                      std::vector<double> Array::* part, std::size_t position) {
  double& x = (operands[operand].*part)[position];
  const double centre = x;
  const double step = 1e-4;
  double magnitude = 0;
  const auto slope = [&](double h) {
    x = centre + h;
    const Sum above = loss_of(loss, operands);
    x = centre - h;
    const Sum below = loss_of(loss, operands);
    magnitude = above.magnitude;
    return (above.value - below.value) / (2 * h);
  };
  const double coarse = slope(2 * step);
  const double fine = slope(step);
  const double rounding = 32 * epsilon(DType::f64) * (magnitude + std::abs(centre)) / step;
  return {fine, std::abs(coarse - fine) + rounding};
}

/// The gradient is computed in double precision, but constants of the type are rounded to it: a few
/// of them in a row, for terms that the loss's magnitude bounds.
double constants_error(const Loss& loss) {
  const DType dtype = loss.total.dtype();
  return 64 * epsilon(dtype) * (1 + loss_of(loss, loss.use.values).magnitude);
}

void check_element(const Loss& loss, std::size_t operand, std::vector<double> Array::* part,
                   std::size_t position, double gradient) {
  const Difference expected = difference(loss, loss.use.values, operand, part, position);
  // A sample that calls itself smooth and is not would pass by its own large error.
  ASSERT_LT(expected.error, 1e-3 * (1 + std::abs(expected.slope))) << "not smooth";
  ASSERT_NEAR(gradient, expected.slope, 2 * expected.error + constants_error(loss))
      << "operand " << operand << ", element " << position
      << (part == &Array::im ? ", imaginary part" : "");
}

void check_operand(const Loss& loss, std::size_t operand, const std::optional<Array>& gradient,
                   ops::Random& random) {
  const Array& x = loss.use.values[operand];
  if (!is_differentiable(x.type.dtype)) return;
  for (int repeat = 0; repeat < 6 && x.elements() > 0; ++repeat) {
    const auto position =
        static_cast<std::size_t>(ops::random_integer(random, 0, x.elements() - 1));
    for (const auto part : {&Array::re, &Array::im}) {
      if ((x.*part).empty()) continue;
      const double given = gradient ? ((*gradient).*part)[position] : 0;
      ASSERT_NO_FATAL_FAILURE(check_element(loss, operand, part, position, given));
    }
  }
}

/// f64 where the row has it, else f32; and c64.
ops::DTypes tested_types(const Op& op) {
  const auto has = [&](DType dtype) {
    return std::find(op.dtypes.begin(), op.dtypes.end(), dtype) != op.dtypes.end();
  };
  ops::DTypes types;
  if (has(DType::f64)) {
    types.push_back(DType::f64);
  } else if (has(DType::f32)) {
    types.push_back(DType::f32);
  }
  if (has(DType::c64)) types.push_back(DType::c64);
  return types;
}

class DerivativeTest : public testing::TestWithParam<std::string> {
 protected:
  const Op& op() const { return ops::op(GetParam()); }
};

TEST_P(DerivativeTest, AgreesWithDifferences) {
  ops::Random random(4);
  for (const DType dtype : tested_types(op())) {
    int checked = 0;
    for (int repeat = 0; repeat < 200 && checked < 16; ++repeat) {
      const Loss loss = make_loss(op(), dtype, random);
      if (!loss.use.smooth || !loss.total) continue;
      ++checked;
      const std::string text = ir::print(*loss.use.graph);
      SCOPED_TRACE(text.substr(0, 2000));
      const std::vector<std::optional<Array>> gradients = gradients_of(loss);
      for (std::size_t i = 0; i < gradients.size(); ++i) {
        ASSERT_NO_FATAL_FAILURE(check_operand(loss, i, gradients[i], random));
      }
    }
    // Some rows have no smooth sample: those for which a difference sees what the rule leaves out.
    if (checked == 0) {
      EXPECT_TRUE(GetParam() == "stop_gradient" || GetParam() == "cast");
    }
  }
}

TEST_P(DerivativeTest, KeepsTypesOfSmallFloats) {
  ops::Random random(5);
  for (const DType dtype : op().dtypes) {
    if (dtype != DType::f32 && dtype != DType::f16 && dtype != DType::bf16) continue;
    for (int repeat = 0; repeat < 4; ++repeat) {
      const Loss loss = make_loss(op(), dtype, random);
      if (!loss.total) continue;
      SCOPED_TRACE(ir::describe(*loss.use.node));
      for (const std::optional<Array>& gradient : gradients_of(loss)) {
        if (!gradient) continue;
        for (const double value : gradient->re) ASSERT_TRUE(std::isfinite(value));
      }
    }
  }
}

std::vector<std::string> differentiable_ops() {
  std::vector<std::string> names;
  for (const Op* op : ops::all_ops()) {
    if (op->derivative && op->generate) names.emplace_back(op->name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Ops, DerivativeTest, testing::ValuesIn(differentiable_ops()),
                         [](const auto& test) { return test.param; });

// ---- values at which differences say nothing ----------------------------------------------------

/// The gradient of the op's result (of one element) for operand `operand`; 0 where there is none.
double gradient_at(std::string_view op_name, const std::vector<double>& operands,
                   std::size_t operand, ir::Attributes attributes = {}) {
  ir::Graph graph;
  Builder b(graph, graph.body());
  std::vector<Value> inputs;
  ops::Environment environment;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    const std::string name = fmt::format("x{}", i);
    inputs.push_back(state(b, name, {DType::f64, {}}));
    environment.state[name] = array({DType::f64, {}}, {operands[i]});
  }
  const Value y = b.emit1(op_name, inputs, std::move(attributes));
  const std::vector<Value> gradients = compiler::gradients(b, y, inputs);
  if (!gradients[operand]) return 0;
  b.emit(ops::op("state_write"), {gradients[operand]}, {{"name", std::string("g")}});
  ops::evaluate(graph, environment);
  return environment.state.at("g").re.at(0);
}

TEST(DerivativeAtKinks, IsAsDocumented) {
  EXPECT_EQ(gradient_at("abs", {0}, 0), 0);
  EXPECT_EQ(gradient_at("relu", {0}, 0), 0);
  EXPECT_EQ(gradient_at("relu2", {0}, 0), 0);
  EXPECT_EQ(gradient_at("leaky_relu", {0}, 0, {{"slope", 0.25}}), 0.25);
  EXPECT_EQ(gradient_at("maximum", {3, 3}, 0), 1);
  EXPECT_EQ(gradient_at("maximum", {3, 3}, 1), 0);
  EXPECT_EQ(gradient_at("minimum", {3, 3}, 0), 1);
  EXPECT_EQ(gradient_at("minimum", {3, 3}, 1), 0);
  EXPECT_EQ(gradient_at("pow", {0, 0}, 0), 0);
  EXPECT_EQ(gradient_at("pow", {0, 2}, 1), 0);
  EXPECT_EQ(gradient_at("pow", {0, 1}, 0), 1);
  EXPECT_EQ(gradient_at("remainder", {-7.5, 2}, 0), 1);
  EXPECT_EQ(gradient_at("remainder", {-7.5, 2}, 1), 3);
}

TEST(DerivativeOfSteps, IsZero) {
  for (const char* name : {"floor", "ceil", "round", "sign", "stop_gradient"}) {
    EXPECT_EQ(gradient_at(name, {1.25}, 0), 0) << name;
  }
}

TEST(DerivativeOfCast, HasTheOperandsType) {
  ir::Graph graph;
  Builder b(graph, graph.body());
  const Value x = state(b, "x", {DType::f32, {3}});
  const Value narrow = ops::cast(b, x, DType::bf16);
  const Value wide = ops::cast(b, narrow, DType::f64);
  const Value total = ops::sum(b, wide, {0});
  const std::vector<Value> xs = {x};
  const std::vector<Value> gradients = compiler::gradients(b, total, xs);
  ASSERT_TRUE(static_cast<bool>(gradients[0]));
  EXPECT_EQ(gradients[0].type().text(), "f32[3]");
}

}  // namespace
}  // namespace weft::test
