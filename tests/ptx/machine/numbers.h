#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

/// The floating numbers of PTX and the rounding of results to them.
namespace weft::ptx {

struct Half {
  std::uint16_t bits;
};
struct BFloat {
  std::uint16_t bits;
};
/// Two numbers in 32 bits, the first in the lower ones.
template <class F>
struct Pair {
  F first;
  F second;
};

enum class Rounding : std::uint8_t { nearest, zero, down, up, away /* nearest, ties away */ };

constexpr std::uint32_t kNan32 = 0x7fffffff;
constexpr std::uint16_t kNan16 = 0x7fff;
constexpr std::uint64_t kNan64 = 0x7ff8'0000'0000'0000;

template <class F>
constexpr int kPrecision = 0;  ///< bits, with the implied one
template <>
inline constexpr int kPrecision<Half> = 11;
template <>
inline constexpr int kPrecision<BFloat> = 8;
template <>
inline constexpr int kPrecision<float> = 24;
template <>
inline constexpr int kPrecision<double> = 53;
template <class F>
constexpr int kLeastExponent = 0;  ///< of normal numbers 1.x * 2^e
template <>
inline constexpr int kLeastExponent<Half> = -14;
template <>
inline constexpr int kLeastExponent<BFloat> = -126;
template <>
inline constexpr int kLeastExponent<float> = -126;
template <>
inline constexpr int kLeastExponent<double> = -1022;

inline float to_float(Half value) {
  const std::uint32_t sign = std::uint32_t{value.bits & 0x8000u} << 16;
  const std::uint32_t magnitude = std::uint32_t{value.bits & 0x7fffu} << 13;
  // The exponent's bias differs by 112, also for subnormal numbers.
  const float scaled = std::bit_cast<float>(magnitude) * 0x1p112f;
  std::uint32_t result = std::bit_cast<std::uint32_t>(scaled);
  if ((value.bits & 0x7c00) == 0x7c00) result = 0x7f800000 | magnitude;
  return std::bit_cast<float>(sign | result);
}
inline float to_float(BFloat value) {
  return std::bit_cast<float>(std::uint32_t{value.bits} << 16);
}
inline float to_float(float value) { return value; }
inline double to_double(Half value) { return to_float(value); }
inline double to_double(BFloat value) { return to_float(value); }
inline double to_double(float value) { return value; }
inline double to_double(double value) { return value; }

/// Rounds to an integer.
inline long double to_integer(long double value, Rounding rounding) {
  switch (rounding) {
    case Rounding::nearest:
      return std::rint(value);  // the environment's, which is the default
    case Rounding::zero:
      return std::trunc(value);
    case Rounding::down:
      return std::floor(value);
    case Rounding::up:
      return std::ceil(value);
    case Rounding::away:
      return std::round(value);
  }
  return value;
}

/// The number of F nearest to `value` in the direction of the rounding. A long double holds every
/// number of PTX.
static_assert(std::numeric_limits<long double>::digits >= 64);
template <class F>
long double round_to(long double value, Rounding rounding) {
  if (value == 0 || !std::isfinite(value)) return value;
  const int exponent = std::max(std::ilogb(value), kLeastExponent<F>) - (kPrecision<F> - 1);
  const long double rounded =
      std::ldexp(to_integer(std::ldexp(value, -exponent), rounding), exponent);
  const int greatest = 1 - kLeastExponent<F>;
  const long double most = std::ldexp(2 - std::ldexp(1.0L, 1 - kPrecision<F>), greatest);
  if (std::fabs(rounded) <= most) return rounded;
  const bool stays = rounding == Rounding::zero || (rounding == Rounding::down && value > 0) ||
                     (rounding == Rounding::up && value < 0);
  return std::copysign(stays ? most : std::numeric_limits<long double>::infinity(), value);
}

/// A number of F, which `value` is, or a NaN.
template <class F>
F exactly(long double value);
template <>
inline double exactly<double>(long double value) {
  return std::isnan(value) ? std::bit_cast<double>(kNan64) : static_cast<double>(value);
}
template <>
inline float exactly<float>(long double value) {
  return std::isnan(value) ? std::bit_cast<float>(kNan32) : static_cast<float>(value);
}
template <>
inline BFloat exactly<BFloat>(long double value) {
  if (std::isnan(value)) return {kNan16};
  return {
      static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(value)) >> 16)};
}
template <>
inline Half exactly<Half>(long double value) {
  if (std::isnan(value)) return {kNan16};
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  const std::uint32_t sign = bits >> 16 & 0x8000;
  const std::uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x7f800000) return {static_cast<std::uint16_t>(sign | 0x7c00)};
  if (magnitude >= 0x38800000) {
    return {static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000) >> 13))};
  }
  const float fixed = std::bit_cast<float>(magnitude) * 0x1p24f;  // in units of 2^-24
  return {static_cast<std::uint16_t>(sign | static_cast<std::uint32_t>(fixed))};
}

