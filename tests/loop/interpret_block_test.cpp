#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/loop/interpreted.h"

/// Right kernels of whole blocks: nothing to report and the right results under many seeds.
namespace weft {
namespace {

using loop::Accumulator;
using loop::Buffer;
using loop::Builder;
using loop::Combine;
using loop::Ex;
using loop::intrinsic;
using loop::Kernel;
using loop::Role;
using loop::Scalar;

constexpr std::uint64_t seeds = 12;

/// Sums each row of `columns` by a block: threads in strides, lanes by shuffles, warps through
/// shared memory.
void build_row_sums(Kernel& kernel, std::int64_t rows, std::int64_t columns, std::int64_t threads) {
  auto& arena = kernel.arena;
  const Buffer* x = kernel.argument("x", DType::f32, rows * columns, false);
  const Buffer* out = kernel.argument("out", DType::f32, rows, true);
  const Buffer* partial = kernel.shared("partial", DType::f32, 32);
  Builder builder(kernel);
  const auto over_lanes = [&](Ex value) {
    for (int distance = 16; distance > 0; distance /= 2) {
      const Ex other = builder.call(intrinsic("shuffle_xor.f32"),
                                    {value, arena.integer(Scalar::i32, distance)})[0];
      value = builder.let(arena.add(value, other));
    }
    return value;
  };
  builder.phase(rows, threads, [&](Ex block, Ex thread) {
    const Ex zero = arena.constant(Scalar::f32, 0);
    Accumulator* sum = builder.declare(Scalar::f32, Combine::add, zero);
    builder.loop((columns + threads - 1) / threads, Role::serial, 1, [&](Ex i) {
      const Ex column = arena.add(arena.mul(i, arena.integer(threads)), thread);
      builder.accumulate(sum,
                         arena.load(x, arena.add(arena.mul(block, arena.integer(columns)), column),
                                    arena.less(column, arena.integer(columns))));
    });
    const Ex lane = arena.floor_mod(thread, 32);
    const Ex warp_sum = over_lanes(builder.read(sum));
    builder.store(partial, arena.floor_div(thread, 32), warp_sum,
                  arena.equal(lane, arena.integer(0)));
    builder.barrier();
    builder.condition(arena.less(thread, arena.integer(32)), [&] {
      const Ex total =
          over_lanes(arena.load(partial, thread, arena.less(thread, arena.integer(threads / 32))));
      builder.store(out, block, total, arena.equal(thread, arena.integer(0)));
    });
  });
}

TEST(InterpretBlock, RowSums) {
  for (const std::int64_t threads : {32, 128}) {
    Kernel kernel;
    build_row_sums(kernel, 3, 301, threads);
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
      tests::Arguments arguments(kernel);
      // Whole numbers: exact in any order.
      arguments.fill(0, [](std::int64_t i) { return i * 37 % 101 - 50; });
      arguments.run_clean({.seed = seed});
      for (std::int64_t row = 0; row < 3; ++row) {
        double wanted = 0;
        for (std::int64_t i = 0; i < 301; ++i) wanted += arguments.get(0, row * 301 + i);
        EXPECT_EQ(arguments.get(1, row), wanted) << row;
      }
    }
  }
}

TEST(InterpretBlock, TiledTranspose) {
  constexpr std::int64_t rows = 70, columns = 45, tile = 32, height = 8;
  Kernel kernel;
  auto& arena = kernel.arena;
  const Buffer* x = kernel.argument("x", DType::bf16, rows * columns, false);
  const Buffer* out = kernel.argument("out", DType::bf16, rows * columns, true);
  const Buffer* shared = kernel.shared("tile", DType::bf16, tile * (tile + 1));
  Builder builder(kernel);
  constexpr std::int64_t across = (columns + tile - 1) / tile;
  constexpr std::int64_t down = (rows + tile - 1) / tile;
  builder.phase(across * down, tile * height, [&](Ex block, Ex thread) {
    const auto number = [&](std::int64_t value) { return arena.integer(value); };
    const Ex first_row = arena.mul(arena.floor_div(block, across), number(tile));
    const Ex first_column = arena.mul(arena.floor_mod(block, across), number(tile));
    const Ex minor = arena.floor_mod(thread, tile);
    const auto inside = [&](Ex row, Ex column) {
      return arena.logical_and(arena.less(row, number(rows)), arena.less(column, number(columns)));
    };
    builder.loop(tile / height, Role::unrolled, 1, [&](Ex i) {
      const Ex major = arena.add(arena.mul(i, number(height)), arena.floor_div(thread, tile));
      const Ex row = arena.add(first_row, major), column = arena.add(first_column, minor);
      builder.store(
          shared, arena.add(arena.mul(major, number(tile + 1)), minor),
          arena.load(x, arena.add(arena.mul(row, number(columns)), column), inside(row, column)));
    });
    builder.barrier();
    builder.loop(tile / height, Role::unrolled, 1, [&](Ex i) {
      const Ex major = arena.add(arena.mul(i, number(height)), arena.floor_div(thread, tile));
      const Ex row = arena.add(first_row, minor), column = arena.add(first_column, major);
      builder.store(out, arena.add(arena.mul(column, number(rows)), row),
                    arena.load(shared, arena.add(arena.mul(minor, number(tile + 1)), major)),
                    inside(row, column));
    });
  });
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    tests::Arguments arguments(kernel);
    arguments.fill(0, [](std::int64_t i) { return i % 251 - 125; });
    arguments.run_clean({.seed = seed});
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t column = 0; column < columns; ++column) {
        ASSERT_EQ(arguments.get(1, column * rows + row), arguments.get(0, row * columns + column));
      }
    }
  }
}

