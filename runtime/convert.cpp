#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "runtime/state.h"

namespace weft {
namespace {

constexpr int double_mantissa_bits = 52;
constexpr std::uint64_t double_mantissa = (std::uint64_t{1} << double_mantissa_bits) - 1;

/// A 16-bit IEEE-like format: sign, exponent, mantissa. Done on bits, so that neither rounding mode
/// nor flushing of denormals matters, and in one rounding (through f32 it would be two).
template <int exponent_bits, int mantissa_bits>
struct Float16 {
  static_assert(1 + exponent_bits + mantissa_bits == 16);
  static constexpr int bias = (1 << (exponent_bits - 1)) - 1;
  static constexpr int special = (1 << exponent_bits) - 1;  ///< exponent of infinity and NaN
  static constexpr int spare_bits = double_mantissa_bits - mantissa_bits;

  static double widen(std::uint16_t bits) {
    const bool negative = (bits >> 15) != 0;
    const int exponent = (bits >> mantissa_bits) & special;
    const std::uint64_t mantissa = bits & ((1U << mantissa_bits) - 1);
    if (exponent == 0) {
      const double magnitude = std::ldexp(static_cast<double>(mantissa), 1 - bias - mantissa_bits);
      return negative ? -magnitude : magnitude;
    }
    const std::uint64_t wide_exponent =
        exponent == special ? 0x7ff : static_cast<std::uint64_t>(exponent - bias + 1023);
    return std::bit_cast<double>(static_cast<std::uint64_t>(negative) << 63 |
                                 wide_exponent << double_mantissa_bits | mantissa << spare_bits);
  }

  static std::uint16_t narrow(double value) {
    const auto bits = std::bit_cast<std::uint64_t>(value);
    const auto sign = static_cast<std::uint16_t>(bits >> 63 << 15);
    const int wide_exponent = static_cast<int>(bits >> double_mantissa_bits & 0x7ff);
    const std::uint64_t mantissa = bits & double_mantissa;
    constexpr std::uint16_t infinity = special << mantissa_bits;
    if (wide_exponent == 0x7ff) {
      if (mantissa == 0) return sign | infinity;
      auto payload = static_cast<std::uint16_t>(mantissa >> spare_bits);
      if (payload == 0) payload = 1 << (mantissa_bits - 1);  // must not turn into infinity
      return static_cast<std::uint16_t>(sign | infinity | payload);
    }
    // Denormal doubles are far below half of the smallest number of either format.
    if (wide_exponent == 0) return sign;
    int exponent = wide_exponent - 1023 + bias;
    if (exponent >= special) return sign | infinity;
    int shift = spare_bits;
    if (exponent <= 0) {  // the result is denormal: the implied 1 becomes explicit, further right
      shift += 1 - exponent;
      exponent = 0;
      if (shift > double_mantissa_bits + 2) return sign;
    }
    const std::uint64_t significand = mantissa | (std::uint64_t{1} << double_mantissa_bits);
    std::uint64_t kept = significand >> shift;
    const std::uint64_t rest = significand & ((std::uint64_t{1} << shift) - 1);
    const std::uint64_t half = std::uint64_t{1} << (shift - 1);
    if (rest > half || (rest == half && (kept & 1) != 0)) ++kept;
    // Adding lets a carry go on into the exponent, up to infinity.
    if (exponent > 0) kept += static_cast<std::uint64_t>(exponent - 1) << mantissa_bits;
    return static_cast<std::uint16_t>(sign | kept);
  }
};

using Half = Float16<5, 10>;
using BFloat = Float16<8, 7>;

/// To the nearest integer, ties to even; beyond the type's range to its ends; NaN to 0.
template <typename Integer>
Integer saturate(double value) {
  using Limits = std::numeric_limits<Integer>;
  if (std::isnan(value)) return 0;
  // 2^63 - 1 is no double; 2^63 is. For the others max() + 1.0 is exact.
  if (value >= static_cast<double>(Limits::max())) return Limits::max();
  if (value <= static_cast<double>(Limits::min())) return Limits::min();
  return static_cast<Integer>(std::nearbyint(value));
}

/// Elements may be unaligned: go through memcpy.
template <typename Stored, typename Widen>
void widen_all(const std::byte* from, std::int64_t n, double* to, Widen widen) {
  for (std::int64_t i = 0; i < n; ++i) {
    Stored element;
    std::memcpy(&element, from + i * static_cast<std::int64_t>(sizeof(Stored)), sizeof(Stored));
    to[i] = widen(element);
  }
}

template <typename Stored, typename Narrow>
void narrow_all(const double* from, std::int64_t n, std::byte* to, Narrow narrow) {
  for (std::int64_t i = 0; i < n; ++i) {
    const Stored element = narrow(from[i]);
    std::memcpy(to + i * static_cast<std::int64_t>(sizeof(Stored)), &element, sizeof(Stored));
  }
}

}  // namespace

void to_doubles(DType dtype, const std::byte* from, std::int64_t n, double* to) {
  const auto plain = [](auto element) { return static_cast<double>(element); };
  switch (dtype) {
    case DType::f32:
      return widen_all<float>(from, n, to, plain);
    case DType::c64:
      return widen_all<float>(from, 2 * n, to, plain);
    case DType::f64:
      return widen_all<double>(from, n, to, plain);
    case DType::f16:
      return widen_all<std::uint16_t>(from, n, to, Half::widen);
    case DType::bf16:
      return widen_all<std::uint16_t>(from, n, to, BFloat::widen);
    case DType::i32:
      return widen_all<std::int32_t>(from, n, to, plain);
    case DType::i64:
      return widen_all<std::int64_t>(from, n, to, plain);
    case DType::u8:
      return widen_all<std::uint8_t>(from, n, to, plain);
    case DType::boolean:
      return widen_all<std::uint8_t>(from, n, to, [](auto b) { return b != 0 ? 1.0 : 0.0; });
  }
}

void from_doubles(DType dtype, const double* from, std::int64_t n, std::byte* to) {
  const auto single = [](double value) { return static_cast<float>(value); };
  switch (dtype) {
    case DType::f32:
      return narrow_all<float>(from, n, to, single);
    case DType::c64:
      return narrow_all<float>(from, 2 * n, to, single);
    case DType::f64:
      return narrow_all<double>(from, n, to, [](double value) { return value; });
    case DType::f16:
      return narrow_all<std::uint16_t>(from, n, to, Half::narrow);
    case DType::bf16:
      return narrow_all<std::uint16_t>(from, n, to, BFloat::narrow);
    case DType::i32:
      return narrow_all<std::int32_t>(from, n, to, saturate<std::int32_t>);
    case DType::i64:
      return narrow_all<std::int64_t>(from, n, to, saturate<std::int64_t>);
    case DType::u8:
      return narrow_all<std::uint8_t>(from, n, to, saturate<std::uint8_t>);
    case DType::boolean:
      return narrow_all<std::uint8_t>(
          from, n, to, [](double value) { return static_cast<std::uint8_t>(value != 0); });
  }
}

}  // namespace weft
