#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/support.h"

namespace weft::ops {

namespace {

using ir::AttributeSpec;
using Integers = std::vector<std::int64_t>;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

/// `shape` without the axes, or with extent 1 in their place.
Shape reduced_shape(const Shape& shape, const Integers& axes, bool keep) {
  Shape result;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (!contains(axes, axis)) {
      result.push_back(shape[axis]);
    } else if (keep) {
      result.push_back(1);
    }
  }
  return result;
}

std::vector<Type> infer_reduction(const Node& node, const DTypes& dtypes) {
  const Type& x = expect_dtype(node, 0, dtypes);
  const Integers axes = axes_attribute(node, "axes", x.rank());
  return {{x.dtype, reduced_shape(x.shape, axes, node.attributes.flag("keep"))}};
}

std::vector<Type> infer_sum(const Node& node) {
  return infer_reduction(node, numeric_and_complex_types());
}

std::vector<Type> infer_extreme(const Node& node) {
  std::vector<Type> types = infer_reduction(node, numeric_types());
  const Type& x = node.operand_type(0);
  if (!is_floating(x.dtype)) {
    for (const std::int64_t axis : node.attributes.integers("axes")) {
      require(x.shape[static_cast<int>(axis)] > 0, "axis {} of {} is empty", axis, x.text());
    }
  }
  return types;
}

/// A result or its gradient with the reduced axes as extents of 1, then repeated along them.
Value expand(Builder& b, Value reduced, const Shape& shape, const Integers& axes) {
  return broadcast_to(b, reshape(b, reduced, reduced_shape(shape, axes, true)), shape);
}

void derive_sum(Backward& d) {
  d.add(0, expand(d.build(), d.gradient(), d.operand(0).shape(),
                  d.node().attributes.integers("axes")));
}

/// Elements that are equal to the extreme share its gradient equally.
void derive_extreme(Backward& d) {
  Builder& b = d.build();
  const Value x = d.operand(0);
  const Integers& axes = d.node().attributes.integers("axes");
  const bool keep = d.node().attributes.flag("keep");
  const Value attains = binary(b, "equal", x, expand(b, d.result(), x.shape(), axes));
  const Value count = sum(b, cast(b, attains, x.dtype()), axes, keep);
  const Value share = expand(b, div(b, d.gradient(), count), x.shape(), axes);
  d.add(0, where(b, attains, share, zeros(b, x.type())));
}

/// Calls visit(position in the operand, position in the result).
template <typename Visit>
void for_each_reduced(const Node& node, const Shape& shape, Visit&& visit) {
  const Integers& axes = node.attributes.integers("axes");
  const Shape kept = reduced_shape(shape, axes, true);
  Integers target;
  for_each_index(shape, [&](std::span<const std::int64_t> index, std::int64_t position) {
    target.assign(index.begin(), index.end());
    for (const std::int64_t axis : axes) target[at(axis)] = 0;
    visit(position, position_of(kept, target));
  });
}

void reference_sum(const Node& node, std::span<const Array* const> operands,
                   std::span<Array> results) {
  const Array& x = *operands[0];
  Array& y = results[0];
  for_each_reduced(node, x.type.shape, [&](std::int64_t from, std::int64_t to) {
    if (!x.re.empty()) y.re[at(to)] += x.re[at(from)];
    if (!x.im.empty()) y.im[at(to)] += x.im[at(from)];
    if (!x.integers.empty()) {
      // Unsigned, as i64 wraps.
      const auto sum = static_cast<std::uint64_t>(y.integers[at(to)]) +
                       static_cast<std::uint64_t>(x.integers[at(from)]);
      y.integers[at(to)] = wrap_to(y.type.dtype, static_cast<std::int64_t>(sum));
    }
  });
}

/// sign 1: maximum; -1: minimum. NaN where any element is.
template <int sign>
void reference_extreme(const Node& node, std::span<const Array* const> operands,
                       std::span<Array> results) {
  const Array& x = *operands[0];
  Array& y = results[0];
  const std::int64_t unset = sign > 0 ? std::numeric_limits<std::int64_t>::min()
                                      : std::numeric_limits<std::int64_t>::max();
  y.re.assign(y.re.size(), -sign * std::numeric_limits<double>::infinity());
  y.integers.assign(y.integers.size(), unset);
  for_each_reduced(node, x.type.shape, [&](std::int64_t from, std::int64_t to) {
    if (!x.re.empty()) {
      const double value = x.re[at(from)];
      double& best = y.re[at(to)];
      if (std::isnan(value) || sign * value > sign * best) best = value;
    } else {
      const std::int64_t value = x.integers[at(from)];
      std::int64_t& best = y.integers[at(to)];
      if (sign > 0 ? value > best : value < best) best = value;
    }
  });
}

Sample sample_reduction(Random& random, DType dtype) {
  Sample sample = elementwise_sample(random, dtype, 1, -2, 2);
  const int rank = sample.operands[0].type.rank();
  sample.attributes.set(
      "axes",
      random_axes(random, rank, static_cast<int>(random_integer(random, rank > 0 ? 1 : 0, rank))));
  sample.attributes.set("keep", random_chance(random, 0.5));
  return sample;
}

Sample sample_extreme(Random& random, DType dtype) {
  Sample sample = sample_reduction(random, dtype);
  if (!is_floating(dtype)) {
    Shape& shape = sample.operands[0].type.shape;
    for (int axis = 0; axis < shape.rank(); ++axis)
      shape[axis] = std::max<std::int64_t>(shape[axis], 1);
  }
  // In 16 bits equal elements are likely, and a difference quotient would step over the corner.
  sample.smooth = dtype == DType::f32 || dtype == DType::f64;
  return sample;
}

// ---- argmax -------------------------------------------------------------------------------------

std::vector<Type> infer_argmax(const Node& node) {
  const Type& x = expect_dtype(node, 0, numeric_types());
  const int axis = axis_attribute(node, "axis", x.rank());
  require(x.shape[axis] > 0, "axis {} of {} is empty", axis, x.text());
  Type y{DType::i64, x.shape};
  y.shape.erase(axis);
  return {y};
}

void reference_argmax(const Node& node, std::span<const Array* const> operands,
                      std::span<Array> results) {
  const Array& x = *operands[0];
  const auto axis = static_cast<int>(node.attributes.integer("axis"));
  const std::int64_t stride = x.type.shape.strides()[at(axis)];
  // x[i] > x[j], where NaN is larger than any number.
  const auto larger = [&](std::int64_t i, std::int64_t j) {
    if (x.re.empty()) return x.integers[at(i)] > x.integers[at(j)];
    return x.re[at(i)] > x.re[at(j)] || (std::isnan(x.re[at(i)]) && !std::isnan(x.re[at(j)]));
  };
  Integers first;
  for_each_index(results[0].type.shape,
                 [&](std::span<const std::int64_t> index, std::int64_t position) {
                   first.assign(index.begin(), index.end());
                   first.insert(first.begin() + axis, 0);
                   const std::int64_t start = position_of(x.type.shape, first);
                   std::int64_t& best = results[0].integers[at(position)];
                   for (std::int64_t i = 1; i < x.type.shape[axis]; ++i) {
                     if (larger(start + i * stride, start + best * stride)) best = i;
                   }
                 });
}

Sample sample_argmax(Random& random, DType dtype) {
  Sample sample = elementwise_sample(random, dtype, 1, -2, 2);
  Shape& shape = sample.operands[0].type.shape;
  shape = random_shape(random, 1, 4);
  const std::int64_t axis = random_integer(random, 0, shape.rank() - 1);
  std::int64_t& extent = shape[static_cast<int>(axis)];
  if (extent == 0) extent = 2;
  sample.attributes.set("axis", axis);
  sample.smooth = false;
  return sample;
}

}  // namespace

