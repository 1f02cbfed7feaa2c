#include <bit>
#include <numeric>

#include "tests/ptx/fixture.h"

namespace weft::ptx {
namespace {

using Words = std::vector<std::uint32_t>;

void expect_error(const std::string& body, const std::string& text, const Shape& shape = {}) {
  const std::string error = error_of(body, shape);
  EXPECT_NE(error.find(text), std::string::npos) << error;
}

const char* const kWait =
    "{ .reg .pred p; again: mbarrier.try_wait.parity.shared::cta.b64 p, [%bar], %parity;"
    " @!p bra again; }\n";

TEST(PtxAsynchronous, BarriersInMemoryOrderWarps) {
  // Warp 0 writes, the others wait for its 32 arrivals, twice.
  const std::string body = fmt::format(
      ".shared .align 8 .b8 barrier[8]; .shared .align 4 .b8 word[4];"
      ".reg .b32 %bar, %parity, %r, %s; .reg .pred %p, %q; mov.u32 %bar, barrier;"
      "setp.ne.u32 %q, %t, 0; @%q bra ready;"
      "mbarrier.init.shared::cta.b64 [%bar], 32; fence.mbarrier_init.release.cluster;\n"
      "ready: bar.sync 0; mov.u32 %r, 0; mov.u32 %parity, 0;\n"
      "setp.gt.u32 %p, %t, 31; @%p bra wait;"
      "st.shared.u32 [word], 5; mbarrier.arrive.shared::cta.b64 _, [%bar];"
      "mov.u32 %r, 5; bra end;\n"
      "wait:\n{}ld.shared.u32 %r, [word];\nend: st.global.u32 [%out], %r;",
      kWait);
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    EXPECT_EQ(out_of(body, threads(128, seed)), Words(128, 5));
  }
}

TEST(PtxAsynchronous, BarriersTellStates) {
  EXPECT_EQ(out_of(".shared .align 8 .b8 barrier[8]; .reg .b64 %s<2>; .reg .b32 %r, %a, %b;"
                   ".reg .pred %p; mbarrier.init.shared.b64 [barrier], 2;"
                   "mbarrier.arrive.shared.b64 %s0, [barrier];"
                   "mbarrier.test_wait.shared.b64 %p, [barrier], %s0; selp.u32 %r, 1, 0, %p;"
                   "mbarrier.pending_count.b64 %a, %s0; mad.lo.u32 %r, %a, 10, %r;"
                   "mbarrier.arrive.shared.b64 %s1, [barrier], 1;"
                   "mbarrier.test_wait.shared.b64 %p, [barrier], %s0; selp.u32 %b, 100, 0, %p;"
                   "add.u32 %r, %r, %b; st.global.u32 [%out], %r;",
                   threads(1)),
            Words{120});
}

TEST(PtxAsynchronous, BarriersAreChecked) {
  const std::string barrier = ".shared .align 8 .b8 barrier[16]; .reg .b64 %s; .reg .b32 %bar;";
  expect_error(barrier + "mbarrier.arrive.shared.b64 %s, [barrier];", "thread 0: ", threads(1));
  expect_error(barrier + "mbarrier.init.shared.b64 [barrier+4], 1;", "not aligned", threads(1));
  expect_error(barrier + "mbarrier.init.shared.b64 [barrier+16], 1;", "outside", threads(1));
  expect_error(barrier +
                   ".reg .b32 %parity; mov.u32 %bar, barrier; mov.u32 %parity, 0;"
                   "mbarrier.init.shared.b64 [barrier], 1;" +
                   kWait,
               "deadlock: it waits for a phase of an mbarrier", threads(1));
}

/// Threads of a block copy 2 boxes of 8 x 4 elements through two stages of one mbarrier each.
const char* const kTensorCopies = R"(
.extern .shared .align 1024 .b8 memory[];
.visible .entry kernel(.param .u64 out, .param .align 64 .b8 map[128])
{
  .shared .align 8 .b8 barrier[16];
  .reg .b64 %out, %map; .reg .b32 %t, %bar, %parity, %box, %r, %a, %n; .reg .pred %p, %q;
  ld.param.u64 %out, [out];
  mov.b64 %map, map;
  cvta.param.u64 %map, %map;
  mov.u32 %t, %tid.x;
  mov.u32 %bar, barrier;
  setp.ne.u32 %p, %t, 0;
  @%p bra start;
  mbarrier.init.shared::cta.b64 [%bar], 1;
  mbarrier.init.shared::cta.b64 [%bar+8], 1;
  fence.mbarrier_init.release.cluster;
  mov.u32 %box, memory;
  mbarrier.arrive.expect_tx.shared::cta.b64 _, [%bar], 128;
  cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%box], [%map, {0, -1}], [%bar];
  add.u32 %box, %box, 128;
  mbarrier.arrive.expect_tx.shared::cta.b64 _, [%bar+8], 128;
  cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%box], [%map, {6, 2}], [%bar+8];