// To the nearest, ties to even.
inline BFloat to_bfloat(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
  return {static_cast<std::uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? kNan16 : rounded >> 16)};
}
inline Half to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000;
  const std::uint32_t magnitude = bits & 0x7fffffff;
  const std::uint32_t normal = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
  // Numbers below 2^-14: adding 1/2 rounds to multiples of 2^-24.
  const float sum = std::bit_cast<float>(magnitude) + 0.5f;
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(sum) - 0x3f000000;
  std::uint32_t result = magnitude < 0x38800000 ? subnormal : normal;
  result = magnitude >= 0x477ff000 ? 0x7c00 : result;  // from 65520
  result = magnitude > 0x7f800000 ? kNan16 : result | sign;
  return {static_cast<std::uint16_t>(result)};
}

/// A sum and its error, as one double that rounds as the exact sum does to fewer bits: inexact sums
/// have an odd last bit.
inline double odd(double sum, double error) {
  const double side = sum * error;  // exact sums, infinities and NaN: neither < 0 nor > 0
  auto bits = std::bit_cast<std::int64_t>(sum);
  bits += side < 0 ? -1 : 0;
  bits |= side < 0 ? 1 : 0;
  bits |= side > 0 ? 1 : 0;
  return std::bit_cast<double>(bits);
}
inline double add_odd(double a, double b) {
  const double sum = a + b;
  const double part = sum - a;
  return odd(sum, (a - (sum - part)) + (b - part));
}
/// a b + c, of numbers whose product a double holds.
inline double fma_odd(double a, double b, double c) { return add_odd(a * b, c); }

/// The nearest number of F to the number that a double was rounded to odd from.
template <class F>
F from_odd(double value);
template <>
inline float from_odd<float>(double value) {
  return static_cast<float>(value);
}
inline float odd_float(double value) {
  const auto result = static_cast<float>(value);
  const double side = result * (value - result);
  auto bits = std::bit_cast<std::int32_t>(result);
  bits += side < 0 ? -1 : 0;
  bits |= side < 0 || side > 0 ? 1 : 0;
  return std::bit_cast<float>(bits);
}
template <>
inline Half from_odd<Half>(double value) {
  return to_half(odd_float(value));
}
template <>
inline BFloat from_odd<BFloat>(double value) {
  return to_bfloat(odd_float(value));
}

inline std::uint32_t flush_bits(std::uint32_t bits) {
  return (bits & 0x7f800000) == 0 ? bits & 0x80000000 : bits;
}
inline float flush(float value) {
  return std::bit_cast<float>(flush_bits(std::bit_cast<std::uint32_t>(value)));
}
inline Half flush(Half value) {
  return {
      static_cast<std::uint16_t>((value.bits & 0x7c00) == 0 ? value.bits & 0x8000 : value.bits)};
}
inline BFloat flush(BFloat value) { return value; }
inline double flush(double value) { return value; }

// NaN results do not depend on the operands.
inline float canonical(float value) {
  return value != value ? std::bit_cast<float>(kNan32) : value;
}
inline double canonical(double value) {
  return value != value ? std::bit_cast<double>(kNan64) : value;
}
inline Half canonical(Half value) { return value; }
inline BFloat canonical(BFloat value) { return value; }

/// Clamps to [0, 1]; NaN becomes 0.
inline float saturate(float value) { return value > 0 ? (value < 1 ? value : 1.0F) : 0.0F; }
inline double saturate(double value) { return value > 0 ? (value < 1 ? value : 1.0) : 0.0; }
inline Half saturate(Half value) { return to_half(saturate(to_float(value))); }
inline BFloat saturate(BFloat value) { return to_bfloat(saturate(to_float(value))); }

inline bool is_nan(float value) { return value != value; }
inline bool is_nan(double value) { return value != value; }
inline bool is_nan(Half value) { return (value.bits & 0x7fff) > 0x7c00; }
inline bool is_nan(BFloat value) { return (value.bits & 0x7fff) > 0x7f80; }
template <class F>
F nan_of();
template <>
inline float nan_of<float>() {
  return std::bit_cast<float>(kNan32);
}
template <>
inline double nan_of<double>() {
  return std::bit_cast<double>(kNan64);
}
template <>
inline Half nan_of<Half>() {
  return {kNan16};
}
template <>
inline BFloat nan_of<BFloat>() {
  return {kNan16};
}

}  // namespace weft::ptx
