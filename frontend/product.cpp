#include "trace.h"
#include "weft/ops.h"

namespace weft {

using detail::Recorder;
using detail::Value;

Tensor dot(const Tensor& lhs, const Tensor& rhs, const std::vector<int>& lhs_contract,
           const std::vector<int>& rhs_contract, const std::vector<int>& lhs_batch,
           const std::vector<int>& rhs_batch, Source at) {
  Recorder record("dot", at);
  const Value x = record(lhs);
  const Value y = record(rhs);
  return record(ops::dot(record.build, x, y, record.ordered_axes(lhs_contract, x),
                         record.ordered_axes(rhs_contract, y), record.ordered_axes(lhs_batch, x),
                         record.ordered_axes(rhs_batch, y)));
}

Tensor matmul(const Tensor& x, const Tensor& y, Source at) {
  Recorder record("matmul", at);
  ops::Builder& b = record.build;
  Value lhs = record(x);
  Value rhs = record(y);
  const int lhs_rank = lhs.type().rank();
  const int rhs_rank = rhs.type().rank();
  record.require(lhs_rank > 0 && rhs_rank > 0, "of scalars: {} and {}", lhs.type().text(),
                 rhs.type().text());
  record.require(lhs.dtype() == rhs.dtype(),
                 "{} and {}: types are never promoted; cast() one of them", lhs.type().text(),
                 rhs.type().text());
  const int lhs_contract = lhs_rank - 1;
  const int rhs_contract = rhs_rank == 1 ? 0 : rhs_rank - 2;
  record.require(lhs.shape()[lhs_contract] == rhs.shape()[rhs_contract],
                 "{} and {}: {} columns and {} rows", lhs.type().text(), rhs.type().text(),
                 lhs.shape()[lhs_contract], rhs.shape()[rhs_contract]);
  if (rhs_rank <= 2) {
    return record(ops::dot(b, lhs, rhs, {lhs_contract}, {rhs_contract}));
  }
  if (lhs_rank == 1) {
    // (k) x (..., k, m): the leading axes are rhs's own.
    return record(ops::dot(b, lhs, rhs, {0}, {rhs_contract}));
  }
  const Shape lhs_batch(lhs.shape().extents().first(static_cast<std::size_t>(lhs_rank) - 2));
  const Shape rhs_batch(rhs.shape().extents().first(static_cast<std::size_t>(rhs_rank) - 2));
  const Shape batch = record.common_shape(lhs_batch, rhs_batch);
  const auto broadcast = [&](Value value) {
    Shape shape = batch;
    const int rank = value.type().rank();
    shape.push_back(value.shape()[rank - 2]);
    shape.push_back(value.shape()[rank - 1]);
    return ops::broadcast_to(b, value, shape);
  };
  lhs = broadcast(lhs);
  rhs = broadcast(rhs);
  std::vector<std::int64_t> axes;
  for (int axis = 0; axis < batch.rank(); ++axis) axes.push_back(axis);
  return record(ops::dot(b, lhs, rhs, {batch.rank() + 1}, {batch.rank()}, axes, axes));
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, Source at) {
  Recorder record("linear", at);
  const Value input = record(x);
  const Value matrix = record(weight);
  const int rank = input.type().rank();
  record.require(
      rank > 0 && matrix.type().rank() == 2 && input.shape()[rank - 1] == matrix.shape()[1],
      "x {} by a weight {} of (outputs, inputs)", input.type().text(), matrix.type().text());
  record.require(input.dtype() == matrix.dtype(),
                 "{} and {}: types are never promoted; cast() one of them", input.type().text(),
                 matrix.type().text());
  const Tensor product = record(ops::dot(record.build, input, matrix, {rank - 1}, {1}));
  if (!bias.defined()) return product;
  const Value shift = record(bias);
  record.require(shift.type().rank() == 1 && shift.shape()[0] == matrix.shape()[0],
                 "the bias is {} for a weight {}", shift.type().text(), matrix.type().text());
  return add({product, at}, {bias, at});
}

// ---- Fourier ------------------------------------------------------------------------------------

namespace {

/// Cuts or zero-pads an axis.
Value fit(Recorder& record, Value x, int axis, std::int64_t length) {
  const std::int64_t extent = x.shape()[axis];
  if (extent > length) return ops::slice_axis(record.build, x, axis, 0, length);
  if (extent < length) return ops::pad_axis(record.build, x, axis, 0, length - extent);
  return x;
}

Value complex_of(Recorder& record, Value x) {
  if (is_complex(x.dtype())) return x;
  record.require(x.dtype() == DType::f32, "of {}; expected f32 or c64", x.type().text());
  const Value zero = ops::constant_like(record.build, x, 0);
  return record.build.emit1("complex", {x, zero});
}

Tensor transform(std::string_view op_name, const Tensor& x, int axis, std::int64_t n,
                 const Source& at) {
  Recorder record(op_name, at);
  Value value = record(x);
  const int checked = record.axis(axis, value.type().rank());
  record.require(n == -1 || n > 0, "of length {}", n);
  value = complex_of(record, value);
  if (n > 0) value = fit(record, value, checked, n);
  return record(record.build.emit1(op_name, {value}, {{"axis", std::int64_t{checked}}}));
}

}  // namespace

Tensor fft(const Tensor& x, int axis, std::int64_t n, Source at) {
  return transform("fft", x, axis, n, at);
}
Tensor ifft(const Tensor& x, int axis, std::int64_t n, Source at) {
  return transform("ifft", x, axis, n, at);
}

Tensor rfft(const Tensor& x, int axis, std::int64_t n, Source at) {
  Recorder record("rfft", at);
  const Value value = record(x);
  const int checked = record.axis(axis, value.type().rank());
  record.require(n == -1 || n > 0, "of length {}", n);
  return record(ops::rfft(record.build, value, checked, n > 0 ? n : value.shape()[checked]));
}

Tensor irfft(const Tensor& x, int axis, std::int64_t n, Source at) {
  Recorder record("irfft", at);
  Value value = record(x);
  const int checked = record.axis(axis, value.type().rank());
  const std::int64_t length = n == -1 ? 2 * (value.shape()[checked] - 1) : n;
  record.require(length > 0, "of length {}", length);
  value = fit(record, complex_of(record, value), checked, length / 2 + 1);
  return record(ops::irfft(record.build, value, checked, length));
}

Tensor tno(const Tensor& x, const Tensor& t, bool causal, Source at) {
  Recorder record("tno", at);
  return record(record.build.emit1("tno", {record(x), record(t)}, {{"causal", causal}}));
}

Tensor complex(const Tensor& re, const Tensor& im, Source at) {
  Recorder record("complex", at);
  Value x = record(re);
  Value y = record(im);
  const Shape shape = record.common_shape(x.shape(), y.shape());
  x = ops::broadcast_to(record.build, x, shape);
  y = ops::broadcast_to(record.build, y, shape);
  return record(record.build.emit1("complex", {x, y}));
}

Tensor real(const Tensor& x, Source at) {
  Recorder record("real", at);
  return record(ops::unary(record.build, "real", record(x)));
}
Tensor imag(const Tensor& x, Source at) {
  Recorder record("imag", at);
  return record(ops::unary(record.build, "imag", record(x)));
}
Tensor conj(const Tensor& x, Source at) {
  Recorder record("conj", at);
  return record(ops::conj(record.build, record(x)));
}

}  // namespace weft
