#include "interpret.h"

#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "ops/support.h"

namespace weft::test {

namespace {

using loop::Binary;
using loop::Cast;
using loop::Expr;
using loop::Unary;
using Register = loop::Scalar;

/// The type of memory whose values a register of that type holds.
DType dtype_of(Register type) {
  switch (type) {
    case Register::boolean:
      return DType::boolean;
    case Register::u8:
      return DType::u8;
    case Register::i32:
      return DType::i32;
    case Register::i64:
      return DType::i64;
    case Register::f32:
      return DType::f32;
    case Register::f64:
      return DType::f64;
  }
  throw std::logic_error("no such register type");
}

Scalar real(Register type, double value) { return {ops::round_to(dtype_of(type), value), 0}; }
Scalar integer(Register type, std::int64_t value) {
  return {0, ops::wrap_to(dtype_of(type), value)};
}
Scalar boolean(bool value) { return {0, value ? 1 : 0}; }

Scalar float_unary(Unary op, Register type, double a) {
  switch (op) {
    case Unary::negate:
      return real(type, -a);
    case Unary::absolute:
      return real(type, std::abs(a));
    case Unary::square_root:
      return real(type, std::sqrt(a));
    case Unary::floor:
      return real(type, std::floor(a));
    case Unary::round_even:
      return real(type, std::nearbyint(a));
    case Unary::call_exp2:
      return real(type, std::exp2(a));
    case Unary::call_log2:
      return real(type, std::log2(a));
    case Unary::call_exp:
      return real(type, std::exp(a));
    case Unary::call_log:
      return real(type, std::log(a));
    case Unary::call_sin:
      return real(type, std::sin(a));
    case Unary::call_cos:
      return real(type, std::cos(a));
    case Unary::call_tanh:
      return real(type, std::tanh(a));
    case Unary::call_erf:
      return real(type, std::erf(a));
    case Unary::round_f16:
      return {ops::round_to(DType::f16, a), 0};
    case Unary::round_bf16:
      return {ops::round_to(DType::bf16, a), 0};
    case Unary::logical_not:
    case Unary::bitwise_not:
      break;
  }
  throw std::logic_error("not an operation on floats");
}

Scalar integer_unary(Unary op, Register type, std::int64_t a) {
  const auto bits = static_cast<std::uint64_t>(a);
  switch (op) {
    case Unary::negate:
      return integer(type, static_cast<std::int64_t>(-bits));
    case Unary::absolute:
      return integer(type, static_cast<std::int64_t>(a < 0 ? -bits : bits));
    case Unary::logical_not:
      return boolean(a == 0);
    case Unary::bitwise_not:
      return integer(type, ~a);
    default:
      throw std::logic_error("not an operation on integers");
  }
}

Scalar float_binary(Binary op, Register type, double a, double b) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const bool ordered = !std::isnan(a) && !std::isnan(b);
  switch (op) {
    case Binary::add:
      return real(type, a + b);
    case Binary::subtract:
      return real(type, a - b);
    case Binary::multiply:
      return real(type, a * b);
    case Binary::divide:
      return real(type, a / b);
    case Binary::minimum:
      return real(type, ordered ? std::fmin(a, b) : nan);
    case Binary::maximum:
      return real(type, ordered ? std::fmax(a, b) : nan);
    case Binary::equal:
      return boolean(a == b);
    case Binary::not_equal:
      return boolean(a != b);
    case Binary::less:
      return boolean(a < b);
    case Binary::less_equal:
      return boolean(a <= b);
    case Binary::call_pow:
      return real(type, std::pow(a, b));
    default:
      throw std::logic_error("not an operation on floats");
  }
}

std::uint64_t pattern(Register type, std::int64_t a) {
  const auto bits = static_cast<std::uint64_t>(a);
  return type == Register::i32 ? bits & 0xffffffffU : bits;
}

std::int64_t shift(Binary op, Register type, std::int64_t a, std::int64_t b) {
  const auto bits = static_cast<std::int64_t>(size_of(dtype_of(type))) * 8;
  if (b < 0 || b >= bits) throw std::logic_error("a shift out of range");
  if (op == Binary::shift_left) {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) << b);
  }
  return op == Binary::shift_right ? a >> b : static_cast<std::int64_t>(pattern(type, a) >> b);
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