TEST(InterpretBlock, TiledProduct) {
  // 48 x 40 by 40 x 32 in tiles of 16: plain shared memory, two barriers a step.
  constexpr std::int64_t m = 48, n = 32, k = 40, tile = 16;
  Kernel kernel;
  auto& arena = kernel.arena;
  const Buffer* a = kernel.argument("a", DType::f32, m * k, false);
  const Buffer* b = kernel.argument("b", DType::f32, k * n, false);
  const Buffer* c = kernel.argument("c", DType::f32, m * n, true);
  const Buffer* left = kernel.shared("left", DType::f32, tile * tile);
  const Buffer* right = kernel.shared("right", DType::f32, tile * tile);
  Builder builder(kernel);
  const auto at = [&](Ex row, std::int64_t columns, Ex column) {
    return arena.add(arena.mul(row, arena.integer(columns)), column);
  };
  builder.phase((m / tile) * (n / tile), tile * tile, [&](Ex block, Ex thread) {
    const Ex y = arena.floor_div(thread, tile), x = arena.floor_mod(thread, tile);
    const Ex row = at(arena.floor_div(block, n / tile), tile, y);
    const Ex column = at(arena.floor_mod(block, n / tile), tile, x);
    Accumulator* sum = builder.declare(Scalar::f32, Combine::add, arena.constant(Scalar::f32, 0));
    builder.loop((k + tile - 1) / tile, Role::serial, 1, [&](Ex step) {
      const Ex across = at(step, tile, x), down = at(step, tile, y);
      builder.store(left, thread,
                    arena.load(a, at(row, k, across), arena.less(across, arena.integer(k))));
      builder.store(right, thread,
                    arena.load(b, at(down, n, column), arena.less(down, arena.integer(k))));
      builder.barrier();
      builder.loop(tile, Role::unrolled, 1, [&](Ex i) {
        builder.accumulate(
            sum, arena.mul(arena.load(left, at(y, tile, i)), arena.load(right, at(i, tile, x))));
      });
      builder.barrier();
    });
    builder.store(c, at(row, n, column), builder.read(sum));
  });
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    tests::Arguments arguments(kernel);
    arguments.fill(0, [](std::int64_t i) { return std::sin(static_cast<double>(i)); });
    arguments.fill(1, [](std::int64_t i) { return std::cos(static_cast<double>(i)); });
    arguments.run_clean({.seed = seed});
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        double wanted = 0, magnitude = 0;
        for (std::int64_t l = 0; l < k; ++l) {
          const double term = arguments.get(0, i * k + l) * arguments.get(1, l * n + j);
          wanted += term;
          magnitude += std::fabs(term);
        }
        // One rounding for each of the padded terms.
        ASSERT_NEAR(arguments.get(2, i * n + j), wanted, 48 * epsilon(DType::f32) * magnitude);
      }
    }
  }
}

