#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "tests/loop/interpreted.h"

/// Each kind of report, provoked by a kernel that is wrong in one place, next to the same kernel
/// put right.
namespace weft {
namespace {

using loop::Buffer;
using loop::Builder;
using loop::Ex;
using loop::intrinsic;
using loop::Kernel;
using loop::Report;
using loop::Role;
using loop::Scalar;
using tests::all;
using tests::kinds;
using Kind = loop::Report::Kind;

/// Kernels of one phase with an input and an output of 256 f32 and as many in shared memory.
struct Bench {
  using Body = std::function<void(Ex block, Ex thread)>;

  Kernel kernel;
  loop::Arena& arena = kernel.arena;
  const Buffer* in = kernel.argument("in", DType::f32, 256, false);
  const Buffer* out = kernel.argument("out", DType::f32, 256, true);
  const Buffer* tile = kernel.shared("tile", DType::f32, 256);
  Builder builder{kernel};

  Ex integer(std::int64_t value) { return arena.integer(value); }
  Ex plus(Ex a, std::int64_t b) { return arena.add(a, integer(b)); }
  Ex one() { return arena.constant(Scalar::f32, 1); }

  std::vector<Report> run(std::int64_t grid, std::int64_t threads, const Body& body,
                          std::uint64_t seed = 0) {
    kernel.name = "bench";
    builder.phase(grid, threads, body);
    tests::Arguments arguments(kernel);
    arguments.fill(0, [](std::int64_t i) { return i; });
    return arguments.run({.seed = seed});
  }
};

/// Expects reports of these kinds and no others.
void expect_kinds(const std::vector<Report>& reports, const std::set<Kind>& wanted) {
  EXPECT_EQ(kinds(reports), wanted) << all(reports);
}

TEST(InterpretReport, OutOfRange) {
  Bench bench;
  const auto reports = bench.run(1, 64, [&](Ex, Ex thread) {
    bench.builder.store(bench.out, bench.plus(thread, 200), bench.one());
  });
  ASSERT_EQ(reports.size(), 1U) << all(reports);
  EXPECT_EQ(reports[0].kind, Kind::out_of_range);
  EXPECT_EQ(reports[0].count, 8);
  EXPECT_EQ(reports[0].block, 0);
  EXPECT_EQ(reports[0].warp, 1);
  EXPECT_EQ(reports[0].lane, 24);  // thread 56 is the first of which 200 + thread leaves 256
  EXPECT_EQ(reports[0].text, "out[256] (4 bytes) of 256 elements");
  EXPECT_EQ(print(reports[0]),
            "kernel bench, phase 0, block 0, warp 1, lane 24: out of range: "
            "out[256] (4 bytes) of 256 elements (8 times): " +
                reports[0].statement);
  EXPECT_NE(reports[0].statement.find("out["), std::string::npos);

  Bench guarded;
  EXPECT_EQ(all(guarded.run(1, 64,
                            [&](Ex, Ex thread) {
                              const Ex index = guarded.plus(thread, 200);
                              guarded.builder.store(
                                  guarded.out, index, guarded.one(),
                                  guarded.arena.less(index, guarded.integer(256)));
                            })),
            "");

  Bench loads;
  expect_kinds(loads.run(1, 32,
                         [&](Ex, Ex thread) {
                           const Ex index = loads.plus(thread, -1);
                           loads.builder.store(loads.out, thread,
                                               loads.arena.load(loads.in, index));
                         }),
               {Kind::out_of_range});
}

TEST(InterpretReport, Uninitialised) {
  const auto body = [](Bench& bench, bool complete) {
    return [&bench, complete](Ex, Ex thread) {
      auto& arena = bench.arena;
      const Ex even = arena.equal(arena.floor_mod(thread, 2), bench.integer(0));
      bench.builder.store(bench.tile, thread, bench.one(), complete ? nullptr : even);
      bench.builder.barrier();
      bench.builder.store(bench.out, thread, arena.load(bench.tile, thread));
    };
  };
  Bench wrong, right;
  expect_kinds(wrong.run(1, 64, body(wrong, false)), {Kind::uninitialised});
  expect_kinds(right.run(1, 64, body(right, true)), {});

  // Memory of one thread, and not what a block before has left in shared memory.
  Bench local;
  const Buffer* own = local.kernel.local("own", DType::f16, 4);
  expect_kinds(local.run(1, 32,
                         [&](Ex, Ex thread) {
                           auto& arena = local.arena;
                           local.builder.store(own, local.integer(1), local.one());
                           local.builder.store(local.out, thread,
                                               arena.add(arena.load(own, local.integer(1)),
                                                         arena.load(own, local.integer(2))));
                         }),
               {Kind::uninitialised});
  Bench blocks;
  expect_kinds(
      blocks.run(2, 32,
                 [&](Ex block, Ex thread) {
                   auto& arena = blocks.arena;
                   blocks.builder.condition(arena.equal(block, blocks.integer(0)), [&] {
                     blocks.builder.store(blocks.tile, thread, blocks.one());
                   });
                   const Ex index = arena.add(arena.mul(block, blocks.integer(32)), thread);
                   blocks.builder.store(blocks.out, index, arena.load(blocks.tile, thread));
                 }),
      {Kind::uninitialised});
}

/// Each thread writes its element and reads that of the thread `distance` further.
Bench::Body neighbours(Bench& bench, std::int64_t distance, bool barrier) {
  return [&bench, distance, barrier](Ex, Ex thread) {
    auto& arena = bench.arena;
    bench.builder.store(bench.tile, thread, arena.cast(thread, Scalar::f32));
    if (barrier) bench.builder.barrier();
    const Ex other = arena.floor_mod(bench.plus(thread, distance), 128);
    bench.builder.store(bench.out, thread, arena.load(bench.tile, other));
  };
}

TEST(InterpretReport, RaceWithoutBarrier) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    Bench warps, lanes, right;
    // Between warps; between lanes of a warp, whose lockstep is no excuse.
    const auto found = warps.run(1, 128, neighbours(warps, 32, false), seed);
    EXPECT_TRUE(std::any_of(found.begin(), found.end(), [](const Report& report) {
      return report.kind == Kind::race;
    })) << all(found);
    const auto between = lanes.run(1, 128, neighbours(lanes, 1, false), seed);
    EXPECT_TRUE(std::any_of(between.begin(), between.end(), [](const Report& report) {
      return report.kind == Kind::race;
    })) << all(between);
    expect_kinds(right.run(1, 128, neighbours(right, 32, true), seed), {});
  }
  Bench own;
  expect_kinds(own.run(1, 128, neighbours(own, 0, false)), {});
}

