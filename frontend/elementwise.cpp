#include <array>
#include <cmath>
#include <limits>

#include "trace.h"
#include "weft/ops.h"

namespace weft {

namespace detail {

Value literal(Recorder& record, const Operand& operand, const Type& type) {
  ir::AttributeValue value = operand.real();
  if (!is_differentiable(type.dtype)) {
    const bool whole = operand.is_integer() || operand.real() == std::trunc(operand.real());
    record.require(whole, "the literal {} is no {}; cast() the tensor", operand.real(),
                   weft::name(type.dtype));
    record.require(operand.is_integer() || std::fabs(operand.real()) < 0x1p62,
                   "the literal {} is no {}", operand.real(), weft::name(type.dtype));
    const std::int64_t integer =
        operand.is_integer() ? operand.integer() : static_cast<std::int64_t>(operand.real());
    bool fits = true;
    if (type.dtype == DType::u8) fits = integer >= 0 && integer <= 255;
    if (type.dtype == DType::boolean) fits = integer == 0 || integer == 1;
    if (type.dtype == DType::i32) {
      fits = integer >= std::numeric_limits<std::int32_t>::min() &&
             integer <= std::numeric_limits<std::int32_t>::max();
    }
    record.require(fits, "the literal {} is no {}", integer, weft::name(type.dtype));
    value = integer;
  }
  const std::vector<std::int64_t> extents(type.shape.begin(), type.shape.end());
  return record.build.emit1(
      "constant", {}, {{"dtype", type.dtype}, {"shape", extents}, {"value", std::move(value)}});
}

Tensor binary(std::string_view op_name, const Operand& x, const Operand& y) {
  Recorder record(op_name, x.at());
  record.require(x.tensor() != nullptr || y.tensor() != nullptr, "needs a tensor");
  if (y.tensor() == nullptr) {
    const Value value = record(*x.tensor());
    return record(record.build.emit1(op_name, {value, literal(record, y, value.type())}));
  }
  if (x.tensor() == nullptr) {
    const Value value = record(*y.tensor());
    return record(record.build.emit1(op_name, {literal(record, x, value.type()), value}));
  }
  Value lhs = record(*x.tensor());
  Value rhs = record(*y.tensor());
  if (lhs.type() != rhs.type()) {
    record.require(lhs.dtype() == rhs.dtype(),
                   "{} and {}: types are never promoted; cast() one of them", lhs.type().text(),
                   rhs.type().text());
    const Shape shape = record.common_shape(lhs.shape(), rhs.shape());
    lhs = ops::broadcast_to(record.build, lhs, shape);
    rhs = ops::broadcast_to(record.build, rhs, shape);
  }
  return record(record.build.emit1(op_name, {lhs, rhs}));
}

namespace {

Tensor unary(std::string_view op_name, const Tensor& x, const Source& at,
             ir::Attributes attributes = {}) {
  Recorder record(op_name, at);
  return record(record.build.emit1(op_name, {record(x)}, std::move(attributes)));
}

}  // namespace
}  // namespace detail

Tensor neg(const Tensor& x, Source at) { return detail::unary("neg", x, at); }
Tensor abs(const Tensor& x, Source at) { return detail::unary("abs", x, at); }
Tensor sign(const Tensor& x, Source at) { return detail::unary("sign", x, at); }
Tensor exp(const Tensor& x, Source at) { return detail::unary("exp", x, at); }
Tensor exp2(const Tensor& x, Source at) { return detail::unary("exp2", x, at); }
Tensor log(const Tensor& x, Source at) { return detail::unary("log", x, at); }
Tensor log2(const Tensor& x, Source at) { return detail::unary("log2", x, at); }
Tensor sin(const Tensor& x, Source at) { return detail::unary("sin", x, at); }
Tensor cos(const Tensor& x, Source at) { return detail::unary("cos", x, at); }
Tensor tanh(const Tensor& x, Source at) { return detail::unary("tanh", x, at); }
Tensor erf(const Tensor& x, Source at) { return detail::unary("erf", x, at); }
Tensor sqrt(const Tensor& x, Source at) { return detail::unary("sqrt", x, at); }
Tensor rsqrt(const Tensor& x, Source at) { return detail::unary("rsqrt", x, at); }
Tensor reciprocal(const Tensor& x, Source at) { return detail::unary("reciprocal", x, at); }
Tensor floor(const Tensor& x, Source at) { return detail::unary("floor", x, at); }
Tensor ceil(const Tensor& x, Source at) { return detail::unary("ceil", x, at); }
Tensor round(const Tensor& x, Source at) { return detail::unary("round", x, at); }
Tensor square(const Tensor& x, Source at) { return mul({x, at}, {x, at}); }
Tensor stop_gradient(const Tensor& x, Source at) { return detail::unary("stop_gradient", x, at); }
Tensor keep(const Tensor& x, Source at) { return detail::unary("keep", x, at); }

Tensor cast(const Tensor& x, DType dtype, Source at) {
  detail::Recorder record("cast", at);
  return record(ops::cast(record.build, record(x), dtype));
}

Tensor sigmoid(const Tensor& x, Source at) { return detail::unary("sigmoid", x, at); }
Tensor silu(const Tensor& x, Source at) { return detail::unary("silu", x, at); }
Tensor relu(const Tensor& x, Source at) { return detail::unary("relu", x, at); }
Tensor relu2(const Tensor& x, Source at) { return detail::unary("relu2", x, at); }
Tensor leaky_relu(const Tensor& x, double slope, Source at) {
  return detail::unary("leaky_relu", x, at, {{"slope", slope}});
}
Tensor gelu(const Tensor& x, Source at) { return detail::unary("gelu", x, at); }
Tensor gelu_tanh(const Tensor& x, Source at) { return detail::unary("gelu_tanh", x, at); }
Tensor elu(const Tensor& x, double alpha, Source at) {
  return detail::unary("elu", x, at, {{"alpha", alpha}});
}
Tensor softplus(const Tensor& x, Source at) { return detail::unary("softplus", x, at); }

Tensor add(const Operand& x, const Operand& y) { return detail::binary("add", x, y); }
Tensor sub(const Operand& x, const Operand& y) { return detail::binary("sub", x, y); }
Tensor mul(const Operand& x, const Operand& y) { return detail::binary("mul", x, y); }
Tensor div(const Operand& x, const Operand& y) { return detail::binary("div", x, y); }
Tensor pow(const Operand& x, const Operand& y) { return detail::binary("pow", x, y); }
Tensor minimum(const Operand& x, const Operand& y) { return detail::binary("minimum", x, y); }
Tensor maximum(const Operand& x, const Operand& y) { return detail::binary("maximum", x, y); }
Tensor remainder(const Operand& x, const Operand& y) { return detail::binary("remainder", x, y); }
Tensor clamp(const Tensor& x, double low, double high, Source at) {
  if (!(low <= high)) detail::fail(at, "clamp: the bounds {} and {} are out of order", low, high);
  return minimum({maximum({x, at}, {low, at}), at}, {high, at});
}

Tensor where(const Tensor& condition, const Operand& x, const Operand& y) {
  detail::Recorder record("where", x.at());
  detail::Value test = record(condition);
  record.require(test.dtype() == DType::boolean, "the condition is {}, not bool",
                 test.type().text());
  record.require(x.tensor() != nullptr || y.tensor() != nullptr,
                 "one of the two values must be a tensor");
  detail::Value lhs = x.tensor() != nullptr ? record(*x.tensor()) : detail::Value{};
  detail::Value rhs = y.tensor() != nullptr ? record(*y.tensor()) : detail::Value{};
  const Type given = lhs ? lhs.type() : rhs.type();
  record.require(!lhs || !rhs || lhs.dtype() == rhs.dtype(),
                 "{} and {}: types are never promoted; cast() one of them", given.text(),
                 rhs ? rhs.type().text() : "");
  Shape shape = record.common_shape(test.shape(), given.shape);
  if (rhs) shape = record.common_shape(shape, rhs.shape());
  const auto full = [&](detail::Value value, const Operand& operand) {
    return value ? ops::broadcast_to(record.build, value, shape)
                 : detail::literal(record, operand, {given.dtype, shape});
  };
  lhs = full(lhs, x);
  rhs = full(rhs, y);
  test = ops::broadcast_to(record.build, test, shape);
  return record(ops::where(record.build, test, lhs, rhs));
}

Tensor equal(const Operand& x, const Operand& y) { return detail::binary("equal", x, y); }
Tensor not_equal(const Operand& x, const Operand& y) { return detail::binary("not_equal", x, y); }
Tensor less(const Operand& x, const Operand& y) { return detail::binary("less", x, y); }
Tensor less_equal(const Operand& x, const Operand& y) { return detail::binary("less_equal", x, y); }
Tensor greater(const Operand& x, const Operand& y) { return detail::binary("greater", x, y); }
Tensor greater_equal(const Operand& x, const Operand& y) {
  return detail::binary("greater_equal", x, y);
}
Tensor logical_and(const Operand& x, const Operand& y) {
  return detail::binary("logical_and", x, y);
}
Tensor logical_or(const Operand& x, const Operand& y) { return detail::binary("logical_or", x, y); }
Tensor logical_xor(const Operand& x, const Operand& y) {
  return detail::binary("logical_xor", x, y);
}
Tensor logical_not(const Tensor& x, Source at) { return detail::unary("logical_not", x, at); }
Tensor bitwise_and(const Operand& x, const Operand& y) {
  return detail::binary("bitwise_and", x, y);
}
Tensor bitwise_or(const Operand& x, const Operand& y) { return detail::binary("bitwise_or", x, y); }
Tensor bitwise_xor(const Operand& x, const Operand& y) {
  return detail::binary("bitwise_xor", x, y);
}
Tensor bitwise_not(const Tensor& x, Source at) { return detail::unary("bitwise_not", x, at); }
Tensor shift_left(const Operand& x, const Operand& y) { return detail::binary("shift_left", x, y); }
Tensor shift_right(const Operand& x, const Operand& y) {
  return detail::binary("shift_right", x, y);
}

}  // namespace weft
