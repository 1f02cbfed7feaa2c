#include <set>

#include "tests/ptx/fixture.h"

namespace weft::ptx {
namespace {

using Words = std::vector<std::uint32_t>;

void expect_error(const std::string& body, const std::string& text, const Shape& shape = {}) {
  const std::string error = error_of(body, shape);
  EXPECT_NE(error.find(text), std::string::npos) << error;
}

TEST(PtxControl, AModuleSaysItsVersion) {
  for (const char* text : {".target sm_90a", "nonsense", ""}) EXPECT_THROW(Module{text}, Error);
}

TEST(PtxControl, LoopsOfDifferentLengths) {
  // Each thread adds 1 + 2 + ... + t, then all meet again: the mask is that of the warp.
  const Words out = out_of(
      ".reg .b32 %i, %sum, %m; .reg .pred %p; mov.u32 %i, 0; mov.u32 %sum, 0;\n"
      "again: setp.ge.u32 %p, %i, %t; @%p bra done; add.u32 %i, %i, 1; add.u32 %sum, %sum, %i;\n"
      "bra.uni again;\ndone: activemask.b32 %m; popc.b32 %m, %m; mad.lo.u32 %sum, %m, 10000, %sum;"
      "st.global.u32 [%out], %sum;",
      threads(45));
  for (std::uint32_t t = 0; t < 45; ++t) {
    EXPECT_EQ(out[t], t * (t + 1) / 2 + (t < 32 ? 320000 : 130000));
  }
}

TEST(PtxControl, RegistersLiveAroundLoops) {
  // %kept is written after the scope in the text, and before it in the second iteration.
  const Words out = out_of(
      ".reg .b32 %i, %kept, %sum; .reg .pred %p; mov.u32 %i, 0; mov.u32 %sum, 0; bra.uni head;\n"
      "body: { .reg .b32 own; mov.u32 own, 77; add.u32 %sum, %sum, own; }\n"
      "add.u32 %sum, %sum, %kept; add.u32 %i, %i, 1;\n"
      "head: add.u32 %kept, %i, 1000; setp.lt.u32 %p, %i, 3; @%p bra body;\n"
      "st.global.u32 [%out], %sum;",
      threads(1));
  EXPECT_EQ(out, (Words{3 * 77 + 1000 + 1001 + 1002}));
}

TEST(PtxControl, BranchesWithinBranches) {
  const Words out = out_of(
      ".reg .b32 %r, %b; .reg .pred %p, %q; and.b32 %b, %t, 1; setp.eq.u32 %p, %b, 0;"
      "setp.lt.u32 %q, %t, 16; mov.u32 %r, 0;\n"
      "@%p bra even; add.u32 %r, %r, 1; @!%q bra join; add.u32 %r, %r, 10; bra join;\n"
      "even: add.u32 %r, %r, 100; @%q bra join; add.u32 %r, %r, 1000;\n"
      "join: activemask.b32 %b; setp.eq.u32 %p, %b, 0xffffffff; @!%p trap;"
      "st.global.u32 [%out], %r;",
      threads(32));
  for (std::uint32_t t = 0; t < 32; ++t) {
    EXPECT_EQ(out[t], (t % 2 == 0 ? (t < 16 ? 100 : 1100) : (t < 16 ? 11 : 1)));
  }
}

TEST(PtxControl, GuardsKeepOtherThreads) {
  const Words out = out_of(
      ".reg .pred %p; .reg .b32 %r; setp.lt.u32 %p, %t, 3; mov.u32 %r, 5; @%p mov.u32 %r, 6;"
      "@!%p add.u32 %r, %r, 2; st.global.u32 [%out], %r;",
      threads(5));
  EXPECT_EQ(out, (Words{6, 6, 6, 7, 7}));
}

TEST(PtxControl, ThreadsMayEndEarly) {
  EXPECT_EQ(
      out_of(".reg .pred %p; setp.gt.u32 %p, %t, 1; @%p ret; st.global.u32 [%out], 9;", threads(4)),
      (Words{9, 9, 0, 0}));
}

TEST(PtxControl, TablesOfLabels) {
  const Words out = out_of(
      ".reg .b32 %i, %r; and.b32 %i, %t, 3;\ntable: .branchtargets zero, one, zero, two;\n"
      "brx.idx %i, table;\nzero: mov.u32 %r, 7; bra end;\none: mov.u32 %r, 8; bra end;\n"
      "two: mov.u32 %r, 9;\nend: st.global.u32 [%out], %r;",
      threads(8));
  EXPECT_EQ(out, (Words{7, 8, 7, 9, 7, 8, 7, 9}));
  expect_error("table: .branchtargets zero, zero; brx.idx %t, table; zero:",
               "index 2 into a table of 2 labels");
}

TEST(PtxControl, ScopesHaveTheirOwnNames) {
  const Words out = out_of(
      ".reg .b32 %r, %x; mov.u32 %x, 1; mov.u32 %r, 0;\n"
      "{ .reg .b32 %x; .reg .pred p; mov.u32 %x, 5; again: add.u32 %r, %r, %x; sub.u32 %x, %x, 1;"
      " setp.gt.s32 p, %x, 0; @p bra again; }\n"
      "{ .reg .pred p; mov.u32 %x, 2; again: add.u32 %r, %r, 100; sub.u32 %x, %x, 1;"
      " setp.gt.s32 p, %x, 0; @p bra again; bra after; }\n"
      "mov.u32 %r, 0;\nafter: st.global.u32 [%out], %r;",
      threads(1));
  EXPECT_EQ(out, Words{15 + 200});
}

TEST(PtxControl, SpecialRegisters) {
  const std::string body =
      ".reg .b32 %r, %x; .reg .b64 %a; mov.u32 %r, %ctaid.y; mov.u32 %x, %nctaid.x;"
      "mad.lo.u32 %r, %r, %x, %ctaid.x; mov.u32 %x, %tid.z; mad.lo.u32 %x, %x, %ntid.y, %tid.y;"
      "mad.lo.u32 %x, %x, %ntid.x, %tid.x; mad.lo.u32 %r, %r, 24, %x;"
      "mad.wide.u32 %a, %r, 4, %base; mov.u32 %x, %laneid; shl.b32 %x, %x, 8; or.b32 %r, %r, %x;"
      "st.global.u32 [%a], %r;";
  Shape shape;
  shape.grid = {2, 3, 1};
  shape.block = {2, 4, 3};
  const Words out = out_of(body, shape, 6 * 24);
  for (std::uint32_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], i | (i % 24) << 8);
}

// All threads add to a word without an atomic instruction: which get lost depends on the seed.
TEST(PtxControl, RacesShow) {
  std::set<Words> results;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const std::string body =
        ".shared .align 4 .b8 word[4]; .reg .b32 %r, %n; .reg .pred %p; st.shared.u32 [word], 0;"
        "bar.sync 0; mov.u32 %n, 0;\nagain: ld.shared.u32 %r, [word]; add.u32 %r, %r, 1;"
        "st.shared.u32 [word], %r; add.u32 %n, %n, 1; setp.lt.u32 %p, %n, 20; @%p bra again;"
        "bar.sync 0; ld.shared.u32 %r, [word]; st.global.u32 [%out], %r;";
    const Words out = out_of(body, threads(128, seed));
    EXPECT_EQ(out, out_of(body, threads(128, seed)));
    results.insert(out);
  }
  EXPECT_GT(results.size(), 1U);
}

