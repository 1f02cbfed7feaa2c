#include <bit>

#include "tests/ptx/fixture.h"

namespace weft::ptx {
namespace {

using Words = std::vector<std::uint32_t>;

void expect_error(const std::string& body, const std::string& text, const Shape& shape = {}) {
  const std::string error = error_of(body, shape);
  EXPECT_NE(error.find(text), std::string::npos) << error;
}

Words shuffled(const std::string& operation, const std::string& operands) {
  return out_of(".reg .b32 %r; .reg .pred %p; add.u32 %t, %t, 100; shfl.sync." + operation +
                ".b32 %r|%p, %t, " + operands +
                ", 0xffffffff; @!%p add.u32 %r, %r, 1000; st.global.u32 [%out], %r;");
}

TEST(PtxCollectives, Shuffles) {
  const Words butterfly = shuffled("bfly", "5, 0x1f");
  const Words down = shuffled("down", "3, 0x1f");
  const Words up = shuffled("up", "3, 0");
  const Words index = shuffled("idx", "7, 0x1f");
  // Segments of 8 lanes.
  const Words segments = shuffled("idx", "10, 0x181f");
  const Words narrow_down = shuffled("down", "3, 0x181f");
  for (std::uint32_t t = 0; t < 32; ++t) {
    EXPECT_EQ(butterfly[t], 100 + (t ^ 5));
    EXPECT_EQ(down[t], t + 3 < 32 ? 100 + t + 3 : 1100 + t);
    EXPECT_EQ(up[t], t >= 3 ? 100 + t - 3 : 1100 + t);
    EXPECT_EQ(index[t], 107U);
    EXPECT_EQ(segments[t], 100 + (t & 24) + 2);
    EXPECT_EQ(narrow_down[t], (t & 7) + 3 < 8 ? 100 + t + 3 : 1100 + t);
  }
}

TEST(PtxCollectives, ShufflesOfHalfAWarp) {
  // Each half has its own mask and comes by a path of its own.
  const Words out = out_of(
      ".reg .b32 %r; .reg .pred %p; setp.lt.u32 %p, %t, 16; @%p bra lower;"
      "shfl.sync.bfly.b32 %r, %t, 1, 0x1f, 0xffff0000; bra end;\n"
      "lower: shfl.sync.bfly.b32 %r, %t, 2, 0x1f, 0x0000ffff;\nend: st.global.u32 [%out], %r;");
  for (std::uint32_t t = 0; t < 32; ++t) EXPECT_EQ(out[t], t < 16 ? t ^ 2 : t ^ 1);
  expect_error(".reg .b32 %r; shfl.sync.bfly.b32 %r, %t, 1, 0x1f, 0x7fffffff;",
               "thread 31: the member mask 0x7fffffff does not name the thread");
}

TEST(PtxCollectives, Votes) {
  const auto vote = [](const std::string& kind) {
    return out_of(".reg .pred %p, %q; .reg .b32 %r; setp.lt.u32 %p, %t, 5; vote.sync." + kind +
                  ".pred %q, %p, 0xffffffff; selp.u32 %r, 1, 0, %q; st.global.u32 [%out], %r;");
  };
  EXPECT_EQ(vote("all"), Words(32, 0));
  EXPECT_EQ(vote("any"), Words(32, 1));
  EXPECT_EQ(vote("uni"), Words(32, 0));
  EXPECT_EQ(out_of(".reg .pred %p; .reg .b32 %r; setp.lt.u32 %p, %t, 5;"
                   "vote.sync.ballot.b32 %r, !%p, 0xffffffff; st.global.u32 [%out], %r;"),
            Words(32, 0xffffffe0));
  EXPECT_EQ(out_of(".reg .pred %p; .reg .b32 %r; elect.sync %r|%p, 0xffffffff;"
                   "selp.u32 %r, 1, 0, %p; vote.sync.ballot.b32 %r, %p, 0xffffffff;"
                   "popc.b32 %r, %r; st.global.u32 [%out], %r;"),
            Words(32, 1));
}

TEST(PtxCollectives, Reductions) {
  const auto reduce = [](const std::string& operation) {
    return out_of(".reg .b32 %r; sub.u32 %t, %t, 8; redux.sync." + operation +
                  " %r, %t, 0xffffffff; st.global.u32 [%out], %r;")[13];
  };
  std::uint32_t sum = 0, conjunction = ~0U, disjunction = 0, parity = 0;
  for (std::uint32_t t = 0; t < 32; ++t) {
    sum += t - 8;
    conjunction &= t - 8;
    disjunction |= t - 8;
    parity ^= t - 8;
  }
  EXPECT_EQ(reduce("add.s32"), sum);
  EXPECT_EQ(reduce("min.s32"), static_cast<std::uint32_t>(-8));
  EXPECT_EQ(reduce("max.s32"), 23U);
  EXPECT_EQ(reduce("min.u32"), 0U);
  EXPECT_EQ(reduce("and.b32"), conjunction);
  EXPECT_EQ(reduce("or.b32"), disjunction);
  EXPECT_EQ(reduce("xor.b32"), parity);
}

TEST(PtxCollectives, Matches) {
  const Words out = out_of(
      ".reg .b32 %r; and.b32 %t, %t, 1; match.any.sync.b32 %r, %t, 0xffffffff;"
      "st.global.u32 [%out], %r;");
  for (std::uint32_t t = 0; t < 32; ++t) EXPECT_EQ(out[t], t % 2 == 0 ? 0x55555555 : 0xaaaaaaaa);
}

TEST(PtxCollectives, BarriersOrderWarps) {
  // Each warp reads what the next one wrote, many times.
  const std::string body =
      ".shared .align 4 .b8 memory[1024]; .reg .b32 %a, %b, %n, %r; .reg .pred %p;"
      "shl.b32 %a, %t, 2; add.u32 %b, %a, 128; and.b32 %b, %b, 1023; st.shared.u32 [%a], %t;"
      "mov.u32 %n, 0;\nagain: bar.sync 0; ld.shared.u32 %r, [%b]; bar.sync 0;"
      "add.u32 %r, %r, 1; st.shared.u32 [%a], %r; add.u32 %n, %n, 1; setp.lt.u32 %p, %n, 8;"
      "@%p bra again; st.global.u32 [%out], %r;";
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const Words out = out_of(body, threads(256, seed));
    for (std::uint32_t t = 0; t < 256; ++t) EXPECT_EQ(out[t], t + 8) << t;
  }
}

TEST(PtxCollectives, NamedBarriers) {
  // Warp 0 hands a value to warp 1 while warps 2 and 3 are elsewhere.
  const std::string body =
      ".shared .align 4 .b8 memory[4]; .reg .b32 %r, %w; .reg .pred %p; shr.u32 %w, %t, 5;"
      "mov.u32 %r, 1; setp.gt.u32 %p, %w, 1; @%p bra end; setp.eq.u32 %p, %w, 1; @%p bra take;"
      "st.shared.u32 [memory], 77; bar.arrive 3, 64; bra end;\n"
      "take: bar.sync 3, 64; ld.shared.u32 %r, [memory];\nend: barrier.sync 2;"
      "st.global.u32 [%out], %r;";
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const Words out = out_of(body, threads(128, seed));
    for (std::uint32_t t = 0; t < 128; ++t) EXPECT_EQ(out[t], t / 32 == 1 ? 77 : 1);
  }
  expect_error("bar.sync 16;", "there is no barrier 16");
  expect_error("bar.sync 1, 40;", "no multiple of 32");
  expect_error(
      ".reg .b32 %w; shr.u32 %w, %t, 5; add.u32 %w, %w, 2; shl.b32 %w, %w, 5;"
      "bar.sync 1, %w;",
      "those before", threads(64));
}

