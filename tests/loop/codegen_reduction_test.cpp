#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "tests/loop/compare.h"
#include "tests/loop/harness.h"

namespace weft {
namespace {

using loop::Accumulator;
using loop::Binary;
using loop::Builder;
using loop::Combine;
using loop::Ex;
using loop::Kernel;
using loop::Role;
using loop::Scalar;
using tests::expect_same;
using tests::Number;

constexpr std::int64_t extents[] = {0, 1, 7, 16, 17, 33, 255};
constexpr Combine combinations[] = {Combine::add, Combine::multiply, Combine::minimum,
                                    Combine::maximum};

Number signs(const loop::Buffer& buffer, std::int64_t index) {
  // 1, -1 and a few 2s: products stay exact.
  const double value = index % 29 == 3 ? 2 : index % 3 == 0 ? -1 : 1;
  return buffer.dtype == DType::f32 || buffer.dtype == DType::f64
             ? Number{0, value}
             : Number{buffer.dtype == DType::u8 ? (index * 37) % 251 : static_cast<long>(value), 0};
}

TEST(Reduction, EveryCombinationInLanes) {
  const std::pair<Scalar, DType> types[] = {{Scalar::f32, DType::f32},
                                            {Scalar::f64, DType::f64},
                                            {Scalar::i32, DType::i32},
                                            {Scalar::i64, DType::i64},
                                            {Scalar::u8, DType::u8}};
  for (const auto& [type, dtype] : types) {
    for (const std::int64_t extent : extents) {
      Kernel kernel;
      auto& arena = kernel.arena;
      const auto* x = kernel.argument("x", dtype, 3 * extent, false);
      const auto* out = kernel.argument("out", dtype, 12, true);
      Builder builder(kernel);
      builder.phase(3, [&](Ex block) {
        std::vector<Accumulator*> sums;
        for (const Combine combine : combinations) {
          sums.push_back(builder.declare(type, combine, arena.constant(type, 3)));
        }
        builder.loop(extent, Role::vector, 16, [&](Ex i) {
          const Ex value = arena.load(x, arena.add(arena.mul(block, arena.integer(extent)), i));
          for (Accumulator* sum : sums) builder.accumulate(sum, value);
        });
        for (std::size_t i = 0; i < sums.size(); ++i) {
          builder.store(out,
                        arena.add(arena.mul(block, arena.integer(4)),
                                  arena.integer(static_cast<std::int64_t>(i))),
                        builder.read(sums[i]));
        }
      });
      expect_same(kernel, signs);
    }
  }
}

TEST(Reduction, ExtremaKeepNaN) {
  for (const std::int64_t place : {0, 5, 16, 20, 36}) {
    Kernel kernel;
    auto& arena = kernel.arena;
    const auto* x = kernel.argument("x", DType::f32, 37, false);
    const auto* out = kernel.argument("out", DType::f32, 2, true);
    Builder builder(kernel);
    builder.phase(1, [&](Ex) {
      const auto infinite = [&](double sign) {
        return arena.constant(Scalar::f32, sign * HUGE_VAL);
      };
      Accumulator* least = builder.declare(Scalar::f32, Combine::minimum, infinite(1));
      Accumulator* greatest = builder.declare(Scalar::f32, Combine::maximum, infinite(-1));
      builder.loop(37, Role::vector, 16, [&](Ex i) {
        builder.accumulate(least, arena.load(x, i));
        builder.accumulate(greatest, arena.load(x, i));
      });
      builder.store(out, arena.integer(0), builder.read(least));
      builder.store(out, arena.integer(1), builder.read(greatest));
    });
    expect_same(kernel, [&](const loop::Buffer& buffer, std::int64_t i) -> Number {
      return {0, buffer.name == "x" && i == place ? NAN : static_cast<double>(i % 7)};
    });
  }
}

TEST(Reduction, BooleansAnyAndAll) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::boolean, 50, false);
  const auto* out = kernel.argument("out", DType::boolean, 4, true);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    std::int64_t place = 0;
    for (const Combine combine : combinations) {
      Accumulator* all = builder.declare(
          Scalar::boolean, combine,
          arena.boolean(combine == Combine::multiply || combine == Combine::minimum));
      builder.loop(50, Role::vector, 16, [&](Ex i) { builder.accumulate(all, arena.load(x, i)); });
      builder.store(out, arena.integer(place++), builder.read(all));
    }
  });
  expect_same(kernel);
  expect_same(kernel, [](const loop::Buffer&, std::int64_t) -> Number { return {1, 0}; });
  expect_same(kernel, [](const loop::Buffer&, std::int64_t) -> Number { return {0, 0}; });
}

