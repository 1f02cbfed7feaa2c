#include <cmath>

#include "trace.h"
#include "weft/ops.h"

namespace weft {

namespace {

std::vector<std::int64_t> extents_of(const Shape& shape) { return {shape.begin(), shape.end()}; }

template <typename T>
Tensor data(std::span<const T> values, const Shape& shape, DType dtype, const Source& at) {
  detail::Recorder record("constant", at);
  const auto count = static_cast<std::int64_t>(values.size());
  const std::int64_t expected = shape.elements() * (is_complex(dtype) ? 2 : 1);
  record.require(count == expected, "{} values for {}", count, Type{dtype, shape}.text());
  ir::AttributeValue attribute;
  if (is_differentiable(dtype)) {
    attribute = std::vector<double>(values.begin(), values.end());
  } else {
    std::vector<std::int64_t> integers;
    integers.reserve(values.size());
    for (const T value : values) {
      const auto integer = static_cast<std::int64_t>(value);
      record.require(static_cast<T>(integer) == value, "{} is no {}", value, weft::name(dtype));
      integers.push_back(integer);
    }
    attribute = std::move(integers);
  }
  return record(record.build.emit1(
      "constant_data", {},
      {{"dtype", dtype}, {"shape", extents_of(shape)}, {"values", std::move(attribute)}}));
}

}  // namespace

Tensor full(const Shape& shape, double value, DType dtype, Source at) {
  detail::Recorder record("full", at);
  return record(detail::literal(record, {value, at}, {dtype, shape}));
}

Tensor constant(double value, DType dtype, Source at) { return full({}, value, dtype, at); }
Tensor constant(const std::vector<double>& values, const Shape& shape, DType dtype, Source at) {
  return data<double>(values, shape, dtype, at);
}
Tensor constant(std::span<const std::int64_t> values, const Shape& shape, DType dtype, Source at) {
  return data<std::int64_t>(values, shape, dtype, at);
}
Tensor zeros(const Shape& shape, DType dtype, Source at) { return full(shape, 0, dtype, at); }
Tensor ones(const Shape& shape, DType dtype, Source at) { return full(shape, 1, dtype, at); }
Tensor full_like(const Tensor& x, double value, Source at) {
  return full(x.shape(at), value, x.dtype(at), at);
}
Tensor zeros_like(const Tensor& x, Source at) { return full_like(x, 0, at); }
Tensor ones_like(const Tensor& x, Source at) { return full_like(x, 1, at); }

Tensor iota(const Shape& shape, int axis, DType dtype, Source at) {
  detail::Recorder record("iota", at);
  const std::int64_t checked = record.axis(axis, shape.rank());
  return record(record.build.emit1(
      "iota", {}, {{"dtype", dtype}, {"shape", extents_of(shape)}, {"axis", checked}}));
}

Tensor arange(std::int64_t n, DType dtype, Source at) {
  if (n < 0) detail::fail(at, "arange: {} entries", n);
  return iota({n}, 0, dtype, at);
}

Tensor arange(double start, double stop, double step, DType dtype, Source at) {
  const double count = std::ceil((stop - start) / step);
  if (!(count >= 0 && count < 0x1p48)) {
    detail::fail(at, "arange: no range from {} to {} by {}", start, stop, step);
  }
  const Tensor position = iota({static_cast<std::int64_t>(count)}, 0, dtype, at);
  return add({mul({position, at}, {step, at}), at}, {start, at});
}

}  // namespace weft
