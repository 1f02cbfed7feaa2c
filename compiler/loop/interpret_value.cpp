#include "compiler/loop/interpret_value.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "compiler/loop/range.h"

namespace weft::loop::interpreter {
namespace {

template <typename T>
T get(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename T>
void put(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

double function(Unary op, double a) {
  switch (op) {
    case Unary::call_exp2:
      return std::exp2(a);
    case Unary::call_log2:
      return std::log2(a);
    case Unary::call_exp:
      return std::exp(a);
    case Unary::call_log:
      return std::log(a);
    case Unary::call_sin:
      return std::sin(a);
    case Unary::call_cos:
      return std::cos(a);
    case Unary::call_tanh:
      return std::tanh(a);
    case Unary::call_erf:
      return std::erf(a);
    default:
      throw std::logic_error("interpret: no such function");
  }
}

/// To the nearest integer, ties to even, whatever the rounding mode.
template <typename T>
T round_even(T a) {
  if (!std::isfinite(a)) return a;
  return std::copysign(a - std::remainder(a, T{1}), a);
}

template <typename T>
T unary_of(Unary op, T a) {
  switch (op) {
    case Unary::negate:
      return -a;
    case Unary::absolute:
      return std::fabs(a);
    case Unary::square_root:
      return std::sqrt(a);
    case Unary::floor:
      return std::floor(a);
    case Unary::round_even:
      return round_even(a);
    default:
      return static_cast<T>(function(op, static_cast<double>(a)));
  }
}

template <typename T>
T binary_of(Binary op, T a, T b) {
  switch (op) {
    case Binary::add:
      return a + b;
    case Binary::subtract:
      return a - b;
    case Binary::multiply:
      return a * b;
    case Binary::divide:
      return a / b;
    case Binary::minimum:
      return std::isnan(a) ? a : a < b ? a : b;
    case Binary::maximum:
      return std::isnan(a) ? a : a > b ? a : b;
    case Binary::call_pow:
      return std::pow(a, b);
    default:
      throw std::logic_error("interpret: no such operation on floats");
  }
}

template <typename T>
bool compare(Binary op, T a, T b) {
  switch (op) {
    case Binary::equal:
      return a == b;
    case Binary::not_equal:
      return a != b;
    case Binary::less:
      return a < b;
    default:
      return a <= b;
  }
}

bool is_comparison(Binary op) {
  return op == Binary::equal || op == Binary::not_equal || op == Binary::less ||
         op == Binary::less_equal;
}

}  // namespace

Word constant(const Expr& expr) {
  if (expr.type == Scalar::f32) return word_of(static_cast<float>(expr.real));
  if (expr.type == Scalar::f64) return word_of(expr.real);
  return word_of(expr.integer);
}

float Arithmetic::flushed(float value) const {
  return flush && std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0F, value) : value;
}

Word Arithmetic::unary(Unary op, Scalar type, Word a) const {
  if (!is_float(type)) return word_of(fold_unary(op, type, integer_of(a)));
  if (type == Scalar::f64) return word_of(unary_of(op, f64_of(a)));
  switch (op) {
    case Unary::negate:
    case Unary::absolute:
      return word_of(unary_of(op, f32_of(a)));
    case Unary::round_f16:
      return word_of(from_f16(to_f16(f32_of(a))));
    case Unary::round_bf16:
      return word_of(from_bf16(to_bf16(f32_of(a))));
    default:
      return word_of(flushed(unary_of(op, flushed(f32_of(a)))));
  }
}

Word Arithmetic::binary(Binary op, Scalar type, Word a, Word b) const {
  if (type == Scalar::f32) {
    const float x = flushed(f32_of(a));
    const float y = flushed(f32_of(b));
    if (is_comparison(op)) return compare(op, x, y) ? 1 : 0;
    return word_of(flushed(binary_of(op, x, y)));
  }
  if (type == Scalar::f64) {
    if (is_comparison(op)) return compare(op, f64_of(a), f64_of(b)) ? 1 : 0;
    return word_of(binary_of(op, f64_of(a), f64_of(b)));
  }
  if (is_comparison(op)) return compare(op, integer_of(a), integer_of(b)) ? 1 : 0;
  std::int64_t result = 0;
  if (!fold_binary(op, type, integer_of(a), integer_of(b), result)) {
    throw std::logic_error("interpret: index arithmetic with a divisor that is not positive");
  }
  return word_of(result);
}

Word Arithmetic::fma(Scalar type, Word a, Word b, Word c) const {
  if (type == Scalar::f64) return word_of(std::fma(f64_of(a), f64_of(b), f64_of(c)));
  if (type == Scalar::f32) {
    return word_of(flushed(std::fma(flushed(f32_of(a)), flushed(f32_of(b)), flushed(f32_of(c)))));
  }
  return binary(Binary::add, type, binary(Binary::multiply, type, a, b), c);
}

Word Arithmetic::dot_pair(Word a, Word b, Word c) const {
  const auto half = [](Word word, unsigned shift) {
    return static_cast<double>(from_bf16(static_cast<std::uint16_t>(word >> shift)));
  };
  const double sum =
      static_cast<double>(f32_of(c)) + half(a, 0) * half(b, 0) + half(a, 16) * half(b, 16);
  return word_of(flushed(static_cast<float>(sum)));
}

Word Arithmetic::cast(Cast kind, Scalar from, Scalar to, Word a) const {
  if (kind == Cast::bits) {
    // An i32 is kept with its sign extended, an f32 with zeros above.
    if (to == Scalar::i32) return word_of(std::int64_t{static_cast<std::int32_t>(a)});
    if (to == Scalar::f32) return static_cast<std::uint32_t>(a);
    return a;
  }
  if (!is_float(from)) {
    if (to == Scalar::f32) return word_of(static_cast<float>(integer_of(a)));
    if (to == Scalar::f64) return word_of(static_cast<double>(integer_of(a)));
    return word_of(cast_integer(to, integer_of(a)));
  }
  const double value = from == Scalar::f32 ? static_cast<double>(flushed(f32_of(a))) : f64_of(a);
  if (to == Scalar::f32) return word_of(flushed(static_cast<float>(value)));
  if (to == Scalar::f64) return word_of(value);
  return word_of(to_integer(to, value));
}

Word from_memory(DType dtype, const std::byte* from) {
  switch (dtype) {
    case DType::f32:
      return get<std::uint32_t>(from);
    case DType::f64:
    case DType::i64:
      return get<std::uint64_t>(from);
    case DType::f16:
      return word_of(from_f16(get<std::uint16_t>(from)));
    case DType::bf16:
      return word_of(from_bf16(get<std::uint16_t>(from)));
    case DType::i32:
      return word_of(std::int64_t{get<std::int32_t>(from)});
    case DType::u8:
      return get<std::uint8_t>(from);
    case DType::boolean:
      return get<std::uint8_t>(from) != 0 ? 1 : 0;
    case DType::c64:
      break;
  }
  throw std::logic_error("interpret: a buffer of c64");
}

void to_memory(DType dtype, Word value, std::byte* to) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return put(to, static_cast<std::uint32_t>(value));
    case DType::f64:
    case DType::i64:
      return put(to, value);
    case DType::f16:
      return put(to, to_f16(f32_of(value)));
    case DType::bf16:
      return put(to, to_bf16(f32_of(value)));
    case DType::u8:
    case DType::boolean:
      return put(to, static_cast<std::uint8_t>(value));
    case DType::c64:
      break;
  }
  throw std::logic_error("interpret: a buffer of c64");
}

