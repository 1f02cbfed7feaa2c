#include <bit>
#include <cmath>
#include <limits>

#include "tests/ptx/fixture.h"
#include "tests/ptx/machine/numbers.h"

namespace weft::ptx {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(PtxConversions, BetweenIntegers) {
  const std::vector<std::uint32_t> a = {0, 0x7f, 0x80, 0xffff, 0x12348765, 0xffffffff};
  EXPECT_EQ(each<std::uint16_t>("cvt.u16.u32 %d, %a;", a),
            (std::vector<std::uint16_t>{0, 0x7f, 0x80, 0xffff, 0x8765, 0xffff}));
  EXPECT_EQ(each<std::uint64_t>("cvt.s64.s32 %d, %a;", a).back(), ~std::uint64_t{0});
  EXPECT_EQ(each<std::uint64_t>("cvt.u64.u32 %d, %a;", a).back(), 0xffffffffU);
  EXPECT_EQ(each<std::uint32_t>("cvt.s32.s8 %d, %a;", a),
            (std::vector<std::uint32_t>{0, 0x7f, 0xffffff80, 0xffffffff, 0x65, 0xffffffff}));
  // The result of 8 bits is extended to the register's.
  EXPECT_EQ(each<std::uint32_t>("cvt.s8.u32 %d, %a;", a),
            (std::vector<std::uint32_t>{0, 0x7f, 0xffffff80, 0xffffffff, 0x65, 0xffffffff}));
  EXPECT_EQ(each<std::uint32_t>("cvt.u8.u32 %d, %a;", a),
            (std::vector<std::uint32_t>{0, 0x7f, 0x80, 0xff, 0x65, 0xff}));
  EXPECT_EQ(each<std::uint16_t>("cvt.sat.s16.s32 %d, %a;", a),
            (std::vector<std::uint16_t>{0, 0x7f, 0x80, 0x7fff, 0x7fff, 0xffff}));
  EXPECT_EQ(each<std::uint16_t>("cvt.sat.u16.s32 %d, %a;", a),
            (std::vector<std::uint16_t>{0, 0x7f, 0x80, 0xffff, 0xffff, 0}));
  // The lower bits of a wider register.
  const std::vector<std::uint64_t> wide = {0xffffffff80000001};
  EXPECT_EQ(each<std::uint32_t>("cvt.u32.u64 %d, %a;", wide)[0], 0x80000001U);
  EXPECT_EQ(each<std::uint64_t>("cvt.u64.u16 %d, %a;", wide)[0], 1U);
}

TEST(PtxConversions, OfIntegers) {
  const std::vector<std::int32_t> a = {0, -1, 16777217, INT32_MAX, INT32_MIN};
  const std::vector<float> results = each<float>("cvt.rn.f32.s32 %d, %a;", a);
  const std::vector<float> upper = each<float>("cvt.rp.f32.s32 %d, %a;", a);
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_EQ(results[i], static_cast<float>(a[i]));
  EXPECT_EQ(upper[2], 16777218.0F);
  EXPECT_EQ(results[2], 16777216.0F);
  const std::vector<std::int64_t> wide = {-1, (std::int64_t{1} << 53) + 1, INT64_MIN};
  EXPECT_EQ(each<double>("cvt.rn.f64.s64 %d, %a;", wide),
            (std::vector<double>{-1, 0x1p53, -0x1p63}));
  EXPECT_EQ(each<float>("cvt.rn.f32.s64 %d, %a;", wide),
            (std::vector<float>{-1, 0x1p53F, -0x1p63F}));
  const std::vector<std::uint16_t> narrow = {1, 2049, 65519, 65520};
  EXPECT_EQ(each<std::uint16_t>("cvt.rn.f16.u16 %d, %a;", narrow),
            (std::vector<std::uint16_t>{0x3c00, 0x6800, 0x7bff, 0x7c00}));
  EXPECT_EQ(each<float>("cvt.rn.f32.u16 %d, %a;", narrow),
            (std::vector<float>{1, 2049, 65519, 65520}));
}

TEST(PtxConversions, ToIntegers) {
  const std::vector<float> a = {1.5F, 2.5F, -1.5F, -0.4F, 3e9F, -3e9F, kNan, kInfinity};
  EXPECT_EQ(each<std::int32_t>("cvt.rzi.s32.f32 %d, %a;", a),
            (std::vector<std::int32_t>{1, 2, -1, 0, INT32_MAX, INT32_MIN, 0, INT32_MAX}));
  EXPECT_EQ(each<std::int32_t>("cvt.rni.s32.f32 %d, %a;", a),
            (std::vector<std::int32_t>{2, 2, -2, 0, INT32_MAX, INT32_MIN, 0, INT32_MAX}));
  EXPECT_EQ(each<std::int32_t>("cvt.rmi.s32.f32 %d, %a;", a),
            (std::vector<std::int32_t>{1, 2, -2, -1, INT32_MAX, INT32_MIN, 0, INT32_MAX}));
  EXPECT_EQ(each<std::uint16_t>("cvt.rzi.ftz.u16.f32 %d, %a;", a),
            (std::vector<std::uint16_t>{1, 2, 0, 0, 65535, 0, 0, 65535}));
  EXPECT_EQ(
      each<std::int64_t>("cvt.rzi.ftz.s64.f32 %d, %a;", a),
      (std::vector<std::int64_t>{1, 2, -1, 0, 3000000000, -3000000000, INT64_MIN, INT64_MAX}));
  const std::vector<double> wide = {1e18 + 2, -1e30, std::nan("")};
  EXPECT_EQ(each<std::int64_t>("cvt.rzi.s64.f64 %d, %a;", wide),
            (std::vector<std::int64_t>{1000000000000000002 / 128 * 128, INT64_MIN, INT64_MIN}));
  EXPECT_EQ(each<std::int32_t>("cvt.rzi.s32.f64 %d, %a;", wide),
            (std::vector<std::int32_t>{INT32_MAX, INT32_MIN, INT32_MIN}));
}

TEST(PtxConversions, RoundToIntegralNumbers) {
  const std::vector<float> a = {0.5F, 1.5F, -0.5F, -1.25F, 0x1p30F};
  EXPECT_EQ(each<float>("cvt.rni.ftz.f32.f32 %d, %a;", a),
            (std::vector<float>{0, 2, -0.0F, -1, 0x1p30F}));
  EXPECT_EQ(each<float>("cvt.rmi.ftz.f32.f32 %d, %a;", a),
            (std::vector<float>{0, 1, -1, -2, 0x1p30F}));
  const std::vector<double> wide = {2.5, -2.5};
  EXPECT_EQ(each<double>("cvt.rni.f64.f64 %d, %a;", wide), (std::vector<double>{2, -2}));
  EXPECT_EQ(each<double>("cvt.rpi.f64.f64 %d, %a;", wide), (std::vector<double>{3, -2}));
}

TEST(PtxConversions, Halves) {
  // All numbers of f16 there and back.
  std::vector<std::uint16_t> all(1000);
  for (int part = 0; part < 66; ++part) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      all[i] = static_cast<std::uint16_t>(std::min<std::size_t>(part * all.size() + i, 65535));
    }
    const std::vector<float> wide = each<float>("cvt.f32.f16 %d, %a;", all);
    const std::vector<std::uint16_t> back = each<std::uint16_t>("cvt.rn.f16.f32 %d, %a;", wide);
    for (std::size_t i = 0; i < all.size(); ++i) {
      const int exponent = all[i] >> 10 & 31;
      const int fraction = all[i] & 1023;
      const double magnitude =
          exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
      if (exponent == 31 && fraction != 0) {
        EXPECT_TRUE(std::isnan(wide[i]));
        EXPECT_EQ(back[i], 0x7fff);
      } else {
        const double value = exponent == 31 ? kInfinity : magnitude;
        EXPECT_EQ(wide[i], (all[i] & 0x8000) != 0 ? -value : value);
        EXPECT_EQ(back[i], all[i]);
      }
    }
  }
}