TEST(PtxCollectives, BarriersReduce) {
  const Words out = out_of(
      ".reg .pred %p, %q; .reg .b32 %r, %s; setp.lt.u32 %p, %t, 40;"
      "bar.red.popc.u32 %r, 0, %p; bar.red.or.pred %q, 0, !%p; selp.u32 %s, 1000, 0, %q;"
      "add.u32 %r, %r, %s; bar.red.and.pred %q, 0, %p; selp.u32 %s, 5000, 0, %q;"
      "add.u32 %r, %r, %s; st.global.u32 [%out], %r;",
      threads(96));
  EXPECT_EQ(out, Words(96, 1040));
}

TEST(PtxCollectives, WarpBarriersJoin) {
  const Words out = out_of(
      ".shared .align 4 .b8 memory[128]; .reg .b32 %a, %r; .reg .pred %p; shl.b32 %a, %t, 2;"
      "setp.lt.u32 %p, %t, 9; @%p bra less; st.shared.u32 [%a], 3; bra join;\n"
      "less: st.shared.u32 [%a], 4;\njoin: bar.warp.sync 0xffffffff; xor.b32 %a, %a, 124;"
      "ld.shared.u32 %r, [%a]; st.global.u32 [%out], %r;");
  for (std::uint32_t t = 0; t < 32; ++t) EXPECT_EQ(out[t], 31 - t < 9 ? 4U : 3U);
}

}  // namespace
}  // namespace weft::ptx
