#include <algorithm>

#include "ops/support.h"

namespace weft::ops {

namespace {

using ir::AttributeSpec;
using loop::Arena;
using loop::Ex;
using Integers = std::vector<std::int64_t>;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

const DTypes& index_types() {
  static const DTypes list = {DType::i32, DType::i64};
  return list;
}

// ---- windows: dynamic_slice and dynamic_update_slice --------------------------------------------

/// The operands from `first` on must be one scalar index for each axis.
void expect_starts(const Node& node, std::size_t first, int rank) {
  require(node.operands.size() == first + at(rank), "expected {} start{} for {}, got {}", rank,
          rank == 1 ? "" : "s", node.operand_type(0).text(), node.operands.size() - first);
  for (std::size_t i = first; i < node.operands.size(); ++i) {
    const Type& start = expect_dtype(node, i, index_types());
    require(start.rank() == 0, "start {} has type {}; expected a scalar", i - first, start.text());
  }
}

std::vector<Value> starts_of(const Node& node, std::size_t first) {
  return {node.operands.begin() + static_cast<std::ptrdiff_t>(first), node.operands.end()};
}

/// Where the window begins, moved so that it fits.
Integers clamped_starts(std::span<const Array* const> starts, const Shape& shape,
                        const Shape& window) {
  Integers result;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    result.push_back(
        std::clamp<std::int64_t>(starts[at(axis)]->integers[0], 0, shape[axis] - window[axis]));
  }
  return result;
}

Ex clamp(Arena& arena, Ex value, std::int64_t maximum) {
  const Ex index = arena.cast(value, loop::Scalar::i64);
  const Ex low = arena.binary(loop::Binary::maximum, index, arena.integer(0));
  return arena.binary(loop::Binary::minimum, low, arena.integer(maximum));
}

std::vector<Ex> lower_starts(Lowering& lowering, const Node& node, std::size_t first,
                             const Shape& shape, const Shape& window) {
  Arena& arena = lowering.arena();
  std::vector<Ex> result;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const std::int64_t room = shape[axis] - window[axis];
    result.push_back(room == 0
                         ? arena.integer(0)
                         : clamp(arena, lowering.operand(node, first + at(axis), {}).re, room));
  }
  return result;
}

std::vector<Type> infer_dynamic_slice(const Node& node) {
  const Type& x = node.operand_type(0);
  const Type y{x.dtype, shape_attribute(node, "sizes", x.dtype)};
  require(y.rank() == x.rank(), "sizes {} has {} entries; {} has {} axes", y.shape.text(), y.rank(),
          x.text(), x.rank());
  for (int axis = 0; axis < x.rank(); ++axis) {
    require(y.shape[axis] <= x.shape[axis], "sizes {} are larger than {} along axis {}",
            y.shape.text(), x.text(), axis);
  }
  expect_starts(node, 1, x.rank());
  return {y};
}

Value dynamic_slice(Builder& b, Value x, std::vector<Value> starts, const Shape& sizes) {
  starts.insert(starts.begin(), x);
  return b.emit1("dynamic_slice", std::move(starts),
                 {{"sizes", Integers(sizes.begin(), sizes.end())}});
}

Value dynamic_update_slice(Builder& b, Value x, Value update, std::vector<Value> starts) {
  starts.insert(starts.begin(), {x, update});
  return b.emit1("dynamic_update_slice", std::move(starts));
}

void derive_dynamic_slice(Backward& d) {
  if (!d.wanted(0)) return;
  const Value empty = zeros(d.build(), d.operand(0).type());
  d.add(0, dynamic_update_slice(d.build(), empty, d.gradient(), starts_of(d.node(), 1)));
}

void reference_dynamic_slice(const Node&, std::span<const Array* const> operands,
                             std::span<Array> results) {
  const Array& x = *operands[0];
  Array& y = results[0];
  const Integers start = clamped_starts(operands.subspan(1), x.type.shape, y.type.shape);
  Integers source(start.size());
  for_each_index(y.type.shape, [&](std::span<const std::int64_t> index, std::int64_t position) {
    for (std::size_t i = 0; i < source.size(); ++i) source[i] = start[i] + index[i];
    copy_element(x, position_of(x.type.shape, source), y, position);
  });
}