float from_f16(std::uint16_t bits) {
  const bool negative = (bits & 0x8000U) != 0;
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  float value = 0;
  if (exponent == 31) {
    value = fraction != 0 ? std::numeric_limits<float>::quiet_NaN()
                          : std::numeric_limits<float>::infinity();
  } else if (exponent == 0) {
    value = std::ldexp(static_cast<float>(fraction), -24);
  } else {
    value = std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  }
  return negative ? -value : value;
}

std::uint16_t to_f16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return sign | 0x7e00U;
  // The largest half and a half of its last place: a tie that goes to infinity.
  if (magnitude >= 65520.0F) return sign | 0x7c00U;
  if (magnitude < 0x1p-14F) {
    // Whole multiples of 2^-24: exact before it is rounded.
    return static_cast<std::uint16_t>(sign |
                                      static_cast<unsigned>(round_even(magnitude * 0x1p24F)));
  }
  // Thirteen bits of the fraction go; a carry out of it raises the exponent as it should.
  std::uint32_t rounded = bits & 0x7fffffffU;
  rounded += 0xfffU + ((rounded >> 13) & 1U);
  return static_cast<std::uint16_t>(sign | ((rounded - (112U << 23)) >> 13));
}

float from_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

std::uint16_t to_bf16(float value) {
  auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  bits += 0x7fffU + ((bits >> 16) & 1U);
  return static_cast<std::uint16_t>(bits >> 16);
}

}  // namespace weft::loop::interpreter
