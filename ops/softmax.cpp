#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/composite.h"
#include "ops/support.h"

namespace weft::ops {

Exponentials exponentials_along(Builder& b, Value x, int axis) {
  // The shift changes nothing in exact arithmetic, so that no gradient flows through the maximum.
  Exponentials parts;
  parts.maximum = unary(b, "stop_gradient", max(b, x, {axis}, true));
  parts.shifted = sub(b, x, broadcast_to(b, parts.maximum, x.shape()));
  parts.exponentials = exp(b, parts.shifted);
  parts.total = sum(b, parts.exponentials, {axis}, true);
  return parts;
}

Value softmax_of(Builder& b, Value x, int axis) {
  const Exponentials parts = exponentials_along(b, x, axis);
  // One reciprocal a row; the total is at least 1, so that it neither overflows nor loses bits.
  const Value scale = unary(b, "reciprocal", parts.total);
  return mul(b, parts.exponentials, broadcast_to(b, scale, x.shape()));
}

namespace {

int axis_of(const Node& node) { return static_cast<int>(node.attributes.integer("axis")); }

// ---- softmax, log_softmax -----------------------------------------------------------------------

std::vector<Type> infer_softmax(const Node& node) {
  const Type& x = expect_dtype(node, 0, floating_types());
  axis_attribute(node, "axis", x.rank());
  return {x};
}

/// Calls visit(position of the first element, distance of neighbours) for each line along the axis.
template <typename Visit>
void for_each_line(const Shape& shape, int axis, Visit&& visit) {
  const std::int64_t length = shape[axis];
  const std::int64_t stride = shape.strides()[static_cast<std::size_t>(axis)];
  if (shape.elements() == 0) return;
  const std::int64_t outer = shape.elements() / (length * stride);
  for (std::int64_t i = 0; i < outer; ++i) {
    for (std::int64_t j = 0; j < stride; ++j) visit(i * length * stride + j, stride);
  }
}

/// log(sum(exp(x))) of one line.
double log_sum_exp(const Array& x, std::int64_t first, std::int64_t stride, std::int64_t length) {
  double maximum = -std::numeric_limits<double>::infinity();
  for (std::int64_t i = 0; i < length; ++i) maximum = std::max(maximum, x.at(first + i * stride));
  double total = 0;
  for (std::int64_t i = 0; i < length; ++i) total += std::exp(x.at(first + i * stride) - maximum);
  return maximum + std::log(total);
}

template <bool logarithm>
void softmax_reference(const Node& node, std::span<const Array* const> operands,
                       std::span<Array> results) {
  const Array& x = *operands[0];
  const int axis = axis_of(node);
  const std::int64_t length = x.type.shape[axis];
  for_each_line(x.type.shape, axis, [&](std::int64_t first, std::int64_t stride) {
    const double normaliser = log_sum_exp(x, first, stride, length);
    for (std::int64_t i = 0; i < length; ++i) {
      const std::int64_t position = first + i * stride;
      const double value = x.at(position) - normaliser;
      results[0].set(position, logarithm ? value : std::exp(value));
    }
  });
}

/// dL/dx = y * (g - sum(g * y)).
void softmax_derivative(Backward& backward) {
  Builder& b = backward.build();
  const DType dtype = backward.operand(0).dtype();
  const Value y = widened(b, backward.result());
  const Value g = widened(b, backward.gradient());
  const Value inner = sum_along(b, mul(b, g, y), axis_of(backward.node()));
  backward.add(0, cast(b, mul(b, y, sub(b, g, inner)), dtype));
}

/// dL/dx = g - softmax(x) * sum(g), with softmax(x) = exp(y).
void log_softmax_derivative(Backward& backward) {
  Builder& b = backward.build();
  const DType dtype = backward.operand(0).dtype();
  const Value y = widened(b, backward.result());
  const Value g = widened(b, backward.gradient());
  const Value total = sum_along(b, g, axis_of(backward.node()));
  backward.add(0, cast(b, sub(b, g, mul(b, exp(b, y), total)), dtype));
}

std::vector<Value> softmax_decompose(Builder& b, const Node& node) {
  const Value x = widened(b, node.operands[0]);
  return {cast(b, softmax_of(b, x, axis_of(node)), node.results[0].dtype)};
}

std::vector<Value> log_softmax_decompose(Builder& b, const Node& node) {
  const Value x = widened(b, node.operands[0]);
  const Exponentials parts = exponentials_along(b, x, axis_of(node));
  const Value logarithm = broadcast_to(b, log(b, parts.total), x.shape());
  return {cast(b, sub(b, parts.shifted, logarithm), node.results[0].dtype)};
}

Sample softmax_sample(Random& random, DType dtype) {
  const Shape shape = random_shape(random, 1, 4);
  Sample sample;
  sample.operands = {{{dtype, shape}, -4, 4}};
  sample.attributes = {{"axis", random_integer(random, 0, shape.rank() - 1)}};
  return sample;
}

// ---- cross_entropy ------------------------------------------------------------------------------

std::vector<Type> infer_cross_entropy(const Node& node) {
  const Type& logits = expect_dtype(node, 0, floating_types());
  const Type& targets = expect_dtype(node, 1, {DType::i32, DType::i64});
  require(logits.rank() >= 1, "logits {} have no axis of classes", logits.text());
  Shape shape = logits.shape;
  const std::int64_t classes = shape[shape.rank() - 1];
  shape.erase(shape.rank() - 1);
  require(classes > 0, "logits {} have no classes", logits.text());
  require(targets.shape == shape, "logits {} need targets of shape {}, got {}", logits.text(),
          shape.text(), targets.text());
  return {{compute_dtype(logits.dtype), shape}};
}

void cross_entropy_reference(const Node&, std::span<const Array* const> operands,
                             std::span<Array> results) {
  const Array& logits = *operands[0];
  const std::int64_t classes = logits.type.shape[logits.type.rank() - 1];
  for (std::int64_t row = 0; row < results[0].elements(); ++row) {
    const std::int64_t target = std::clamp<std::int64_t>(
        operands[1]->integers[static_cast<std::size_t>(row)], 0, classes - 1);
    const std::int64_t first = row * classes;
    results[0].set(row, log_sum_exp(logits, first, 1, classes) - logits.at(first + target));
  }
}

/// True at each row's target, of the logits' shape. Targets are clamped, as gather's indices are.
Value target_mask(Builder& b, Value logits, Value targets) {
  const Shape& shape = logits.shape();
  const int axis = shape.rank() - 1;
  const DType dtype = targets.dtype();
  const Value first = constant_like(b, targets, 0);
  const Value last = constant_like(b, targets, static_cast<double>(shape[axis] - 1));
  const Value clamped = binary(b, "minimum", binary(b, "maximum", targets, first), last);
  Shape column = targets.shape();
  column.push_back(1);
  const Value index = b.emit1("iota", {},
                              {{"dtype", dtype},
                               {"shape", std::vector<std::int64_t>(shape.begin(), shape.end())},
                               {"axis", std::int64_t{axis}}});
  return binary(b, "equal", index, broadcast_to(b, reshape(b, clamped, column), shape));
}

/// dL/dlogits = (softmax(logits) - onehot(targets)) * g.
void cross_entropy_derivative(Backward& backward) {
  Builder& b = backward.build();
  const Value logits = backward.operand(0);
  const Value x = widened(b, logits);
  const int axis = x.type().rank() - 1;
  const Value p = b.emit1("softmax", {x}, {{"axis", std::int64_t{axis}}});
  const Value onehot = cast(b, target_mask(b, x, backward.operand(1)), x.dtype());
  Shape column = backward.gradient().shape();
  column.push_back(1);
  const Value g = broadcast_to(b, reshape(b, backward.gradient(), column), x.shape());
  backward.add(0, cast(b, mul(b, sub(b, p, onehot), g), logits.dtype()));
}

/// log(sum(exp(shifted))) - shifted[target]: both terms are small where the model is right.
std::vector<Value> cross_entropy_decompose(Builder& b, const Node& node) {
  const Value x = widened(b, node.operands[0]);
  const int axis = x.type().rank() - 1;
  const Exponentials parts = exponentials_along(b, x, axis);
  const Value mask = target_mask(b, x, node.operands[1]);
  // A selection and not a product: logits of -inf elsewhere must not turn into NaN.
  const Value selected = where(b, mask, parts.shifted, constant_like(b, x, 0));
  const Value picked = sum(b, selected, {axis});
  const Value logarithm = reshape(b, log(b, parts.total), picked.shape());
  return {sub(b, logarithm, picked)};
}

Sample cross_entropy_sample(Random& random, DType dtype) {
  Shape shape = random_shape(random, 0, 3);
  const Type targets{random_chance(random, 0.5) ? DType::i32 : DType::i64, shape};
  const std::int64_t classes = random_extent(random);
  shape.push_back(classes);
  Sample sample;
  sample.operands = {{{dtype, shape}, -4, 4}, {targets, 0, static_cast<double>(classes - 1)}};
  return sample;
}

}  // namespace

std::span<const Op> softmax_ops() {
  const Lower not_pointwise = Lower::none("not pointwise: every result needs a whole line");
  static const Op rows[] = {
      Op({"softmax",
          Pattern::composite,
          1,
          1,
          0,
          {{"axis", ir::AttributeSpec::integer}},
          infer_softmax},
         floating_types(), softmax_derivative, softmax_reference<false>, not_pointwise,
         softmax_decompose, softmax_sample, 20,
         "exp(x) / sum(exp(x)) along an axis; 16-bit types compute in f32"),
      Op({"log_softmax",
          Pattern::composite,
          1,
          1,
          0,
          {{"axis", ir::AttributeSpec::integer}},
          infer_softmax},
         floating_types(), log_softmax_derivative, softmax_reference<true>, not_pointwise,
         log_softmax_decompose, softmax_sample, 20,
         "x - log(sum(exp(x))) along an axis; 16-bit types compute in f32"),
      Op({"cross_entropy", Pattern::composite, 2, 2, 0, {}, infer_cross_entropy}, floating_types(),
         cross_entropy_derivative, cross_entropy_reference, not_pointwise, cross_entropy_decompose,
         cross_entropy_sample, 20,
         "negative log likelihood (natural logarithm) of integer targets [...] under logits "
         "[..., c]; targets are clamped to [0, c-1]; f32 (f64 for f64)"),
  };
  return rows;
}

}  // namespace weft::ops
