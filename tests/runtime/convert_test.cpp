#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "runtime/state.h"

namespace weft {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

template <typename T>
T narrow(DType dtype, double value) {
  T result{};
  from_doubles(dtype, &value, 1, reinterpret_cast<std::byte*>(&result));
  return result;
}

template <typename T>
double widen(DType dtype, T value) {
  double result = 0;
  to_doubles(dtype, reinterpret_cast<const std::byte*>(&value), 1, &result);
  return result;
}

class Sixteen : public ::testing::TestWithParam<DType> {
 protected:
  int mantissa_bits() const { return GetParam() == DType::f16 ? 10 : 7; }
  int bias() const { return GetParam() == DType::f16 ? 15 : 127; }
  std::uint16_t infinity_bits() const { return GetParam() == DType::f16 ? 0x7c00 : 0x7f80; }
};

TEST_P(Sixteen, EveryPatternComesBack) {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const auto pattern = static_cast<std::uint16_t>(bits);
    ASSERT_EQ(narrow<std::uint16_t>(GetParam(), widen(GetParam(), pattern)), pattern) << bits;
  }
}

TEST_P(Sixteen, EveryPatternHasTheValueOfTheDefinition) {
  const int mantissa = mantissa_bits();
  const int special = infinity_bits() >> mantissa;
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const int exponent = static_cast<int>(bits >> mantissa) & special;
    const double fraction = std::ldexp(bits & ((1U << mantissa) - 1), -mantissa);
    const double sign = bits >> 15 != 0 ? -1 : 1;
    const double value = widen(GetParam(), static_cast<std::uint16_t>(bits));
    if (exponent == special && fraction != 0) {
      ASSERT_TRUE(std::isnan(value)) << bits;
    } else if (exponent == special) {
      ASSERT_EQ(value, sign * infinity) << bits;
    } else if (exponent == 0) {
      ASSERT_EQ(value, sign * std::ldexp(fraction, 1 - bias())) << bits;
    } else {
      ASSERT_EQ(value, sign * std::ldexp(1 + fraction, exponent - bias())) << bits;
    }
    ASSERT_EQ(std::signbit(value), bits >> 15 != 0) << bits;
  }
}

TEST_P(Sixteen, BetweenNeighboursItRoundsToTheNearestAndTiesToEven) {
  for (std::uint32_t bits = 0; bits + 1 < infinity_bits(); ++bits) {
    const auto low = static_cast<std::uint16_t>(bits);
    const auto high = static_cast<std::uint16_t>(bits + 1);
    const double middle = (widen(GetParam(), low) + widen(GetParam(), high)) / 2;
    const auto even = bits % 2 == 0 ? low : high;
    ASSERT_EQ(narrow<std::uint16_t>(GetParam(), middle), even) << bits;
    ASSERT_EQ(narrow<std::uint16_t>(GetParam(), std::nextafter(middle, 0.0)), low) << bits;
    ASSERT_EQ(narrow<std::uint16_t>(GetParam(), std::nextafter(middle, infinity)), high) << bits;
    ASSERT_EQ(narrow<std::uint16_t>(GetParam(), -middle), even | 0x8000) << bits;
  }
}

TEST_P(Sixteen, TheEndsOfTheRange) {
  const auto largest = static_cast<std::uint16_t>(infinity_bits() - 1);
  const double last = widen(GetParam(), largest);
  // Half a step above the largest number is a tie with what would be the next, an even one.
  const double step = last - widen(GetParam(), static_cast<std::uint16_t>(largest - 1));
  EXPECT_EQ(narrow<std::uint16_t>(GetParam(), last + step / 2), infinity_bits());
  EXPECT_EQ(narrow<std::uint16_t>(GetParam(), std::nextafter(last + step / 2, 0.0)), largest);
  EXPECT_EQ(narrow<std::uint16_t>(GetParam(), infinity), infinity_bits());
  EXPECT_EQ(narrow<std::uint16_t>(GetParam(), -1e300), infinity_bits() | 0x8000);
  EXPECT_EQ(narrow<std::uint16_t>(GetParam(), 1e-300), 0);
  EXPECT_EQ(narrow<std::uint16_t>(GetParam(), -5e-324), 0x8000);
  const double smallest = widen<std::uint16_t>(GetParam(), 1);
  EXPECT_EQ(narrow<std::uint16_t>(GetParam(), smallest / 2), 0);
  EXPECT_EQ(narrow<std::uint16_t>(GetParam(), std::nextafter(smallest / 2, 1.0)), 1);
  EXPECT_EQ(narrow<std::uint16_t>(GetParam(), -0.0), 0x8000);
}

