#include "tools/selftest/operands.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "compiler/loop/interpret_value.h"

namespace weft::selftest {
namespace {

using Limits = std::numeric_limits<float>;

/// Values that conversions and arithmetic treat in some way of their own.
const std::vector<double>& edges() {
  static const std::vector<double> all = [] {
    std::vector<double> values = {
        0, 1, 2, 3, 0.5, 1.5, 2.5, 3.5, 0.49999997, 0.99999994, 7, 100.25, 127, 128, 255, 255.5,
        256,
        // Ties of bf16 and f16.
        1 + 0x1p-8, 1 + 0x3p-8, 1 + 0x1p-11, 1 + 0x3p-11, 1 + 0x1p-11 + 0x1p-20, 0x1p-14, 0x1p-24,
        0x1p-25, 0x3p-26, 65504, 65519.996, 65520, 0x1p24 + 1, 0x1p31 - 128, 0x1p31, 0x1p32, 0x1p53,
        0x1p62, 0x1p63, 0x1p-126, 0x1.fffffep127, std::numeric_limits<double>::infinity()};
    const std::size_t positive = values.size();
    for (std::size_t i = 0; i < positive; ++i) values.push_back(-values[i]);
    values.push_back(std::numeric_limits<double>::quiet_NaN());
    return values;
  }();
  return all;
}

constexpr std::array<std::int64_t, 25> integer_edges = {0,
                                                        1,
                                                        -1,
                                                        2,
                                                        -2,
                                                        3,
                                                        -3,
                                                        7,
                                                        -7,
                                                        31,
                                                        32,
                                                        64,
                                                        127,
                                                        128,
                                                        255,
                                                        256,
                                                        65535,
                                                        1 << 24,
                                                        (1 << 24) + 1,
                                                        std::numeric_limits<std::int32_t>::max(),
                                                        std::numeric_limits<std::int32_t>::min(),
                                                        std::int64_t{1} << 32,
                                                        (std::int64_t{1} << 53) + 1,
                                                        std::numeric_limits<std::int64_t>::max(),
                                                        std::numeric_limits<std::int64_t>::min()};

std::uint64_t hash(std::string_view text) {
  std::uint64_t value = 0xcbf29ce484222325U;  // FNV-1a
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return value;
}

std::uint32_t word(float value) { return std::bit_cast<std::uint32_t>(value); }

}  // namespace

Operands::Operands(std::string_view seed) : random_(hash(seed)) {}

// The standard's distributions differ between libraries: these are plain functions of the bits.
std::int64_t Operands::integer64() { return static_cast<std::int64_t>(random_()); }

int Operands::integer(int low, int high) {
  return low + static_cast<int>(random_() % static_cast<std::uint64_t>(high - low + 1));
}

double Operands::real(double low, double high) {
  return low + (high - low) * std::ldexp(static_cast<double>(random_() >> 11U), -53);
}

std::vector<std::uint32_t> Operands::bits(std::size_t count) {
  std::vector<std::uint32_t> values(count);
  for (std::uint32_t& value : values) value = static_cast<std::uint32_t>(random_() >> 16U);
  return values;
}

std::vector<std::uint32_t> Operands::below(std::uint32_t end, std::size_t count) {
  std::vector<std::uint32_t> values = bits(count);
  for (std::uint32_t& value : values) value %= end;
  return values;
}

std::vector<std::uint32_t> Operands::permutation(std::int64_t count) {
  std::vector<std::uint32_t> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 0U);
  for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random_() % i]);
  return values;
}

std::vector<std::uint32_t> Operands::between(double low, double high, std::size_t count) {
  std::vector<std::uint32_t> values(count);
  // Wide positive ranges evenly in their logarithm.
  const bool wide = low > 0 && high / low > 1e6;
  for (std::uint32_t& value : values) {
    value = word(
        static_cast<float>(wide ? std::exp(real(std::log(low), std::log(high))) : real(low, high)));
  }
  return values;
}

std::vector<std::uint32_t> Operands::special_floats() const {
  std::vector<std::uint32_t> values;
  for (const double edge : edges()) values.push_back(word(static_cast<float>(edge)));
  for (const float denormal : {Limits::denorm_min(), 0x1.8p-127F, -0x1.8p-127F}) {
    values.push_back(word(denormal));
  }
  return values;
}

std::vector<std::uint32_t> Operands::floats() {
  constexpr std::size_t count = 256;
  std::vector<std::uint32_t> values = special_floats();
  while (values.size() < count) {
    values.push_back(word(static_cast<float>(std::ldexp(real(-1, 1), integer(-40, 40)))));
  }
  const std::vector<std::uint32_t> order = permutation(count);
  std::vector<std::uint32_t> shuffled;
  for (const std::uint32_t from : order) shuffled.push_back(values[from]);
  return shuffled;
}

std::vector<std::uint32_t> Operands::integers() {
  constexpr std::size_t count = 256;
  std::vector<std::uint32_t> values = bits(count);
  for (std::size_t i = 0; i < integer_edges.size(); ++i) {
    values[5 * i] = static_cast<std::uint32_t>(integer_edges[i]);
  }
  return values;
}

std::vector<std::byte> Operands::elements(DType dtype, bool truth, std::size_t order) {
  constexpr std::size_t count = 1024;
  const std::size_t size = size_of(dtype);
  const loop::Scalar type = loop::register_type(dtype);
  std::vector<std::byte> bytes(count * size);
  for (std::size_t i = 0; i < count; ++i) {
    // Every pair of edges meets, the rest is random.
    const std::size_t shift = i / 29 * order;
    loop::Word value = 0;
    if (truth) {
      value = random_() & 1U;
    } else if (loop::is_float(type)) {
      double number = 0;
      if (i % 4 != 3) {
        number = edges()[(i + 7 * shift) % edges().size()];
      } else {
        number = std::ldexp(real(-1, 1), integer(-40, 40));
      }
      value = type == loop::Scalar::f64 ? loop::interpreter::word_of(number)
                                        : loop::interpreter::word_of(static_cast<float>(number));
    } else {
      const std::int64_t integer =
          i % 4 != 3 ? integer_edges[(i + 7 * shift) % integer_edges.size()] : integer64();
      value = loop::interpreter::word_of(integer);
      if (dtype == DType::i32) {
        value = loop::interpreter::word_of(std::int64_t{static_cast<std::int32_t>(integer)});
      }
      if (dtype == DType::u8) value &= 0xffU;
    }
    loop::interpreter::to_memory(dtype, value, bytes.data() + i * size);
  }
  return bytes;
}

}  // namespace weft::selftest
