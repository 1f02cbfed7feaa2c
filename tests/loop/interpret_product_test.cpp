#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/loop/interpreted.h"

/// Matrix products by mma, with operands from shared memory through ldmatrix and asynchronous
/// copies into two buffers in turns, against products in double precision.
namespace weft {
namespace {

using loop::Accumulator;
using loop::Buffer;
using loop::Builder;
using loop::Combine;
using loop::Ex;
using loop::intrinsic;
using loop::Kernel;
using loop::Report;
using loop::Role;
using loop::Scalar;

enum class Mistake : std::uint8_t { none, no_first_barrier, no_second_barrier, wait_too_few };

/// C (m x n) = A (m x k) B (k x n) of 16-bit elements. Blocks of 4 warps make tiles of 32 x 16, a
/// warp 16 x 8 of it, in steps of 16.
struct Product {
  static constexpr std::int64_t m = 64, n = 32, k = 40;
  static constexpr std::int64_t tile_m = 32, tile_n = 16, tile_k = 16;
  /// Elements from one row to the next: a multiple of 16 bytes.
  static constexpr std::int64_t pitch = 24;
  static constexpr std::int64_t steps = (k + tile_k - 1) / tile_k;

  Kernel kernel;
  loop::Arena& arena = kernel.arena;
  Builder builder{kernel};
  const Buffer* a;
  const Buffer* b;
  const Buffer* c;
  const Buffer* left;
  const Buffer* right;

  Product(DType dtype, Mistake mistake)
      : a(kernel.argument("a", dtype, m * k, false)),
        b(kernel.argument("b", dtype, k * n, false)),
        c(kernel.argument("c", DType::f32, m * n, true)),
        left(kernel.shared("left", dtype, 2 * tile_m * pitch)),
        right(kernel.shared("right", dtype, 2 * tile_k * pitch)) {
    builder.phase((m / tile_m) * (n / tile_n), 128, [&](Ex block, Ex thread) {
      body(dtype, mistake, arena.mul(arena.floor_div(block, n / tile_n), number(tile_m)),
           arena.mul(arena.floor_mod(block, n / tile_n), number(tile_n)), thread);
    });
  }

  Ex number(std::int64_t value) { return arena.integer(value); }
  Ex at(Ex row, std::int64_t columns, Ex column) {
    return arena.add(arena.mul(row, number(columns)), column);
  }
  Ex times(Ex x, std::int64_t factor) { return arena.mul(x, number(factor)); }

  /// 16 bytes are 8 elements: 64 of the threads copy a piece of A, 32 others one of B.
  void copy(Ex step, Ex row, Ex column, Ex thread) {
    const auto piece = [&](const Buffer* to, Ex to_index, const Buffer* from, Ex from_index,
                           Ex inside) {
      builder.call(intrinsic("copy_async.16"), {inside}, {{to, to_index}, {from, from_index}});
    };
    const Ex turn = arena.floor_mod(step, 2);
    const Ex first = times(step, tile_k);
    builder.condition(arena.less(thread, number(64)), [&] {
      const Ex y = arena.floor_div(thread, 2), x = times(arena.floor_mod(thread, 2), 8);
      const Ex depth = arena.add(first, x);
      piece(left, at(at(turn, tile_m, y), pitch, x), a, at(arena.add(row, y), k, depth),
            arena.less(depth, number(k)));
    });
    const Ex other = arena.sub(thread, number(64));
    builder.condition(
        arena.logical_and(arena.less_equal(number(0), other), arena.less(other, number(32))), [&] {
          const Ex y = arena.floor_div(other, 2);
          const Ex x = times(arena.floor_mod(other, 2), 8);
          const Ex depth = arena.add(first, y);
          piece(right, at(at(turn, tile_k, y), pitch, x), b, at(depth, n, arena.add(column, x)),
                arena.less(depth, number(k)));
        });
  }