Element lower_dynamic_slice(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  std::vector<Ex> source =
      lower_starts(lowering, node, 1, node.operand_type(0).shape, node.results[0].shape);
  for (std::size_t i = 0; i < source.size(); ++i) {
    source[i] = lowering.arena().add(source[i], index[i]);
  }
  return lowering.operand(node, 0, source);
}

/// A window of a random shape and its starts, some of which are out of range.
Shape random_window(Random& random, Sample& sample) {
  const Shape shape = sample.operands[0].type.shape;
  Shape window;
  for (const std::int64_t extent : shape) {
    window.push_back(random_chance(random, 0.3) ? extent : random_integer(random, 0, extent));
  }
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const DType dtype = random_chance(random, 0.5) ? DType::i32 : DType::i64;
    sample.operands.push_back({{dtype, {}}, -1, static_cast<double>(shape[axis])});
  }
  return window;
}

Sample sample_dynamic_slice(Random& random, DType dtype) {
  Sample sample = elementwise_sample(random, dtype, 1, -2, 2);
  const Shape window = random_window(random, sample);
  sample.attributes.set("sizes", Integers(window.begin(), window.end()));
  return sample;
}

std::vector<Type> infer_dynamic_update_slice(const Node& node) {
  const Type& x = node.operand_type(0);
  const Type& update = node.operand_type(1);
  bool fits = update.dtype == x.dtype && update.rank() == x.rank();
  for (int axis = 0; fits && axis < x.rank(); ++axis) fits = update.shape[axis] <= x.shape[axis];
  require(fits, "update {} does not fit into {}", update.text(), x.text());
  expect_starts(node, 2, x.rank());
  return {x};
}

void derive_dynamic_update_slice(Backward& d) {
  Builder& b = d.build();
  const Value g = d.gradient();
  const Type& update = d.operand(1).type();
  const std::vector<Value> starts = starts_of(d.node(), 2);
  if (d.wanted(0)) d.add(0, dynamic_update_slice(b, g, zeros(b, update), starts));
  if (d.wanted(1)) d.add(1, dynamic_slice(b, g, starts, update.shape));
}

void reference_dynamic_update_slice(const Node&, std::span<const Array* const> operands,
                                    std::span<Array> results) {
  const Array& update = *operands[1];
  Array& y = results[0];
  y = *operands[0];
  const Integers start = clamped_starts(operands.subspan(2), y.type.shape, update.type.shape);
  Integers target(start.size());
  for_each_index(update.type.shape,
                 [&](std::span<const std::int64_t> index, std::int64_t position) {
                   for (std::size_t i = 0; i < target.size(); ++i) target[i] = start[i] + index[i];
                   copy_element(update, position, y, position_of(y.type.shape, target));
                 });
}

Element lower_dynamic_update_slice(Lowering& lowering, const Node& node,
                                   std::span<const Ex> index) {
  Arena& arena = lowering.arena();
  const Shape& shape = node.results[0].shape;
  const Shape& window = node.operand_type(1).shape;
  if (window.elements() == 0) return lowering.operand(node, 0, index);
  std::vector<Ex> source = lower_starts(lowering, node, 2, shape, window);
  Ex inside = arena.boolean(true);
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const std::size_t i = at(axis);
    source[i] = arena.sub(index[i], source[i]);
    if (window[axis] == shape[axis]) continue;
    inside = arena.logical_and(inside, arena.less_equal(arena.integer(0), source[i]));
    inside = arena.logical_and(inside, arena.less(source[i], arena.integer(window[axis])));
  }
  const Element update = lowering.operand_if(node, 1, source, inside);
  if (window == shape) return update;
  return lower_select(arena, inside, update, lowering.operand(node, 0, index));
}

Sample sample_dynamic_update_slice(Random& random, DType dtype) {
  Sample sample = elementwise_sample(random, dtype, 1, -2, 2);
  Sample::Operand update = sample.operands[0];
  update.type.shape = random_window(random, sample);
  sample.operands.insert(sample.operands.begin() + 1, update);
  return sample;
}

