#include <limits>

#include "tests/ptx/fixture.h"

namespace weft::ptx {
namespace {

template <class T>
std::vector<T> interesting() {
  using Limits = std::numeric_limits<T>;
  std::vector<T> result;
  const T special[] = {0,
                       1,
                       2,
                       7,
                       100,
                       Limits::max(),
                       Limits::min(),
                       static_cast<T>(-1),
                       static_cast<T>(Limits::max() / 3),
                       static_cast<T>(0x5a)};
  for (const T value : special) result.push_back(value);
  return result;
}

TEST(PtxIntegers, PairsOfHalves) {
  const std::vector<std::uint32_t> out = out_of(
      ".reg .pred %p0; .reg .b32 %a, %b, %r; mov.u32 %a, 0x8001fffe; mov.u32 %b, 0x7fff0003;"
      "setp.eq.u32 %p0, %t, 0; @%p0 add.s16x2 %r, %a, %b; setp.eq.u32 %p0, %t, 1;"
      "@%p0 max.u16x2 %r, %a, %b; setp.eq.u32 %p0, %t, 2; @%p0 max.s16x2 %r, %a, %b;"
      "setp.eq.u32 %p0, %t, 3; @%p0 min.s16x2 %r, %a, %b; st.global.u32 [%out], %r;",
      threads(4));
  EXPECT_EQ(out, (std::vector<std::uint32_t>{0x00000001, 0x8001fffe, 0x7fff0003, 0x8001fffe}));
}

/// All pairs of interesting numbers.
template <class T>
struct Pairs {
  std::vector<T> a;
  std::vector<T> b;
  Pairs() {
    for (const T x : interesting<T>()) {
      for (const T y : interesting<T>()) {
        a.push_back(x);
        b.push_back(y);
      }
    }
  }
};

template <class D, class T, class Reference>
void expect_binary(const std::string& mnemonic, const Reference& reference) {
  const Pairs<T> pairs;
  const std::vector<D> results = each<D>(mnemonic + " %d, %a, %b;", pairs.a, pairs.b);
  for (std::size_t i = 0; i < results.size(); ++i) {
    EXPECT_EQ(results[i], static_cast<D>(reference(pairs.a[i], pairs.b[i])))
        << mnemonic << " " << +pairs.a[i] << ", " << +pairs.b[i];
  }
}

using U16 = std::uint16_t;
using S16 = std::int16_t;
using U32 = std::uint32_t;
using S32 = std::int32_t;
using U64 = std::uint64_t;
using S64 = std::int64_t;
__extension__ using Wide = __int128;

TEST(PtxIntegers, SumsWrap) {
  expect_binary<S32, S32>("add.s32", [](Wide a, Wide b) { return a + b; });
  expect_binary<U64, U64>("add.u64", [](Wide a, Wide b) { return a + b; });
  expect_binary<S16, S16>("sub.s16", [](Wide a, Wide b) { return a - b; });
  expect_binary<S64, S64>("sub.s64", [](Wide a, Wide b) { return a - b; });
  expect_binary<S32, S32>(
      "add.sat.s32", [](Wide a, Wide b) { return std::clamp<Wide>(a + b, INT32_MIN, INT32_MAX); });
  expect_binary<S32, S32>(
      "sub.sat.s32", [](Wide a, Wide b) { return std::clamp<Wide>(a - b, INT32_MIN, INT32_MAX); });
}

TEST(PtxIntegers, Products) {
  expect_binary<U16, U16>("mul.lo.u16", [](Wide a, Wide b) { return a * b; });
  expect_binary<S32, S32>("mul.lo.s32", [](Wide a, Wide b) { return a * b; });
  expect_binary<U64, U64>("mul.lo.u64", [](U64 a, U64 b) { return a * b; });
  expect_binary<U16, U16>("mul.hi.u16", [](Wide a, Wide b) { return (a * b) >> 16; });
  expect_binary<S16, S16>("mul.hi.s16", [](Wide a, Wide b) { return (a * b) >> 16; });
  expect_binary<U32, U32>("mul.hi.u32", [](Wide a, Wide b) { return (a * b) >> 32; });
  expect_binary<S32, S32>("mul.hi.s32", [](Wide a, Wide b) { return (a * b) >> 32; });
  expect_binary<S64, S64>("mul.hi.s64", [](Wide a, Wide b) { return (a * b) >> 64; });
  expect_binary<U64, U64>("mul.hi.u64", [](Wide a, Wide b) {
    __extension__ using Unsigned = unsigned __int128;
    return (static_cast<Unsigned>(a) * static_cast<Unsigned>(b)) >> 64;
  });
  expect_binary<U32, U16>("mul.wide.u16", [](Wide a, Wide b) { return a * b; });
  expect_binary<S32, S16>("mul.wide.s16", [](Wide a, Wide b) { return a * b; });
  expect_binary<U64, U32>("mul.wide.u32", [](Wide a, Wide b) { return a * b; });
  expect_binary<S64, S32>("mul.wide.s32", [](Wide a, Wide b) { return a * b; });
  // The 24 lowest bits, with their sign.
  const std::vector<S32> a = {0x7fffff, 0x800000, -1, 0x01000002};
  const std::vector<S32> b = {2, 1, 3, 5};
  EXPECT_EQ(each<S32>("mul24.lo.s32 %d, %a, %b;", a, b),
            (std::vector<S32>{0xfffffe, -0x800000, -3, 10}));
}

TEST(PtxIntegers, ProductsWithSums) {
  const Pairs<S32> pairs;
  const std::vector<S32> c(pairs.a.rbegin(), pairs.a.rend());
  const std::vector<S32> low = each<S32>("mad.lo.s32 %d, %a, %b, %c;", pairs.a, pairs.b, c);
  const std::vector<S32> high = each<S32>("mad.hi.s32 %d, %a, %b, %c;", pairs.a, pairs.b, c);
  const std::vector<S64> wide(c.begin(), c.end());
  const std::vector<S64> all = each<S64>("mad.wide.s32 %d, %a, %b, %c;", pairs.a, pairs.b, wide);
  for (std::size_t i = 0; i < low.size(); ++i) {
    const Wide product = static_cast<Wide>(pairs.a[i]) * pairs.b[i];
    EXPECT_EQ(low[i], static_cast<S32>(product + c[i]));
    EXPECT_EQ(high[i], static_cast<S32>((product >> 32) + c[i]));
    EXPECT_EQ(all[i], static_cast<S64>(product + c[i]));
  }
}

TEST(PtxIntegers, Quotients) {
  const auto quotient = [](Wide a, Wide b) { return b == 0 ? Wide{-1} : a / b; };
  const auto remainder = [](Wide a, Wide b) { return b == 0 ? Wide{-1} : a % b; };
  expect_binary<U16, U16>("div.u16", quotient);
  expect_binary<S32, S32>("div.s32", quotient);
  expect_binary<U32, U32>("div.u32", quotient);
  expect_binary<S64, S64>("div.s64", quotient);
  expect_binary<U16, U16>("rem.u16", remainder);
  expect_binary<S32, S32>("rem.s32", remainder);
  expect_binary<U64, U64>("rem.u64", remainder);
  expect_binary<S64, S64>("rem.s64", remainder);
}

TEST(PtxIntegers, Extremes) {
  expect_binary<S32, S32>("min.s32", [](Wide a, Wide b) { return std::min(a, b); });
  expect_binary<U32, U32>("min.u32", [](Wide a, Wide b) { return std::min(a, b); });
  expect_binary<U16, U16>("max.u16", [](Wide a, Wide b) { return std::max(a, b); });
  expect_binary<S64, S64>("max.s64", [](Wide a, Wide b) { return std::max(a, b); });
  const std::vector<S32> a = {-5, 5, INT32_MIN, 0};
  EXPECT_EQ(each<S32>("abs.s32 %d, %a;", a), (std::vector<S32>{5, 5, INT32_MIN, 0}));
  EXPECT_EQ(each<S32>("neg.s32 %d, %a;", a), (std::vector<S32>{5, -5, INT32_MIN, 0}));
  EXPECT_EQ(each<S32>("sad.s32 %d, %a, %b, 10;", a, std::vector<S32>{5, -5, 0, 3}),
            (std::vector<S32>{20, 20, INT32_MIN + 10, 13}));
}

TEST(PtxIntegers, Logic) {
  expect_binary<U32, U32>("and.b32", [](U32 a, U32 b) { return a & b; });
  expect_binary<U64, U64>("or.b64", [](U64 a, U64 b) { return a | b; });
  expect_binary<U16, U16>("xor.b16", [](U16 a, U16 b) { return a ^ b; });
  const std::vector<U16> narrow = {0, 1, 0x8000};
  EXPECT_EQ(each<U16>("not.b16 %d, %a;", narrow), (std::vector<U16>{0xffff, 0xfffe, 0x7fff}));
  EXPECT_EQ(each<U16>("cnot.b16 %d, %a;", narrow), (std::vector<U16>{1, 0, 0}));
  // a & b | ~c, the table that the ISA's example computes from 0xf0, 0xcc and 0xaa.
  const std::vector<U32> a = {0xff00ff00};
  const std::vector<U32> b = {0xf0f0f0f0};
  const std::vector<U32> c = {0xcccccccc};
  const int table = ((0xf0 & 0xcc) | ~0xaa) & 0xff;
  EXPECT_EQ(each<U32>(fmt::format("lop3.b32 %d, %a, %b, %c, {};", table), a, b, c)[0],
            (a[0] & b[0]) | ~c[0]);
}

TEST(PtxIntegers, Shifts) {
  const std::vector<U32> amount = {0, 1, 15, 16, 31, 32, 33, 0xffffffff};
  const std::vector<U32> a(amount.size(), 0x80000003);
  const std::vector<U32> left = each<U32>("shl.b32 %d, %a, %b;", a, amount);
  const std::vector<U32> right = each<U32>("shr.u32 %d, %a, %b;", a, amount);
  const std::vector<U32> arithmetic = each<U32>("shr.s32 %d, %a, %b;", a, amount);
  for (std::size_t i = 0; i < a.size(); ++i) {
    const bool all = amount[i] > 31;
    EXPECT_EQ(left[i], all ? 0 : a[i] << amount[i]);
    EXPECT_EQ(right[i], all ? 0 : a[i] >> amount[i]);
    EXPECT_EQ(arithmetic[i],
              static_cast<U32>(static_cast<S32>(a[i]) >> std::min<U32>(amount[i], 31)));
  }
  const std::vector<U16> narrow = {0x8001, 0x8001, 0x8001};
  const std::vector<U32> few = {1, 15, 16};
  EXPECT_EQ(each<U16>("shl.b16 %d, %a, %b;", narrow, few), (std::vector<U16>{2, 0x8000, 0}));
  EXPECT_EQ(each<U16>("shr.s16 %d, %a, %b;", narrow, few),
            (std::vector<U16>{0xc000, 0xffff, 0xffff}));
  const std::vector<U64> wide = {0x8000000000000001};
  EXPECT_EQ(each<U64>("shr.s64 %d, %a, 63;", wide)[0], ~U64{0});
  EXPECT_EQ(each<U64>("shl.b64 %d, %a, 64;", wide)[0], 0U);
  EXPECT_EQ(each<U32>("shf.l.wrap.b32 %d, %a, 0x00000001, 36;", a)[0], 0x18U);
  EXPECT_EQ(each<U32>("shf.r.clamp.b32 %d, %a, 0x0000000f, 40;", a)[0], 0x0000000fU);
}

TEST(PtxIntegers, Bits) {
  const std::vector<U32> a = {0, 1, 0x00f00000, 0x80000000, 0xffffffff};
  EXPECT_EQ(each<U32>("popc.b32 %d, %a;", a), (std::vector<U32>{0, 1, 4, 1, 32}));
  EXPECT_EQ(each<U32>("clz.b32 %d, %a;", a), (std::vector<U32>{32, 31, 8, 0, 0}));
  EXPECT_EQ(each<U32>("bfind.u32 %d, %a;", a), (std::vector<U32>{~0U, 0, 23, 31, 31}));
  EXPECT_EQ(each<U32>("bfind.s32 %d, %a;", a), (std::vector<U32>{~0U, 0, 23, 30, ~0U}));
  EXPECT_EQ(each<U32>("brev.b32 %d, %a;", a),
            (std::vector<U32>{0, 0x80000000, 0x00000f00, 1, 0xffffffff}));
  const std::vector<U32> fields = {0x12345678};
  EXPECT_EQ(each<U32>("bfe.u32 %d, %a, 8, 12;", fields)[0], 0x456U);
  EXPECT_EQ(each<U32>("bfe.s32 %d, %a, 4, 4;", fields)[0], 7U);
  EXPECT_EQ(each<U32>("bfe.s32 %d, %a, 3, 1;", fields)[0], 0xffffffffU);
  EXPECT_EQ(each<U32>("bfe.u32 %d, %a, 28, 12;", fields)[0], 1U);
  EXPECT_EQ(each<U32>("bfe.u32 %d, %a, 0, 0;", fields)[0], 0U);
  EXPECT_EQ(each<U32>("bfe.s32 %d, %a, 40, 4;", std::vector<U32>{0x80000000})[0], 0xffffffffU);
  EXPECT_EQ(each<U32>("bfi.b32 %d, %a, 0xaaaaaaaa, 8, 12;", fields)[0], 0xaaa678aaU);
  EXPECT_EQ(each<U32>("prmt.b32 %d, %a, 0xaabbccdd, 0x7610;", fields)[0], 0xaabb5678U);
  // The sign of byte 3 of b, bytes 0, 4 and 5.
  EXPECT_EQ(each<U32>("prmt.b32 %d, %a, 0xaabbccdd, 0xf045;", fields)[0], 0xff78ddccU);
}

TEST(PtxIntegers, SizesOfRegistersAreChecked) {
  EXPECT_NE(error_of(".reg .b64 %x; add.s32 %x, %t, 1;").find("%x has 64 bits"), std::string::npos);
  EXPECT_NE(error_of(".reg .b32 %x; mul.wide.s32 %x, %t, 1;").find("%x has 32 bits"),
            std::string::npos);
}

}  // namespace
}  // namespace weft::ptx
