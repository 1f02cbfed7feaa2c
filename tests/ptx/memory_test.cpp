#include <numeric>

#include "tests/ptx/fixture.h"

namespace weft::ptx {
namespace {

using Words = std::vector<std::uint32_t>;

std::string with_parameters(const std::string& parameters, const std::string& body,
                            const std::string& before = {}) {
  return module_of(before + ".visible .entry kernel(" + parameters + ")\n{\n" + body +
                   "\n  ret;\n}\n");
}

TEST(PtxMemory, ParametersAreAligned) {
  const Module module(with_parameters(
      ".param .u64 out, .param .u16 a, .param .align 16 .b8 b[24], .param .f64 c",
      "  .reg .b64 %o, %p; .reg .b16 %h; .reg .b32 %r; .reg .f64 %d;\n"
      "  ld.param.u64 %o, [out];\n  ld.param.u16 %h, [a];\n  st.global.u16 [%o], %h;\n"
      "  mov.b64 %p, b;\n  ld.param.u32 %r, [%p+20];\n  st.global.u32 [%o+4], %r;\n"
      "  cvta.param.u64 %p, %p;\n  ld.u32 %r, [%p+16];\n  st.global.u32 [%o+8], %r;\n"
      "  ld.param.f64 %d, [c];\n  st.global.f64 [%o+16], %d;"));
  const Entry* entry = module.find("kernel");
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(module.find("other"), nullptr);
  ASSERT_EQ(entry->parameters.size(), 4U);
  EXPECT_EQ(entry->parameters[1].offset, 8);
  EXPECT_EQ(entry->parameters[2].offset, 16);
  EXPECT_EQ(entry->parameters[2].bytes, 24);
  EXPECT_EQ(entry->parameters[3].offset, 40);
  EXPECT_EQ(entry->parameter_bytes, 48);
  std::vector<std::uint32_t> out(8);
  TestDevice device;
  std::array<std::uint32_t, 6> b = {1, 2, 3, 4, 5, 6};
  run_entry(module, device, threads(1), device.add(out), std::uint16_t{77}, b, 2.5);
  EXPECT_EQ(out[0], 77U);
  EXPECT_EQ(out[1], 6U);
  EXPECT_EQ(out[2], 5U);
  double last = 0;
  std::memcpy(&last, &out[4], sizeof last);
  EXPECT_EQ(last, 2.5);
}

TEST(PtxMemory, NarrowLoadsExtend) {
  const std::vector<std::uint32_t> a = {0x8081fffe};
  std::vector<std::uint32_t> out(6);
  std::vector<std::uint32_t> in = a;
  TestDevice device;
  const Module module(with_parameters(
      ".param .u64 out, .param .u64 in",
      "  .reg .b64 %o, %i, %w; .reg .b32 %r; .reg .b16 %h;\n"
      "  ld.param.u64 %o, [out];\n  ld.param.u64 %i, [in];\n"
      "  ld.global.s8 %r, [%i];\n  st.global.u32 [%o], %r;\n"
      "  ld.global.u8 %h, [%i+3];\n  cvt.u32.u16 %r, %h;\n  st.global.u32 [%o+4], %r;\n"
      "  ld.global.s16 %r, [%i+2];\n  st.global.u32 [%o+8], %r;\n"
      "  ld.global.s32 %w, [%i];\n  shr.s64 %w, %w, 32;\n  st.global.u32 [%o+12], %w;\n"
      "  mov.u32 %r, 0x12345678;\n  st.global.u16 [%o+16], %r;\n  st.global.u8 [%o+19], %r;"));
  run_entry(module, device, threads(1), device.add(out), device.add(in));
  EXPECT_EQ(out, (Words{0xfffffffe, 0x80, 0xffff8081, 0xffffffff, 0x78005678, 0}));
}

TEST(PtxMemory, Vectors) {
  Words in(128);
  std::iota(in.begin(), in.end(), 0);
  Words out(128);
  TestDevice device;
  const Module module(with_parameters(
      ".param .u64 out, .param .u64 in",
      "  .reg .b64 %o, %i, %x<2>; .reg .b32 %t, %r<4>;\n"
      "  ld.param.u64 %o, [out];\n  ld.param.u64 %i, [in];\n  mov.u32 %t, %tid.x;\n"
      "  mad.wide.u32 %o, %t, 16, %o;\n  mad.wide.u32 %i, %t, 16, %i;\n"
      "  ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%i];\n"
      "  st.global.v2.u32 [%o+8], {%r0, %r1};\n  ld.global.nc.v2.b64 {%x0, %x1}, [%i];\n"
      "  st.global.u64 [%o], %x1;"));
  run_entry(module, device, threads(32), device.add(out), device.add(in));
  for (std::uint32_t t = 0; t < 32; ++t) {
    EXPECT_EQ(out[4 * t], 4 * t + 2);
    EXPECT_EQ(out[4 * t + 1], 4 * t + 3);
    EXPECT_EQ(out[4 * t + 2], 4 * t);
    EXPECT_EQ(out[4 * t + 3], 4 * t + 1);
  }
}

TEST(PtxMemory, MovesOfVectors) {
  EXPECT_EQ(out_of(".reg .b64 %x; .reg .b32 %lo, %hi; .reg .b16 %h<2>;"
                   "mov.b64 %x, {%t, 7}; shl.b64 %x, %x, 4; mov.b64 {%lo, %hi}, %x;"
                   "mov.b32 {%h0, %h1}, %hi; mov.b32 %lo, {%h1, %h0}; st.global.u32 [%out], %lo;",
                   threads(2)),
            (Words{0x00700000, 0x00700000}));
}

TEST(PtxMemory, SharedMemoryIsOfABlock) {
  // Static memory first, then the dynamic part at its alignment. Nothing is zero at the beginning.
  const std::string text = with_parameters(
      ".param .u64 out",
      "  .reg .b64 %o; .reg .b32 %t, %r<3>; .shared .align 4 .b8 first[12];\n"
      "  ld.param.u64 %o, [out];\n  mov.u32 %t, %tid.x;\n  mad.wide.u32 %o, %t, 4, %o;\n"
      "  mov.u32 %r0, dynamic;\n  shl.b32 %r1, %t, 2;\n  add.u32 %r1, %r0, %r1;\n"
      "  ld.shared.u32 %r2, [%r1];\n  add.u32 %r2, %r2, %t;\n  st.shared.u32 [%r1], %r2;\n"
      "  bar.sync 0;\n  xor.b32 %r1, %r1, 4;\n  ld.shared.u32 %r2, [%r1];\n"
      "  add.u32 %r2, %r2, %r0;\n  st.global.u32 [%o], %r2;",
      ".extern .shared .align 1024 .b8 dynamic[];\n");
  const Module module(text);
  EXPECT_EQ(module.entries()[0].static_shared_bytes, 1024);
  Words out(64);
  TestDevice device;
  Shape shape = threads(64);
  shape.shared_bytes = 256;
  shape.grid = {3, 1, 1};
  run_entry(module, device, shape, device.add(out));
  for (std::uint32_t t = 0; t < 64; ++t) EXPECT_EQ(out[t], (t ^ 1) - 1 + 1024);
}

TEST(PtxMemory, GlobalVariablesHaveValues) {
  const std::string text = with_parameters(
      ".param .u64 out",
      "  .reg .b64 %o, %a; .reg .b32 %r;\n  ld.param.u64 %o, [out];\n"
      "  ld.global.u32 %r, [table+4];\n  st.global.u32 [%o], %r;\n"
      "  mov.u64 %a, table;\n  ld.global.u16 %r, [%a+8];\n  st.global.u32 [%o+4], %r;\n"
      "  ld.const.f32 %r, [numbers+4];\n  st.global.u32 [%o+8], %r;\n"
      "  ld.global.u32 %r, [counter];\n  add.u32 %r, %r, 1;\n  st.global.u32 [counter], %r;\n",
      ".global .align 4 .b8 table[12] = {1, 0, 0, 0, 2, 1, 0, 0, 255};\n"
      ".const .align 4 .f32 numbers[2] = {0f3F800000, -2.5};\n.global .u32 counter = 5;\n");
  const Module module(text);
  Words out(3);
  TestDevice device;
  run_entry(module, device, threads(1), device.add(out));
  run_entry(module, device, threads(1), device.add(out));
  EXPECT_EQ(out, (Words{258, 255, 0xc0200000}));
  std::uint32_t counter = 0;
  ASSERT_EQ(module.variable("counter").size(), 4U);
  std::memcpy(&counter, module.variable("counter").data(), 4);
  EXPECT_EQ(counter, 7U);  // the value stays from launch to launch
  EXPECT_TRUE(module.variable("missing").empty());
}

TEST(PtxMemory, LocalMemoryIsOfAThread) {
  const Words out = out_of(
      ".local .align 8 .b8 depot[16]; .reg .b64 %SP, %SPL; .reg .b32 %r;"
      "mov.u64 %SPL, depot; cvta.local.u64 %SP, %SPL; st.u32 [%SP+4], %t; "
      "add.u32 %r, %t, 100; st.local.u32 [%SPL+8], %r; bar.sync 0;"
      "ld.local.u32 %r, [%SPL+4]; ld.u32 %t, [%SP+8]; add.u32 %r, %r, %t;"
      "st.global.u32 [%out], %r;",
      threads(64));
  for (std::uint32_t t = 0; t < 64; ++t) EXPECT_EQ(out[t], 2 * t + 100);
}

TEST(PtxMemory, GenericAddresses) {
  const Words out = out_of(
      ".shared .align 8 .b8 memory[256]; .reg .b64 %g, %s; .reg .b32 %r; .reg .pred %p, %q;"
      "mov.u64 %s, memory; mad.wide.u32 %s, %t, 4, %s; cvta.shared.u64 %g, %s;"
      "st.u32 [%g], %t; cvta.to.shared.u64 %s, %g; ld.shared.u32 %r, [%s];"
      "isspacep.shared %p, %g; isspacep.global %q, %out; @%p add.u32 %r, %r, 100;"
      "@%q add.u32 %r, %r, 1000; st.u32 [%out], %r;",
      threads(32));
  for (std::uint32_t t = 0; t < 32; ++t) EXPECT_EQ(out[t], t + 1100);
}

TEST(PtxMemory, Atomics) {
  // 96 threads add to one word; what each finds there are all numbers from 0.
  Words out = out_of(
      ".shared .align 4 .b8 word[4]; .reg .b32 %r, %old; .reg .pred %p;"
      "setp.eq.u32 %p, %t, 0; @%p st.shared.u32 [word], 0; bar.sync 0;"
      "atom.shared.add.u32 %old, [word], 1; st.global.u32 [%out], %old;",
      threads(96));
  std::sort(out.begin(), out.end());
  for (std::uint32_t t = 0; t < 96; ++t) EXPECT_EQ(out[t], t);

  Words memory = {0, 0xffffffff, 0, 5, 10, 0x3f800000, 0, 0};
  Words old(8);
  const Module module(with_parameters(
      ".param .u64 a, .param .u64 old",
      "  .reg .b64 %a, %o; .reg .b32 %r;\n  ld.param.u64 %a, [a];\n  ld.param.u64 %o, [old];\n"
      "  red.global.or.b32 [%a], 6;\n  red.relaxed.gpu.global.and.b32 [%a+4], 12;\n"
      "  atom.global.max.s32 %r, [%a+8], -3;\n  atom.global.cas.b32 %r, [%a+12], 5, 9;\n"
      "  st.global.u32 [%o], %r;\n  atom.exch.b32 %r, [%a+16], 11;\n  st.global.u32 [%o+4], %r;\n"
      "  red.relaxed.gpu.global.add.f32 [%a+20], 0f40000000;\n"
      "  atom.global.inc.u32 %r, [%a+24], 1;\n  atom.global.inc.u32 %r, [%a+24], 1;\n"
      "  atom.global.dec.u32 %r, [%a+28], 7;"));
  TestDevice device;
  run_entry(module, device, threads(1), device.add(memory), device.add(old));
  EXPECT_EQ(memory, (Words{6, 12, 0, 9, 11, 0x40400000, 0, 7}));
  EXPECT_EQ(old[0], 5U);
  EXPECT_EQ(old[1], 10U);
}

TEST(PtxMemory, AsynchronousCopiesHappenAtTheWait) {
  // Before the wait shared memory still has what was there; 12 bytes and 4 zeros come then.
  Words in(64);
  std::iota(in.begin(), in.end(), 1);
  Words out(64);
  TestDevice device;
  const Module module(with_parameters(
      ".param .u64 out, .param .u64 in",
      "  .reg .b64 %o, %i; .reg .b32 %t, %s, %r<4>; .shared .align 16 .b8 memory[64];\n"
      "  ld.param.u64 %o, [out];\n  ld.param.u64 %i, [in];\n  mov.u32 %t, %tid.x;\n"
      "  shl.b32 %s, %t, 5;\n  mad.wide.u32 %i, %t, 32, %i;\n  mad.wide.u32 %o, %t, 32, %o;\n"
      "  cp.async.cg.shared.global [%s], [%i], 16;\n  cp.async.commit_group;\n"
      "  cp.async.ca.shared.global [%s+16], [%i+16], 16, 12;\n  cp.async.commit_group;\n"
      "  ld.shared.u32 %r0, [%s];\n  cp.async.wait_group 1;\n  ld.shared.u32 %r1, [%s];\n"
      "  ld.shared.u32 %r2, [%s+16];\n  st.global.v2.u32 [%o], {%r0, %r1};\n"
      "  st.global.u32 [%o+8], %r2;\n  cp.async.wait_all;\n"
      "  ld.shared.v4.u32 {%r0, %r1, %r2, %r3}, [%s+16];\n"
      "  st.global.v4.u32 [%o+16], {%r0, %r1, %r2, %r3};"));
  run_entry(module, device, threads(2), device.add(out), device.add(in));
  EXPECT_EQ(Words(out.begin(), out.begin() + 16),
            (Words{0xffffffff, 1, 0xffffffff, 0, 5, 6, 7, 0,  //
                   0xffffffff, 9, 0xffffffff, 0, 13, 14, 15, 0}));
}

void expect_error(const std::string& body, const std::string& text, const Shape& shape = {}) {
  const std::string error = error_of(body, shape);
  EXPECT_NE(error.find(text), std::string::npos) << error;
}

TEST(PtxMemory, AccessesAreChecked) {
  expect_error("st.global.u32 [%out+16384], %t;", "are no global memory");
  expect_error(
      "st.global.u32 [%out+16380], %t;",
      "kernel kernel: line 13: st.global.u32 [%out+16380], %t: block 0, thread 1: 4 bytes");
  expect_error("add.s64 %out, %out, 2; st.global.u32 [%out], %t;", "is not aligned to 4 bytes");
  expect_error(".reg .b32 %a, %b; ld.global.v2.u32 {%a, %b}, [%out];", "thread 1: address");
  expect_error(".shared .align 4 .b8 memory[64]; shl.b32 %t, %t, 2; st.shared.u32 [%t], %t;",
               "thread 16: 4 bytes at 0x40 are outside the 64 bytes of shared memory");
  expect_error("ld.shared.u32 %t, [0];", "0 bytes of shared memory");
  expect_error(".local .align 4 .b8 depot[8]; ld.local.u32 %t, [depot+8];",
               "outside the 8 bytes of local memory");
  expect_error("ld.param.u32 %t, [out+8];", "outside the 8 bytes of parameter memory");
  expect_error(".reg .pred %p; setp.gt.u32 %p, %t, 40; @%p st.global.u32 [0], %t;",
               "block 0, thread 41: 4 bytes at 0x0", threads(64));
  expect_error("cp.async.cg.shared.global [0], [%out], 8;", "8 bytes cannot be copied");
}

}  // namespace
}  // namespace weft::ptx