// ---- gather and scatter_add ---------------------------------------------------------------------

/// x[:axis] + indices.shape + x[axis+1:] of operands 0 and 1.
Type gathered_type(const Node& node) {
  const Type& x = node.operand_type(0);
  const int axis = axis_attribute(node, "axis", x.rank());
  const Type& indices = expect_dtype(node, 1, index_types());
  require(x.rank() - 1 + indices.rank() <= Shape::max_rank,
          "the elements of {} at {} would have more than {} axes", x.text(), indices.text(),
          int{Shape::max_rank});
  require(x.shape[axis] > 0 || indices.elements() == 0,
          "axis {} of {} has no element for {} to name", axis, x.text(), indices.text());
  Type y{x.dtype, {}};
  for (int i = 0; i < axis; ++i) y.shape.push_back(x.shape[i]);
  for (const std::int64_t extent : indices.shape) y.shape.push_back(extent);
  for (int i = axis + 1; i < x.rank(); ++i) y.shape.push_back(x.shape[i]);
  check_size(y);
  return y;
}

/// Calls visit(position in x, position in the gathered tensor) for each element of the latter.
template <typename Visit>
void for_each_gathered(const Node& node, const Shape& shape, const Array& indices,
                       const Shape& gathered, Visit&& visit) {
  const auto axis = static_cast<std::size_t>(node.attributes.integer("axis"));
  const auto count = static_cast<std::size_t>(indices.type.rank());
  const std::int64_t last = shape[static_cast<int>(axis)] - 1;
  Integers source(at(shape.rank()));
  for_each_index(gathered, [&](std::span<const std::int64_t> index, std::int64_t position) {
    const std::int64_t named =
        indices.integers[at(position_of(indices.type.shape, index.subspan(axis, count)))];
    for (std::size_t i = 0; i < source.size(); ++i) {
      if (i == axis) {
        source[i] = std::clamp<std::int64_t>(named, 0, last);
      } else {
        source[i] = index[i < axis ? i : i + count - 1];
      }
    }
    visit(position_of(shape, source), position);
  });
}

std::vector<Type> infer_gather(const Node& node) { return {gathered_type(node)}; }

void derive_gather(Backward& d) {
  if (!d.wanted(0)) return;
  const Value empty = zeros(d.build(), d.operand(0).type());
  d.add(0, d.build().emit1("scatter_add", {empty, d.operand(1), d.gradient()},
                           {{"axis", d.node().attributes.integer("axis")}}));
}

void reference_gather(const Node& node, std::span<const Array* const> operands,
                      std::span<Array> results) {
  const Array& x = *operands[0];
  for_each_gathered(
      node, x.type.shape, *operands[1], results[0].type.shape,
      [&](std::int64_t from, std::int64_t to) { copy_element(x, from, results[0], to); });
}

Element lower_gather(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  const Shape& shape = node.operand_type(0).shape;
  const auto axis = static_cast<std::size_t>(node.attributes.integer("axis"));
  const auto count = static_cast<std::size_t>(node.operand_type(1).rank());
  const Ex named = lowering.operand(node, 1, index.subspan(axis, count)).re;
  std::vector<Ex> source(index.begin(), index.begin() + static_cast<std::ptrdiff_t>(axis));
  source.push_back(clamp(lowering.arena(), named, shape[static_cast<int>(axis)] - 1));
  source.insert(source.end(), index.begin() + static_cast<std::ptrdiff_t>(axis + count),
                index.end());
  return lowering.operand(node, 0, source);
}

Sample sample_gather(Random& random, DType dtype) {
  Sample sample = elementwise_sample(random, dtype, 1, -2, 2);
  Shape& shape = sample.operands[0].type.shape;
  shape = random_shape(random, 1, 4, true, 200);
  const std::int64_t axis = random_integer(random, 0, shape.rank() - 1);
  std::int64_t& extent = shape[static_cast<int>(axis)];
  if (extent == 0) extent = 3;
  const DType index_type = random_chance(random, 0.5) ? DType::i32 : DType::i64;
  // Some indices are out of range.
  sample.operands.push_back(
      {{index_type, random_shape(random, 0, 2, true, 12)}, -1, static_cast<double>(extent)});
  sample.attributes.set("axis", axis);
  return sample;
}