TEST(PtxControl, DeadlocksAreErrors) {
  // Warps wait at two barriers.
  expect_error(
      ".reg .pred %p; setp.lt.u32 %p, %t, 32; @%p bra other; bar.sync 0; ret;\nother: bar.sync 1;",
      "deadlock: it waits for other threads at the barrier", threads(64));
  // A part of a warp at an instruction for all of it.
  expect_error(".reg .pred %p; setp.lt.u32 %p, %t, 7; @%p ret; bar.sync 0;",
               "thread 7: deadlock: it waits for all threads of its warp", threads(32));
  expect_error(".reg .pred %p; setp.lt.u32 %p, %t, 7; @%p bar.sync 0;",
               "thread 0: deadlock: it waits for all threads of its warp", threads(32));
  expect_error(
      ".reg .pred %p; .reg .b32 %r; setp.lt.u32 %p, %t, 7; @%p bra end;"
      "shfl.sync.bfly.b32 %r, %t, 1, 0x1f, 0xffffffff;\nend:",
      "deadlock: it waits for the threads of its member mask", threads(32));
}

TEST(PtxControl, TextIsChecked) {
  expect_error("add.s31 %t, %t, 1;", "line 13: add.s31 %t, %t, 1: .s31 is no type");
  expect_error("frobnicate.u32 %t, %t;", "instruction frobnicate is not known");
  expect_error("add.s32 %t, %t;", "2 operands where 3 are needed");
  expect_error("add.s32 %t, %t, %x;", "there is no register %x");
  expect_error("add.wide.s32 %t, %t, 1;", ".wide is no type");
  expect_error("mul.lo.extra.s32 %t, %t, 1;", ".extra is no type");
  expect_error("mov.u32 %t, 1", "';' is expected");
  expect_error("bra nowhere;", "there is no label nowhere");
  expect_error(".reg .b32 %t;", "register %t is declared twice");
  expect_error("@%t bra nowhere;", "%t is no predicate");
  expect_error("trap;", "the kernel has trapped");
  expect_error("setmaxnreg.inc.sync.aligned.u32 20;", "no multiple of 8");
  EXPECT_THROW(Module("garbage"), Error);
  EXPECT_THROW(Module(module_of(".visible .entry kernel() { ret; ")), Error);
  EXPECT_THROW(Module(module_of("/* no end")), Error);
  EXPECT_THROW(Module(module_of(".visible .func f() { ret; }")), Error);
}

