#include <bit>
#include <cmath>
#include <limits>

#include "tests/ptx/fixture.h"
#include "tests/ptx/machine/numbers.h"

namespace weft::ptx {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kTiny = 0x1p-149F;  // the least subnormal number

std::uint32_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }

void expect_same(const std::vector<float>& results, const std::vector<float>& expected,
                 const std::string& what) {
  ASSERT_EQ(results.size(), expected.size());
  for (std::size_t i = 0; i < results.size(); ++i) {
    const std::uint32_t wanted = std::isnan(expected[i]) ? kNan32 : bits(expected[i]);
    EXPECT_EQ(bits(results[i]), wanted)
        << what << ", element " << i << ": " << results[i] << " is not " << expected[i];
  }
}

/// Numbers of all magnitudes, from a recurrence.
std::vector<float> numbers(std::size_t count, std::uint32_t state, int exponents) {
  std::vector<float> result;
  while (result.size() < count) {
    state = state * 1664525 + 1013904223;
    const float mantissa = 1 + static_cast<float>(state >> 9) * 0x1p-23F;
    const int exponent = static_cast<int>(state >> 4 & 0xffff) % (2 * exponents + 1) - exponents;
    result.push_back(std::ldexp((state & 8) != 0 ? -mantissa : mantissa, exponent));
  }
  return result;
}

TEST(PtxFloating, ArithmeticRoundsToNearest) {
  const std::vector<float> a = numbers(1000, 1, 20);
  const std::vector<float> b = numbers(1000, 2, 20);
  std::vector<float> sum, difference, product, quotient, root;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum.push_back(a[i] + b[i]);
    difference.push_back(a[i] - b[i]);
    product.push_back(a[i] * b[i]);
    quotient.push_back(a[i] / b[i]);
    root.push_back(std::sqrt(a[i]));
  }
  expect_same(each<float>("add.rn.ftz.f32 %d, %a, %b;", a, b), sum, "add");
  expect_same(each<float>("sub.f32 %d, %a, %b;", a, b), difference, "sub");
  expect_same(each<float>("mul.rn.f32 %d, %a, %b;", a, b), product, "mul");
  expect_same(each<float>("div.rn.ftz.f32 %d, %a, %b;", a, b), quotient, "div");
  expect_same(each<float>("sqrt.rn.ftz.f32 %d, %a;", a), root, "sqrt");
}

// The machine has a way of its own to a product with a sum that is rounded once.
TEST(PtxFloating, ProductsWithSumsRoundOnce) {
  for (const int exponents : {0, 2, 12, 24, 60}) {
    const std::vector<float> a = numbers(1000, 3, exponents);
    const std::vector<float> b = numbers(1000, 4, exponents);
    const std::vector<float> c = numbers(1000, 5, 2 * exponents + 24);
    std::vector<float> expected;
    for (std::size_t i = 0; i < a.size(); ++i) expected.push_back(std::fma(a[i], b[i], c[i]));
    expect_same(each<float>("fma.rn.f32 %d, %a, %b, %c;", a, b, c), expected, "fma");
  }
  // Halfway cases that a product rounded to double, then to float, gets wrong.
  const std::vector<float> a = {0x1.000002p0F, 0x1.000002p0F, kTiny,
                                0x1p-75F,      kInfinity,     kInfinity};
  const std::vector<float> b = {0x1p-24F, -0x1p-24F, 0.5F, 0x1p-75F, 0, 2};
  const std::vector<float> c = {0x1p0F, 0x1p0F, kTiny, 0, 1, -kInfinity};
  std::vector<float> expected;
  for (std::size_t i = 0; i < a.size(); ++i) expected.push_back(std::fma(a[i], b[i], c[i]));
  expect_same(each<float>("fma.rn.f32 %d, %a, %b, %c;", a, b, c), expected, "fma");
}