TEST(Reduction, LanesBesideScalarsAndOtherWidths) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::f32, 100, false);
  const auto* out = kernel.argument("out", DType::f32, 3, true);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    Accumulator* sum = builder.declare(Scalar::f32, Combine::add, arena.load(x, arena.integer(9)));
    builder.loop(100, Role::vector, 16, [&](Ex i) { builder.accumulate(sum, arena.load(x, i)); });
    builder.accumulate(sum, arena.constant(Scalar::f32, 5));
    // Narrower, because three iterations need no sixteen lanes; and one value for all lanes.
    builder.loop(3, Role::vector, 16, [&](Ex i) { builder.accumulate(sum, arena.load(x, i)); });
    builder.loop(9, Role::vector, 8,
                 [&](Ex) { builder.accumulate(sum, arena.load(x, arena.integer(4))); });
    builder.store(out, arena.integer(0), builder.read(sum));
    builder.assign(sum, arena.constant(Scalar::f32, 1));
    builder.store(out, arena.integer(1), builder.read(sum));
    builder.loop(20, Role::vector, 16, [&](Ex i) { builder.accumulate(sum, arena.load(x, i)); });
    const Ex total = builder.read(sum);
    // Read by the lanes of another loop.
    Accumulator* excess =
        builder.declare(Scalar::f32, Combine::add, arena.constant(Scalar::f32, 0));
    builder.loop(20, Role::vector, 16,
                 [&](Ex i) { builder.accumulate(excess, arena.sub(arena.load(x, i), total)); });
    builder.store(out, arena.integer(2), builder.read(excess));
  });
  expect_same(kernel);
}

TEST(Reduction, OneAccumulatorALane) {
  for (const std::int64_t extent : {7, 16, 35}) {
    Kernel kernel;
    auto& arena = kernel.arena;
    const auto* x = kernel.argument("x", DType::f32, 9 * extent, false);
    const auto* out = kernel.argument("out", DType::f32, 2 * extent, true);
    Builder builder(kernel);
    builder.phase(1, [&](Ex) {
      builder.loop(extent, Role::vector, 16, [&](Ex column) {
        Accumulator* sum =
            builder.declare(Scalar::f32, Combine::add, arena.constant(Scalar::f32, 0.5));
        Accumulator* last = builder.declare(Scalar::f32, Combine::add, arena.load(x, column));
        builder.loop(9, Role::serial, 1, [&](Ex row) {
          const Ex value = arena.load(x, arena.add(arena.mul(row, arena.integer(extent)), column));
          builder.accumulate(sum, value);
          builder.condition(arena.less(value, arena.constant(Scalar::f32, 0)),
                            [&] { builder.assign(last, value); });
        });
        builder.store(out, column, builder.read(sum));
        builder.store(out, arena.add(column, arena.integer(extent)), builder.read(last));
      });
    });
    expect_same(kernel);
  }
}

TEST(Reduction, ConditionsMaskLanes) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::i32, 75, false);
  const auto* flag = kernel.argument("flag", DType::boolean, 3, false);
  const auto* out = kernel.argument("out", DType::i32, 78, true);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    Accumulator* sum = builder.declare(Scalar::i32, Combine::add, arena.integer(Scalar::i32, 0));
    builder.loop(75, Role::vector, 16, [&](Ex i) {
      const Ex value = arena.load(x, i);
      builder.condition(arena.less(value, arena.integer(Scalar::i32, 3)), [&] {
        builder.accumulate(sum, value);
        builder.store(out, i, value);
        builder.condition(arena.less(arena.integer(Scalar::i32, -3), value), [&] {
          builder.store(out, i, arena.add(value, arena.integer(Scalar::i32, 100)));
          builder.loop(2, Role::serial, 1, [&](Ex) { builder.accumulate(sum, value); });
        });
      });
      // Conditions that all lanes share branch.
      builder.condition(arena.load(flag, arena.integer(1)),
                        [&] { builder.accumulate(sum, arena.integer(Scalar::i32, 1000)); });
    });
    for (std::int64_t i = 0; i < 3; ++i) {
      builder.condition(arena.load(flag, arena.integer(i)),
                        [&] { builder.store(out, arena.integer(75 + i), builder.read(sum)); });
    }
  });
  expect_same(kernel);
}