TEST(InterpretReport, RaceOfWrites) {
  Bench bench;
  // All lanes to one element, though with the same value.
  const auto reports = bench.run(
      1, 32, [&](Ex, Ex) { bench.builder.store(bench.out, bench.integer(3), bench.one()); });
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].kind, Kind::race);
  EXPECT_EQ(reports[0].lane, 1);
  EXPECT_EQ(reports[0].text, "out[3] is written; thread 0 wrote it with no barrier since");

  // A second barrier is missing: the tile is written again while others may still read it.
  for (const bool barrier : {false, true}) {
    Bench twice;
    const auto found = twice.run(1, 64, [&](Ex, Ex thread) {
      auto& arena = twice.arena;
      twice.builder.loop(2, Role::serial, 1, [&](Ex) {
        twice.builder.store(twice.tile, thread, twice.one());
        twice.builder.barrier();
        const Ex other = arena.sub(twice.integer(63), thread);
        twice.builder.store(twice.out, thread, arena.load(twice.tile, other));
        if (barrier) twice.builder.barrier();
      });
    });
    expect_kinds(found, barrier ? std::set<Kind>{} : std::set<Kind>{Kind::race});
  }
}

TEST(InterpretReport, RaceInGlobalMemoryWithinABlock) {
  for (const bool barrier : {false, true}) {
    Bench bench;
    const auto reports = bench.run(1, 64, [&](Ex, Ex thread) {
      auto& arena = bench.arena;
      bench.builder.store(bench.out, thread, bench.one());
      if (barrier) bench.builder.barrier();
      const Ex other = arena.sub(bench.integer(63), thread);
      bench.builder.store(bench.out, bench.plus(thread, 64), arena.load(bench.out, other));
    });
    expect_kinds(reports, barrier ? std::set<Kind>{} : std::set<Kind>{Kind::race});
  }
}

