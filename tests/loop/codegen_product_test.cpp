#include <gtest/gtest.h>

#include <bit>

#include "tests/loop/compare.h"

// What matrix products are made of: stores that transpose, sums of lanes read together, and
// products of pairs of 16-bit numbers.
namespace weft {
namespace {

using loop::Builder;
using loop::Combine;
using loop::Ex;
using loop::Kernel;
using loop::Role;
using loop::Scalar;
using tests::expect_same;
using tests::Number;

TEST(Product, StoresToNeighboursTranspose) {
  for (const DType dtype : {DType::f32, DType::f64, DType::i32, DType::bf16}) {
    for (const std::int64_t rows : {2, 3, 4, 7, 12, 16, 19}) {
      for (const std::int64_t steps : {5, 16, 40}) {
        Kernel kernel;
        auto& arena = kernel.arena;
        const auto* x = kernel.argument("x", dtype, rows * steps, false);
        const auto* y = kernel.argument("y", dtype, rows * steps, true);
        Builder builder(kernel);
        builder.phase(1, [&](Ex) {
          builder.loop(steps, Role::vector, 16, [&](Ex k) {
            std::vector<Ex> values;
            for (std::int64_t r = 0; r < rows; ++r) {
              values.push_back(builder.let(arena.load(x, arena.add(arena.integer(r * steps), k))));
            }
            for (std::int64_t r = 0; r < rows; ++r) {
              builder.store(y, arena.add(arena.mul(k, arena.integer(rows)), arena.integer(r)),
                            values[static_cast<std::size_t>(r)]);
            }
          });
        });
        expect_same(kernel);
      }
    }
  }
}

TEST(Product, TransposedStoresThatOverlapKeepTheirOrder) {
  // Three neighbours at a distance of two: a later lane's first is an earlier lane's third.
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::f32, 3 * 16, false);
  const auto* y = kernel.argument("y", DType::f32, 2 * 16 + 1, true);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    builder.loop(16, Role::vector, 16, [&](Ex k) {
      for (std::int64_t r = 0; r < 3; ++r) {
        const Ex value = arena.load(x, arena.add(arena.integer(r * 16), k));
        builder.store(y, arena.add(arena.mul(k, arena.integer(2)), arena.integer(r)), value);
      }
    });
  });
  EXPECT_NO_THROW(expect_same(kernel, [](const loop::Buffer& buffer, std::int64_t i) {
    // The third stores of lanes give what the first ones of the next lanes do.
    return Number{0, buffer.name == "x" ? static_cast<double>(i < 16   ? i
                                                              : i < 32 ? 7
                                                                       : i - 31)
                                        : 0.0};
  }));
}

TEST(Product, SumsOfLanesAreReadTogether) {
  for (const Scalar type : {Scalar::f32, Scalar::i32}) {
    for (const Combine combine : {Combine::add, Combine::maximum}) {
      for (const int count : {2, 3, 8, 17}) {
        constexpr std::int64_t extent = 37;
        Kernel kernel;
        auto& arena = kernel.arena;
        const DType dtype = type == Scalar::f32 ? DType::f32 : DType::i32;
        const auto* x = kernel.argument("x", dtype, count * extent, false);
        const auto* y = kernel.argument("y", dtype, count, true);
        Builder builder(kernel);
        builder.phase(1, [&](Ex) {
          std::vector<loop::Accumulator*> sums;
          for (int i = 0; i < count; ++i) {
            const Ex initial =
                type == Scalar::f32 ? arena.constant(type, i) : arena.integer(type, i);
            sums.push_back(builder.declare(type, combine, initial));
          }
          builder.loop(extent, Role::vector, 16, [&](Ex k) {
            for (int i = 0; i < count; ++i) {
              builder.accumulate(sums[static_cast<std::size_t>(i)],
                                 arena.load(x, arena.add(arena.integer(i * extent), k)));
            }
          });
          std::vector<Ex> values;
          for (loop::Accumulator* sum : sums) values.push_back(builder.read(sum));
          for (int i = 0; i < count; ++i) {
            builder.store(y, arena.integer(i), values[static_cast<std::size_t>(i)]);
          }
        });
        expect_same(kernel);
      }
    }
  }
}

