#include "compiler/loop/range.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <initializer_list>
#include <limits>

namespace weft::loop {
namespace {

constexpr std::int64_t lowest = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t highest = std::numeric_limits<std::int64_t>::max();

Range fit(Scalar type, Wide minimum, Wide maximum) {
  const Range all = type_range(type);
  if (minimum < all.minimum || maximum > all.maximum) return all;
  return {static_cast<std::int64_t>(minimum), static_cast<std::int64_t>(maximum)};
}

Range fit(Scalar type, std::initializer_list<Wide> values) {
  return fit(type, std::min(values), std::max(values));
}

int bits_of(Scalar type) {
  switch (type) {
    case Scalar::boolean:
      return 1;
    case Scalar::u8:
      return 8;
    case Scalar::i32:
    case Scalar::f32:
      return 32;
    default:
      return 64;
  }
}

std::uint64_t unsigned_bits(Scalar type, std::int64_t value) {
  const auto all = static_cast<std::uint64_t>(value);
  const int bits = bits_of(type);
  return bits == 64 ? all : all & ((std::uint64_t{1} << bits) - 1);
}

}  // namespace

Range type_range(Scalar type) {
  switch (type) {
    case Scalar::boolean:
      return {0, 1};
    case Scalar::u8:
      return {0, 255};
    case Scalar::i32:
      return {std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()};
    default:
      return {lowest, highest};
  }
}

std::int64_t wrap(Scalar type, std::int64_t value) {
  switch (type) {
    case Scalar::boolean:
      return value & 1;
    case Scalar::u8:
      return value & 255;
    case Scalar::i32:
      return static_cast<std::int32_t>(static_cast<std::uint32_t>(value));
    default:
      return value;
  }
}

std::int64_t to_integer(Scalar type, double value) {
  if (type == Scalar::boolean) return value != 0 ? 1 : 0;
  if (std::isnan(value)) return 0;
  const Range all = type_range(type);
  const double truncated = std::trunc(value);
  if (truncated <= static_cast<double>(all.minimum)) return all.minimum;
  if (truncated >= static_cast<double>(all.maximum)) return all.maximum;
  return static_cast<std::int64_t>(truncated);
}

std::int64_t cast_integer(Scalar to, std::int64_t value) {
  return to == Scalar::boolean ? (value != 0 ? 1 : 0) : wrap(to, value);
}

std::int64_t floor_quotient(std::int64_t a, std::int64_t divisor) {
  const std::int64_t quotient = a / divisor;
  return quotient * divisor > a ? quotient - 1 : quotient;
}

Wide floor_quotient(Wide a, Wide divisor) {
  const Wide quotient = a / divisor;
  return quotient * divisor > a ? quotient - 1 : quotient;
}

std::int64_t fold_unary(Unary op, Scalar type, std::int64_t a) {
  const auto negated = static_cast<std::int64_t>(0 - static_cast<std::uint64_t>(a));
  switch (op) {
    case Unary::negate:
      return wrap(type, negated);
    case Unary::absolute:
      return wrap(type, a < 0 ? negated : a);
    case Unary::logical_not:
      return a ? 0 : 1;
    case Unary::bitwise_not:
      return wrap(type, ~a);
    default:
      return a;
  }
}

bool fold_unary(Unary op, Scalar type, double a, double& result) {
  switch (op) {
    case Unary::negate:
      result = -a;
      return true;
    case Unary::absolute:
      result = std::fabs(a);
      return true;
    case Unary::square_root:
      result = type == Scalar::f32 ? std::sqrt(static_cast<float>(a)) : std::sqrt(a);
      return true;
    case Unary::floor:
      result = std::floor(a);
      return true;
    case Unary::round_even:
      // Exact whatever the rounding mode: halfway cases go to the even neighbour.
      result = a - std::remainder(a, 1.0);
      if (!std::isfinite(a)) result = a;
      result = std::copysign(result, a);
      return true;
    case Unary::call_exp2:
      result = std::exp2(a);
      return true;
    case Unary::call_log2:
      result = std::log2(a);
      return true;
    case Unary::call_exp:
      result = std::exp(a);
      return true;
    case Unary::call_log:
      result = std::log(a);
      return true;
    case Unary::call_sin:
      result = std::sin(a);
      return true;
    case Unary::call_cos:
      result = std::cos(a);
      return true;
    case Unary::call_tanh:
      result = std::tanh(a);
      return true;
    case Unary::call_erf:
      result = std::erf(a);
      return true;
    case Unary::round_bf16: {
      if (std::isnan(a)) return false;
      auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(a));
      bits += 0x7fffU + ((bits >> 16) & 1U);
      result = std::bit_cast<float>(bits & 0xffff0000U);
      return true;
    }
    default:
      return false;
  }
}