Scalar integer_binary(Binary op, Register type, std::int64_t a, std::int64_t b) {
  const auto left = static_cast<std::uint64_t>(a);
  const auto right = static_cast<std::uint64_t>(b);
  const auto wrapped = [&](std::uint64_t bits) {
    return integer(type, static_cast<std::int64_t>(bits));
  };
  switch (op) {
    case Binary::add:
      return wrapped(left + right);
    case Binary::subtract:
      return wrapped(left - right);
    case Binary::multiply:
      return wrapped(left * right);
    case Binary::divide:
      if (b == -1) return wrapped(-left);
      return integer(type, b == 0 ? 0 : a / b);
    case Binary::remainder:
      return integer(type, b == 0 || b == -1 ? 0 : a % b);
    case Binary::floor_divide:
      return integer(type, floor_divide(a, b));
    case Binary::floor_modulo:
      return integer(type, a - floor_divide(a, b) * b);
    case Binary::minimum:
      return integer(type, a < b ? a : b);
    case Binary::maximum:
      return integer(type, a < b ? b : a);
    case Binary::bitwise_and:
      return integer(type, a & b);
    case Binary::bitwise_or:
      return integer(type, a | b);
    case Binary::bitwise_xor:
      return integer(type, a ^ b);
    case Binary::shift_left:
    case Binary::shift_right:
    case Binary::shift_right_logical:
      return integer(type, shift(op, type, a, b));
    case Binary::multiply_high_unsigned:
      return integer(type, static_cast<std::int64_t>((pattern(type, a) * pattern(type, b)) >> 32));
    case Binary::equal:
      return boolean(a == b);
    case Binary::not_equal:
      return boolean(a != b);
    case Binary::less:
      return boolean(a < b);
    case Binary::less_equal:
      return boolean(a <= b);
    case Binary::call_pow:
      break;
  }
  throw std::logic_error("not an operation on integers");
}

Scalar convert(Register from, Register to, Scalar a) {
  if (loop::is_float(from)) {
    return loop::is_float(to) ? real(to, a.real)
                              : Scalar{0, ops::saturate_to(dtype_of(to), a.real)};
  }
  if (to == Register::f32) return {static_cast<double>(static_cast<float>(a.integer)), 0};
  return loop::is_float(to) ? real(to, static_cast<double>(a.integer)) : integer(to, a.integer);
}

Scalar reinterpret(Register from, Register to, Scalar a) {
  if (from == Register::f32 && to == Register::i32) {
    return {0, std::bit_cast<std::int32_t>(static_cast<float>(a.real))};
  }
  if (from == Register::f64 && to == Register::i64) return {0, std::bit_cast<std::int64_t>(a.real)};
  if (from == Register::i32 && to == Register::f32) {
    return {static_cast<double>(std::bit_cast<float>(static_cast<std::int32_t>(a.integer))), 0};
  }
  if (from == Register::i64 && to == Register::f64) return {std::bit_cast<double>(a.integer), 0};
  throw std::logic_error("types of different size");
}

}  // namespace

Scalar Interpreter::evaluate(loop::Ex expr) {
  const auto found = values_.find(expr);
  if (found != values_.end()) return found->second;
  const Scalar value = compute(*expr);
  values_[expr] = value;
  return value;
}

Scalar Interpreter::compute(const Expr& e) {
  const auto argument = [&](std::size_t i) { return evaluate(e.arguments[i]); };
  switch (e.kind) {
    case loop::ExprKind::constant:
      return loop::is_float(e.type) ? real(e.type, e.real) : integer(e.type, e.integer);
    case loop::ExprKind::select:
      return argument(argument(0).integer != 0 ? 1 : 2);
    case loop::ExprKind::fma: {
      const double a = argument(0).real;
      const double b = argument(1).real;
      const double c = argument(2).real;
      if (e.type == Register::f64) return {std::fma(a, b, c), 0};
      const float sum =
          std::fma(static_cast<float>(a), static_cast<float>(b), static_cast<float>(c));
      return {static_cast<double>(sum), 0};
    }
    case loop::ExprKind::dot_pair:
      throw std::logic_error("no op lowers to pairs of 16 bits");
    case loop::ExprKind::cast: {
      const Register from = e.arguments[0]->type;
      return static_cast<Cast>(e.code) == Cast::bits ? reinterpret(from, e.type, argument(0))
                                                     : convert(from, e.type, argument(0));
    }
    case loop::ExprKind::unary: {
      const auto op = static_cast<Unary>(e.code);
      return loop::is_float(e.type) ? float_unary(op, e.type, argument(0).real)
                                    : integer_unary(op, e.type, argument(0).integer);
    }
    case loop::ExprKind::binary: {
      const auto op = static_cast<Binary>(e.code);
      const Register type = e.arguments[0]->type;
      return loop::is_float(type)
                 ? float_binary(op, type, argument(0).real, argument(1).real)
                 : integer_binary(op, type, argument(0).integer, argument(1).integer);
    }
    case loop::ExprKind::variable:
      throw std::logic_error("a variable without a value");
    case loop::ExprKind::load:
      throw std::logic_error("a load");
  }
  throw std::logic_error("no such expression");
}

}  // namespace weft::test