TEST(PtxFloating, FlushesInputsAndResults) {
  const std::vector<float> a = {kTiny, -kTiny, 0x1p-126F, -0x1p-126F, 1};
  const std::vector<float> b = {1, 1, 0.5F, 0.5F, kTiny};
  expect_same(each<float>("mul.rn.ftz.f32 %d, %a, %b;", a, b), {0, -0.0F, 0, -0.0F, 0}, "mul.ftz");
  expect_same(each<float>("mul.rn.f32 %d, %a, %b;", a, b),
              {kTiny, -kTiny, 0x1p-127F, -0x1p-127F, kTiny}, "mul");
  expect_same(each<float>("neg.ftz.f32 %d, %a;", a), {-0.0F, 0, -0x1p-126F, 0x1p-126F, -1}, "neg");
  expect_same(each<float>("abs.ftz.f32 %d, %a;", a), {0, 0, 0x1p-126F, 0x1p-126F, 1}, "abs");
  expect_same(each<float>("rcp.rn.ftz.f32 %d, %a;", a),
              {kInfinity, -kInfinity, 0x1p126F, -0x1p126F, 1}, "rcp");
  expect_same(each<float>("fma.rn.ftz.f32 %d, %a, %b, 0f80000000;", a, b), {0, -0.0F, 0, -0.0F, 0},
              "fma.ftz");
}

TEST(PtxFloating, ExtremesOfNan) {
  const std::vector<float> a = {1, kNan, 1, kNan, -0.0F, 0.0F, kTiny};
  const std::vector<float> b = {2, 2, kNan, kNan, 0.0F, -0.0F, 0.0F};
  expect_same(each<float>("min.f32 %d, %a, %b;", a, b), {1, 2, 1, kNan, -0.0F, -0.0F, 0}, "min");
  expect_same(each<float>("max.f32 %d, %a, %b;", a, b), {2, 2, 1, kNan, 0, 0, kTiny}, "max");
  expect_same(each<float>("max.ftz.f32 %d, %a, %b;", a, b), {2, 2, 1, kNan, 0, 0, 0}, "max.ftz");
  expect_same(each<float>("min.NaN.ftz.f32 %d, %a, %b;", a, b),
              {1, kNan, kNan, kNan, -0.0F, -0.0F, 0}, "min.NaN");
  expect_same(each<float>("max.NaN.f32 %d, %a, %b;", a, b), {2, kNan, kNan, kNan, 0, 0, kTiny},
              "max.NaN");
}

TEST(PtxFloating, Saturates) {
  const std::vector<float> a = {-1, 0.25F, 2, kNan, -0.0F};
  expect_same(each<float>("add.sat.f32 %d, %a, 0f00000000;", a), {0, 0.25F, 1, 0, 0}, "sat");
}

TEST(PtxFloating, OtherRoundings) {
  const std::vector<float> a = {1, -1};
  const std::vector<float> b = {0x1p-30F, -0x1p-30F};
  expect_same(each<float>("add.rz.f32 %d, %a, %b;", a, b), {1, -1}, "rz");
  expect_same(each<float>("add.rp.f32 %d, %a, %b;", a, b), {0x1.000002p0F, -1}, "rp");
  expect_same(each<float>("add.rm.f32 %d, %a, %b;", a, b), {1, -0x1.000002p0F}, "rm");
  expect_same(each<float>("fma.rp.f32 %d, %a, %a, %b;", a, b), {0x1.000002p0F, 1}, "fma.rp");
  const std::vector<double> one = {1};
  EXPECT_EQ(each<double>("div.rp.f64 %d, %a, 0d4008000000000000;", one)[0],
            std::nextafter(1.0 / 3, 1.0));
  EXPECT_EQ(each<double>("div.rn.f64 %d, %a, 0d4008000000000000;", one)[0], 1.0 / 3);
}

TEST(PtxFloating, Double) {
  const std::vector<double> a = {1.5, -2, 1e300, 3};
  const std::vector<double> b = {0x1p-52, 7, 1e300, -0.0};
  const std::vector<double> c = {1, 0.1, -1, 2};
  const std::vector<double> sums = each<double>("fma.rn.f64 %d, %a, %b, %c;", a, b, c);
  const std::vector<double> lesser = each<double>("min.f64 %d, %a, %b;", a, b);
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(sums[i], std::fma(a[i], b[i], c[i]));
    EXPECT_EQ(lesser[i], std::min(a[i], b[i]));
  }
}