TEST(Reduction, ConditionGuardsLoadsThatWouldLeaveTheBuffer) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::f32, 20, false);
  const auto* at = kernel.argument("at", DType::i64, 1, false);
  const auto* out = kernel.argument("out", DType::f32, 60, true);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    builder.loop(60, Role::vector, 16, [&](Ex i) {
      const Ex none = arena.less(arena.add(i, arena.load(at, arena.integer(0))), arena.integer(0));
      builder.condition(none, [&] {
        // One address for all lanes, far outside.
        builder.store(
            out, i,
            arena.load(x, arena.add(arena.load(at, arena.integer(0)), arena.integer(1'000'000))));
      });
      builder.condition(arena.less(i, arena.integer(20)),
                        [&] { builder.store(out, i, arena.load(x, i)); });
    });
  });
  expect_same(kernel, [](const loop::Buffer& buffer, std::int64_t i) -> Number {
    return buffer.name == "at" ? Number{7, 0} : Number{0, static_cast<double>(i)};
  });
}

TEST(Reduction, LoopsOfRuntimeExtent) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* lengths = kernel.argument("lengths", DType::i64, 6, false);
  const auto* x = kernel.argument("x", DType::f32, 6 * 16, false);
  const auto* out = kernel.argument("out", DType::f32, 16 * 6, true);
  Builder builder(kernel);
  builder.phase(6, [&](Ex block) {
    const Ex length = builder.let(arena.load(lengths, block));
    builder.loop(16, Role::vector, 16, [&](Ex lane) {
      Accumulator* sum = builder.declare(Scalar::f32, Combine::add, arena.constant(Scalar::f32, 1));
      builder.loop(length, [&](Ex row) {
        const Ex position = arena.add(arena.mul(row, arena.integer(16)), lane);
        builder.accumulate(sum, arena.load(x, position));
      });
      builder.store(out, arena.add(arena.mul(block, arena.integer(16)), lane), builder.read(sum));
    });
  });
  expect_same(kernel, [](const loop::Buffer& buffer, std::int64_t i) -> Number {
    return buffer.name == "lengths" ? Number{i - 1, 0} : Number{0, static_cast<double>(i % 11)};
  });
}

TEST(Reduction, PhasesRunOneAfterTheOther) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::f32, 8 * 50, false);
  const auto* partial = kernel.argument("partial", DType::f32, 8, true);
  const auto* out = kernel.argument("out", DType::f32, 8 * 50, true);
  Builder builder(kernel);
  builder.phase(8, [&](Ex block) {
    Accumulator* sum = builder.declare(Scalar::f32, Combine::add, arena.constant(Scalar::f32, 0));
    builder.loop(50, Role::vector, 16, [&](Ex i) {
      builder.accumulate(sum, arena.load(x, arena.add(arena.mul(block, arena.integer(50)), i)));
    });
    builder.store(partial, block, builder.read(sum));
  });
  builder.phase(8, [&](Ex block) {
    Accumulator* sum = builder.declare(Scalar::f32, Combine::add, arena.constant(Scalar::f32, 0));
    builder.loop(8, Role::unrolled, 1,
                 [&](Ex i) { builder.accumulate(sum, arena.load(partial, i)); });
    const Ex total = builder.read(sum);
    builder.loop(50, Role::vector, 16, [&](Ex i) {
      const Ex position = arena.add(arena.mul(block, arena.integer(50)), i);
      builder.store(out, position, arena.sub(arena.load(x, position), total));
    });
  });
  expect_same(kernel);
}

TEST(Reduction, AddedProductsAreContracted) {
  if (compiler::host_target().features.find("+fma") == std::string::npos) {
    GTEST_SKIP() << "this machine has no fused multiply-add";
  }
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* out = kernel.argument("out", DType::f32, 1, true);
  const auto* x = kernel.argument("x", DType::f32, 1, false);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    Accumulator* sum = builder.declare(Scalar::f32, Combine::add, arena.constant(Scalar::f32, -1));
    const Ex value = arena.load(x, arena.integer(0));
    builder.accumulate(sum, arena.mul(value, value));
    builder.store(out, arena.integer(0), builder.read(sum));
  });
  const tests::Compiled compiled(kernel);
  float in = 1.0F + 0x1p-13F, result = 0;
  compiled.run({&result, &in});
  EXPECT_EQ(result, std::fma(in, in, -1.0F));
  EXPECT_NE(result, in * in - 1.0F);
}