TEST_P(Sixteen, ANaNWithLowPayloadOnlyStaysANaN) {
  const auto low_payload = std::bit_cast<double>(std::uint64_t{0x7ff0000000000001});
  EXPECT_TRUE(std::isnan(widen(GetParam(), narrow<std::uint16_t>(GetParam(), low_payload))));
}

TEST_P(Sixteen, RandomDoublesGoToTheNearest) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> exponent(-bias() - mantissa_bits() - 2.0, bias());
  for (int i = 0; i < 20000; ++i) {
    const double value = std::exp2(exponent(random));
    const auto bits = narrow<std::uint16_t>(GetParam(), value);
    const double error = std::abs(widen(GetParam(), bits) - value);
    const double below =
        bits == 0 ? infinity
                  : std::abs(widen(GetParam(), static_cast<std::uint16_t>(bits - 1)) - value);
    const double above = std::abs(widen(GetParam(), static_cast<std::uint16_t>(bits + 1)) - value);
    ASSERT_LE(error, below) << value;
    ASSERT_LE(error, above) << value;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Sixteen, ::testing::Values(DType::f16, DType::bf16),
                         [](const auto& test) { return std::string(name(test.param)); });

TEST(Convert, BFloatIsNotRoundedTwice) {
  // Just above a tie: through f32 first it would become the tie and then go down to even.
  const double value = 1 + std::exp2(-8) + std::exp2(-40);
  EXPECT_EQ(narrow<std::uint16_t>(DType::bf16, value), 0x3f81);
  EXPECT_EQ(narrow<std::uint16_t>(DType::bf16, 1 + std::exp2(-8)), 0x3f80);
}

TEST(Convert, SinglePrecisionRoundsToEven) {
  EXPECT_EQ(narrow<float>(DType::f32, 1 + std::exp2(-24)), 1.0F);
  EXPECT_EQ(narrow<float>(DType::f32, 1 + 3 * std::exp2(-24)), 1 + 2 * std::exp2(-23.0F));
  EXPECT_EQ(narrow<float>(DType::f32, 1e300), std::numeric_limits<float>::infinity());
  EXPECT_EQ(narrow<double>(DType::f64, 0.1), 0.1);
}

TEST(Convert, IntegersRoundAndSaturate) {
  EXPECT_EQ(narrow<std::int32_t>(DType::i32, 2.5), 2);
  EXPECT_EQ(narrow<std::int32_t>(DType::i32, 3.5), 4);
  EXPECT_EQ(narrow<std::int32_t>(DType::i32, -2.5), -2);
  EXPECT_EQ(narrow<std::int32_t>(DType::i32, 2147483646.6), 2147483647);
  EXPECT_EQ(narrow<std::int32_t>(DType::i32, 1e10), 2147483647);
  EXPECT_EQ(narrow<std::int32_t>(DType::i32, -infinity), -2147483648);
  EXPECT_EQ(narrow<std::int32_t>(DType::i32, nan), 0);
  EXPECT_EQ(narrow<std::int64_t>(DType::i64, 1e19), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(narrow<std::int64_t>(DType::i64, -1e19), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(narrow<std::int64_t>(DType::i64, -std::exp2(62)), -(std::int64_t{1} << 62));
  EXPECT_EQ(narrow<std::uint8_t>(DType::u8, -3), 0);
  EXPECT_EQ(narrow<std::uint8_t>(DType::u8, 254.5), 254);
  EXPECT_EQ(narrow<std::uint8_t>(DType::u8, 255.4), 255);
  EXPECT_EQ(narrow<std::uint8_t>(DType::boolean, 0.001), 1);
  EXPECT_EQ(narrow<std::uint8_t>(DType::boolean, -0.0), 0);
  EXPECT_EQ(widen<std::uint8_t>(DType::boolean, 2), 1);
  EXPECT_EQ(widen<std::int64_t>(DType::i64, -5), -5);
}

TEST(Convert, ComplexIsPairs) {
  const double from[4] = {1, -2, 0.5, 4};
  float stored[4];
  from_doubles(DType::c64, from, 2, reinterpret_cast<std::byte*>(stored));
  EXPECT_EQ(stored[1], -2);
  EXPECT_EQ(stored[3], 4);
  double back[4];
  to_doubles(DType::c64, reinterpret_cast<const std::byte*>(stored), 2, back);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(back[i], from[i]);
}

}  // namespace
}  // namespace weft
