// Values of elementwise ops where the definition has corners.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support.h"

namespace weft::test {
namespace {

using ops::Array;

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

std::vector<double> floats(std::string_view op_name, const std::vector<std::vector<double>>& xs) {
  std::vector<Array> operands;
  for (const std::vector<double>& x : xs) {
    operands.push_back(array({DType::f64, {static_cast<std::int64_t>(x.size())}}, x));
  }
  return test::apply(op_name, operands).re;
}

std::vector<std::int64_t> integers(std::string_view op_name, DType dtype,
                                   const std::vector<std::vector<std::int64_t>>& xs) {
  std::vector<Array> operands;
  for (const std::vector<std::int64_t>& x : xs) {
    operands.emplace_back(Type{dtype, {static_cast<std::int64_t>(x.size())}});
    operands.back().integers = x;
  }
  return test::apply(op_name, operands).integers;
}

using Doubles = std::vector<double>;
using Integers = std::vector<std::int64_t>;

TEST(Elementwise, RoundsTiesToEven) {
  EXPECT_EQ(floats("round", {{0.5, 1.5, 2.5, -0.5, -1.5, 2.4}}), (Doubles{0, 2, 2, 0, -2, 2}));
  EXPECT_EQ(floats("floor", {{-1.5, 1.5, -0.0}}), (Doubles{-2, 1, 0}));
  EXPECT_EQ(floats("ceil", {{-1.5, 1.5}}), (Doubles{-1, 2}));
}

TEST(Elementwise, ActivationsDoNotOverflow) {
  EXPECT_EQ(floats("sigmoid", {{-1000, 0, 1000}}), (Doubles{0, 0.5, 1}));
  EXPECT_EQ(floats("softplus", {{-1000, 0, 1000}}), (Doubles{0, std::log(2.0), 1000}));
  EXPECT_EQ(floats("relu", {{-inf, 2, inf}}), (Doubles{0, 2, inf}));
  EXPECT_TRUE(std::isnan(floats("relu", {{nan}})[0]));
  EXPECT_EQ(floats("relu2", {{-3, 3}}), (Doubles{0, 9}));
}

TEST(Elementwise, MinimumAndMaximumKeepNaN) {
  for (const char* name : {"minimum", "maximum"}) {
    EXPECT_TRUE(std::isnan(floats(name, {{nan}, {1}})[0])) << name;
    EXPECT_TRUE(std::isnan(floats(name, {{1}, {nan}})[0])) << name;
  }
  EXPECT_EQ(floats("minimum", {{1, 2}, {2, 1}}), (Doubles{1, 1}));
  EXPECT_EQ(floats("maximum", {{1, 2}, {2, 1}}), (Doubles{2, 2}));
}

TEST(Elementwise, RemainderHasTheSignOfTheDividend) {
  EXPECT_EQ(floats("remainder", {{7.5, -7.5, 7.5, -7.5}, {2, 2, -2, -2}}),
            (Doubles{1.5, -1.5, 1.5, -1.5}));
  EXPECT_EQ(integers("remainder", DType::i32, {{7, -7, 7, -7, 5}, {3, 3, -3, -3, 0}}),
            (Integers{1, -1, 1, -1, 0}));
}

TEST(Elementwise, IntegersWrapAndDivideByZero) {
  const std::int64_t least = std::numeric_limits<std::int64_t>::min();
  const std::int64_t least32 = std::numeric_limits<std::int32_t>::min();
  EXPECT_EQ(integers("div", DType::i64, {{7, -7, 5, least}, {2, 2, 0, -1}}),
            (Integers{3, -3, 0, least}));
  EXPECT_EQ(integers("div", DType::i32, {{least32}, {-1}}), (Integers{least32}));
  EXPECT_EQ(integers("add", DType::u8, {{250}, {10}}), (Integers{4}));
  EXPECT_EQ(integers("sub", DType::i32, {{least32}, {1}}), (Integers{-least32 - 1}));
  EXPECT_EQ(integers("mul", DType::i64, {{least}, {3}}), (Integers{least}));
  EXPECT_EQ(integers("neg", DType::u8, {{1}}), (Integers{255}));
  EXPECT_EQ(integers("abs", DType::i32, {{least32, -3}}), (Integers{least32, 3}));
}

TEST(Elementwise, ShiftsOutOfRange) {
  EXPECT_EQ(integers("shift_left", DType::i32, {{3, 3, 3}, {1, 32, -1}}), (Integers{6, 0, 0}));
  EXPECT_EQ(integers("shift_right", DType::i32, {{-8, -8, 8, 8}, {1, 40, 40, -1}}),
            (Integers{-4, -1, 0, 0}));
  EXPECT_EQ(integers("shift_right", DType::u8, {{200, 200}, {1, 8}}), (Integers{100, 0}));
}

TEST(Elementwise, ComparisonsWithNaN) {
  const auto compare = [](const char* name, double x, double y) {
    return test::apply(name, {array({DType::f64, {}}, {x}), array({DType::f64, {}}, {y})})
        .integers[0];
  };
  for (const char* name : {"equal", "less", "less_equal", "greater", "greater_equal"}) {
    EXPECT_EQ(compare(name, nan, 1), 0) << name;
  }
  EXPECT_EQ(compare("not_equal", nan, nan), 1);
  EXPECT_EQ(compare("greater", 2, 1), 1);
  EXPECT_EQ(compare("less_equal", 1, 1), 1);
}

TEST(Elementwise, ComplexArithmetic) {
  const Array x = array({DType::c64, {}}, {1, 2});
  const Array y = array({DType::c64, {}}, {3, -4});
  const Array product = test::apply("mul", {x, y});
  EXPECT_EQ(product.re[0], 11);
  EXPECT_EQ(product.im[0], 2);
  const Array quotient = test::apply("div", {x, y});
  EXPECT_DOUBLE_EQ(quotient.re[0], -0.2);
  EXPECT_DOUBLE_EQ(quotient.im[0], 0.4);
  EXPECT_EQ(test::apply("conj", {x}).im[0], -2);
  EXPECT_EQ(test::apply("imag", {x}).re[0], 2);
}

// ---- cast ---------------------------------------------------------------------------------------

double cast_real(double x, DType to) {
  return test::apply("cast", {array({DType::f64, {}}, {x})}, {{"dtype", to}}).at(0);
}

TEST(Cast, FloatToIntegerSaturates) {
  EXPECT_EQ(cast_real(3.9, DType::i32), 3);
  EXPECT_EQ(cast_real(-3.9, DType::i32), -3);
  EXPECT_EQ(cast_real(1e30, DType::i32), std::numeric_limits<std::int32_t>::max());
  EXPECT_EQ(cast_real(-inf, DType::i32), std::numeric_limits<std::int32_t>::min());
  EXPECT_EQ(cast_real(-5, DType::u8), 0);
  EXPECT_EQ(cast_real(300, DType::u8), 255);
  EXPECT_EQ(cast_real(nan, DType::i64), 0);
  EXPECT_EQ(
      test::apply("cast", {array({DType::f64, {}}, {1e30})}, {{"dtype", DType::i64}}).integers[0],
      std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(cast_real(0.5, DType::boolean), 1);
  EXPECT_EQ(cast_real(nan, DType::boolean), 1);
}

TEST(Cast, IntegersWrap) {
  Array x(Type{DType::i64, {3}});
  x.integers = {256 + 7, -1, (std::int64_t{1} << 32) + 5};
  EXPECT_EQ(test::apply("cast", {x}, {{"dtype", DType::u8}}).integers, (Integers{7, 255, 5}));
  EXPECT_EQ(test::apply("cast", {x}, {{"dtype", DType::i32}}).integers, (Integers{263, -1, 5}));
}

TEST(Cast, IntegerToFloatRoundsOnce) {
  // Just above the middle of two values of f32, and in the middle once rounded to f64.
  Array x(Type{DType::i64, {}});
  x.integers = {(std::int64_t{1} << 60) + (std::int64_t{1} << 36) + 1};
  const double expected = std::ldexp(1.0, 60) + std::ldexp(1.0, 37);
  EXPECT_EQ(test::apply("cast", {x}, {{"dtype", DType::f32}}).re[0], expected);
}

/// Every positive finite value of a 16-bit format with so many fraction bits, ascending from 0.
std::vector<double> values_of(int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  std::vector<double> values;
  for (int bits = 0; bits < ((1 << exponent_bits) - 1) << fraction_bits; ++bits) {
    const int exponent = bits >> fraction_bits;
    const int fraction = bits & ((1 << fraction_bits) - 1);
    const int significand = exponent == 0 ? fraction : fraction + (1 << fraction_bits);
    values.push_back(
        std::ldexp(significand, (exponent == 0 ? 1 : exponent) - bias - fraction_bits));
  }
  return values;
}

/// Every value is kept, and between two neighbours the nearer is taken, the even one in the middle.
void check_rounding(DType dtype, const std::vector<double>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(ops::round_to(dtype, values[i]), values[i]);
    ASSERT_EQ(ops::round_to(dtype, -values[i]), -values[i]);
    if (i + 1 == values.size()) continue;
    const double middle = (values[i] + values[i + 1]) / 2;
    ASSERT_EQ(ops::round_to(dtype, middle), values[i % 2 == 0 ? i : i + 1]) << middle;
    ASSERT_EQ(ops::round_to(dtype, std::nextafter(middle, 0)), values[i]);
    ASSERT_EQ(ops::round_to(dtype, std::nextafter(middle, inf)), values[i + 1]);
  }
  const double last = values.back();
  const double limit = last + (last - values[values.size() - 2]) / 2;
  EXPECT_EQ(ops::round_to(dtype, std::nextafter(limit, 0)), last);
  EXPECT_EQ(ops::round_to(dtype, limit), inf);
  EXPECT_EQ(ops::round_to(dtype, -limit), -inf);
  EXPECT_TRUE(std::isnan(ops::round_to(dtype, nan)));
}

TEST(Cast, RoundsToEveryHalf) { check_rounding(DType::f16, values_of(5, 10)); }
TEST(Cast, RoundsToEveryBrainFloat) { check_rounding(DType::bf16, values_of(8, 7)); }

}  // namespace
}  // namespace weft::test
