#include <gtest/gtest.h>

#include <set>
#include <string>

#include "tests/loop/interpreted.h"

/// Lanes of a warp that hand each other values through shared memory: each runs at its own pace,
/// so something must order them.
namespace weft {
namespace {

using loop::Buffer;
using loop::Builder;
using loop::Ex;
using loop::intrinsic;
using loop::Kernel;
using loop::Report;
using loop::Scalar;
using Kind = loop::Report::Kind;

constexpr std::uint64_t seeds = 12;

enum class Between : std::uint8_t {
  sync_warp,
  barrier,
  nothing,
  shuffle,
  vote,
  reduction,
  product
};

/// Rounds in which each thread writes a value and reads that of the thread `distance` (a power of
/// two) away.
struct Exchange {
  static constexpr std::int64_t threads = 64, grid = 2, rounds = 3;

  Kernel kernel;
  loop::Arena& a = kernel.arena;
  const Buffer* y = kernel.argument("y", DType::f32, grid* threads, true);
  const Buffer* tile = kernel.shared("tile", DType::f32, threads);
  Builder b{kernel};
  std::int64_t distance;

  /// `clocks`: something else in the phase orders lanes of a warp.
  Exchange(Between after_writing, Between after_reading, std::int64_t partner, bool clocks)
      : distance(partner) {
    kernel.name = "exchange";
    b.phase(grid, threads, [&](Ex block, Ex thread) {
      if (clocks) between(Between::sync_warp, thread);
      const Ex other = b.let(a.binary(loop::Binary::bitwise_xor, thread, a.integer(distance)));
      const Ex one = a.constant(Scalar::f32, 1);
      loop::Accumulator* value =
          b.declare(Scalar::f32, loop::Combine::add, a.cast(thread, Scalar::f32));
      b.loop(a.integer(rounds), [&](Ex) {
        b.store(tile, thread, a.add(b.read(value), one));
        between(after_writing, thread);
        b.assign(value, a.load(tile, b.let_within(other, 0, threads - 1)));
        between(after_reading, thread);
      });
      b.store(y, a.add(a.mul(block, a.integer(threads)), thread), b.read(value));
    });
  }

  void between(Between what, Ex thread) {
    const Ex word = b.let(a.cast(thread, Scalar::i32));
    switch (what) {
      case Between::sync_warp:
        b.call(intrinsic("sync_warp"), {});
        break;
      case Between::barrier:
        b.barrier();
        break;
      case Between::nothing:
        break;
      case Between::shuffle:
        b.call(intrinsic("shuffle_xor.i32"), {word, a.integer(Scalar::i32, 1)});
        break;
      case Between::vote:
        b.call(intrinsic("all"), {a.boolean(true)});
        break;
      case Between::reduction:
        b.call(intrinsic("reduce_add.i32"), {word});
        break;
      case Between::product: {
        std::vector<Ex> operands(6, a.integer(Scalar::i32, 0));
        operands.insert(operands.end(), 4, a.constant(Scalar::f32, 0));
        b.call(intrinsic("mma.m16n8k16.f16"), operands);
        break;
      }
    }
  }

  /// Nothing and the right values, or races and what follows from them, with every seed.
  void expect(bool right) {
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
      tests::Arguments arguments(kernel);
      const std::vector<Report> reports = arguments.run({.seed = seed});
      std::set<Kind> found = tests::kinds(reports);
      if (!right) found.erase(Kind::uninitialised);
      EXPECT_EQ(found, right ? std::set<Kind>{} : std::set{Kind::race}) << "seed " << seed << ":\n"
                                                                        << tests::all(reports);
      for (std::int64_t i = 0; right && i < grid * threads; ++i) {
        const std::int64_t from = rounds % 2 == 1 ? i % threads ^ distance : i % threads;
        EXPECT_EQ(arguments.get(0, i), static_cast<double>(from + rounds)) << seed << ", " << i;
      }
    }
  }
};

TEST(InterpretWarp, LanesThatAreOrdered) {
  for (const Between first : {Between::sync_warp, Between::barrier}) {
    for (const Between second : {Between::sync_warp, Between::barrier}) {
      for (const bool clocks : {false, true}) Exchange(first, second, 8, clocks).expect(true);
    }
  }
}

TEST(InterpretWarp, LanesThatAreNot) {
  for (const Between wrong :
       {Between::nothing, Between::shuffle, Between::vote, Between::reduction, Between::product}) {
    SCOPED_TRACE(static_cast<int>(wrong));
    for (const bool clocks : {false, true}) {
      Exchange(wrong, Between::barrier, 8, clocks).expect(false);
      Exchange(Between::barrier, wrong, 8, clocks).expect(false);
      Exchange(wrong, wrong, 8, clocks).expect(false);
    }
    Exchange(wrong, Between::sync_warp, 8, true).expect(false);
    Exchange(Between::sync_warp, wrong, 8, true).expect(false);
  }
}

TEST(InterpretWarp, WarpsAreOrderedByBarriersOnly) {
  Exchange(Between::barrier, Between::barrier, 32, true).expect(true);
  Exchange(Between::sync_warp, Between::barrier, 32, true).expect(false);
  Exchange(Between::barrier, Between::sync_warp, 32, true).expect(false);
}

TEST(InterpretWarp, AWarpMeetsAsAWhole) {
  Kernel kernel;
  kernel.name = "half";
  loop::Arena& a = kernel.arena;
  Builder b(kernel);
  b.phase(1, 32, [&](Ex, Ex thread) {
    b.condition(a.less(thread, a.integer(16)), [&] { b.call(intrinsic("sync_warp"), {}); });
  });
  tests::Arguments arguments(kernel);
  const std::vector<Report> reports = arguments.run();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].kind, Kind::partial_warp);
}

}  // namespace
}  // namespace weft