TEST(PtxFloating, Narrow) {
  // 1 + 2^-11 is halfway between 1 and the next number of f16; with 2^-24 more it is not.
  const std::vector<std::uint16_t> one = {0x3c00};
  const std::vector<std::uint16_t> half_unit = {0x1000};  // 2^-11
  EXPECT_EQ(each<std::uint16_t>("add.f16 %d, %a, %b;", one, half_unit)[0], 0x3c00);
  EXPECT_EQ(each<std::uint16_t>("fma.rn.f16 %d, %a, %b, %c;", std::vector<std::uint16_t>{0x3c01},
                                half_unit, one)[0],
            0x3c01);
  EXPECT_EQ(each<std::uint16_t>("mul.f16 %d, %a, %a;", std::vector<std::uint16_t>{0x7bff})[0],
            0x7c00);
  EXPECT_EQ(each<std::uint16_t>("sub.bf16 %d, %a, %b;", std::vector<std::uint16_t>{0x4000},
                                std::vector<std::uint16_t>{0x3f80})[0],
            0x3f80);
  const std::vector<std::uint32_t> pair = {0x3c004000};
  EXPECT_EQ(each<std::uint32_t>("add.f16x2 %d, %a, %a;", pair)[0], 0x40004400U);
  EXPECT_EQ(each<std::uint32_t>("neg.bf16x2 %d, %a;", pair)[0], 0xbc00c000U);
  EXPECT_EQ(
      each<std::uint16_t>("max.NaN.f16 %d, %a, %b;", one, std::vector<std::uint16_t>{0x7e00})[0],
      0x7fff);
}

TEST(PtxFloating, Approximations) {
  const std::vector<float> a = {0.5F, 1, 2, 10, 0.001F};
  const auto expect_near = [&](const char* mnemonic, double (*reference)(double)) {
    const std::vector<float> results = each<float>(std::string(mnemonic) + " %d, %a;", a);
    for (std::size_t i = 0; i < a.size(); ++i) {
      EXPECT_FLOAT_EQ(results[i], static_cast<float>(reference(a[i]))) << mnemonic << " " << a[i];
    }
  };
  expect_near("ex2.approx.ftz.f32", [](double x) { return std::exp2(x); });
  expect_near("lg2.approx.ftz.f32", [](double x) { return std::log2(x); });
  expect_near("sin.approx.ftz.f32", [](double x) { return std::sin(x); });
  expect_near("cos.approx.ftz.f32", [](double x) { return std::cos(x); });
  expect_near("tanh.approx.f32", [](double x) { return std::tanh(x); });
  expect_near("rsqrt.approx.ftz.f32", [](double x) { return 1 / std::sqrt(x); });
  expect_near("rcp.approx.ftz.f32", [](double x) { return 1 / x; });
  expect_near("sqrt.approx.f32", [](double x) { return std::sqrt(x); });
  const std::vector<float> special = {0, -0.0F, -1, kInfinity, -kInfinity, kTiny};
  expect_same(each<float>("lg2.approx.ftz.f32 %d, %a;", special),
              {-kInfinity, -kInfinity, kNan, kInfinity, kNan, -kInfinity}, "lg2");
  expect_same(each<float>("ex2.approx.ftz.f32 %d, %a;", special), {1, 1, 0.5F, kInfinity, 0, 1},
              "ex2");
  expect_same(each<float>("rsqrt.approx.ftz.f32 %d, %a;", special),
              {kInfinity, -kInfinity, kNan, 0, kNan, kInfinity}, "rsqrt");
  expect_same(each<float>("div.approx.f32 %d, %a, 0f40000000;", a), {0.25F, 0.5F, 1, 5, 0.0005F},
              "div");
}

TEST(PtxFloating, Properties) {
  const std::vector<float> a = {1, kInfinity, kNan, kTiny};
  EXPECT_EQ(each<std::uint32_t>("testp.finite.f32 %p, %a; selp.u32 %d, 1, 0, %p;", a),
            (std::vector<std::uint32_t>{1, 0, 0, 1}));
  EXPECT_EQ(each<std::uint32_t>("testp.subnormal.f32 %p, %a; selp.u32 %d, 1, 0, %p;", a),
            (std::vector<std::uint32_t>{0, 0, 0, 1}));
  EXPECT_EQ(
      each<std::uint32_t>("copysign.f32 %d, 0fBF800000, %a;", a),
      (std::vector<std::uint32_t>{0xbf800000, 0xff800000, bits(kNan) | 0x80000000, 0x80000001}));
}

}  // namespace
}  // namespace weft::ptx