TEST(PtxConversions, NarrowingRounds) {
  // Just below, at and above the middle of neighbours; overflow; subnormal results.
  const std::vector<float> a = {0x1.001p0F, 0x1.002p0F,   0x1.002002p0F, 0x1.006p0F,
                                65519.0F,   65520.0F,     0x1p-25F,      0x1.000002p-25F,
                                0x1.8p-24F, 0x1.ff9p-15F, 0x1.ffep-15F,  -kInfinity};
  const std::vector<std::uint16_t> expected = {0x3c00, 0x3c00, 0x3c01, 0x3c02, 0x7bff, 0x7c00,
                                               0x0000, 0x0001, 0x0002, 0x03ff, 0x0400, 0xfc00};
  EXPECT_EQ(each<std::uint16_t>("cvt.rn.f16.f32 %d, %a;", a), expected);
  const std::vector<float> b = {0x1.01p0F, 0x1.03p0F, 0x1.010002p0F, 0x1.fefffep127F, 0x1.ffp127F};
  EXPECT_EQ(each<std::uint16_t>("cvt.rn.bf16.f32 %d, %a;", b),
            (std::vector<std::uint16_t>{0x3f80, 0x3f82, 0x3f81, 0x7f7f, 0x7f80}));
  EXPECT_EQ(each<std::uint16_t>("cvt.rz.f16.f32 %d, %a;", a)[5], 0x7bff);
  EXPECT_EQ(each<std::uint32_t>("cvt.rn.f16x2.f32 %d, %a, 0f3F800000;", b)[0], 0x3c043c00U);
  EXPECT_EQ(each<std::uint32_t>("cvt.rn.bf16x2.f32 %d, 0f40000000, %a;", b)[1], 0x40003f82U);
  EXPECT_EQ(each<std::uint32_t>("cvt.rn.relu.bf16x2.f32 %d, 0fC0000000, %a;", b)[1], 0x00003f82U);
  const std::vector<float> c = {0x1.001ffep0F, 0x1.002p0F, -0x1.002p0F, kInfinity, kNan};
  EXPECT_EQ(each<std::uint32_t>("cvt.rna.tf32.f32 %d, %a;", c),
            (std::vector<std::uint32_t>{0x3f800000, 0x3f802000, 0xbf802000, 0x7f800000, kNan32}));
  const std::vector<double> d = {1 + 0x1p-24, 1 + 0x1p-24 + 0x1p-50, 1e-40, 1e300};
  EXPECT_EQ(each<float>("cvt.rn.f32.f64 %d, %a;", d),
            (std::vector<float>{1, 0x1.000002p0F, 1e-40F, kInfinity}));
  EXPECT_EQ(each<float>("cvt.rn.ftz.f32.f64 %d, %a;", d)[2], 0.0F);
  const std::vector<float> tiny = {0x1p-140F};
  EXPECT_EQ(each<double>("cvt.f64.f32 %d, %a;", tiny)[0], 0x1p-140);
  EXPECT_EQ(each<double>("cvt.ftz.f64.f32 %d, %a;", tiny)[0], 0.0);
}

TEST(PtxConversions, RoundingsAreAskedFor) {
  EXPECT_NE(error_of(".reg .f32 %f; cvt.f32.s32 %f, %t;").find("the rounding is missing"),
            std::string::npos);
  EXPECT_NE(error_of(".reg .f32 %f; cvt.s32.f32 %t, %f;").find("rounding to an integer is missing"),
            std::string::npos);
  EXPECT_NE(error_of(".reg .b16 %h; cvt.rn.u16.u32 %h, %t;").find("do not round"),
            std::string::npos);
}

}  // namespace
}  // namespace weft::ptx