start:
  bar.sync 0;
  mov.u32 %parity, 0;
  mov.u32 %n, 0;
  mov.u32 %box, memory;
stage:
  { .reg .pred p; again: mbarrier.try_wait.parity.shared::cta.b64 p, [%bar], %parity; @!p bra again; }
  mad.lo.u32 %a, %t, 4, %box;
  ld.shared.u32 %r, [%a];
  mad.wide.u32 %map, %t, 4, %out;
  st.global.u32 [%map], %r;
  add.u64 %out, %out, 128;
  add.u32 %box, %box, 128;
  add.u32 %bar, %bar, 8;
  add.u32 %n, %n, 1;
  setp.lt.u32 %q, %n, 2;
  @%q bra stage;
  ret;
}
)";

TEST(PtxAsynchronous, BoxesOfTensors) {
  Words tensor(10 * 12);
  std::iota(tensor.begin(), tensor.end(), 1);
  TestDevice device;
  TensorMap map;
  map.address = device.add(tensor);
  map.element_bytes = 4;
  map.extents = {10, 5};
  map.strides = {48};
  map.box = {8, 4};
  std::array<std::uint64_t, 16> parameter{};
  parameter[0] = device.add(map);
  const Module module(module_of(kTensorCopies));
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    Words out(64);
    Shape shape = threads(32, seed);
    shape.shared_bytes = 256;
    run_entry(module, device, shape, device.add(out), parameter);
    for (int row = 0; row < 4; ++row) {
      for (int column = 0; column < 8; ++column) {
        const auto at = [&](int x, int y) -> std::uint32_t {
          return x < 0 || y < 0 || x >= 10 || y >= 5
                     ? 0
                     : tensor.at(std::size_t{12} * static_cast<std::size_t>(y) +
                                 static_cast<std::size_t>(x));
        };
        const auto index =
            std::size_t{8} * static_cast<std::size_t>(row) + static_cast<std::size_t>(column);
        EXPECT_EQ(out[index], at(column, row - 1));
        EXPECT_EQ(out[32 + index], at(column + 6, row + 2));
      }
    }
  }
  // Another box than is waited for, a map that is none, memory that is not there.
  const auto error = [&](std::array<std::uint64_t, 16> other) -> std::string {
    Words out(64);
    Shape shape = threads(32);
    shape.shared_bytes = 256;
    try {
      run_entry(module, device, shape, device.add(out), other);
    } catch (const Error& thrown) {
      return thrown.what();
    }
    return {};
  };
  EXPECT_NE(error({}).find("is no tensor map"), std::string::npos);
  TensorMap small = map;
  small.box = {4, 4};
  const std::string waits = error({device.add(small)});
  EXPECT_NE(waits.find("deadlock: it waits for a phase of an mbarrier"), std::string::npos)
      << waits;
  TensorMap outside = map;
  outside.extents = {10, 50};
  const std::string memory = error({device.add(outside)});
  EXPECT_NE(memory.find("is no global memory"), std::string::npos) << memory;
  TensorMap flat = map;
  flat.extents = {10};
  EXPECT_NE(error({device.add(flat)}).find("2 coordinates of a tensor of 1 axes"),
            std::string::npos);
}