TEST(Reduction, MatrixProductKeepsItsTileInRegisters) {
  constexpr std::int64_t m = 12, n = 64, depth = 33;
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::f32, m * depth, false);
  const auto* y = kernel.argument("y", DType::f32, depth * n, false);
  const auto* out = kernel.argument("out", DType::f32, m * n, true);
  Builder builder(kernel);
  builder.phase(m / 6, [&](Ex block) {
    builder.loop(arena.integer(n / 32), [&](Ex panel) {
      builder.loop(16, Role::vector, 16, [&](Ex lane) {
        std::vector<Accumulator*> tile;
        for (int i = 0; i < 12; ++i) {
          tile.push_back(
              builder.declare(Scalar::f32, Combine::add, arena.constant(Scalar::f32, 0)));
        }
        const auto row = [&](std::size_t i) {
          return arena.add(arena.mul(block, arena.integer(6)),
                           arena.integer(static_cast<std::int64_t>(i / 2)));
        };
        const auto column = [&](std::size_t i) {
          return arena.add(arena.add(arena.mul(panel, arena.integer(32)), lane),
                           arena.integer(static_cast<std::int64_t>(i % 2) * 16));
        };
        builder.loop(arena.integer(depth), [&](Ex k) {
          for (std::size_t i = 0; i < tile.size(); ++i) {
            const Ex a = arena.load(x, arena.add(arena.mul(row(i), arena.integer(depth)), k));
            const Ex b = arena.load(y, arena.add(arena.mul(k, arena.integer(n)), column(i)));
            builder.accumulate(tile[i], arena.mul(a, b));
          }
        });
        for (std::size_t i = 0; i < tile.size(); ++i) {
          builder.store(out, arena.add(arena.mul(row(i), arena.integer(n)), column(i)),
                        builder.read(tile[i]));
        }
      });
    });
  });
  expect_same(kernel);
  if (compiler::host_target().vector_bits < 512) GTEST_SKIP() << "this machine has no AVX-512";
  compiler::CodegenOptions options;
  options.assembly = true;
  const std::string code =
      compiler::generate_host(kernel, "k", compiler::host_target(), options).assembly;
  EXPECT_EQ(code.find("Spill"), std::string::npos) << code;
  EXPECT_EQ(code.find("(%rsp)"), std::string::npos) << code;
  std::size_t products = 0;
  for (std::size_t at = 0; (at = code.find("vfmadd", at)) != std::string::npos; ++at) ++products;
  EXPECT_EQ(products, 12U) << code;
}

TEST(Reduction, MistakesAreErrors) {
  const auto generate = [](const std::function<void(Builder&, const loop::Buffer*)>& body) {
    Kernel kernel;
    const auto* out = kernel.argument("out", DType::f32, 64, true);
    Builder builder(kernel);
    builder.phase(1, [&](Ex) { body(builder, out); });
    compiler::generate_host(kernel, "k", compiler::host_target());
  };
  const auto sum_of = [](Builder& b) {
    return b.declare(Scalar::f32, Combine::add, b.arena().constant(Scalar::f32, 0));
  };
  EXPECT_THROW(generate([&](Builder& b, const loop::Buffer*) {
                 Accumulator* sum = sum_of(b);
                 b.loop(16, Role::vector, 16,
                        [&](Ex) { b.assign(sum, b.arena().constant(Scalar::f32, 1)); });
               }),
               std::logic_error);
  EXPECT_THROW(generate([&](Builder& b, const loop::Buffer* out) {
                 Accumulator* sum = sum_of(b);
                 b.loop(16, Role::vector, 16, [&](Ex i) {
                   b.accumulate(sum, b.arena().constant(Scalar::f32, 1));
                   b.store(out, i, b.read(sum));
                 });
               }),
               std::logic_error);
  EXPECT_THROW(generate([&](Builder& b, const loop::Buffer* out) {
                 Ex escaped = nullptr;
                 b.loop(5, Role::serial, 1, [&](Ex i) { escaped = i; });
                 b.store(out, escaped, b.arena().constant(Scalar::f32, 1));
               }),
               std::logic_error);
  EXPECT_THROW(generate([&](Builder& b, const loop::Buffer*) {
                 b.loop(16, Role::vector, 16,
                        [&](Ex) { b.loop(16, Role::vector, 16, [&](Ex) { sum_of(b); }); });
               }),
               std::logic_error);
  EXPECT_THROW(generate([&](Builder& b, const loop::Buffer*) {
                 b.loop(16, Role::vector, 16, [&](Ex i) { b.loop(i, [&](Ex) { sum_of(b); }); });
               }),
               std::logic_error);
}

}  // namespace
}  // namespace weft
