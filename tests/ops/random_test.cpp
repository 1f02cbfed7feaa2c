// Random numbers: Philox's published answers, the mapping from index to word, distributions.

#include "ops/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support.h"

namespace weft::test {
namespace {

using ops::Array;
using Integers = std::vector<std::int64_t>;

Array draw(std::string_view op_name, DType dtype, const Integers& shape, std::int64_t seed = 1,
           const std::string& stream = "weights", std::int64_t iteration = 0) {
  Array at({DType::i64, {}});
  at.integers[0] = iteration;
  return apply(op_name, {at},
               {{"dtype", dtype}, {"shape", shape}, {"seed", seed}, {"stream", stream}});
}

/// The known answers published with Random123.
TEST(Philox, KnownAnswers) {
  using Words = std::array<std::uint32_t, 4>;
  constexpr std::uint32_t ones = 0xffffffffU;
  EXPECT_EQ(ops::philox({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U}));
  EXPECT_EQ(ops::philox({ones, ones, ones, ones}, {ones, ones}),
            (Words{0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU}));
  EXPECT_EQ(
      ops::philox({0x243f6a88U, 0x85a308d3U, 0x13198a2eU, 0x03707344U}, {0xa4093822U, 0x299f31d0U}),
      (Words{0xd16cfe09U, 0x94fdccebU, 0x5001e420U, 0x24126ea1U}));
}

/// The published values of FNV-1a.
TEST(Philox, StreamHash) {
  EXPECT_EQ(ops::hash32(""), 0x811c9dc5U);
  EXPECT_EQ(ops::hash32("a"), 0xe40c292cU);
  EXPECT_EQ(ops::hash32("foobar"), 0xbf9cf968U);
}

TEST(Philox, CounterAndKey) {
  const std::int64_t seed = 0x0123456789abcdefLL;
  EXPECT_EQ(ops::random_words(seed, "dropout", 77, 0x500000003LL),
            ops::philox({3, 5, 77, ops::hash32("dropout")}, {0x89abcdefU, 0x01234567U}));
}

TEST(RandomUniform, IsTheTopBitsOfItsWord) {
  const Array x = draw("random_uniform", DType::f32, {3, 5}, -9, "dropout", 4);
  for (std::int64_t i = 0; i < 15; ++i) {
    const std::uint32_t word =
        ops::random_words(-9, "dropout", 4, i / 4)[static_cast<std::size_t>(i % 4)];
    EXPECT_EQ(x.re[static_cast<std::size_t>(i)], (word >> 8) * 0x1p-24);
  }
  // f64 has the same numbers; 16-bit types the same, cut to what they hold.
  const Array wide = draw("random_uniform", DType::f64, {15}, -9, "dropout", 4);
  const Array half = draw("random_uniform", DType::f16, {15}, -9, "dropout", 4);
  const Array brain = draw("random_uniform", DType::bf16, {15}, -9, "dropout", 4);
  for (std::size_t i = 0; i < 15; ++i) {
    EXPECT_EQ(wide.re[i], x.re[i]);
    EXPECT_EQ(half.re[i], std::floor(x.re[i] * 2048) / 2048);
    EXPECT_EQ(brain.re[i], std::floor(x.re[i] * 256) / 256);
    EXPECT_EQ(ops::round_to(DType::f16, half.re[i]), half.re[i]);
    EXPECT_EQ(ops::round_to(DType::bf16, brain.re[i]), brain.re[i]);
  }
}

TEST(RandomUniform, DependsOnSeedStreamAndIterationAlone) {
  const Array x = draw("random_uniform", DType::f32, {64});
  EXPECT_EQ(draw("random_uniform", DType::f32, {8, 8}).re, x.re);
  EXPECT_NE(draw("random_uniform", DType::f32, {64}, 2).re, x.re);
  EXPECT_NE(draw("random_uniform", DType::f32, {64}, std::int64_t{1} << 32 | 1).re, x.re);
  EXPECT_NE(draw("random_uniform", DType::f32, {64}, 1, "biases").re, x.re);
  EXPECT_NE(draw("random_uniform", DType::f32, {64}, 1, "weights", 1).re, x.re);
}

TEST(RandomUniform, StaysBelowOneInEveryType) {
  for (const DType dtype : ops::floating_types()) {
    for (const double value : draw("random_uniform", dtype, {20000}).re) {
      ASSERT_GE(value, 0);
      ASSERT_LT(value, 1);
    }
  }
}

/// Sums of independent draws are within five standard deviations of their expectation.
TEST(RandomUniform, Moments) {
  constexpr std::int64_t n = 100000;
  const Array x = draw("random_uniform", DType::f32, {n});
  double sum = 0;
  double squares = 0;
  double neighbours = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double centred = x.re[i] - 0.5;
    sum += centred;
    squares += centred * centred;
    if (i > 0) neighbours += centred * (x.re[i - 1] - 0.5);
  }
  const double count = n;
  EXPECT_LT(std::abs(sum), 5 * std::sqrt(count / 12));
  EXPECT_LT(std::abs(squares - count / 12), 5 * std::sqrt(count / 180));  // 1/80 - 1/144
  EXPECT_LT(std::abs(neighbours), 5 * std::sqrt(count / 144));
}

TEST(RandomNormal, IsBoxMullerOfPairs) {
  const Array x = draw("random_normal", DType::f64, {9}, 3, "noise", 12);
  for (std::size_t i = 0; i < 9; ++i) {
    const auto words = ops::random_words(3, "noise", 12, static_cast<std::int64_t>(i / 4));
    const std::size_t pair = i % 4 / 2 * 2;
    const double u = ((words[pair] >> 8) + 1) * 0x1p-24;
    const double angle = 2 * std::acos(-1.0) * (words[pair + 1] >> 8) * 0x1p-24;
    const double radius = std::sqrt(-2 * std::log(u));
    const double expected = radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
    EXPECT_NEAR(x.re[i], expected, 64 * 0x1p-53 * radius);
  }
}

TEST(RandomNormal, Moments) {
  constexpr std::int64_t n = 100000;
  const Array x = draw("random_normal", DType::f32, {n});
  double sum = 0;
  double squares = 0;
  double cubes = 0;
  double fourths = 0;
  double neighbours = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double value = x.re[i];
    ASSERT_TRUE(std::isfinite(value));
    sum += value;
    squares += value * value;
    cubes += value * value * value;
    fourths += value * value * value * value;
    if (i % 2 == 1) neighbours += value * x.re[i - 1];
  }
  const double count = n;
  // Variances of x, x^2, x^3, x^4: 1, 2, 15, 96.
  EXPECT_LT(std::abs(sum), 5 * std::sqrt(count));
  EXPECT_LT(std::abs(squares - count), 5 * std::sqrt(2 * count));
  EXPECT_LT(std::abs(cubes), 5 * std::sqrt(15 * count));
  EXPECT_LT(std::abs(fourths - 3 * count), 5 * std::sqrt(96 * count));
  EXPECT_LT(std::abs(neighbours), 5 * std::sqrt(count / 2));
}

TEST(RandomNormal, SixteenBitsAreRounded) {
  const Array wide = draw("random_normal", DType::f64, {40});
  for (const DType dtype : {DType::f16, DType::bf16}) {
    const Array narrow = draw("random_normal", dtype, {40});
    for (std::size_t i = 0; i < 40; ++i) {
      EXPECT_EQ(narrow.re[i], ops::round_to(dtype, wide.re[i]));
    }
  }
}

TEST(Random, ShapeRule) {
  const auto error = [](const Type& iteration, DType dtype) -> std::string {
    try {
      apply("random_uniform", {Array(iteration)},
            {{"dtype", dtype},
             {"shape", Integers{2}},
             {"seed", std::int64_t{0}},
             {"stream", std::string("s")}});
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_EQ(error({DType::i32, {}}, DType::f32),
            "random_uniform: the iteration has type i32[]; expected an i64 scalar");
  EXPECT_EQ(error({DType::i64, {}}, DType::i32), "random_uniform: i32 is not a floating type");
  EXPECT_EQ(draw("random_normal", DType::f32, {3, 0}).elements(), 0);
}

}  // namespace
}  // namespace weft::test