bool fold_comparison(Binary op, double a, double b) {
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

bool fold_binary(Binary op, Scalar type, double a, double b, double& result) {
  const bool single = type == Scalar::f32;
  const auto fa = static_cast<float>(a);
  const auto fb = static_cast<float>(b);
  switch (op) {
    case Binary::add:
      result = single ? fa + fb : a + b;
      return true;
    case Binary::subtract:
      result = single ? fa - fb : a - b;
      return true;
    case Binary::multiply:
      result = single ? fa * fb : a * b;
      return true;
    case Binary::divide:
      result = single ? fa / fb : a / b;
      return true;
    case Binary::minimum:
      result = std::isnan(a) ? a : (a < b ? a : b);
      return true;
    case Binary::maximum:
      result = std::isnan(a) ? a : (a > b ? a : b);
      return true;
    case Binary::call_pow:
      result = std::pow(a, b);
      return true;
    default:
      return false;
  }
}

bool fold_binary(Binary op, Scalar type, std::int64_t a, std::int64_t b, std::int64_t& result) {
  const auto ua = static_cast<std::uint64_t>(a);
  const auto ub = static_cast<std::uint64_t>(b);
  const int bits = bits_of(type);
  const bool wide_shift = b < 0 || b >= bits;
  const auto set = [&](std::uint64_t value) {
    result = wrap(type, static_cast<std::int64_t>(value));
    return true;
  };
  switch (op) {
    case Binary::add:
      return set(ua + ub);
    case Binary::subtract:
      return set(ua - ub);
    case Binary::multiply:
      return set(ua * ub);
    case Binary::divide:
      if (b == 0) return set(0);
      if (b == -1) return set(0 - ua);
      return set(static_cast<std::uint64_t>(a / b));
    case Binary::remainder:
      if (b == 0 || b == -1) return set(0);
      return set(static_cast<std::uint64_t>(a % b));
    case Binary::floor_divide:
      if (b <= 0) return false;
      return set(static_cast<std::uint64_t>(floor_quotient(a, b)));
    case Binary::floor_modulo: {
      if (b <= 0) return false;
      const std::int64_t remainder = a % b;
      result = remainder < 0 ? remainder + b : remainder;
      return true;
    }
    case Binary::minimum:
      result = std::min(a, b);
      return true;
    case Binary::maximum:
      result = std::max(a, b);
      return true;
    case Binary::bitwise_and:
      return set(ua & ub);
    case Binary::bitwise_or:
      return set(ua | ub);
    case Binary::bitwise_xor:
      return set(ua ^ ub);
    case Binary::shift_left:
      return set(wide_shift ? 0 : ua << b);
    case Binary::shift_right:
      if (type == Scalar::u8) return set(wide_shift ? 0 : unsigned_bits(type, a) >> b);
      return set(static_cast<std::uint64_t>(a >> (wide_shift ? bits - 1 : b)));
    case Binary::shift_right_logical:
      return set(wide_shift ? 0 : unsigned_bits(type, a) >> b);
    case Binary::multiply_high_unsigned:
      return set((unsigned_bits(type, a) * unsigned_bits(type, b)) >> 32);
    case Binary::equal:
      result = a == b;
      return true;
    case Binary::not_equal:
      result = a != b;
      return true;
    case Binary::less:
      result = a < b;
      return true;
    case Binary::less_equal:
      result = a <= b;
      return true;
    default:
      return false;
  }
}

Range unary_range(Unary op, Scalar type, Range a) {
  switch (op) {
    case Unary::negate:
      return fit(type, -Wide{a.maximum}, -Wide{a.minimum});
    case Unary::absolute: {
      const Wide low = -Wide{a.minimum};
      if (a.minimum >= 0) return a;
      if (a.maximum <= 0) return fit(type, -Wide{a.maximum}, low);
      return fit(type, 0, std::max(low, Wide{a.maximum}));
    }
    case Unary::bitwise_not:
      if (type == Scalar::u8) return {255 - a.maximum, 255 - a.minimum};
      return {~a.maximum, ~a.minimum};
    default:
      return type_range(type);
  }
}

Range binary_range(Binary op, Scalar type, Range a, Range b) {
  const Wide a0 = a.minimum, a1 = a.maximum, b0 = b.minimum, b1 = b.maximum;
  switch (op) {
    case Binary::add:
      return fit(type, a0 + b0, a1 + b1);
    case Binary::subtract:
      return fit(type, a0 - b1, a1 - b0);
    case Binary::multiply:
      return fit(type, {a0 * b0, a0 * b1, a1 * b0, a1 * b1});
    case Binary::divide:
      if (b0 > 0) return fit(type, {a0 / b0, a0 / b1, a1 / b0, a1 / b1});
      break;
    case Binary::remainder:
      if (b0 > 0) {
        return fit(type, std::max(std::min(a0, Wide{0}), -(b1 - 1)),
                   std::min(std::max(a1, Wide{0}), b1 - 1));
      }
      break;
    case Binary::floor_divide:
      if (b0 > 0) {
        return fit(type, {floor_quotient(a0, b0), floor_quotient(a0, b1), floor_quotient(a1, b0),
                          floor_quotient(a1, b1)});
      }
      break;
    case Binary::floor_modulo:
      if (b0 > 0) return fit(type, 0, a0 >= 0 ? std::min(a1, b1 - 1) : b1 - 1);
      break;
    case Binary::minimum:
      return fit(type, std::min(a0, b0), std::min(a1, b1));
    case Binary::maximum:
      return fit(type, std::max(a0, b0), std::max(a1, b1));
    case Binary::bitwise_and:
      if (a0 >= 0 && b0 >= 0) return fit(type, 0, std::min(a1, b1));
      if (a0 >= 0) return fit(type, 0, a1);
      if (b0 >= 0) return fit(type, 0, b1);
      break;
    case Binary::bitwise_or:
    case Binary::bitwise_xor:
      if (a0 >= 0 && b0 >= 0) {
        const auto both = static_cast<std::uint64_t>(a.maximum | b.maximum);
        const int bits = std::bit_width(both);
        return fit(type, 0, (Wide{1} << bits) - 1);
      }
      break;
    case Binary::shift_left:
      if (b0 >= 0 && b1 < bits_of(type)) {
        const Wide s0 = Wide{1} << static_cast<int>(b0), s1 = Wide{1} << static_cast<int>(b1);
        return fit(type, {a0 * s0, a0 * s1, a1 * s0, a1 * s1});
      }
      break;
    case Binary::shift_right:
    case Binary::shift_right_logical:
      if (b0 >= 0 && b1 < bits_of(type) && (a0 >= 0 || op == Binary::shift_right)) {
        const auto s0 = static_cast<int>(b0), s1 = static_cast<int>(b1);
        return fit(type, {a0 >> s0, a0 >> s1, a1 >> s0, a1 >> s1});
      }
      if (a0 >= 0) return fit(type, 0, a1);
      break;
    default:
      break;
  }
  return type_range(type);
}

}  // namespace weft::loop
