#include "compiler/passes/constant_bytes.h"

#include <cmath>
#include <cstring>

#include "ops/op.h"

namespace weft::compiler {
namespace {

template <typename T>
void append(std::string& bytes, T value) {
  char raw[sizeof value];
  std::memcpy(raw, &value, sizeof value);
  bytes.append(raw, sizeof value);
}

std::uint16_t bf16_bits(double value) {
  const auto single = static_cast<float>(value);
  std::uint32_t bits = 0;
  std::memcpy(&bits, &single, sizeof bits);
  return static_cast<std::uint16_t>(bits >> 16);
}

/// `value` is exactly representable: no rounding here.
std::uint16_t f16_bits(double value) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  if (std::isnan(value)) return 0x7e00;
  if (std::isinf(value)) return static_cast<std::uint16_t>(sign | 0x7c00);
  if (magnitude == 0) return sign;
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  --exponent;  // magnitude = 1.x * 2^exponent
  if (exponent < -14) {
    return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(std::ldexp(magnitude, 24)));
  }
  const auto fraction =
      static_cast<std::uint16_t>(std::ldexp(std::ldexp(magnitude, -exponent) - 1, 10));
  return static_cast<std::uint16_t>(sign | ((exponent + 15) << 10) | fraction);
}

}  // namespace

std::string constant_bytes(const ir::Node& node) {
  ops::Array array(node.results[0]);
  ops::row(node).reference.function(node, {}, {&array, 1});
  std::string bytes;
  const auto count = static_cast<std::size_t>(array.elements());
  for (std::size_t i = 0; i < count; ++i) {
    switch (array.type.dtype) {
      case DType::f32:
        append(bytes, static_cast<float>(array.re[i]));
        break;
      case DType::f64:
        append(bytes, array.re[i]);
        break;
      case DType::f16:
        append(bytes, f16_bits(array.re[i]));
        break;
      case DType::bf16:
        append(bytes, bf16_bits(array.re[i]));
        break;
      case DType::i32:
        append(bytes, static_cast<std::int32_t>(array.integers[i]));
        break;
      case DType::i64:
        append(bytes, array.integers[i]);
        break;
      case DType::u8:
        append(bytes, static_cast<std::uint8_t>(array.integers[i]));
        break;
      case DType::boolean:
        append(bytes, static_cast<std::uint8_t>(array.integers[i] != 0));
        break;
      case DType::c64:
        append(bytes, static_cast<float>(array.re[i]));
        append(bytes, static_cast<float>(array.im[i]));
        break;
    }
  }
  return bytes;
}

}  // namespace weft::compiler
