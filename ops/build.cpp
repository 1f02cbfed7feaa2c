#include "ops/build.h"

#include <numeric>

#include "compiler/ir/check.h"
#include "ops/support.h"

namespace weft::ops {

namespace {

/// Integers given for reals become reals, so that equal attributes are equal texts.
void convert_reals(Node& node) {
  for (const ir::AttributeSpec& spec : node.op->attributes) {
    const ir::AttributeValue* value = node.attributes.find(spec.name);
    if (value == nullptr) continue;
    if (spec.kind == ir::AttributeSpec::real) {
      const auto* integer = std::get_if<std::int64_t>(value);
      if (integer != nullptr) node.attributes.set(spec.name, static_cast<double>(*integer));
    } else if (spec.kind == ir::AttributeSpec::reals) {
      const auto* integers = std::get_if<std::vector<std::int64_t>>(value);
      if (integers != nullptr) {
        node.attributes.set(spec.name, std::vector<double>(integers->begin(), integers->end()));
      }
    }
  }
}

std::vector<std::int64_t> extents_of(const Shape& shape) { return {shape.begin(), shape.end()}; }

}  // namespace

Node* Builder::emit(const Op& op, std::vector<Value> operands, Attributes attributes,
                    std::vector<ir::Region*> regions) {
  // Everything is checked on a node outside the graph, so that an error leaves no trace in it.
  Node candidate;
  candidate.op = &op;
  candidate.operands = std::move(operands);
  candidate.attributes = std::move(attributes);
  candidate.regions = std::move(regions);
  candidate.location = location_;
  try {
    for (std::size_t i = 0; i < candidate.operands.size(); ++i) {
      require(static_cast<bool>(candidate.operands[i]), "operand {} is an empty value", i);
    }
    for (const ir::Region* region : candidate.regions) {
      require(region != nullptr, "a region is missing");
    }
    convert_reals(candidate);
    ir::check::interface(candidate);
    candidate.results = op.infer(candidate);
    for (const Type& type : candidate.results) check_size(type);
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}", op.name, error.what()), location_);
  }
  Node* node = graph_.new_node(&op);
  node->operands = std::move(candidate.operands);
  node->attributes = std::move(candidate.attributes);
  node->regions = std::move(candidate.regions);
  node->results = std::move(candidate.results);
  node->location = location_;
  node->parent = region_;
  for (ir::Region* region : node->regions) region->owner = node;
  region_->nodes.push_back(node);
  return node;
}

Value Builder::argument(ir::Region& region, const Type& type) {
  check_size(type);
  Node* node = graph_.new_node(&op("argument"));
  node->results = {type};
  node->location = location_;
  node->parent = &region;
  region.arguments.push_back(node);
  return node->result();
}

Value constant(Builder& b, DType dtype, double value, const Shape& shape) {
  ir::AttributeValue attribute = value;
  if (!is_differentiable(dtype)) {
    const std::int64_t integer = saturate_to(dtype, value);
    if (static_cast<double>(integer) != value) {
      throw Error(fmt::format("constant: {} is not a value of {}", value, name(dtype)),
                  b.location());
    }
    attribute = integer;
  }
  return b.emit1("constant", {},
                 {{"dtype", dtype}, {"shape", extents_of(shape)}, {"value", std::move(attribute)}});
}

Value constant_like(Builder& b, Value like, double value) {
  return constant(b, like.dtype(), value, like.shape());
}