TEST(InterpretReport, RaceOfBlocks) {
  Bench bench;
  const auto reports = bench.run(2, 32, [&](Ex block, Ex thread) {
    auto& arena = bench.arena;
    // Block 1 begins with the last element of block 0.
    bench.builder.store(bench.out, arena.add(arena.mul(block, bench.integer(31)), thread),
                        bench.one());
  });
  ASSERT_EQ(reports.size(), 1U) << all(reports);
  EXPECT_EQ(reports[0].kind, Kind::race_of_blocks);
  EXPECT_EQ(reports[0].block, 1);
  EXPECT_EQ(reports[0].lane, 0);
  EXPECT_EQ(reports[0].text, "out[31] is written; block 0 wrote it in the same phase");

  // One block reads what another writes; the next phase may.
  Bench reads;
  reads.kernel.name = "reads";
  expect_kinds(reads.run(2, 32,
                         [&](Ex block, Ex thread) {
                           auto& arena = reads.arena;
                           const Ex own = arena.add(arena.mul(block, reads.integer(32)), thread);
                           const Ex other = arena.sub(reads.integer(63), own);
                           reads.builder.store(reads.out, reads.plus(own, 64),
                                               arena.load(reads.out, other));
                           reads.builder.store(reads.out, own, reads.one());
                         }),
               {Kind::race_of_blocks});
  Bench phases;
  phases.builder.phase(2, 32, [&](Ex block, Ex thread) {
    auto& arena = phases.arena;
    phases.builder.store(phases.out, arena.add(arena.mul(block, phases.integer(32)), thread),
                         phases.one());
  });
  expect_kinds(phases.run(2, 32,
                          [&](Ex block, Ex thread) {
                            auto& arena = phases.arena;
                            const Ex own = arena.add(arena.mul(block, phases.integer(32)), thread);
                            const Ex other = arena.sub(phases.integer(63), own);
                            phases.builder.store(phases.out, phases.plus(own, 64),
                                                 arena.load(phases.out, other));
                          }),
               {});
}

TEST(InterpretReport, RaceOfBlocksOnTheHost) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const Buffer* out = kernel.argument("out", DType::f32, 4, true);
  Builder builder(kernel);
  builder.phase(4, [&](Ex block) {
    builder.store(out, arena.floor_div(block, 2), arena.constant(Scalar::f32, 1));
  });
  tests::Arguments arguments(kernel);
  expect_kinds(arguments.run(), {Kind::race_of_blocks});
}

TEST(InterpretReport, ArgumentsOfTheSameMemory) {
  // In place, by elements: fine; shifted by one: a race, though the buffers are two.
  for (const std::int64_t shift : {0, 1}) {
    Bench bench;
    bench.builder.phase(1, 64, [&](Ex, Ex thread) {
      bench.builder.store(bench.out, thread, bench.arena.load(bench.in, bench.plus(thread, shift)));
    });
    std::vector<std::byte> memory(256 * 4);
    const std::vector<std::span<std::byte>> spans = {memory, memory};
    expect_kinds(loop::interpret(bench.kernel, spans),
                 shift == 0 ? std::set<Kind>{} : std::set<Kind>{Kind::race});
  }
}

TEST(InterpretReport, DivergentBarrier) {
  // Some lanes of each warp; one warp of two; two warps at different barriers.
  Bench lanes;
  auto reports = lanes.run(1, 64, [&](Ex, Ex thread) {
    lanes.builder.condition(lanes.arena.less(lanes.arena.floor_mod(thread, 32), lanes.integer(16)),
                            [&] { lanes.builder.barrier(); });
  });
  expect_kinds(reports, {Kind::barrier});
  EXPECT_EQ(reports[0].lane, 16);
  EXPECT_EQ(reports[0].statement, "barrier");

  Bench warps;
  reports = warps.run(1, 64, [&](Ex, Ex thread) {
    warps.builder.condition(warps.arena.less(thread, warps.integer(32)),
                            [&] { warps.builder.barrier(); });
  });
  expect_kinds(reports, {Kind::barrier});
  EXPECT_EQ(reports[0].warp, 1);

  Bench two;
  expect_kinds(two.run(1, 64,
                       [&](Ex, Ex thread) {
                         const Ex first = two.arena.less(thread, two.integer(32));
                         two.builder.condition(first, [&] { two.builder.barrier(); });
                         two.builder.condition(two.arena.logical_not(first),
                                               [&] { two.builder.barrier(); });
                       }),
               {Kind::barrier});

  // All of a block or none, though some blocks do and some do not.
  Bench right;
  expect_kinds(right.run(4, 64,
                         [&](Ex block, Ex) {
                           right.builder.condition(right.arena.less(block, right.integer(2)),
                                                   [&] { right.builder.barrier(); });
                         }),
               {});
}

TEST(InterpretReport, PartialWarp) {
  Bench bench;
  const auto call = [&](Ex thread) {
    const Ex value = bench.arena.load(bench.in, thread);
    bench.builder.call(intrinsic("shuffle_xor.f32"), {value, bench.arena.integer(Scalar::i32, 1)});
  };
  const auto reports = bench.run(1, 64, [&](Ex, Ex thread) {
    call(thread);
    bench.builder.condition(bench.arena.less(thread, bench.integer(40)), [&] { call(thread); });
  });
  ASSERT_EQ(reports.size(), 1U) << all(reports);
  EXPECT_EQ(reports[0].kind, Kind::partial_warp);
  EXPECT_EQ(reports[0].warp, 1);
  EXPECT_EQ(reports[0].lane, 8);
  // A block that ends within a warp.
  Bench odd;
  expect_kinds(odd.run(1, 48,
                       [&](Ex, Ex thread) {
                         odd.builder.call(intrinsic("ballot"),
                                          {odd.arena.less(thread, odd.integer(3))});
                       }),
               {Kind::partial_warp});
}

