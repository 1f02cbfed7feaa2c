#include <algorithm>
#include <cmath>

#include "trace.h"
#include "weft/ops.h"

namespace weft {

using detail::Recorder;
using detail::Value;

namespace {

std::int64_t count_of(const Value& x, const std::vector<std::int64_t>& axes) {
  std::int64_t count = 1;
  for (const std::int64_t axis : axes) count *= x.shape()[static_cast<int>(axis)];
  return count;
}

Value reduced(Recorder& record, std::string_view op_name, Value x, std::vector<std::int64_t> axes,
              bool keep_axes) {
  if (axes.empty()) return x;
  return record.build.emit1(op_name, {x}, {{"axes", std::move(axes)}, {"keep", keep_axes}});
}

void require_floating(Recorder& record, const Value& x) {
  record.require(is_differentiable(x.dtype()), "of {}: cast() to a floating type", x.type().text());
}

}  // namespace

Tensor sum(const Tensor& x, const Axes& axes, bool keep_axes, Source at) {
  Recorder record("sum", at);
  const Value value = record(x);
  return record(reduced(record, "sum", value, record.axes(axes, value), keep_axes));
}

Tensor mean(const Tensor& x, const Axes& axes, bool keep_axes, Source at) {
  Recorder record("mean", at);
  const Value value = record(x);
  require_floating(record, value);
  return record(ops::mean(record.build, value, record.axes(axes, value), keep_axes));
}

Tensor max(const Tensor& x, const Axes& axes, bool keep_axes, Source at) {
  Recorder record("max", at);
  const Value value = record(x);
  return record(reduced(record, "max", value, record.axes(axes, value), keep_axes));
}

Tensor min(const Tensor& x, const Axes& axes, bool keep_axes, Source at) {
  Recorder record("min", at);
  const Value value = record(x);
  return record(reduced(record, "min", value, record.axes(axes, value), keep_axes));
}

Tensor var(const Tensor& x, const Axes& axes, bool keep_axes, double correction, Source at) {
  Recorder record("var", at);
  const Value value = record(x);
  record.require(is_floating(value.dtype()), "of {}: cast() to a floating type",
                 value.type().text());
  const std::vector<std::int64_t> checked = record.axes(axes, value);
  const double count = static_cast<double>(count_of(value, checked)) - correction;
  record.require(count > 0, "of {} elements with a correction of {}", count_of(value, checked),
                 correction);
  const Value center = ops::mean(record.build, value, checked, true);
  const Value spread =
      ops::sub(record.build, value, ops::broadcast_to(record.build, center, value.shape()));
  const Value squares = ops::mul(record.build, spread, spread);
  return record(
      ops::mul(record.build, reduced(record, "sum", squares, checked, keep_axes), 1.0 / count));
}

Tensor norm(const Tensor& x, const Axes& axes, bool keep_axes, Source at) {
  Recorder record("norm", at);
  Value value = record(x);
  require_floating(record, value);
  if (is_complex(value.dtype())) {
    const Value re = ops::unary(record.build, "real", value);
    const Value im = ops::unary(record.build, "imag", value);
    value = ops::add(record.build, ops::mul(record.build, re, re), ops::mul(record.build, im, im));
  } else {
    value = ops::mul(record.build, value, value);
  }
  value = reduced(record, "sum", value, record.axes(axes, value), keep_axes);
  return record(ops::unary(record.build, "sqrt", value));
}

Tensor logsumexp(const Tensor& x, const Axes& axes, bool keep_axes, Source at) {
  Recorder record("logsumexp", at);
  ops::Builder& b = record.build;
  const Value value = record(x);
  record.require(is_floating(value.dtype()), "of {}", value.type().text());
  const std::vector<std::int64_t> checked = record.axes(axes, value);
  record.require(count_of(value, checked) > 0, "of no elements of {}", value.type().text());
  // An infinite largest value would make inf - inf: it is not subtracted then.
  Value largest = ops::unary(b, "stop_gradient", reduced(record, "max", value, checked, true));
  const Value size = ops::unary(b, "abs", largest);
  const Value finite = ops::binary(b, "less", size, ops::constant_like(b, size, HUGE_VAL));
  largest = ops::where(b, finite, largest, ops::constant_like(b, largest, 0));
  const Value shifted = ops::sub(b, value, ops::broadcast_to(b, largest, value.shape()));
  Value result = ops::log(b, reduced(record, "sum", ops::exp(b, shifted), checked, true));
  result = ops::add(b, result, largest);
  if (keep_axes) return record(result);
  Shape shape;
  for (int axis = 0; axis < value.type().rank(); ++axis) {
    if (!std::binary_search(checked.begin(), checked.end(), axis)) {
      shape.push_back(value.shape()[axis]);
    }
  }
  return record(ops::reshape(b, result, shape));
}

namespace {

Tensor position(Recorder& record, Value value, int axis, bool keep_axis) {
  const int checked = record.axis(axis, value.type().rank());
  Value result = record.build.emit1("argmax", {value}, {{"axis", std::int64_t{checked}}});
  if (keep_axis) {
    Shape shape = value.shape();
    shape[checked] = 1;
    result = ops::reshape(record.build, result, shape);
  }
  return record(result);
}

}  // namespace

Tensor argmax(const Tensor& x, int axis, bool keep_axis, Source at) {
  Recorder record("argmax", at);
  return position(record, record(x), axis, keep_axis);
}

Tensor argmin(const Tensor& x, int axis, bool keep_axis, Source at) {
  Recorder record("argmin", at);
  Value value = record(x);
  // The order of integers turns by bitwise_not: neg would overflow, or wrap for u8.
  value = ops::unary(record.build, is_integer(value.dtype()) ? "bitwise_not" : "neg", value);
  return position(record, value, axis, keep_axis);
}

namespace {

Tensor quantified(std::string_view what, std::string_view op_name, const Tensor& x,
                  const Axes& axes, bool keep_axes, const Source& at) {
  Recorder record(what, at);
  Value value = record(x);
  record.require(value.dtype() == DType::boolean, "of {}, not bool", value.type().text());
  const std::vector<std::int64_t> checked = record.axes(axes, value);
  // Counts are exact, and right for no elements at all.
  const bool every = op_name == "all";
  if (every) value = ops::unary(record.build, "logical_not", value);
  value = reduced(record, "sum", ops::cast(record.build, value, DType::i64), checked, keep_axes);
  const Value zero = ops::constant_like(record.build, value, 0);
  return record(ops::binary(record.build, every ? "equal" : "greater", value, zero));
}

}  // namespace

Tensor any(const Tensor& x, const Axes& axes, bool keep_axes, Source at) {
  return quantified("any", "any", x, axes, keep_axes, at);
}
Tensor all(const Tensor& x, const Axes& axes, bool keep_axes, Source at) {
  return quantified("all", "all", x, axes, keep_axes, at);
}

Tensor cumsum(const Tensor& x, int axis, bool exclusive, bool reverse, Source at) {
  Recorder record("cumsum", at);
  const Value value = record(x);
  const std::int64_t checked = record.axis(axis, value.type().rank());
  return record(record.build.emit1(
      "cumsum", {value}, {{"axis", checked}, {"exclusive", exclusive}, {"reverse", reverse}}));
}

}  // namespace weft