Value unary(Builder& b, std::string_view op_name, Value x) { return b.emit1(op_name, {x}); }
Value binary(Builder& b, std::string_view op_name, Value x, Value y) {
  return b.emit1(op_name, {x, y});
}
Value add(Builder& b, Value x, Value y) { return binary(b, "add", x, y); }
Value sub(Builder& b, Value x, Value y) { return binary(b, "sub", x, y); }
Value mul(Builder& b, Value x, Value y) { return binary(b, "mul", x, y); }
Value div(Builder& b, Value x, Value y) { return binary(b, "div", x, y); }
Value neg(Builder& b, Value x) { return unary(b, "neg", x); }
Value exp(Builder& b, Value x) { return unary(b, "exp", x); }
Value log(Builder& b, Value x) { return unary(b, "log", x); }
Value mul(Builder& b, Value x, double y) { return mul(b, x, constant_like(b, x, y)); }
Value add(Builder& b, Value x, double y) { return add(b, x, constant_like(b, x, y)); }
Value where(Builder& b, Value condition, Value x, Value y) {
  return b.emit1("where", {condition, x, y});
}
Value cast(Builder& b, Value x, DType dtype) {
  return x.dtype() == dtype ? x : b.emit1("cast", {x}, {{"dtype", dtype}});
}
Value conj(Builder& b, Value x) { return is_complex(x.dtype()) ? unary(b, "conj", x) : x; }

// ---- movement: an op that would change nothing is not emitted -----------------------------------

Value reshape(Builder& b, Value x, const Shape& shape) {
  if (x.shape() == shape) return x;
  return b.emit1("reshape", {x}, {{"shape", extents_of(shape)}});
}

Value permute(Builder& b, Value x, std::vector<std::int64_t> order) {
  std::vector<std::int64_t> identity(static_cast<std::size_t>(x.type().rank()));
  std::iota(identity.begin(), identity.end(), 0);
  if (order == identity) return x;
  return b.emit1("permute", {x}, {{"order", std::move(order)}});
}

Value transpose(Builder& b, Value x, int axis0, int axis1) {
  const int rank = x.type().rank();
  if (axis0 < 0 || axis0 >= rank || axis1 < 0 || axis1 >= rank) {
    throw Error(fmt::format("transpose: axes {} and {} of {}", axis0, axis1, x.type().text()),
                b.location());
  }
  std::vector<std::int64_t> order(static_cast<std::size_t>(rank));
  std::iota(order.begin(), order.end(), 0);
  std::swap(order[static_cast<std::size_t>(axis0)], order[static_cast<std::size_t>(axis1)]);
  return permute(b, x, std::move(order));
}

Value broadcast_to(Builder& b, Value x, const Shape& shape) {
  if (x.shape() == shape) return x;
  return b.emit1("broadcast", {x}, {{"shape", extents_of(shape)}});
}

Value slice(Builder& b, Value x, std::vector<std::int64_t> start, std::vector<std::int64_t> limit,
            std::vector<std::int64_t> stride) {
  const auto rank = static_cast<std::size_t>(x.type().rank());
  if (stride.empty()) stride.assign(rank, 1);
  const bool whole = limit == extents_of(x.shape()) &&
                     start == std::vector<std::int64_t>(rank, 0) &&
                     stride == std::vector<std::int64_t>(rank, 1);
  if (whole) return x;
  return b.emit1(
      "slice", {x},
      {{"start", std::move(start)}, {"limit", std::move(limit)}, {"stride", std::move(stride)}});
}

namespace {
std::size_t checked_axis(const Builder& b, std::string_view op_name, Value x, int axis) {
  if (axis < 0 || axis >= x.type().rank()) {
    throw Error(fmt::format("{}: axis {} of {}", op_name, axis, x.type().text()), b.location());
  }
  return static_cast<std::size_t>(axis);
}
}  // namespace

Value slice_axis(Builder& b, Value x, int axis, std::int64_t start, std::int64_t limit,
                 std::int64_t stride) {
  const std::size_t at = checked_axis(b, "slice", x, axis);
  std::vector<std::int64_t> limits = extents_of(x.shape());
  std::vector<std::int64_t> starts(limits.size(), 0);
  std::vector<std::int64_t> strides(limits.size(), 1);
  starts[at] = start;
  limits[at] = limit;
  strides[at] = stride;
  return slice(b, x, std::move(starts), std::move(limits), std::move(strides));
}

