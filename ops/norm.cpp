#include <cmath>

#include "ops/composite.h"
#include "ops/support.h"

namespace weft::ops {
namespace {

int last_axis(Value x) { return x.type().rank() - 1; }

/// The mean over the last axis, broadcast back along it.
Value mean_along(Builder& b, Value x) {
  return broadcast_to(b, mean(b, x, {last_axis(x)}, true), x.shape());
}

// ---- shape rules --------------------------------------------------------------------------------

/// x [..., d] and parameters [d] of one type.
std::vector<Type> infer_norm(const Node& node) {
  const Type& x = expect_dtype(node, 0, floating_types());
  require(x.rank() >= 1 && x.shape[x.rank() - 1] > 0,
          "operand 0 has type {}; expected a last axis that is not empty", x.text());
  const Shape parameter{x.shape[x.rank() - 1]};
  for (std::size_t i = 1; i < node.operands.size(); ++i) {
    const Type expected{x.dtype, parameter};
    require(node.operand_type(i) == expected, "operand {} has type {}; expected {}", i,
            node.operand_type(i).text(), expected.text());
  }
  const double epsilon = node.attributes.real("epsilon");
  require(std::isfinite(epsilon) && epsilon >= 0, "epsilon {} is not a small number >= 0", epsilon);
  return {x};
}

// ---- reference ----------------------------------------------------------------------------------

/// Calls visit(position of the row's first element) for each row of length d.
template <typename Visit>
void for_each_row(const Array& x, Visit&& visit) {
  const std::int64_t d = x.type.shape[x.type.rank() - 1];
  for (std::int64_t first = 0; first < x.elements(); first += d) visit(first, d);
}

void layer_norm_reference(const Node& node, std::span<const Array* const> operands,
                          std::span<Array> results) {
  const Array& x = *operands[0];
  const double epsilon = node.attributes.real("epsilon");
  for_each_row(x, [&](std::int64_t first, std::int64_t d) {
    double mean = 0;
    for (std::int64_t i = 0; i < d; ++i) mean += x.at(first + i);
    mean /= static_cast<double>(d);
    double variance = 0;
    for (std::int64_t i = 0; i < d; ++i) variance += std::pow(x.at(first + i) - mean, 2);
    variance /= static_cast<double>(d);
    for (std::int64_t i = 0; i < d; ++i) {
      const double normal = (x.at(first + i) - mean) / std::sqrt(variance + epsilon);
      results[0].set(first + i, normal * operands[1]->at(i) + operands[2]->at(i));
    }
  });
}

double mean_square(const Array& x, std::int64_t first, std::int64_t d) {
  double total = 0;
  for (std::int64_t i = 0; i < d; ++i) total += std::pow(x.at(first + i), 2);
  return total / static_cast<double>(d);
}

void rms_norm_reference(const Node& node, std::span<const Array* const> operands,
                        std::span<Array> results) {
  const Array& x = *operands[0];
  const double epsilon = node.attributes.real("epsilon");
  for_each_row(x, [&](std::int64_t first, std::int64_t d) {
    const double deviation = std::sqrt(mean_square(x, first, d) + epsilon);
    for (std::int64_t i = 0; i < d; ++i) {
      results[0].set(first + i, x.at(first + i) / deviation * operands[1]->at(i));
    }
  });
}

void simple_rms_norm_reference(const Node& node, std::span<const Array* const> operands,
                               std::span<Array> results) {
  const Array& x = *operands[0];
  const double epsilon = node.attributes.real("epsilon");
  for_each_row(x, [&](std::int64_t first, std::int64_t d) {
    const double size = std::sqrt(mean_square(x, first, d)) + epsilon;
    for (std::int64_t i = 0; i < d; ++i) results[0].set(first + i, x.at(first + i) / size);
  });
}

// ---- pieces of forward and backward -------------------------------------------------------------
// Forward and backward emit the same nodes for what they share (mean, reciprocal deviation), which
// are then found to be equal.

struct Normalised {
  Value normal;      ///< x without mean, of deviation 1
  Value reciprocal;  ///< 1 / deviation, of x's shape
};

/// `x` in its compute type.
Normalised normalise(Builder& b, Value x, bool centre, double epsilon) {
  const Value centred = centre ? sub(b, x, mean_along(b, x)) : x;
  const Value square = mean(b, mul(b, centred, centred), {last_axis(x)}, true);
  const Value reciprocal = unary(b, "rsqrt", add(b, square, epsilon));
  Normalised result;
  result.reciprocal = broadcast_to(b, reciprocal, x.shape());
  result.normal = mul(b, centred, result.reciprocal);
  return result;
}

Value spread(Builder& b, Value parameter, const Shape& shape) {
  return broadcast_to(b, widened(b, parameter), shape);
}

std::vector<Value> norm_decompose(Builder& b, const Node& node, bool centre) {
  const Value x = widened(b, node.operands[0]);
  Value y = normalise(b, x, centre, node.attributes.real("epsilon")).normal;
  y = mul(b, y, spread(b, node.operands[1], x.shape()));
  if (node.operands.size() > 2) y = add(b, y, spread(b, node.operands[2], x.shape()));
  return {cast(b, y, node.results[0].dtype)};
}

std::vector<Value> layer_norm_decompose(Builder& b, const Node& node) {
  return norm_decompose(b, node, true);
}
std::vector<Value> rms_norm_decompose(Builder& b, const Node& node) {
  return norm_decompose(b, node, false);
}

/// With n the normalised x, r the reciprocal deviation and h = g * weight:
/// dL/dx = r * (h - [mean(h)] - n * mean(h * n)), dL/dweight = sum(g * n), dL/dbias = sum(g).
void norm_derivative(Backward& backward, bool centre) {
  Builder& b = backward.build();
  const Value original = backward.operand(0);
  const DType dtype = original.dtype();
  const Value x = widened(b, original);
  const Value g = widened(b, backward.gradient());
  const Shape parameter = backward.operand(1).shape();
  const bool has_bias = backward.node().operands.size() > 2;
  if (has_bias && backward.wanted(2)) {
    backward.add(2, cast(b, sum_to(b, g, parameter), dtype));
  }
  if (!backward.wanted(0) && !backward.wanted(1)) return;
  const Normalised parts = normalise(b, x, centre, backward.node().attributes.real("epsilon"));
  if (backward.wanted(1)) {
    backward.add(1, cast(b, sum_to(b, mul(b, g, parts.normal), parameter), dtype));
  }
  if (!backward.wanted(0)) return;
  const Value h = mul(b, g, spread(b, backward.operand(1), x.shape()));
  Value inner = sub(b, h, mul(b, parts.normal, mean_along(b, mul(b, h, parts.normal))));
  if (centre) inner = sub(b, inner, mean_along(b, h));
  backward.add(0, cast(b, mul(b, parts.reciprocal, inner), dtype));
}

void layer_norm_derivative(Backward& backward) { norm_derivative(backward, true); }
void rms_norm_derivative(Backward& backward) { norm_derivative(backward, false); }

// ---- simple_rms_norm ----------------------------------------------------------------------------

struct SimpleParts {
  Value root;        ///< |x| / sqrt(d), last axis of extent 1
  Value reciprocal;  ///< 1 / (root + epsilon), of x's shape
};

SimpleParts simple_parts(Builder& b, Value x, double epsilon) {
  SimpleParts parts;
  parts.root = unary(b, "sqrt", mean(b, mul(b, x, x), {last_axis(x)}, true));
  parts.reciprocal =
      broadcast_to(b, unary(b, "reciprocal", add(b, parts.root, epsilon)), x.shape());
  return parts;
}

std::vector<Value> simple_rms_norm_decompose(Builder& b, const Node& node) {
  const Value x = widened(b, node.operands[0]);
  const SimpleParts parts = simple_parts(b, x, node.attributes.real("epsilon"));
  return {cast(b, mul(b, x, parts.reciprocal), node.results[0].dtype)};
}

/// With s = |x| / sqrt(d) and q = 1 / (s + epsilon): y = q x and
/// dL/dx = q g - x q^2 sum(g x) / (d s); the second term is 0 where x is 0.
void simple_rms_norm_derivative(Backward& backward) {
  Builder& b = backward.build();
  const Value original = backward.operand(0);
  const Value x = widened(b, original);
  const Value g = widened(b, backward.gradient());
  const SimpleParts parts = simple_parts(b, x, backward.node().attributes.real("epsilon"));
  const Value zero = constant_like(b, parts.root, 0);
  const Value safe =
      where(b, binary(b, "greater", parts.root, zero), parts.root, constant_like(b, parts.root, 1));
  const Value projection = div(b, mean(b, mul(b, g, x), {last_axis(x)}, true), safe);
  const Value q = parts.reciprocal;
  // q * (g - (q x) * projection): q x is the result, and no power of a large q is formed.
  const Value along = mul(b, mul(b, q, x), broadcast_to(b, projection, x.shape()));
  backward.add(0, cast(b, mul(b, q, sub(b, g, along)), original.dtype()));
}

// ---- generators ---------------------------------------------------------------------------------

/// x [..., d] and `parameters` of [d].
Sample norm_sample(Random& random, DType dtype, int parameters) {
  Shape shape = random_shape(random, 0, 3);
  const std::int64_t d = random_extent(random);
  shape.push_back(d);
  Sample sample;
  sample.operands = {{{dtype, shape}, -2, 2}};
  for (int i = 0; i < parameters; ++i) sample.operands.push_back({{dtype, Shape{d}}, -2, 2});
  // Large enough for finite differences where all elements of a row happen to be alike (d = 1).
  sample.attributes = {{"epsilon", random_real(random, 0.01, 0.1)}};
  return sample;
}

Sample layer_norm_sample(Random& random, DType dtype) { return norm_sample(random, dtype, 2); }
Sample rms_norm_sample(Random& random, DType dtype) { return norm_sample(random, dtype, 1); }
Sample simple_rms_norm_sample(Random& random, DType dtype) {
  Sample sample = norm_sample(random, dtype, 0);
  // With one element it is x / (|x| + epsilon), which has a kink at 0.
  sample.operands[0].low = 0.25;
  return sample;
}

}  // namespace

std::span<const Op> norm_ops() {
  const Lower not_pointwise = Lower::none("not pointwise: every result needs a whole row");
  const std::vector<ir::AttributeSpec> attributes = {{"epsilon", ir::AttributeSpec::real}};
  static const Op rows[] = {
      Op({"layer_norm", Pattern::composite, 3, 3, 0, attributes, infer_norm}, floating_types(),
         layer_norm_derivative, layer_norm_reference, not_pointwise, layer_norm_decompose,
         layer_norm_sample, 10,
         "(x - mean) / sqrt(variance + epsilon) * weight + bias over the last axis (biased "
         "variance); 16-bit types compute in f32"),
      Op({"rms_norm", Pattern::composite, 2, 2, 0, attributes, infer_norm}, floating_types(),
         rms_norm_derivative, rms_norm_reference, not_pointwise, rms_norm_decompose,
         rms_norm_sample, 8,
         "x / sqrt(mean(x^2) + epsilon) * weight over the last axis; 16-bit types compute in f32"),
      Op({"simple_rms_norm", Pattern::composite, 1, 1, 0, attributes, infer_norm}, floating_types(),
         simple_rms_norm_derivative, simple_rms_norm_reference, not_pointwise,
         simple_rms_norm_decompose, simple_rms_norm_sample, 6,
         "x / (|x| / sqrt(d) + epsilon) over the last axis of extent d; 16-bit types compute in "
         "f32"),
  };
  return rows;
}

}  // namespace weft::ops
