#include "compiler/passes/movement.h"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "compiler/passes/rewrite.h"
#include "ops/support.h"

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Value;
using ops::Builder;
using Integers = std::vector<std::int64_t>;

bool is(Value value, std::string_view op) { return value.node->is(op); }
const Integers& integers(Value value, std::string_view name) {
  return value.node->attributes.integers(name);
}
Value operand(Value value) { return value.node->operands[0]; }
std::size_t rank_of(Value value) { return static_cast<std::size_t>(value.type().rank()); }
std::int64_t extent(Value value, std::size_t axis) { return value.shape()[static_cast<int>(axis)]; }

// ---- reshape, permute, broadcast ----------------------------------------------------------------

Value simplify_reshape(Builder& b, const Node& node) {
  if (!node.is("reshape")) return {};
  const Value x = node.operands[0];
  const Shape& shape = node.results[0].shape;
  if (x.shape() == shape) return x;
  if (is(x, "reshape")) return ops::reshape(b, operand(x), shape);
  return {};
}

Value simplify_permute(Builder& b, const Node& node) {
  if (!node.is("permute")) return {};
  const Value x = node.operands[0];
  const Integers& order = node.attributes.integers("order");
  if (is(x, "permute")) {
    Integers joined;
    for (const std::int64_t axis : order) {
      joined.push_back(integers(x, "order")[static_cast<std::size_t>(axis)]);
    }
    return ops::permute(b, operand(x), std::move(joined));
  }
  // Axes of extent 1 may go anywhere without an element changing its place.
  Integers long_axes;
  for (const std::int64_t axis : order) {
    if (x.shape()[static_cast<int>(axis)] != 1) long_axes.push_back(axis);
  }
  if (std::ranges::is_sorted(long_axes)) return ops::reshape(b, x, node.results[0].shape);
  return {};
}

/// The shape without leading axes of extent 1.
Shape without_leading_ones(Shape shape) {
  while (shape.rank() > 0 && shape[0] == 1) shape.erase(0);
  return shape;
}

Value simplify_broadcast(Builder& b, const Node& node) {
  if (!node.is("broadcast")) return {};
  const Value x = node.operands[0];
  const Shape& shape = node.results[0].shape;
  if (x.shape() == shape) return x;
  if (x.type().elements() == shape.elements() && shape.elements() > 0) {
    return ops::reshape(b, x, shape);
  }
  if (is(x, "broadcast")) return ops::broadcast_to(b, operand(x), shape);
  if (is(x, "reshape") && operand(x).type().rank() <= shape.rank() &&
      without_leading_ones(x.shape()) == without_leading_ones(operand(x).shape())) {
    return ops::broadcast_to(b, operand(x), shape);
  }
  return {};
}

// ---- slice, pad, flip, concat -------------------------------------------------------------------

/// A slice given by start, stride and number of elements along each axis.
struct Window {
  Integers start;
  Integers stride;
  Integers count;

  std::int64_t last(std::size_t axis) const {
    return start[axis] + (count[axis] - 1) * stride[axis];
  }
};

Window window_of(const Node& slice) {
  const Shape& shape = slice.results[0].shape;
  return {slice.attributes.integers("start"), slice.attributes.integers("stride"),
          Integers(shape.begin(), shape.end())};
}

Value emit_window(Builder& b, Value x, const Window& window) {
  Integers start = window.start;
  Integers limit;
  Integers stride = window.stride;
  for (std::size_t axis = 0; axis < start.size(); ++axis) {
    limit.push_back(window.last(axis) + 1);
    if (window.count[axis] == 1) stride[axis] = 1;
    // To the end where the window reaches it, so that a whole axis is seen as one.
    if (limit[axis] + stride[axis] > extent(x, axis)) limit[axis] = extent(x, axis);
    if (window.count[axis] == 1) limit[axis] = start[axis] + 1;
  }
  return ops::slice(b, x, std::move(start), std::move(limit), std::move(stride));
}