float of_bfloat(std::uint32_t bits) { return std::bit_cast<float>(bits << 16); }
std::uint32_t small_bfloat(std::uint32_t value) {
  return std::bit_cast<std::uint32_t>(static_cast<float>(static_cast<int>(value % 17) - 8)) >> 16;
}

TEST(PtxAsynchronous, ProductsOfAWarp) {
  // A of 16 x 16 and B of 16 x 8 (a column after the other) by ldmatrix; D of 16 x 8.
  const std::string body =
      ".shared .align 16 .b8 a[512]; .shared .align 16 .b8 b[256];"
      ".reg .b32 %x<4>, %y<2>, %p, %q; .reg .f32 %d<4>; .reg .b64 %to; .reg .pred %g; .reg .b16 "
      "%h;\n"
      // Each thread copies 16 bytes of A, half of them 16 bytes of B, which lie in out.
      "mad.wide.u32 %to, %t, 16, %base; ld.global.v4.u32 {%x0, %x1, %x2, %x3}, [%to];"
      "shl.b32 %p, %t, 4; st.shared.v4.u32 [%p], {%x0, %x1, %x2, %x3}; setp.lt.u32 %g, %t, 16;"
      "@%g ld.global.v4.u32 {%x0, %x1, %x2, %x3}, [%to+512]; mov.u32 %q, b; add.u32 %q, %q, %p;"
      "@%g st.shared.v4.u32 [%q], {%x0, %x1, %x2, %x3}; bar.sync 0;"
      // Rows t % 16, the second 8 elements for lanes from 16.
      "and.b32 %p, %t, 15; shl.b32 %p, %p, 5; shr.u32 %q, %t, 4; shl.b32 %q, %q, 4;"
      "add.u32 %p, %p, %q;"
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%x0, %x1, %x2, %x3}, [%p];"
      "and.b32 %p, %t, 7; shl.b32 %p, %p, 5; bfe.u32 %q, %t, 3, 1; shl.b32 %q, %q, 4;"
      "add.u32 %p, %p, %q; add.u32 %p, %p, b_at;"
      "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%y0, %y1}, [%p];"
      "mov.f32 %d0, 0f3F800000; mov.f32 %d1, %d0; mov.f32 %d2, %d0; mov.f32 %d3, %d0;"
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%d0, %d1, %d2, %d3},"
      " {%x0, %x1, %x2, %x3}, {%y0, %y1}, {%d0, %d1, %d2, %d3};"
      "mad.wide.u32 %to, %t, 16, %base; st.global.v4.f32 [%to+1024], {%d0, %d1, %d2, %d3};";
  std::string text = body;
  text.replace(text.find("b_at"), 4, "512");
  const Module module(kernel_of(text));
  Words memory(256 + 128);
  for (std::uint32_t i = 0; i < 192; ++i) {
    memory[i] = small_bfloat(7 * i + i / 5) | small_bfloat(3 * i + 1) << 16;
  }
  const Words input = memory;
  TestDevice device;
  run_entry(module, device, threads(32), device.add(memory));
  const auto element = [&](std::size_t index) {
    return of_bfloat(input[index / 2] >> (index % 2 * 16) & 0xffff);
  };
  for (std::size_t row = 0; row < 16; ++row) {
    for (std::size_t column = 0; column < 8; ++column) {
      float sum = 1;
      for (std::size_t k = 0; k < 16; ++k) {
        sum += element(row * 16 + k) * element(256 + column * 16 + k);
      }
      // c0 and c1 are of row lane / 4, c2 and c3 of the row 8 below; columns 2 (lane % 4) and next.
      const std::size_t lane = row % 8 * 4 + column / 2;
      const std::size_t index = 256 + lane * 4 + row / 8 * 2 + column % 2;
      EXPECT_EQ(std::bit_cast<float>(memory[index]), sum) << row << ", " << column;
    }
  }
}

