#include <cmath>
#include <limits>

#include "tests/ptx/fixture.h"

namespace weft::ptx {
namespace {

template <class T>
std::vector<std::uint32_t> compared(const std::string& mnemonic, const std::vector<T>& a,
                                    const std::vector<T>& b) {
  return each<std::uint32_t>(mnemonic + " %p, %a, %b; selp.u32 %d, 1, 0, %p;", a, b);
}

using Bits = std::vector<std::uint32_t>;

TEST(PtxComparisons, Integers) {
  const std::vector<std::int32_t> a = {1, 2, 2, -1};
  const std::vector<std::int32_t> b = {2, 1, 2, 1};
  EXPECT_EQ(compared("setp.eq.s32", a, b), (Bits{0, 0, 1, 0}));
  EXPECT_EQ(compared("setp.ne.b32", a, b), (Bits{1, 1, 0, 1}));
  EXPECT_EQ(compared("setp.lt.s32", a, b), (Bits{1, 0, 0, 1}));
  EXPECT_EQ(compared("setp.lt.u32", a, b), (Bits{1, 0, 0, 0}));
  EXPECT_EQ(compared("setp.le.s32", a, b), (Bits{1, 0, 1, 1}));
  EXPECT_EQ(compared("setp.gt.s32", a, b), (Bits{0, 1, 0, 0}));
  EXPECT_EQ(compared("setp.ge.s32", a, b), (Bits{0, 1, 1, 0}));
  EXPECT_EQ(compared("setp.hs.u32", a, b), (Bits{0, 1, 1, 1}));
  const std::vector<std::int64_t> wide = {std::int64_t{1} << 40};
  EXPECT_EQ(compared("setp.gt.s64", wide, std::vector<std::int64_t>{1}), (Bits{1}));
  const std::vector<std::int16_t> narrow = {-1};
  EXPECT_EQ(compared("setp.lt.s16", narrow, std::vector<std::int16_t>{0}), (Bits{1}));
  EXPECT_EQ(compared("setp.lt.u16", narrow, std::vector<std::int16_t>{0}), (Bits{0}));
}

TEST(PtxComparisons, FloatsWithNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> a = {1, 2, 2, nan, 1};
  const std::vector<float> b = {2, 1, 2, 1, nan};
  const auto expect = [&](const char* name, const Bits& expected) {
    EXPECT_EQ(compared(fmt::format("setp.{}.f32", name), a, b), expected) << name;
  };
  expect("eq", {0, 0, 1, 0, 0});
  expect("ne", {1, 1, 0, 0, 0});
  expect("lt", {1, 0, 0, 0, 0});
  expect("le", {1, 0, 1, 0, 0});
  expect("gt", {0, 1, 0, 0, 0});
  expect("ge", {0, 1, 1, 0, 0});
  expect("equ", {0, 0, 1, 1, 1});
  expect("neu", {1, 1, 0, 1, 1});
  expect("ltu", {1, 0, 0, 1, 1});
  expect("leu", {1, 0, 1, 1, 1});
  expect("gtu", {0, 1, 0, 1, 1});
  expect("geu", {0, 1, 1, 1, 1});
  expect("num", {1, 1, 1, 0, 0});
  expect("nan", {0, 0, 0, 1, 1});
  const std::vector<float> tiny = {0x1p-140F};
  const std::vector<float> zero = {0};
  EXPECT_EQ(compared("setp.gt.f32", tiny, zero), (Bits{1}));
  EXPECT_EQ(compared("setp.gt.ftz.f32", tiny, zero), (Bits{0}));
  const std::vector<std::uint16_t> half = {0x3c00, 0x7e00};
  EXPECT_EQ(compared("setp.neu.ftz.f16", half, half), (Bits{0, 1}));
}

TEST(PtxComparisons, CombineWithPredicates) {
  const std::vector<std::int32_t> a = {1, 1, 3, 3};
  const std::vector<std::int32_t> b = {0, 1, 0, 1};
  const auto combined = [&](const std::string& how, const std::string& of) {
    return each<std::uint32_t>("setp.ne.s32 %q, %b, 0; setp.gt." + how + ".s32 %p|%q, %a, 2, " +
                                   of +
                                   "; selp.u32 %d, 1, 0, %p; selp.u32 %t0, 2, 0, %q; "
                                   "or.b32 %d, %d, %t0;",
                               a, b);
  };
  EXPECT_EQ(combined("and", "%q"), (Bits{0, 2, 0, 1}));
  EXPECT_EQ(combined("and", "!%q"), (Bits{2, 0, 1, 0}));
  EXPECT_EQ(combined("or", "%q"), (Bits{2, 3, 1, 3}));
  EXPECT_EQ(combined("xor", "%q"), (Bits{2, 1, 1, 2}));
}

TEST(PtxComparisons, PredicateLogic) {
  const std::vector<std::int32_t> a = {0, 0, 1, 1};
  const std::vector<std::int32_t> b = {0, 1, 0, 1};
  const auto logic = [&](const std::string& instruction) {
    return each<std::uint32_t>(
        "setp.ne.s32 %p, %a, 0; setp.ne.s32 %q, %b, 0; " + instruction + " selp.u32 %d, 1, 0, %p;",
        a, b);
  };
  EXPECT_EQ(logic("and.pred %p, %p, %q;"), (Bits{0, 0, 0, 1}));
  EXPECT_EQ(logic("or.pred %p, %p, %q;"), (Bits{0, 1, 1, 1}));
  EXPECT_EQ(logic("xor.pred %p, %p, %q;"), (Bits{0, 1, 1, 0}));
  EXPECT_EQ(logic("not.pred %p, %p;"), (Bits{1, 1, 0, 0}));
  EXPECT_EQ(logic("mov.pred %p, %q;"), (Bits{0, 1, 0, 1}));
}

TEST(PtxComparisons, Select) {
  const std::vector<float> a = {1, -1, -0.0F};
  EXPECT_EQ(each<std::uint32_t>("slct.u32.f32 %d, 7, 9, %a;", a), (Bits{7, 9, 7}));
  EXPECT_EQ(each<std::uint32_t>("set.lt.u32.f32 %d, %a, 0f00000000;", a), (Bits{0, ~0U, 0}));
  EXPECT_EQ(each<float>("set.lt.f32.f32 %d, %a, 0f00000000;", a), (std::vector<float>{0, 1, 0}));
  EXPECT_EQ(each<std::uint64_t>("setp.lt.f32 %p, %a, 0f00000000; selp.b64 %d, 5, 6, %p;", a),
            (std::vector<std::uint64_t>{6, 5, 6}));
}

TEST(PtxComparisons, OfTheTypeAreChecked) {
  EXPECT_NE(error_of(".reg .pred %p; setp.ltu.s32 %p, %t, 0;").find("no comparison"),
            std::string::npos);
  EXPECT_NE(error_of(".reg .pred %p; setp.lt.b32 %p, %t, 0;").find("no comparison"),
            std::string::npos);
}

}  // namespace
}  // namespace weft::ptx