std::vector<Type> infer_scatter_add(const Node& node) {
  const Type& x = expect_dtype(node, 0, numeric_and_complex_types());
  const Type expected = gathered_type(node);
  require(node.operand_type(2) == expected, "updates have type {}; {} at {} needs {}",
          node.operand_type(2).text(), x.text(), node.operand_type(1).text(), expected.text());
  return {x};
}

void derive_scatter_add(Backward& d) {
  if (d.wanted(0)) d.add(0, d.gradient());
  if (d.wanted(2)) {
    d.add(2, d.build().emit1("gather", {d.gradient(), d.operand(1)},
                             {{"axis", d.node().attributes.integer("axis")}}));
  }
}

void reference_scatter_add(const Node& node, std::span<const Array* const> operands,
                           std::span<Array> results) {
  const Array& updates = *operands[2];
  Array& y = results[0];
  y = *operands[0];
  for_each_gathered(node, y.type.shape, *operands[1], updates.type.shape,
                    [&](std::int64_t to, std::int64_t from) {
                      if (!y.re.empty()) y.re[at(to)] += updates.re[at(from)];
                      if (!y.im.empty()) y.im[at(to)] += updates.im[at(from)];
                      if (!y.integers.empty()) {
                        std::int64_t& sum = y.integers[at(to)];
                        // Unsigned, as i64 wraps.
                        sum = wrap_to(y.type.dtype,
                                      static_cast<std::int64_t>(
                                          static_cast<std::uint64_t>(sum) +
                                          static_cast<std::uint64_t>(updates.integers[at(from)])));
                      }
                    });
}

Sample sample_scatter_add(Random& random, DType dtype) {
  Sample sample = sample_gather(random, dtype);
  Sample::Operand updates = sample.operands[0];
  const auto axis = static_cast<int>(sample.attributes.integer("axis"));
  updates.type.shape.erase(axis);
  const Shape& indices = sample.operands[1].type.shape;
  for (int i = 0; i < indices.rank(); ++i) updates.type.shape.insert(axis + i, indices[i]);
  sample.operands.push_back(updates);
  return sample;
}

}  // namespace

std::span<const Op> indexing_ops() {
  const Decompose primitive = Decompose::none("is primitive");
  static const Op rows[] = {
      Op({"dynamic_slice",
          Pattern::movement,
          1,
          1 + Shape::max_rank,
          0,
          {{"sizes", AttributeSpec::integers}},
          infer_dynamic_slice},
         every_type(), derive_dynamic_slice, reference_dynamic_slice, lower_dynamic_slice,
         primitive, sample_dynamic_slice, 1,
         "the window of the given sizes at the start operands, which are moved so that it fits"),
      Op({"dynamic_update_slice",
          Pattern::movement,
          2,
          2 + Shape::max_rank,
          0,
          {},
          infer_dynamic_update_slice},
         every_type(), derive_dynamic_update_slice, reference_dynamic_update_slice,
         lower_dynamic_update_slice, primitive, sample_dynamic_update_slice, 3,
         "x with the window at the start operands replaced by update; starts are moved to fit"),
      Op({"gather", Pattern::movement, 2, 2, 0, {{"axis", AttributeSpec::integer}}, infer_gather},
         every_type(), derive_gather, reference_gather, lower_gather, primitive, sample_gather, 1,
         "slices of x at indices along an axis; indices out of range are clamped"),
      Op({"scatter_add",
          Pattern::scatter,
          3,
          3,
          0,
          {{"axis", AttributeSpec::integer}},
          infer_scatter_add},
         numeric_and_complex_types(), derive_scatter_add, reference_scatter_add,
         Lower::none("anchor: several updates may meet in one element"), primitive,
         sample_scatter_add, 1,
         "x plus each slice of updates at its index along an axis; the adjoint of gather"),
  };
  return rows;
}

}  // namespace weft::ops