// Texts that end anywhere, or have one character of another kind, are errors or kernels.
TEST(PtxControl, BrokenTextsAreErrors) {
  const std::string text = module_of(
      ".global .align 4 .b8 table[4] = {1, 2, 3, 4};\n"
      ".visible .entry kernel(.param .u64 out, .param .align 64 .b8 map[128])\n.reqntid 32\n{\n"
      ".reg .b32 %r<4>; .reg .pred %p; .reg .b64 %a; .shared .align 16 .b8 memory[64];\n"
      "ld.param.u64 %a, [out]; @!%p bra end; { .reg .f32 x; mov.f32 x, 0f3F800000; }\n"
      "ld.global.v2.u32 {%r0, %r1}, [%a+-8]; shfl.sync.idx.b32 %r2|%p, %r0, 0, 31, -1;\n"
      "end: st.shared.u32 [memory+4], %r1; ret;\n}\n");
  EXPECT_NO_THROW(Module{text});
  int errors = 0;
  const auto attempt = [&](const std::string& broken) {
    try {
      const Module module(broken);
    } catch (const Error&) {
      ++errors;
    }
  };
  for (std::size_t end = 0; end < text.size(); ++end) attempt(text.substr(0, end));
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (const char c : {'{', '}', '[', ';', ',', '9', '%', '.', ' ', '"', '!', '\0'}) {
      std::string broken = text;
      broken[i] = c;
      attempt(broken);
    }
  }
  EXPECT_GT(errors, static_cast<int>(text.size()));
  attempt(module_of(".visible .entry kernel() { add.s32 " + std::string(100000, '{')));
  attempt(module_of(".global .b8 table[4] = " + std::string(100000, '{')));
  attempt(module_of(".visible .entry kernel() { add.s32 " + std::string(100000, '!')));
}

TEST(PtxControl, LaunchesAreChecked) {
  const Module module(module_of(".visible .entry kernel()\n.reqntid 64, 1, 1\n{ ret; }\n"));
  EXPECT_EQ(module.entries()[0].required_threads, (std::array<std::uint32_t, 3>{64, 1, 1}));
  TestDevice device;
  EXPECT_NO_THROW(run_entry(module, device, threads(64)));
  EXPECT_THROW(run_entry(module, device, threads(32)), Error);
  Shape shape = threads(64);
  shape.shared_bytes = 300 * 1024;
  EXPECT_THROW(run_entry(module, device, shape), Error);
  Launch launch;
  launch.block = {64, 1, 1};
  const std::array<std::byte, 8> parameters{};
  launch.parameters = parameters;
  EXPECT_THROW(run(module.entries()[0], launch, device.device()), Error);
}

}  // namespace
}  // namespace weft::ptx