Value simplify_slice(Builder& b, const Node& node) {
  if (!node.is("slice") || node.results[0].elements() == 0) return {};
  const Value x = node.operands[0];
  if (x.shape() == node.results[0].shape) return x;
  Window window = window_of(node);
  const std::size_t rank = rank_of(x);
  if (is(x, "slice")) {
    const Window inner = window_of(*x.node);
    for (std::size_t axis = 0; axis < rank; ++axis) {
      window.start[axis] = inner.start[axis] + window.start[axis] * inner.stride[axis];
      window.stride[axis] *= inner.stride[axis];
    }
    return emit_window(b, operand(x), window);
  }
  if (is(x, "pad")) {
    const Value source = operand(x);
    for (std::size_t axis = 0; axis < rank; ++axis) {
      const std::int64_t low = integers(x, "low")[axis];
      if (window.start[axis] < low || window.last(axis) >= low + extent(source, axis)) return {};
      window.start[axis] -= low;
    }
    return emit_window(b, source, window);
  }
  if (is(x, "concat")) {
    const auto axis = static_cast<std::size_t>(x.node->attributes.integer("axis"));
    std::int64_t offset = 0;
    for (const Value part : x.node->operands) {
      const std::int64_t end = offset + extent(part, axis);
      if (window.start[axis] >= offset && window.last(axis) < end) {
        window.start[axis] -= offset;
        return emit_window(b, part, window);
      }
      offset = end;
    }
  }
  return {};
}

Value simplify_pad(Builder& b, const Node& node) {
  if (!node.is("pad")) return {};
  const Value x = node.operands[0];
  Integers low = node.attributes.integers("low");
  Integers high = node.attributes.integers("high");
  const auto is_zero = [](std::int64_t amount) { return amount == 0; };
  if (std::ranges::all_of(low, is_zero) && std::ranges::all_of(high, is_zero)) return x;
  const double value = node.attributes.real("value");
  if (is(x, "pad") && x.node->attributes.real("value") == value) {
    const auto not_negative = [](std::int64_t amount) { return amount >= 0; };
    if (!std::ranges::all_of(low, not_negative) || !std::ranges::all_of(high, not_negative)) {
      return {};
    }
    for (std::size_t axis = 0; axis < low.size(); ++axis) {
      low[axis] += integers(x, "low")[axis];
      high[axis] += integers(x, "high")[axis];
    }
    return ops::pad(b, operand(x), std::move(low), std::move(high), value);
  }
  return {};
}

Value simplify_flip(Builder& b, const Node& node) {
  if (!node.is("flip")) return {};
  const Value x = node.operands[0];
  const Integers& axes = node.attributes.integers("axes");
  Integers kept;
  const auto keep = [&](std::int64_t axis) {
    if (x.shape()[static_cast<int>(axis)] > 1) kept.push_back(axis);
  };
  std::ranges::for_each(axes, keep);
  if (is(x, "flip")) {
    const Integers& inner = integers(x, "axes");
    std::erase_if(kept, [&](std::int64_t axis) { return ops::contains(inner, axis); });
    for (const std::int64_t axis : inner) {
      if (!ops::contains(axes, axis)) keep(axis);
    }
    std::ranges::sort(kept);
    return ops::flip(b, operand(x), std::move(kept));
  }
  return kept.size() < axes.size() ? ops::flip(b, x, std::move(kept)) : Value{};
}

/// Empty operands are dropped; one operand is the result.
Value simplify_concat(Builder& b, const Node& node) {
  if (!node.is("concat") || node.results[0].elements() == 0) return {};
  std::vector<Value> kept;
  for (const Value part : node.operands) {
    if (part.type().elements() > 0) kept.push_back(part);
  }
  if (kept.size() == node.operands.size() && kept.size() > 1) return {};
  return ops::concat(b, std::move(kept), static_cast<int>(node.attributes.integer("axis")));
}

// ---- dynamic slices -----------------------------------------------------------------------------