  void body(DType dtype, Mistake mistake, Ex row, Ex column, Ex thread) {
    const Ex lane = arena.floor_mod(thread, 32), warp = arena.floor_div(thread, 32);
    const Ex warp_row = times(arena.floor_div(warp, 2), 16);
    const Ex warp_column = times(arena.floor_mod(warp, 2), 8);
    std::vector<Accumulator*> sums;
    for (int i = 0; i < 4; ++i) {
      sums.push_back(builder.declare(Scalar::f32, Combine::add, arena.constant(Scalar::f32, 0)));
    }
    copy(number(0), row, column, thread);
    builder.call(intrinsic("copy_commit"), {});
    builder.loop(steps, Role::serial, 1, [&](Ex step) {
      const Ex next = arena.add(step, number(1));
      builder.condition(arena.less(next, number(steps)), [&] { copy(next, row, column, thread); });
      builder.call(intrinsic("copy_commit"), {});
      const std::int64_t pending = mistake == Mistake::wait_too_few ? 2 : 1;
      builder.call(intrinsic("copy_wait"), {arena.integer(Scalar::i32, pending)});
      if (mistake != Mistake::no_first_barrier) builder.barrier();

      const Ex turn = arena.floor_mod(step, 2);
      // Matrices of A: rows 0-7 and 8-15 of columns 0-7, then of 8-15.
      const Ex a_row = arena.add(at(turn, tile_m, warp_row), arena.floor_mod(lane, 16));
      std::vector<Ex> operands =
          builder.call(intrinsic("load_matrix.x4"), {},
                       {{left, at(a_row, pitch, times(arena.floor_div(lane, 16), 8))}});
      // Of B, which lies along n: rows 0-7 and 8-15, transposed on the way.
      const Ex b_row = arena.add(times(turn, tile_k), arena.floor_mod(lane, 16));
      for (Ex fragment : builder.call(intrinsic("load_matrix.x2.transposed"), {},
                                      {{right, at(b_row, pitch, warp_column)}})) {
        operands.push_back(fragment);
      }
      for (Accumulator* sum : sums) operands.push_back(builder.read(sum));
      const std::vector<Ex> results =
          builder.call(intrinsic("mma.m16n8k16." + std::string(name(dtype))), operands);
      for (std::size_t i = 0; i < 4; ++i) builder.assign(sums[i], results[i]);
      if (mistake != Mistake::no_second_barrier) builder.barrier();
    });
    for (std::int64_t i = 0; i < 4; ++i) {
      const Ex y = arena.add(arena.floor_div(lane, 4), number(8 * (i / 2)));
      const Ex x = arena.add(times(arena.floor_mod(lane, 4), 2), number(i % 2));
      builder.store(c,
                    at(arena.add(arena.add(row, warp_row), y), n,
                       arena.add(arena.add(column, warp_column), x)),
                    builder.read(sums[static_cast<std::size_t>(i)]));
    }
  }
};

/// |C - A B| is at most `roundings` roundings of the sum of absolute terms.
void expect_product(tests::Arguments& arguments, std::int64_t m, std::int64_t n, std::int64_t k,
                    double tolerance) {
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double wanted = 0, magnitude = 0;
      for (std::int64_t l = 0; l < k; ++l) {
        const double term = arguments.get(0, i * k + l) * arguments.get(1, l * n + j);
        wanted += term;
        magnitude += std::fabs(term);
      }
      ASSERT_NEAR(arguments.get(2, i * n + j), wanted, tolerance * magnitude) << i << ", " << j;
    }
  }
}

void fill(tests::Arguments& arguments) {
  arguments.fill(0, [](std::int64_t i) { return std::sin(0.7 * static_cast<double>(i)); });
  arguments.fill(1, [](std::int64_t i) { return std::cos(0.3 * static_cast<double>(i)); });
}

TEST(InterpretProduct, TwoBuffersInTurns) {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    const Product product(dtype, Mistake::none);
    for (std::uint64_t seed = 0; seed < 12; ++seed) {
      tests::Arguments arguments(product.kernel);
      fill(arguments);
      arguments.run_clean({.seed = seed});
      expect_product(arguments, Product::m, Product::n, Product::k,
                     (Product::steps + 1) * epsilon(DType::f32));
    }
  }
}

TEST(InterpretProduct, WhatIsMissingIsFound) {
  for (const Mistake mistake :
       {Mistake::no_first_barrier, Mistake::no_second_barrier, Mistake::wait_too_few}) {
    const Product product(DType::bf16, mistake);
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
      tests::Arguments arguments(product.kernel);
      fill(arguments);
      bool found = false;
      for (const Report& report : arguments.run({.seed = seed})) {
        found =
            found || report.kind == Report::Kind::race || report.kind == Report::Kind::in_flight;
      }
      EXPECT_TRUE(found) << static_cast<int>(mistake) << ", seed " << seed;
    }
  }
}

TEST(InterpretProduct, Tf32) {
  // One warp, 16 x 8 by 8 x 8 in two steps; fragments straight from global memory.
  constexpr std::int64_t m = 16, n = 8, k = 16;
  Kernel kernel;
  auto& arena = kernel.arena;
  const Buffer* a = kernel.argument("a", DType::f32, m * k, false);
  const Buffer* b = kernel.argument("b", DType::f32, k * n, false);
  const Buffer* c = kernel.argument("c", DType::f32, m * n, true);
  Builder builder(kernel);
  const auto at = [&](Ex row, std::int64_t columns, Ex column) {
    return arena.add(arena.mul(row, arena.integer(columns)), column);
  };
  const auto plus = [&](Ex x, std::int64_t y) { return arena.add(x, arena.integer(y)); };
  builder.phase(1, 32, [&](Ex, Ex lane) {
    const Ex group = arena.floor_div(lane, 4), within = arena.floor_mod(lane, 4);
    std::vector<Ex> sums(4, arena.constant(Scalar::f32, 0));
    for (std::int64_t step = 0; step < k; step += 8) {
      std::vector<Ex> operands;
      const auto add = [&](const Buffer* buffer, Ex index) {
        operands.push_back(
            builder.call(intrinsic("round_tf32"), {builder.let(arena.load(buffer, index))})[0]);
      };
      for (std::int64_t i = 0; i < 4; ++i) {
        add(a, at(plus(group, 8 * (i % 2)), k, plus(within, step + 4 * (i / 2))));
      }
      for (std::int64_t i = 0; i < 2; ++i) add(b, at(plus(within, step + 4 * i), n, group));
      operands.insert(operands.end(), sums.begin(), sums.end());
      sums = builder.call(intrinsic("mma.m16n8k8.tf32"), operands);
    }
    for (std::int64_t i = 0; i < 4; ++i) {
      const Ex column = plus(arena.mul(within, arena.integer(2)), i % 2);
      builder.store(c, at(plus(group, 8 * (i / 2)), n, column), sums[static_cast<std::size_t>(i)]);
    }
  });
  tests::Arguments arguments(kernel);
  fill(arguments);
  arguments.run_clean();
  // Ten bits of fraction in each operand, and a rounding a step.
  expect_product(arguments, m, n, k, 2 * 0x1p-11 + 0x1p-22 + 3 * epsilon(DType::f32));
}

}  // namespace
}  // namespace weft
