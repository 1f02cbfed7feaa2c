#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "compiler/loop/kernel.h"
#include "interpreted.h"

// What warps' accesses ask of memory, counted by hand.
namespace weft {
namespace {

using loop::Buffer;
using loop::Ex;
using loop::Kernel;
using loop::Role;
using loop::Traffic;

constexpr std::int64_t elements = 4096;

/// A warp that copies in[at(lane)] to out[lane].
std::vector<Traffic> copied(const std::function<Ex(loop::Arena&, Ex lane)>& at) {
  Kernel kernel;
  const Buffer* in = kernel.argument("in", DType::f32, elements, false);
  const Buffer* out = kernel.argument("out", DType::f32, 32, true);
  loop::Builder b(kernel);
  b.phase(1, 32,
          [&](Ex, Ex lane) { b.store(out, lane, kernel.arena.load(in, at(kernel.arena, lane))); });
  std::vector<Traffic> traffic;
  tests::Arguments(kernel).run_clean({.traffic = &traffic});
  return traffic;
}

void expect_counts(const Traffic& traffic, std::int64_t requests, std::int64_t transactions,
                   std::int64_t least) {
  EXPECT_EQ(traffic.requests, requests) << print(traffic);
  EXPECT_EQ(traffic.transactions, transactions) << print(traffic);
  EXPECT_EQ(traffic.least, least) << print(traffic);
}

TEST(InterpretTraffic, SectorsOfGlobalMemory) {
  const auto neighbours = copied([](loop::Arena&, Ex lane) { return lane; });
  ASSERT_EQ(neighbours.size(), 2U);
  EXPECT_FALSE(neighbours[0].write);
  expect_counts(neighbours[0], 1, 4, 4);
  EXPECT_TRUE(neighbours[1].write);
  expect_counts(neighbours[1], 1, 4, 4);
  const auto every = [&](std::int64_t stride) {
    return copied([&](loop::Arena& a, Ex lane) { return a.mul(lane, a.integer(stride)); })[0];
  };
  expect_counts(every(2), 1, 8, 4);
  expect_counts(every(8), 1, 32, 4);
  expect_counts(every(100), 1, 32, 4);
  expect_counts(copied([](loop::Arena& a, Ex) { return a.integer(7); })[0], 1, 1, 1);
  // Off by one: the last lane is in a further sector.
  const auto shifted = copied([](loop::Arena& a, Ex lane) { return a.add(lane, a.integer(1)); });
  expect_counts(shifted[0], 1, 5, 4);
}

TEST(InterpretTraffic, VectorLoopsAreWideAccesses) {
  Kernel kernel;
  const Buffer* in = kernel.argument("in", DType::f32, elements, false);
  const Buffer* one = kernel.argument("one", DType::f32, elements, false);
  const Buffer* apart = kernel.argument("apart", DType::f32, elements, false);
  const Buffer* out = kernel.argument("out", DType::bf16, elements, true);
  auto& a = kernel.arena;
  loop::Builder b(kernel);
  b.phase(1, 32, [&](Ex, Ex lane) {
    b.loop(8, Role::vector, 8, [&](Ex i) {
      const Ex at = a.add(a.mul(lane, a.integer(8)), i);
      const Ex far = a.add(a.mul(i, a.integer(32)), lane);
      const Ex sum = a.add(a.load(in, at), a.load(one, lane));
      b.store(out, at, a.add(sum, a.load(apart, far)));
    });
  });
  std::vector<Traffic> traffic;
  tests::Arguments(kernel).run_clean({.traffic = &traffic});
  ASSERT_EQ(traffic.size(), 4U);
  for (const Traffic& t : traffic) {
    if (t.buffer == "in") expect_counts(t, 2, 64, 32);     // 16 of every 32 bytes, twice
    if (t.buffer == "one") expect_counts(t, 1, 4, 4);      // the same for all of a lane's group
    if (t.buffer == "apart") expect_counts(t, 8, 32, 32);  // no neighbours in a lane
    if (t.buffer == "out") expect_counts(t, 1, 16, 16);    // eight of 2 bytes
  }
}

/// A warp that reads a tile of shared memory at at(lane), `width` neighbours a lane.
Traffic shared_read(const std::function<Ex(loop::Arena&, Ex lane)>& at, int width) {
  Kernel kernel;
  const Buffer* tile = kernel.shared("tile", DType::f32, elements);
  const Buffer* out = kernel.argument("out", DType::f32, 32 * width, true);
  auto& a = kernel.arena;
  loop::Builder b(kernel);
  b.phase(1, 32, [&](Ex, Ex lane) {
    b.loop(a.integer(elements / 32), [&](Ex i) {
      b.store(tile, a.add(a.mul(i, a.integer(32)), lane), a.constant(loop::Scalar::f32, 0));
    });
    b.barrier();
    b.loop(width, width > 1 ? Role::vector : Role::unrolled, width, [&](Ex i) {
      b.store(out, a.add(a.mul(lane, a.integer(width)), i), a.load(tile, a.add(at(a, lane), i)));
    });
  });
  std::vector<Traffic> traffic;
  tests::Arguments(kernel).run_clean({.traffic = &traffic});
  for (const Traffic& t : traffic) {
    if (t.buffer == "tile" && !t.write) return t;
  }
  return {};
}

TEST(InterpretTraffic, PassesOverTheBanks) {
  const auto every = [](std::int64_t stride, int width) {
    return shared_read([&](loop::Arena& a, Ex lane) { return a.mul(lane, a.integer(stride)); },
                       width);
  };
  expect_counts(every(1, 1), 1, 1, 1);
  expect_counts(every(2, 1), 1, 2, 1);
  expect_counts(every(32, 1), 1, 32, 1);
  expect_counts(every(33, 1), 1, 1, 1);
  expect_counts(every(0, 1), 1, 1, 1);
  // Four words a lane: a quarter of the warp at a time.
  expect_counts(every(4, 4), 1, 4, 4);
  expect_counts(every(32, 4), 1, 32, 4);
  expect_counts(every(36, 4), 1, 4, 4);
}

TEST(InterpretTraffic, RowsOfMatrices) {
  for (const std::int64_t stride : {64, 72}) {
    Kernel kernel;
    const Buffer* tile = kernel.shared("tile", DType::bf16, elements);
    const Buffer* out = kernel.argument("out", DType::i32, 32, true);
    auto& a = kernel.arena;
    loop::Builder b(kernel);
    b.phase(1, 32, [&](Ex, Ex lane) {
      b.loop(a.integer(elements / 32), [&](Ex i) {
        b.store(tile, a.add(a.mul(i, a.integer(32)), lane), a.constant(loop::Scalar::f32, 0));
      });
      b.barrier();
      const Ex row = b.let(a.mul(lane, a.integer(stride)));
      const auto words = b.call(loop::intrinsic("load_matrix.x4"), {}, {{tile, row}});
      b.store(out, lane, words[0]);
    });
    std::vector<Traffic> traffic;
    tests::Arguments(kernel).run_clean({.traffic = &traffic});
    for (const Traffic& t : traffic) {
      if (t.buffer != "tile" || t.write) continue;
      // Rows of 128 bytes begin in the same bank; 16 bytes more and eight rows fill a pass.
      expect_counts(t, 1, stride == 64 ? 32 : 4, 4);
    }
  }
}

}  // namespace
}  // namespace weft