/// A product of a warpgroup with A in registers (2 in every element) and B in shared memory (all
/// of them `b`), 64 x 8 x 16. `after_issue` and `after_wait` are executed in between.
std::string group_product_body(const std::string& after_issue, const std::string& after_wait,
                               const std::string& wait = "wgmma.wait_group.sync.aligned 0;") {
  return ".shared .align 128 .b8 b[256]; .reg .b32 %a<4>, %at, %w; .reg .b64 %desc; .reg .f32 "
         "%d<4>;"
         ".reg .f32 %sum; .reg .pred %p; shl.b32 %at, %t, 1; add.u32 %at, %at, 0;"
         "{ .reg .b16 h; mov.b16 h, 0x3f80; st.shared.b16 [%at], h; } bar.sync 0;"
         "mov.u32 %a0, 0x40004000; mov.u32 %a1, %a0; mov.u32 %a2, %a0; mov.u32 %a3, %a0;"
         "mov.f32 %d0, 0f3F800000; mov.f32 %d1, %d0; mov.f32 %d2, %d0; mov.f32 %d3, %d0;"
         // No swizzle: core matrices of 128 bytes, one after the other along k.
         "mov.u32 %w, 0x00080000; mov.b64 %desc, {%w, 8};"
         "wgmma.fence.sync.aligned; fence.proxy.async.shared::cta; setp.eq.u32 %p, 0, 0;"
         "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%d0, %d1, %d2, %d3},"
         " {%a0, %a1, %a2, %a3}, %desc, %p, 1, 1, 0; wgmma.commit_group.sync.aligned;" +
         after_issue + wait + after_wait +
         "add.f32 %sum, %d0, %d1; add.f32 %sum, %sum, %d2;"
         "add.f32 %sum, %sum, %d3; st.global.f32 [%out], %sum;";
}

std::vector<float> floats(const std::string& body, const Shape& shape) {
  return out_of<float>(body, shape);
}

TEST(PtxAsynchronous, ProductsOfAWarpgroup) {
  // Each sum is 1 + 16 * 2 * 1.
  EXPECT_EQ(floats(group_product_body("", ""), threads(128)), std::vector<float>(128, 4 * 33));
}

TEST(PtxAsynchronous, ProductsReadAndWriteAtTheWait) {
  // B that is overwritten, A's register that is reused, and sums that are read before the wait.
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    EXPECT_EQ(floats(group_product_body(
                         "{ .reg .b16 h; mov.b16 h, 0; st.shared.b16 [%at], h; } bar.sync 0;", ""),
                     threads(128, seed)),
              std::vector<float>(128, 4));
  }
  EXPECT_EQ(floats(group_product_body("mov.u32 %a0, 0;", ""), threads(128))[0],
            2 * (1 + 8 * 2) + 2 * 33);
  EXPECT_EQ(floats(group_product_body(".reg .f32 %e; mov.f32 %e, %d0;", "mov.f32 %d0, %e;"),
                   threads(128))[5],
            1 + 3 * 33);
}

TEST(PtxAsynchronous, GroupsOfProductsAreChecked) {
  expect_error(group_product_body("", "", ""), "ended before a wait for the matrix product",
               threads(128));
  expect_error(group_product_body("", ""), "in no warpgroup", threads(96));
  std::string unfenced = group_product_body("", "");
  unfenced.erase(unfenced.find("wgmma.fence"), std::string("wgmma.fence.sync.aligned;").size());
  expect_error(unfenced, "no wgmma.fence", threads(128));
  std::string part = group_product_body("", "");
  part.insert(part.find("wgmma.mma_async"), "setp.lt.u32 %p, %t, 96; @%p ");
  expect_error(part, "differ in a matrix product", threads(128));
}

TEST(PtxAsynchronous, CountsOfRegistersChange) {
  EXPECT_EQ(out_of("setmaxnreg.dec.sync.aligned.u32 40; setmaxnreg.inc.sync.aligned.u32 232;"
                   "st.global.u32 [%out], 1;"),
            Words(32, 1));
}

}  // namespace
}  // namespace weft::ptx