Value pad(Builder& b, Value x, std::vector<std::int64_t> low, std::vector<std::int64_t> high,
          double value) {
  const std::vector<std::int64_t> none(static_cast<std::size_t>(x.type().rank()), 0);
  if (low == none && high == none) return x;
  return b.emit1("pad", {x},
                 {{"low", std::move(low)}, {"high", std::move(high)}, {"value", value}});
}

Value pad_axis(Builder& b, Value x, int axis, std::int64_t low, std::int64_t high, double value) {
  const std::size_t at = checked_axis(b, "pad", x, axis);
  std::vector<std::int64_t> lows(static_cast<std::size_t>(x.type().rank()), 0);
  std::vector<std::int64_t> highs = lows;
  lows[at] = low;
  highs[at] = high;
  return pad(b, x, std::move(lows), std::move(highs), value);
}

Value flip(Builder& b, Value x, std::vector<std::int64_t> axes) {
  if (axes.empty()) return x;
  return b.emit1("flip", {x}, {{"axes", std::move(axes)}});
}

Value concat(Builder& b, std::vector<Value> xs, int axis) {
  if (xs.size() == 1) return xs.front();
  return b.emit1("concat", std::move(xs), {{"axis", std::int64_t{axis}}});
}

// ---- anchors ------------------------------------------------------------------------------------

Value sum(Builder& b, Value x, std::vector<std::int64_t> axes, bool keep) {
  if (axes.empty()) return x;
  return b.emit1("sum", {x}, {{"axes", std::move(axes)}, {"keep", keep}});
}

Value max(Builder& b, Value x, std::vector<std::int64_t> axes, bool keep) {
  if (axes.empty()) return x;
  return b.emit1("max", {x}, {{"axes", std::move(axes)}, {"keep", keep}});
}

Value mean(Builder& b, Value x, std::vector<std::int64_t> axes, bool keep) {
  std::int64_t count = 1;
  for (const std::int64_t axis : axes)
    count *= x.shape()[static_cast<int>(checked_axis(b, "mean", x, static_cast<int>(axis)))];
  if (count == 0)
    throw Error(fmt::format("mean: no elements along axes {} of {}", text(axes), x.type().text()),
                b.location());
  return mul(b, sum(b, x, std::move(axes), keep), 1.0 / static_cast<double>(count));
}

Value sum_to(Builder& b, Value x, const Shape& shape) {
  const int extra = x.type().rank() - shape.rank();
  if (extra < 0) {
    throw Error(fmt::format("sum_to: {} has fewer axes than {}", x.type().text(), shape.text()),
                b.location());
  }
  std::vector<std::int64_t> axes;
  for (int axis = 0; axis < x.type().rank(); ++axis) {
    const bool expanded = axis < extra || (shape[axis - extra] == 1 && x.shape()[axis] != 1);
    if (expanded) axes.push_back(axis);
  }
  return reshape(b, sum(b, x, std::move(axes), false), shape);
}

Value dot(Builder& b, Value lhs, Value rhs, std::vector<std::int64_t> lhs_contract,
          std::vector<std::int64_t> rhs_contract, std::vector<std::int64_t> lhs_batch,
          std::vector<std::int64_t> rhs_batch) {
  return b.emit1("dot", {lhs, rhs},
                 {{"lhs_contract", std::move(lhs_contract)},
                  {"rhs_contract", std::move(rhs_contract)},
                  {"lhs_batch", std::move(lhs_batch)},
                  {"rhs_batch", std::move(rhs_batch)}});
}

Value rfft(Builder& b, Value x, int axis, std::int64_t length) {
  return b.emit1("rfft", {x}, {{"axis", std::int64_t{axis}}, {"length", length}});
}
Value irfft(Builder& b, Value x, int axis, std::int64_t length) {
  return b.emit1("irfft", {x}, {{"axis", std::int64_t{axis}}, {"length", length}});
}
Value fft(Builder& b, Value x, int axis) {
  return b.emit1("fft", {x}, {{"axis", std::int64_t{axis}}});
}
Value ifft(Builder& b, Value x, int axis) {
  return b.emit1("ifft", {x}, {{"axis", std::int64_t{axis}}});
}

}  // namespace weft::ops