/// Small whole numbers in both halves: every order of summation is exact.
Number pairs(const loop::Buffer& buffer, std::int64_t i) {
  const auto half = [](std::int64_t value) {
    return std::bit_cast<std::uint32_t>(static_cast<float>(value)) >> 16;
  };
  if (buffer.dtype != DType::i32) return Number{0, static_cast<double>(i % 5)};
  const std::uint32_t word = half(i % 7 - 3) | half(i % 11 - 5) << 16;
  return Number{static_cast<std::int32_t>(word), 0};
}

TEST(Product, PairsOfSixteenBitNumbers) {
  for (const int width : {4, 16, 32}) {
    Kernel kernel;
    auto& arena = kernel.arena;
    constexpr std::int64_t extent = 75;
    const auto* a = kernel.argument("a", DType::i32, extent, false);
    const auto* b = kernel.argument("b", DType::i32, extent, false);
    const auto* c = kernel.argument("c", DType::f32, extent, false);
    const auto* y = kernel.argument("y", DType::f32, extent, true);
    Builder builder(kernel);
    builder.phase(1, [&](Ex) {
      const Ex first = arena.load(b, arena.integer(0));
      builder.loop(extent, Role::vector, width, [&](Ex i) {
        const Ex once = arena.dot_pair(arena.load(a, i), arena.load(b, i), arena.load(c, i));
        builder.store(y, i, arena.dot_pair(arena.load(b, i), first, once));
      });
    });
    expect_same(kernel, pairs);
  }
}

TEST(Product, Tiles) {
  for (const int rows : {16, 32}) {
    for (const int columns : {16, 32}) {
      for (const bool accumulate : {false, true}) {
        Kernel kernel;
        auto& arena = kernel.arena;
        const auto* a = kernel.argument("a", DType::i32, 2 * 32 * 50, false);
        const auto* b = kernel.argument("b", DType::i32, 48 * 40, false);
        const auto* y = kernel.argument("y", DType::f32, 2 * 32 * 35, true);
        Builder builder(kernel);
        builder.phase(2, [&](Ex block) {
          loop::TileProduct product;
          product.sums = {y, arena.mul(block, arena.integer(32L * 35)), 35};
          product.left = {a, arena.mul(block, arena.integer(32L * 50)), 50};
          product.right = {b, arena.integer(3), 40};
          product.rows = rows;
          product.columns = columns;
          product.steps = arena.mul(arena.add(block, arena.integer(1)), arena.integer(16));
          product.accumulate = accumulate;
          builder.tile_product(product);
          // Read again after it was written.
          builder.store(y, arena.mul(block, arena.integer(32L * 35)),
                        arena.load(y, arena.add(product.sums.index, arena.integer(1))));
        });
        expect_same(kernel, pairs);
      }
    }
  }
}

TEST(Product, TilesAreChecked) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* a = kernel.argument("a", DType::i32, 1024, false);
  const auto* y = kernel.argument("y", DType::f32, 1024, true);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    const auto make = [&](const loop::Buffer* sums, int rows, std::int64_t steps) {
      const Ex zero = arena.integer(0);
      return loop::TileProduct{{sums, zero, 32},    {a, zero, 16}, {a, zero, 16}, rows, 16,
                               arena.integer(steps)};
    };
    EXPECT_NO_THROW(builder.tile_product(make(y, 32, 16)));
    EXPECT_THROW(builder.tile_product(make(y, 12, 16)), std::logic_error);
    EXPECT_THROW(builder.tile_product(make(y, 16, 8)), std::logic_error);
    EXPECT_THROW(builder.tile_product(make(a, 16, 16)), std::logic_error);
  });
}

}  // namespace
}  // namespace weft