std::span<const Op> reduction_ops() {
  const Decompose primitive = Decompose::none("is primitive");
  const Lower anchor = Lower::none("anchor: an element needs many of the operand's");
  const std::vector<AttributeSpec> attributes = {{"axes", AttributeSpec::integers},
                                                 {"keep", AttributeSpec::flag}};
  static const Op rows[] = {
      Op({"sum", Pattern::reduction, 1, 1, 0, attributes, infer_sum}, numeric_and_complex_types(),
         derive_sum, reference_sum, anchor, primitive, sample_reduction, 64,
         "sum over axes (16-bit types accumulate in f32, integers wrap); 0 over no elements"),
      Op({"max", Pattern::reduction, 1, 1, 0, attributes, infer_extreme}, numeric_types(),
         derive_extreme, reference_extreme<1>, anchor, primitive, sample_extreme, 64,
         "maximum over axes, NaN if any is; -inf over no elements; equals share the gradient"),
      Op({"min", Pattern::reduction, 1, 1, 0, attributes, infer_extreme}, numeric_types(),
         derive_extreme, reference_extreme<-1>, anchor, primitive, sample_extreme, 64,
         "minimum over axes, NaN if any is; inf over no elements; equals share the gradient"),
      Op({"argmax", Pattern::reduction, 1, 1, 0, {{"axis", AttributeSpec::integer}}, infer_argmax},
         numeric_types(), Derivative::none("is an index"), reference_argmax, anchor, primitive,
         sample_argmax, 64,
         "index of the maximum along an axis, the first of equals; NaN counts as largest"),
  };
  return rows;
}

}  // namespace weft::ops