enum class Mistake : std::uint8_t { none, no_wait, wait_too_few, no_commit, no_barrier };

/// Copies a row of 128 bytes a warp in two groups and reads it back.
Bench::Body copying(Bench& bench, Mistake mistake, std::int64_t distance) {
  return [&bench, mistake, distance](Ex, Ex thread) {
    auto& arena = bench.arena;
    const Ex yes = arena.boolean(true);
    for (int half = 0; half < 2; ++half) {
      const Ex at = bench.plus(thread, half * 64);
      bench.builder.call(intrinsic("copy_async.4"), {yes}, {{bench.tile, at}, {bench.in, at}});
      if (mistake != Mistake::no_commit) bench.builder.call(intrinsic("copy_commit"), {});
    }
    const std::int64_t groups = mistake == Mistake::wait_too_few ? 1 : 0;
    if (mistake != Mistake::no_wait) {
      bench.builder.call(intrinsic("copy_wait"), {arena.integer(Scalar::i32, groups)});
    }
    if (mistake != Mistake::no_barrier) bench.builder.barrier();
    const Ex other = arena.floor_mod(bench.plus(thread, distance), 64);
    bench.builder.store(bench.out, thread, arena.load(bench.tile, bench.plus(other, 64)));
  };
}

TEST(InterpretReport, AsynchronousCopies) {
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    for (const std::int64_t distance : {0, 1, 32}) {
      for (const Mistake mistake : {Mistake::no_wait, Mistake::wait_too_few, Mistake::no_commit}) {
        Bench bench;
        expect_kinds(bench.run(1, 64, copying(bench, mistake, distance), seed), {Kind::in_flight});
      }
      Bench right;
      expect_kinds(right.run(1, 64, copying(right, Mistake::none, distance), seed), {});
    }
    // Without a barrier a thread may read what it has copied itself, but no more.
    Bench own, others;
    expect_kinds(own.run(1, 64, copying(own, Mistake::no_barrier, 0), seed), {});
    const auto reports = others.run(1, 64, copying(others, Mistake::no_barrier, 1), seed);
    EXPECT_FALSE(reports.empty());
    for (const Report& report : reports) {
      EXPECT_TRUE(report.kind == Kind::race || report.kind == Kind::in_flight ||
                  report.kind == Kind::uninitialised)
          << print(report);
    }
  }
}

TEST(InterpretReport, Misaligned) {
  // Four elements at once, from one that is no multiple of four.
  for (const std::int64_t offset : {0, 1, 2, 4}) {
    Bench bench;
    const auto reports = bench.run(1, 32, [&](Ex, Ex thread) {
      auto& arena = bench.arena;
      bench.builder.loop(4, Role::vector, 4, [&](Ex i) {
        const Ex at = arena.add(arena.mul(thread, bench.integer(4)), i);
        bench.builder.store(bench.out, at, arena.load(bench.in, bench.plus(at, offset)));
      });
    });
    expect_kinds(reports, offset % 4 == 0 ? std::set<Kind>{} : std::set<Kind>{Kind::misaligned});
  }
}

TEST(InterpretReport, MisalignedCopies) {
  for (const std::int64_t offset : {0, 2, 4}) {
    Bench bench;
    const auto reports = bench.run(1, 32, [&](Ex, Ex thread) {
      auto& arena = bench.arena;
      const Ex at = arena.mul(thread, bench.integer(4));
      bench.builder.call(intrinsic("copy_async.16"), {arena.boolean(true)},
                         {{bench.tile, at}, {bench.in, bench.plus(at, offset)}});
    });
    expect_kinds(reports, offset == 2 ? std::set<Kind>{Kind::misaligned} : std::set<Kind>{});
  }
}

TEST(InterpretReport, WrongArgumentsAreErrors) {
  Bench bench;
  bench.builder.phase(1, 32,
                      [&](Ex, Ex thread) { bench.builder.store(bench.out, thread, bench.one()); });
  std::vector<std::byte> memory(1024), small(1000);
  std::vector<std::span<std::byte>> spans = {memory};
  EXPECT_THROW(loop::interpret(bench.kernel, spans), std::logic_error);
  spans = {memory, small};
  EXPECT_THROW(loop::interpret(bench.kernel, spans), std::logic_error);
}

}  // namespace
}  // namespace weft