/// Constant starts from operand `first` on, clamped so that a window of `sizes` fits; empty where
/// one is not constant.
Integers constant_starts(const Node& node, std::size_t first, const Shape& sizes) {
  Integers starts;
  for (std::size_t i = first; i < node.operands.size(); ++i) {
    const auto start = splat(node.operands[i]);
    if (!start) return {};
    const std::size_t axis = i - first;
    const std::int64_t last = extent(node.operands[0], axis) - sizes[static_cast<int>(axis)];
    starts.push_back(std::clamp<std::int64_t>(static_cast<std::int64_t>(*start), 0, last));
  }
  return starts;
}

Value simplify_dynamic_slice(Builder& b, const Node& node) {
  if (!node.is("dynamic_slice")) return {};
  const Value x = node.operands[0];
  const Shape& sizes = node.results[0].shape;
  if (sizes == x.shape()) return x;
  const Integers starts = constant_starts(node, 1, sizes);
  if (starts.empty()) return {};
  Integers limits = starts;
  for (std::size_t axis = 0; axis < limits.size(); ++axis) {
    limits[axis] += sizes[static_cast<int>(axis)];
  }
  return ops::slice(b, x, starts, std::move(limits));
}

Value simplify_dynamic_update(Builder&, const Node& node) {
  if (!node.is("dynamic_update_slice")) return {};
  if (node.operands[1].shape() == node.results[0].shape) return node.operands[1];
  if (node.operands[1].type().elements() == 0) return node.operands[0];
  return {};
}

// ---- reductions ---------------------------------------------------------------------------------

/// sum, max and min: axes of extent 1 are dropped.
Value simplify_short_axes(Builder& b, const Node& node) {
  if (!node.is("sum") && !node.is("max") && !node.is("min")) return {};
  const Value x = node.operands[0];
  const Integers& axes = node.attributes.integers("axes");
  Integers kept;
  for (const std::int64_t axis : axes) {
    if (x.shape()[static_cast<int>(axis)] != 1) kept.push_back(axis);
  }
  if (kept.empty()) return ops::reshape(b, x, node.results[0].shape);
  if (kept.size() == axes.size()) return {};
  const bool keep = node.attributes.flag("keep");
  const Value reduced = b.emit1(node.op->name, {x}, {{"axes", kept}, {"keep", keep}});
  return ops::reshape(b, reduced, node.results[0].shape);
}

/// The sum over axes along which x was repeated is a product.
Value simplify_sum_of_broadcast(Builder& b, const Node& node) {
  if (!node.is("sum") || !is(node.operands[0], "broadcast")) return {};
  const Value repeated = node.operands[0];
  const Value x = operand(repeated);
  if (!is_differentiable(x.dtype()) || repeated.type().elements() == 0) return {};
  const Integers& axes = node.attributes.integers("axes");
  const int added = repeated.type().rank() - x.type().rank();
  double count = 1;
  for (const std::int64_t axis : axes) {
    const int own = static_cast<int>(axis) - added;
    if (own >= 0 && x.shape()[own] != 1) return {};
    count *= static_cast<double>(repeated.shape()[static_cast<int>(axis)]);
  }
  if (ops::round_to(x.dtype(), count) != count) return {};
  Shape shape;  // x's extents at the axes that remain
  for (int axis = 0; axis < repeated.type().rank(); ++axis) {
    const bool summed = ops::contains(axes, axis);
    if (summed && !node.attributes.flag("keep")) continue;
    shape.push_back(axis < added ? 1 : x.shape()[axis - added]);
  }
  const Value product = ops::mul(b, ops::reshape(b, x, shape), count);
  return ops::broadcast_to(b, product, node.results[0].shape);
}

}  // namespace

bool movement(ir::Graph& graph) {
  return rewrite(graph, {simplify_reshape, simplify_permute, simplify_broadcast, simplify_slice,
                         simplify_pad, simplify_flip, simplify_concat, simplify_dynamic_slice,
                         simplify_dynamic_update, simplify_short_axes, simplify_sum_of_broadcast});
}

}  // namespace weft::compiler
