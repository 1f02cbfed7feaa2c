#include <algorithm>
#include <numeric>

#include "ops/support.h"

namespace weft::ops {

namespace {

using ir::AttributeSpec;
using loop::Arena;
using loop::Ex;
using Integers = std::vector<std::int64_t>;

Integers extents_of(const Shape& shape) { return {shape.begin(), shape.end()}; }

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

/// The integers attribute, of which there must be one for each of `rank` axes.
const Integers& per_axis_attribute(const Node& node, std::string_view name, int rank) {
  const Integers& values = node.attributes.integers(name);
  require(values.size() == at(rank), "{} {} has {} entries; {} has {} axes", name, text(values),
          values.size(), node.operand_type(0).text(), rank);
  return values;
}

/// The column of a reference that copies the element at source(index) of the operand's shape to
/// each index of the result.
template <typename Source>
void copy_from(const Array& x, Array& y, Source&& source) {
  for_each_index(y.type.shape, [&](std::span<const std::int64_t> index, std::int64_t position) {
    copy_element(x, source(index), y, position);
  });
}

// ---- reshape ------------------------------------------------------------------------------------

std::vector<Type> infer_reshape(const Node& node) {
  const Type& x = node.operand_type(0);
  const Type y{x.dtype, shape_attribute(node, "shape", x.dtype)};
  require(x.elements() == y.elements(), "{} has {} elements; {} needs {}", x.text(), x.elements(),
          y.shape.text(), y.elements());
  return {y};
}

void derive_reshape(Backward& d) {
  d.add(0, reshape(d.build(), d.gradient(), d.operand(0).shape()));
}

void reference_reshape(const Node&, std::span<const Array* const> operands,
                       std::span<Array> results) {
  for (std::int64_t i = 0; i < operands[0]->elements(); ++i) {
    copy_element(*operands[0], i, results[0], i);
  }
}

Element lower_reshape(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  Arena& arena = lowering.arena();
  const Ex position = arena.linearize(index, node.results[0].shape);
  return lowering.operand(node, 0, arena.delinearize(position, node.operand_type(0).shape));
}

/// The extents of `shape` divided and merged at random.
Integers random_reshape(Random& random, const Shape& shape) {
  Integers extents;
  for (std::int64_t extent : shape) {
    for (const std::int64_t factor : {2, 3, 5}) {
      if (extent > 0 && extent % factor == 0 && random_chance(random, 0.5)) {
        extents.push_back(factor);
        extent /= factor;
      }
    }
    extents.push_back(extent);
  }
  if (random_chance(random, 0.3)) extents.insert(extents.begin(), 1);
  while (extents.size() > 1 &&
         (extents.size() > at(Shape::max_rank) || random_chance(random, 0.5))) {
    const auto i = random_integer(random, 0, static_cast<std::int64_t>(extents.size()) - 2);
    extents[at(i)] *= extents[at(i) + 1];
    extents.erase(extents.begin() + i + 1);
  }
  return extents;
}

Sample sample_reshape(Random& random, DType dtype) {
  Sample sample = elementwise_sample(random, dtype, 1, -2, 2);
  sample.attributes.set("shape", random_reshape(random, sample.operands[0].type.shape));
  return sample;
}

// ---- permute ------------------------------------------------------------------------------------

std::vector<Type> infer_permute(const Node& node) {
  const Type& x = node.operand_type(0);
  const Integers order = axes_attribute(node, "order", x.rank());
  require(order.size() == at(x.rank()), "order {} does not name every axis of {}", text(order),
          x.text());
  Type y{x.dtype, {}};
  for (const std::int64_t axis : order) y.shape.push_back(x.shape[static_cast<int>(axis)]);
  return {y};
}

void derive_permute(Backward& d) {
  const Integers& order = d.node().attributes.integers("order");
  Integers inverse(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    inverse[at(order[i])] = static_cast<std::int64_t>(i);
  }
  d.add(0, permute(d.build(), d.gradient(), inverse));
}

void reference_permute(const Node& node, std::span<const Array* const> operands,
                       std::span<Array> results) {
  const Integers& order = node.attributes.integers("order");
  Integers source(order.size());
  copy_from(*operands[0], results[0], [&](std::span<const std::int64_t> index) {
    for (std::size_t i = 0; i < order.size(); ++i) source[at(order[i])] = index[i];
    return position_of(operands[0]->type.shape, source);
  });
}

Element lower_permute(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  const Integers& order = node.attributes.integers("order");
  std::vector<Ex> source(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) source[at(order[i])] = index[i];
  return lowering.operand(node, 0, source);
}

Sample sample_permute(Random& random, DType dtype) {
  Sample sample = elementwise_sample(random, dtype, 1, -2, 2);
  sample.attributes.set("order", random_order(random, sample.operands[0].type.rank()));
  return sample;
}

// ---- broadcast ----------------------------------------------------------------------------------

std::vector<Type> infer_broadcast(const Node& node) {
  const Type& x = node.operand_type(0);
  const Type y{x.dtype, shape_attribute(node, "shape", x.dtype)};
  const int extra = y.rank() - x.rank();
  require(extra >= 0, "{} has more axes than {}", x.text(), y.shape.text());
  for (int axis = 0; axis < x.rank(); ++axis) {
    const std::int64_t from = x.shape[axis];
    const std::int64_t to = y.shape[extra + axis];
    require(from == to || from == 1, "{} does not broadcast to {}: axis {} has extent {}, not {}",
            x.text(), y.shape.text(), axis, from, to);
  }
  return {y};
}

void derive_broadcast(Backward& d) {
  d.add(0, sum_to(d.build(), d.gradient(), d.operand(0).shape()));
}

void reference_broadcast(const Node&, std::span<const Array* const> operands,
                         std::span<Array> results) {
  const Shape& shape = operands[0]->type.shape;
  const int extra = results[0].type.rank() - shape.rank();
  Integers source(at(shape.rank()));
  copy_from(*operands[0], results[0], [&](std::span<const std::int64_t> index) {
    for (int axis = 0; axis < shape.rank(); ++axis) {
      source[at(axis)] = shape[axis] == 1 ? 0 : index[at(extra + axis)];
    }
    return position_of(shape, source);
  });
}

Element lower_broadcast(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  const Shape& shape = node.operand_type(0).shape;
  const int extra = node.results[0].rank() - shape.rank();
  std::vector<Ex> source(at(shape.rank()));
  for (int axis = 0; axis < shape.rank(); ++axis) {
    source[at(axis)] = shape[axis] == 1 ? lowering.arena().integer(0) : index[at(extra + axis)];
  }
  return lowering.operand(node, 0, source);
}

Sample sample_broadcast(Random& random, DType dtype) {
  Sample sample = elementwise_sample(random, dtype, 1, -2, 2);
  Shape to = sample.operands[0].type.shape;
  Shape& from = sample.operands[0].type.shape;
  for (int axis = 0; axis < from.rank(); ++axis) {
    if (random_chance(random, 0.4)) from[axis] = 1;
  }
  while (from.rank() > 0 && random_chance(random, 0.3)) from.erase(0);
  if (to.elements() <= 200 && random_chance(random, 0.3)) to.insert(0, 2);
  sample.attributes.set("shape", extents_of(to));
  return sample;
}

// ---- slice --------------------------------------------------------------------------------------

std::vector<Type> infer_slice(const Node& node) {
  const Type& x = node.operand_type(0);
  const Integers& start = per_axis_attribute(node, "start", x.rank());
  const Integers& limit = per_axis_attribute(node, "limit", x.rank());
  const Integers& stride = per_axis_attribute(node, "stride", x.rank());
  Type y{x.dtype, {}};
  for (int axis = 0; axis < x.rank(); ++axis) {
    const std::int64_t first = start[at(axis)];
    const std::int64_t end = limit[at(axis)];
    const std::int64_t step = stride[at(axis)];
    require(first >= 0 && first <= end && end <= x.shape[axis],
            "[{}, {}) is no range of axis {} of {}", first, end, axis, x.text());
    require(step >= 1, "stride {} of axis {}; expected at least 1", step, axis);
    y.shape.push_back(first == end ? 0 : (end - first - 1) / step + 1);
  }
  return {y};
}

/// Puts stride - 1 zeros between the elements of an axis (and may put some after the last).
Value spread_axis(Builder& b, Value x, int axis, std::int64_t stride) {
  const std::int64_t count = x.shape()[axis];
  if (stride == 1 || count <= 1) return x;
  // As [before * count, 1, after] the zeros are a padding of the middle axis.
  std::int64_t before = 1;
  for (int i = 0; i < axis; ++i) before *= x.shape()[i];
  std::int64_t after = 1;
  for (int i = axis + 1; i < x.shape().rank(); ++i) after *= x.shape()[i];
  Shape spread = x.shape();
  spread[axis] = count * stride;
  const Value columns = reshape(b, x, Shape{before * count, 1, after});
  return reshape(b, pad_axis(b, columns, 1, 0, stride - 1), spread);
}

void derive_slice(Backward& d) {
  Builder& b = d.build();
  const Node& node = d.node();
  const Shape& shape = d.operand(0).shape();
  Integers low = node.attributes.integers("start");
  const Integers& stride = node.attributes.integers("stride");
  Integers high(low.size());
  Value g = d.gradient();
  for (int axis = 0; axis < shape.rank(); ++axis) {
    // The last zeros may lie behind the operand's end.
    g = spread_axis(b, g, axis, stride[at(axis)]);
    const std::int64_t room = shape[axis] - low[at(axis)];
    if (g.shape()[axis] > room) g = slice_axis(b, g, axis, 0, room);
    high[at(axis)] = room - g.shape()[axis];
  }
  d.add(0, pad(b, g, std::move(low), std::move(high)));
}

void reference_slice(const Node& node, std::span<const Array* const> operands,
                     std::span<Array> results) {
  const Integers& start = node.attributes.integers("start");
  const Integers& stride = node.attributes.integers("stride");
  Integers source(start.size());
  copy_from(*operands[0], results[0], [&](std::span<const std::int64_t> index) {
    for (std::size_t i = 0; i < source.size(); ++i) source[i] = start[i] + index[i] * stride[i];
    return position_of(operands[0]->type.shape, source);
  });
}

Element lower_slice(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  Arena& arena = lowering.arena();
  const Integers& start = node.attributes.integers("start");
  const Integers& stride = node.attributes.integers("stride");
  std::vector<Ex> source(start.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    source[i] = arena.add(arena.mul(index[i], arena.integer(stride[i])), arena.integer(start[i]));
  }
  return lowering.operand(node, 0, source);
}

Sample sample_slice(Random& random, DType dtype) {
  Sample sample = elementwise_sample(random, dtype, 1, -2, 2);
  Integers start;
  Integers limit;
  Integers stride;
  for (const std::int64_t extent : sample.operands[0].type.shape) {
    start.push_back(random_chance(random, 0.3) ? 0 : random_integer(random, 0, extent));
    limit.push_back(random_chance(random, 0.3) ? extent
                                               : random_integer(random, start.back(), extent));
    stride.push_back(random_chance(random, 0.5) ? 1 : random_integer(random, 1, 5));
  }
  sample.attributes = {{"start", start}, {"limit", limit}, {"stride", stride}};
  return sample;
}

// ---- pad ----------------------------------------------------------------------------------------

std::vector<Type> infer_pad(const Node& node) {
  const Type& x = node.operand_type(0);
  const Integers& low = per_axis_attribute(node, "low", x.rank());
  const Integers& high = per_axis_attribute(node, "high", x.rank());
  const double value = node.attributes.real("value");
  if (!is_differentiable(x.dtype)) {
    require(static_cast<double>(saturate_to(x.dtype, value)) == value, "{} is not a value of {}",
            value, name(x.dtype));
  }
  Type y = x;
  constexpr std::int64_t limit = std::int64_t{1} << 48;
  for (int axis = 0; axis < x.rank(); ++axis) {
    const std::int64_t before = low[at(axis)];
    const std::int64_t after = high[at(axis)];
    require(before >= 0 && after >= 0, "padding ({}, {}) of axis {} is negative", before, after,
            axis);
    require(before < limit && after < limit, "padding ({}, {}) of axis {} is too large", before,
            after, axis);
    y.shape[axis] += before + after;
  }
  return {y};
}

void derive_pad(Backward& d) {
  const Shape& shape = d.operand(0).shape();
  const Integers& low = d.node().attributes.integers("low");
  Integers limit(low.size());
  for (int axis = 0; axis < shape.rank(); ++axis) limit[at(axis)] = low[at(axis)] + shape[axis];
  d.add(0, slice(d.build(), d.gradient(), low, limit));
}

double pad_value(const Node& node) {
  return round_to(node.results[0].dtype, node.attributes.real("value"));
}

void reference_pad(const Node& node, std::span<const Array* const> operands,
                   std::span<Array> results) {
  const Array& x = *operands[0];
  Array& y = results[0];
  const Integers& low = node.attributes.integers("low");
  for (std::int64_t i = 0; i < y.elements(); ++i) y.set(i, pad_value(node));
  Integers target(low.size());
  for_each_index(x.type.shape, [&](std::span<const std::int64_t> index, std::int64_t position) {
    for (std::size_t i = 0; i < target.size(); ++i) target[i] = low[i] + index[i];
    copy_element(x, position, y, position_of(y.type.shape, target));
  });
}

Element lower_pad(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  Arena& arena = lowering.arena();
  const Type& type = node.operand_type(0);
  const Element outside = lower_constant(arena, type.dtype, pad_value(node));
  if (type.elements() == 0) return outside;
  const Integers& low = node.attributes.integers("low");
  const Integers& high = node.attributes.integers("high");
  std::vector<Ex> source(low.size());
  Ex inside = arena.boolean(true);
  for (std::size_t i = 0; i < low.size(); ++i) {
    source[i] = arena.sub(index[i], arena.integer(low[i]));
    if (low[i] > 0) {
      inside = arena.logical_and(inside, arena.less_equal(arena.integer(low[i]), index[i]));
    }
    if (high[i] > 0) {
      const std::int64_t end = low[i] + type.shape[static_cast<int>(i)];
      inside = arena.logical_and(inside, arena.less(index[i], arena.integer(end)));
    }
  }
  return lower_select(arena, inside, lowering.operand_if(node, 0, source, inside), outside);
}

Sample sample_pad(Random& random, DType dtype) {
  Sample sample = elementwise_sample(random, dtype, 1, -2, 2);
  Integers low;
  Integers high;
  for (int axis = 0; axis < sample.operands[0].type.rank(); ++axis) {
    low.push_back(random_chance(random, 0.4) ? 0 : random_integer(random, 1, 3));
    high.push_back(random_chance(random, 0.4) ? 0 : random_integer(random, 1, 3));
  }
  const double value = is_differentiable(dtype)     ? random_real(random, -2, 2)
                       : random_chance(random, 0.5) ? 1.0
                                                    : 0.0;
  sample.attributes = {{"low", low}, {"high", high}, {"value", value}};
  return sample;
}

// ---- flip ---------------------------------------------------------------------------------------

std::vector<Type> infer_flip(const Node& node) {
  axes_attribute(node, "axes", node.operand_type(0).rank());
  return {node.operand_type(0)};
}

void derive_flip(Backward& d) {
  d.add(0, flip(d.build(), d.gradient(), d.node().attributes.integers("axes")));
}

void reference_flip(const Node& node, std::span<const Array* const> operands,
                    std::span<Array> results) {
  const Shape& shape = operands[0]->type.shape;
  Integers source(at(shape.rank()));
  copy_from(*operands[0], results[0], [&](std::span<const std::int64_t> index) {
    source.assign(index.begin(), index.end());
    for (const std::int64_t axis : node.attributes.integers("axes")) {
      source[at(axis)] = shape[static_cast<int>(axis)] - 1 - index[at(axis)];
    }
    return position_of(shape, source);
  });
}

Element lower_flip(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  Arena& arena = lowering.arena();
  std::vector<Ex> source(index.begin(), index.end());
  for (const std::int64_t axis : node.attributes.integers("axes")) {
    const std::int64_t last = node.operand_type(0).shape[static_cast<int>(axis)] - 1;
    source[at(axis)] = arena.sub(arena.integer(last), index[at(axis)]);
  }
  return lowering.operand(node, 0, source);
}

Sample sample_flip(Random& random, DType dtype) {
  Sample sample = elementwise_sample(random, dtype, 1, -2, 2);
  const int rank = sample.operands[0].type.rank();
  const auto count = static_cast<int>(random_integer(random, 0, rank));
  sample.attributes.set("axes", random_axes(random, rank, count));
  return sample;
}

// ---- concat -------------------------------------------------------------------------------------

std::vector<Type> infer_concat(const Node& node) {
  Type y = node.operand_type(0);
  const int axis = axis_attribute(node, "axis", y.rank());
  for (std::size_t i = 1; i < node.operands.size(); ++i) {
    const Type& x = node.operand_type(i);
    bool fits = x.dtype == y.dtype && x.rank() == y.rank();
    for (int k = 0; fits && k < y.rank(); ++k) fits = k == axis || x.shape[k] == y.shape[k];
    require(fits, "operand {} has type {}, which does not continue {} along axis {}", i, x.text(),
            node.operand_type(0).text(), axis);
    y.shape[axis] += x.shape[axis];
    check_size(y);  // before the next is added: extents of a text are not to be trusted
  }
  return {y};
}

void derive_concat(Backward& d) {
  const auto axis = static_cast<int>(d.node().attributes.integer("axis"));
  std::int64_t start = 0;
  for (std::size_t i = 0; i < d.node().operands.size(); ++i) {
    const std::int64_t limit = start + d.operand(i).shape()[axis];
    if (d.wanted(i)) d.add(i, slice_axis(d.build(), d.gradient(), axis, start, limit));
    start = limit;
  }
}

void reference_concat(const Node& node, std::span<const Array* const> operands,
                      std::span<Array> results) {
  const auto axis = static_cast<std::size_t>(node.attributes.integer("axis"));
  std::int64_t start = 0;
  Integers target;
  for (const Array* x : operands) {
    for_each_index(x->type.shape, [&](std::span<const std::int64_t> index, std::int64_t position) {
      target.assign(index.begin(), index.end());
      target[axis] += start;
      copy_element(*x, position, results[0], position_of(results[0].type.shape, target));
    });
    start += x->type.shape[static_cast<int>(axis)];
  }
}

Element lower_concat(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  Arena& arena = lowering.arena();
  const auto axis = static_cast<std::size_t>(node.attributes.integer("axis"));
  std::vector<Ex> source(index.begin(), index.end());
  Element result;
  std::int64_t end = node.results[0].shape[static_cast<int>(axis)];
  // From the last operand to the first: what lies before an operand is chosen over it.
  for (std::size_t i = node.operands.size(); i-- > 0;) {
    const std::int64_t extent = node.operand_type(i).shape[static_cast<int>(axis)];
    const std::int64_t start = end - extent;
    if (extent > 0) {
      const Ex below_end = arena.less(index[axis], arena.integer(end));
      const Ex above_start = arena.less_equal(arena.integer(start), index[axis]);
      source[axis] = arena.sub(index[axis], arena.integer(start));
      const Element x =
          lowering.operand_if(node, i, source, arena.logical_and(above_start, below_end));
      result = result.re == nullptr ? x : lower_select(arena, below_end, x, result);
    }
    end = start;
  }
  // An empty result is never asked for an element.
  return result.re == nullptr ? lower_constant(arena, node.results[0].dtype, 0) : result;
}

Sample sample_concat(Random& random, DType dtype) {
  Sample sample = elementwise_sample(random, dtype, 1, -2, 2);
  sample.operands[0].type.shape = random_shape(random, 1, 4, true, 150);
  const Shape& shape = sample.operands[0].type.shape;
  const std::int64_t axis = random_integer(random, 0, shape.rank() - 1);
  const std::int64_t more = random_integer(random, 0, 3);
  for (std::int64_t i = 0; i < more; ++i) {
    sample.operands.push_back(sample.operands[0]);
    sample.operands.back().type.shape[static_cast<int>(axis)] = random_integer(random, 0, 5);
  }
  sample.attributes.set("axis", axis);
  return sample;
}

}  // namespace

std::span<const Op> movement_ops() {
  const Decompose primitive = Decompose::none("is primitive");
  static const Op rows[] = {
      Op({"reshape",
          Pattern::movement,
          1,
          1,
          0,
          {{"shape", AttributeSpec::integers}},
          infer_reshape},
         every_type(), derive_reshape, reference_reshape, lower_reshape, primitive, sample_reshape,
         0, "the same elements in row-major order, in another shape"),
      Op({"permute",
          Pattern::movement,
          1,
          1,
          0,
          {{"order", AttributeSpec::integers}},
          infer_permute},
         every_type(), derive_permute, reference_permute, lower_permute, primitive, sample_permute,
         0, "axis i of the result is axis order[i] of the operand"),
      Op({"broadcast",
          Pattern::movement,
          1,
          1,
          0,
          {{"shape", AttributeSpec::integers}},
          infer_broadcast},
         every_type(), derive_broadcast, reference_broadcast, lower_broadcast, primitive,
         sample_broadcast, 0,
         "repeats along new leading axes and axes of extent 1; trailing axes are aligned"),
      Op({"slice",
          Pattern::movement,
          1,
          1,
          0,
          {{"start", AttributeSpec::integers},
           {"limit", AttributeSpec::integers},
           {"stride", AttributeSpec::integers}},
          infer_slice},
         every_type(), derive_slice, reference_slice, lower_slice, primitive, sample_slice, 0,
         "elements start, start + stride, ... below limit of each axis"),
      Op({"pad",
          Pattern::movement,
          1,
          1,
          0,
          {{"low", AttributeSpec::integers},
           {"high", AttributeSpec::integers},
           {"value", AttributeSpec::real}},
          infer_pad},
         every_type(), derive_pad, reference_pad, lower_pad, primitive, sample_pad, 2,
         "low and high elements of value before and after each axis"),
      Op({"flip", Pattern::movement, 1, 1, 0, {{"axes", AttributeSpec::integers}}, infer_flip},
         every_type(), derive_flip, reference_flip, lower_flip, primitive, sample_flip, 0,
         "reverses the listed axes"),
      Op({"concat", Pattern::movement, 1, -1, 0, {{"axis", AttributeSpec::integer}}, infer_concat},
         every_type(), derive_concat, reference_concat, lower_concat, primitive, sample_concat, 2,
         "the operands one after another along an axis"),
  };
  return rows;
}

}  // namespace weft::ops