TEST(InterpretBlock, AtomicSums) {
  // A histogram: counted in shared memory by each block, then added to the whole.
  constexpr std::int64_t bins = 16, count = 600, threads = 128, blocks = 3;
  Kernel kernel;
  auto& arena = kernel.arena;
  const Buffer* keys = kernel.argument("keys", DType::i32, count, false);
  const Buffer* out = kernel.argument("out", DType::f32, bins, true);
  const Buffer* local = kernel.shared("bins", DType::f32, bins);
  Builder builder(kernel);
  builder.phase(blocks, threads, [&](Ex block, Ex thread) {
    const Ex is_bin = arena.less(thread, arena.integer(bins));
    builder.store(local, thread, arena.constant(Scalar::f32, 0), is_bin);
    builder.barrier();
    builder.loop((count + blocks * threads - 1) / (blocks * threads), Role::serial, 1, [&](Ex i) {
      const Ex turn = arena.add(arena.mul(i, arena.integer(blocks)), block);
      const Ex position = arena.add(arena.mul(turn, arena.integer(threads)), thread);
      builder.condition(arena.less(position, arena.integer(count)), [&] {
        const Ex key = arena.cast(arena.load(keys, position), Scalar::i64);
        builder.call(intrinsic("atomic_add.shared.f32"), {arena.constant(Scalar::f32, 1)},
                     {{local, key}});
      });
    });
    builder.barrier();
    builder.condition(is_bin, [&] {
      builder.call(intrinsic("atomic_add.global.f32"), {arena.load(local, thread)},
                   {{out, thread}});
    });
  });
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    tests::Arguments arguments(kernel);
    std::vector<double> wanted(bins);
    arguments.fill(0, [&](std::int64_t i) {
      const std::int64_t key = i * i % 23 % bins;
      ++wanted[static_cast<std::size_t>(key)];
      return key;
    });
    arguments.run_clean({.seed = seed});
    for (std::int64_t bin = 0; bin < bins; ++bin) {
      EXPECT_EQ(arguments.get(1, bin), wanted[static_cast<std::size_t>(bin)]);
    }
  }
}

TEST(InterpretBlock, PlainAccessesAndAtomicOnesRace) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const Buffer* out = kernel.argument("out", DType::f32, 1, true);
  const Buffer* copy = kernel.argument("copy", DType::f32, 32, true);
  Builder builder(kernel);
  builder.phase(1, 32, [&](Ex, Ex thread) {
    builder.call(intrinsic("atomic_add.global.f32"), {arena.constant(Scalar::f32, 1)},
                 {{out, arena.integer(0)}});
    builder.store(copy, thread, arena.load(out, arena.integer(0)));
  });
  tests::Arguments arguments(kernel);
  const auto reports = arguments.run();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].kind, loop::Report::Kind::race);
  EXPECT_EQ(arguments.get(0, 0), 32);
}

TEST(InterpretBlock, LoopsThatDifferByLane) {
  // Thread t sums 0 to t - 1: lanes leave the loop one after the other.
  Kernel kernel;
  auto& arena = kernel.arena;
  const Buffer* out = kernel.argument("out", DType::i64, 70, true);
  Builder builder(kernel);
  builder.phase(1, 70, [&](Ex, Ex thread) {
    Accumulator* sum = builder.declare(Scalar::i64, Combine::add, arena.integer(0));
    builder.loop(thread, [&](Ex i) { builder.accumulate(sum, i); });
    builder.store(out, thread, builder.read(sum));
  });
  tests::Arguments arguments(kernel);
  arguments.run_clean();
  for (std::int64_t t = 0; t < 70; ++t) {
    EXPECT_EQ(arguments.get(0, t), static_cast<double>(t * (t - 1) / 2));
  }
}

TEST(InterpretBlock, MemoryOfOneThread) {
  // Reverses eight elements through local memory, in vector accesses of four.
  Kernel kernel;
  auto& arena = kernel.arena;
  const Buffer* x = kernel.argument("x", DType::f32, 512, false);
  const Buffer* out = kernel.argument("out", DType::f32, 512, true);
  const Buffer* own = kernel.local("own", DType::f32, 8);
  Builder builder(kernel);
  builder.phase(1, 64, [&](Ex, Ex thread) {
    const Ex first = arena.mul(thread, arena.integer(8));
    builder.loop(8, Role::vector, 4,
                 [&](Ex i) { builder.store(own, i, arena.load(x, arena.add(first, i))); });
    builder.loop(8, Role::vector, 4, [&](Ex i) {
      builder.store(out, arena.add(first, i), arena.load(own, arena.sub(arena.integer(7), i)));
    });
  });
  tests::Arguments arguments(kernel);
  arguments.fill(0, [](std::int64_t i) { return i; });
  arguments.run_clean();
  for (std::int64_t i = 0; i < 512; ++i) {
    EXPECT_EQ(arguments.get(1, i), static_cast<double>(i / 8 * 8 + 7 - i % 8));
  }
}

}  // namespace
}  // namespace weft
