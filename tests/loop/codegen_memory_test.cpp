#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>

#include "runtime/plan/error.h"
#include "tests/loop/compare.h"
#include "tests/loop/harness.h"

namespace weft {
namespace {

using loop::Binary;
using loop::Builder;
using loop::Combine;
using loop::Ex;
using loop::Kernel;
using loop::Role;
using loop::Scalar;
using tests::expect_same;
using tests::Number;

constexpr std::int64_t extents[] = {1, 7, 16, 17, 33, 255};
constexpr DType memory_types[] = {DType::f32, DType::f16, DType::bf16, DType::f64,
                                  DType::i32, DType::i64, DType::u8,   DType::boolean};

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

TEST(Memory, StridesAndOffsets) {
  for (const DType dtype : memory_types) {
    for (const std::int64_t stride : {-3, -2, -1, 0, 1, 2, 3}) {
      for (const std::int64_t extent : {std::int64_t{17}, std::int64_t{48}}) {
        Kernel kernel;
        auto& arena = kernel.arena;
        const std::int64_t reach = std::abs(stride) * (extent - 1);
        // No slack: a load past the last element leaves the buffer.
        const auto* x = kernel.argument("x", dtype, reach + 1, false);
        const auto* gathered = kernel.argument("gathered", dtype, extent, true);
        const auto* scattered = kernel.argument("scattered", dtype, reach + 1, true);
        Builder builder(kernel);
        builder.phase(1, [&](Ex) {
          builder.loop(extent, Role::vector, 16, [&](Ex i) {
            const Ex position = arena.add(arena.mul(i, arena.integer(stride)),
                                          arena.integer(stride < 0 ? reach : 0));
            const Ex value = arena.load(x, position);
            builder.store(gathered, i, value);
            builder.store(scattered, position, value);
          });
        });
        expect_same(kernel);
      }
    }
  }
}

TEST(Memory, WholeLinesAreStreamedPastTheCaches) {
  for (const std::int64_t pitch : {48, 40}) {
    Kernel kernel;
    auto& arena = kernel.arena;
    const auto* x = kernel.argument("x", DType::f32, 5 * pitch, false);
    const auto* out = kernel.argument("out", DType::f32, 5 * pitch, true);
    Builder builder(kernel);
    builder.phase(5, [&](Ex block) {
      builder.loop(pitch, Role::vector, 16, [&](Ex i) {
        const Ex position = arena.add(arena.mul(block, arena.integer(pitch)), i);
        builder.stream(out, position, arena.neg(arena.load(x, position)));
      });
    });
    expect_same(kernel);
    compiler::CodegenOptions options;
    options.llvm_ir = true;
    const std::string code =
        compiler::generate_host(kernel, "k", compiler::host_target(), options).llvm_ir;
    // Rows of 40 elements do not start at lines.
    EXPECT_EQ(contains(code, "!nontemporal"), pitch == 48) << code;
    EXPECT_TRUE(contains(print(kernel), "stream out")) << print(kernel);
  }
}

TEST(Memory, ComplexPairsBecomeWideAccesses) {
  for (const std::int64_t extent : extents) {
    Kernel kernel;
    auto& arena = kernel.arena;
    const auto* x = kernel.argument("x", DType::f32, 2 * extent * 3, false);
    const auto* y = kernel.argument("y", DType::f32, 2 * extent * 3, false);
    const auto* out = kernel.argument("out", DType::f32, 2 * extent * 3, true);
    Builder builder(kernel);
    builder.phase(3, [&](Ex block) {
      builder.loop(extent, Role::vector, 16, [&](Ex i) {
        const Ex element = arena.add(arena.mul(block, arena.integer(extent)), i);
        const Ex re = arena.mul(element, arena.integer(2));
        const Ex im = arena.add(re, arena.integer(1));
        const Ex a = arena.load(x, re), b = arena.load(x, im);
        const Ex c = arena.load(y, re), d = arena.load(y, im);
        builder.store(out, re, arena.sub(arena.mul(a, c), arena.mul(b, d)));
        builder.store(out, im, arena.add(arena.mul(a, d), arena.mul(b, c)));
      });
    });
    expect_same(kernel);
    if (extent < 16) continue;
    compiler::CodegenOptions options;
    options.llvm_ir = true;
    const std::string code =
        compiler::generate_host(kernel, "k", compiler::host_target(), options).llvm_ir;
    EXPECT_FALSE(contains(code, "call <16 x float> @llvm.masked.gather")) << code;
    EXPECT_FALSE(contains(code, "call void @llvm.masked.scatter")) << code;
    EXPECT_TRUE(contains(code, "<32 x float>")) << code;
  }
}

TEST(Memory, PairOfStoresThatDependIsNotMerged) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* out = kernel.argument("out", DType::f32, 64, true);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    builder.loop(32, Role::vector, 16, [&](Ex i) {
      const Ex even = arena.mul(i, arena.integer(2));
      const Ex odd = arena.add(even, arena.integer(1));
      builder.store(out, even, arena.add(arena.load(out, even), arena.constant(Scalar::f32, 1)));
      builder.store(out, odd, arena.mul(arena.load(out, even), arena.constant(Scalar::f32, 2)));
    });
  });
  expect_same(kernel);
}

TEST(Memory, GatherByIndicesFromMemory) {
  for (const DType index_type : {DType::i32, DType::i64, DType::u8}) {
    for (const DType dtype : memory_types) {
      Kernel kernel;
      auto& arena = kernel.arena;
      const auto* x = kernel.argument("x", dtype, 11, false);
      const auto* at = kernel.argument("at", index_type, 37, false);
      const auto* out = kernel.argument("out", dtype, 37, true);
      Builder builder(kernel);
      builder.phase(1, [&](Ex) {
        builder.loop(37, Role::vector, 16, [&](Ex i) {
          Ex index = arena.cast(arena.load(at, i), Scalar::i64);
          index = arena.binary(Binary::maximum, index, arena.integer(0));
          index = arena.binary(Binary::minimum, index, arena.integer(10));
          builder.store(out, i, arena.load(x, index));
        });
      });
      expect_same(kernel);
    }
  }
}

TEST(Memory, PredicatedLoadsTouchNothingWhereFalse) {
  for (const std::int64_t stride : {0, 1, 2, 3}) {
    for (const std::int64_t extent : extents) {
      Kernel kernel;
      auto& arena = kernel.arena;
      // A convolution's padding: positions from -2 to beyond the end.
      const auto* x = kernel.argument("x", DType::f32, stride * (extent - 1) / 2 + 1, false);
      const auto* out = kernel.argument("out", DType::f32, extent, true);
      const auto* whole = kernel.argument("whole", DType::f32, extent, true);
      Builder builder(kernel);
      builder.phase(1, [&](Ex) {
        builder.loop(extent, Role::vector, 16, [&](Ex i) {
          const Ex position = arena.sub(arena.mul(i, arena.integer(stride)), arena.integer(2));
          const Ex inside = arena.logical_and(arena.less_equal(arena.integer(0), position),
                                              arena.less(position, arena.integer(x->elements)));
          builder.store(out, i, arena.load(x, position, inside));
          // A predicate that all lanes share.
          const Ex never =
              arena.less(arena.load(x, arena.integer(0)), arena.constant(Scalar::f32, -100));
          builder.store(whole, i, arena.load(x, arena.add(i, arena.integer(1000)), never));
        });
      });
      expect_same(kernel);
    }
  }
}

TEST(Memory, PredicatedScalarAccesses) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::f32, 5, false);
  const auto* out = kernel.argument("out", DType::f32, 9, true);
  const auto* some = kernel.argument("some", DType::f32, 9, true);
  Builder builder(kernel);
  builder.phase(9, [&](Ex block) {
    const Ex position = arena.sub(block, arena.integer(2));
    const Ex inside = arena.logical_and(arena.less_equal(arena.integer(0), position),
                                        arena.less(position, arena.integer(5)));
    builder.store(out, block, arena.load(x, position, inside));
    builder.store(some, block, arena.load(x, position), inside);
  });
  expect_same(kernel);
}

TEST(Memory, PredicatedStores) {
  for (const std::int64_t stride : {1, 2, 3}) {
    Kernel kernel;
    auto& arena = kernel.arena;
    const auto* x = kernel.argument("x", DType::i32, 61, false);
    const auto* out = kernel.argument("out", DType::i32, 61 * stride, true);
    Builder builder(kernel);
    builder.phase(1, [&](Ex) {
      builder.loop(61, Role::vector, 16, [&](Ex i) {
        const Ex value = arena.load(x, i);
        builder.store(out, arena.mul(i, arena.integer(stride)), value,
                      arena.less(value, arena.integer(Scalar::i32, 2)));
      });
    });
    expect_same(kernel);
  }
}

TEST(Memory, LastOfTheLanesThatStoreToOneElementRemains) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::f32, 45, false);
  const auto* one = kernel.argument("one", DType::f32, 1, true);
  const auto* few = kernel.argument("few", DType::f32, 7, true);
  const auto* same = kernel.argument("same", DType::f32, 1, true);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    builder.loop(45, Role::vector, 16, [&](Ex i) {
      builder.store(one, arena.integer(0), arena.load(x, i));
      builder.store(few, arena.floor_mod(i, 7), arena.load(x, i));
      builder.store(same, arena.integer(0), arena.load(x, arena.integer(3)));
    });
  });
  expect_same(kernel);
}

TEST(Memory, QuotientsOfTheLaneIndexStayWide) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::f32, 64 * 8, false);
  const auto* out = kernel.argument("out", DType::f32, 64 * 8, true);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    // (i / 64, i % 64) of a position that moves 16 at a time: rows do not split a group.
    builder.loop(64 * 8, Role::vector, 16, [&](Ex i) {
      const Ex row = arena.floor_div(i, 64);
      const Ex column = arena.floor_mod(i, 64);
      const Ex turned =
          arena.add(arena.mul(arena.sub(arena.integer(7), row), arena.integer(64)), column);
      builder.store(out, turned, arena.load(x, i));
    });
  });
  expect_same(kernel);
  compiler::CodegenOptions options;
  options.llvm_ir = true;
  const std::string code =
      compiler::generate_host(kernel, "k", compiler::host_target(), options).llvm_ir;
  EXPECT_FALSE(contains(code, "masked.scatter")) << code;
}

TEST(Memory, QuotientsThatSplitGroups) {
  for (const std::int64_t row : {3, 5, 15, 17, 20}) {
    Kernel kernel;
    auto& arena = kernel.arena;
    const auto* x = kernel.argument("x", DType::f32, 12 * row, false);
    const auto* out = kernel.argument("out", DType::f32, 12 * row, true);
    Builder builder(kernel);
    builder.phase(1, [&](Ex) {
      builder.loop(12 * row, Role::vector, 16, [&](Ex i) {
        const Ex transposed = arena.add(arena.mul(arena.floor_mod(i, row), arena.integer(12)),
                                        arena.floor_div(i, row));
        builder.store(out, transposed, arena.load(x, i));
      });
    });
    expect_same(kernel);
  }
}

TEST(Memory, NegativeIndexArithmetic) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* quotient = kernel.argument("quotient", DType::i64, 50, true);
  const auto* modulo = kernel.argument("modulo", DType::i64, 50, true);
  const auto* shift = kernel.argument("shift", DType::i64, 1, false);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    builder.loop(50, Role::vector, 16, [&](Ex i) {
      // -25 .. 24, with something unknown (0) that keeps it from being simplified.
      const Ex unknown = arena.binary(
          Binary::minimum,
          arena.binary(Binary::maximum, arena.load(shift, arena.integer(0)), arena.integer(0)),
          arena.integer(5));
      const Ex value = arena.sub(arena.add(i, unknown), arena.integer(25));
      builder.store(quotient, i, arena.floor_div(value, 7));
      builder.store(modulo, i, arena.floor_mod(value, 8));
    });
    for (std::int64_t i = 0; i < 50; i += 3) {
      const Ex value = arena.add(arena.load(shift, arena.integer(0)), arena.integer(i - 25));
      builder.store(quotient, arena.integer(i), arena.floor_div(value, 7));
      builder.store(modulo, arena.integer(i), arena.floor_mod(value, 8));
    }
  });
  expect_same(kernel, [](const loop::Buffer&, std::int64_t) -> Number { return {3, 0}; });
}

TEST(Memory, LoadsSeeTheStoresBefore) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* out = kernel.argument("out", DType::f32, 40, true);
  const auto* log = kernel.argument("log", DType::f32, 40, true);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    builder.loop(40, Role::vector, 16, [&](Ex i) {
      const Ex value = arena.load(out, i);
      const Ex before = builder.let(value);
      builder.store(out, i, arena.add(value, arena.constant(Scalar::f32, 1)));
      // `value` is read again after the store, `before` is not.
      builder.store(log, i, arena.sub(arena.mul(value, arena.constant(Scalar::f32, 10)), before));
    });
    // A running sum: each iteration reads what the one before stored.
    builder.loop(39, Role::serial, 1, [&](Ex i) {
      const Ex next = arena.add(i, arena.integer(1));
      builder.store(out, next, arena.add(arena.load(out, i), arena.load(out, next)));
    });
  });
  expect_same(kernel);
}

TEST(Memory, LocalBuffers) {
  // Small ones live on the stack, large ones in the worker's scratch.
  for (const std::int64_t size : {64, 3000, 20000}) {
    Kernel kernel;
    auto& arena = kernel.arena;
    const auto* x = kernel.argument("x", DType::f32, 2 * size, false);
    const auto* out = kernel.argument("out", DType::f32, 2 * size, true);
    const auto* a = kernel.local("a", DType::f32, size);
    const auto* b = kernel.local("b", DType::f16, size);
    Builder builder(kernel);
    builder.phase(2, [&](Ex block) {
      const Ex start = arena.mul(block, arena.integer(size));
      builder.loop(size, Role::vector, 16,
                   [&](Ex i) { builder.store(a, i, arena.load(x, arena.add(start, i))); });
      builder.loop(size, Role::vector, 16, [&](Ex i) {
        const Ex mirrored = arena.sub(arena.integer(size - 1), i);
        builder.store(b, mirrored, arena.add(arena.load(a, i), arena.load(a, mirrored)));
      });
      builder.loop(size, Role::vector, 16, [&](Ex i) {
        builder.store(out, arena.add(start, i), arena.sub(arena.load(b, i), arena.load(a, i)));
      });
    });
    expect_same(kernel);
    const tests::Compiled compiled(kernel);
    EXPECT_EQ(compiled.code.scratch_bytes % 64, 0);
    if (size == 64) {
      EXPECT_EQ(compiled.code.scratch_bytes, 0);
    }
    if (size == 20000) {
      EXPECT_GE(compiled.code.scratch_bytes, size * 6);
    }
  }
}

TEST(Memory, UnrolledLocalsStayInRegisters) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::f32, 64, false);
  const auto* out = kernel.argument("out", DType::f32, 64, true);
  const auto* rows = kernel.local("rows", DType::f32, 64);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    builder.loop(16, Role::vector, 16, [&](Ex lane) {
      const auto row = [&](Ex i) { return arena.add(arena.mul(i, arena.integer(16)), lane); };
      builder.loop(4, Role::unrolled, 1,
                   [&](Ex i) { builder.store(rows, row(i), arena.load(x, row(i))); });
      builder.loop(4, Role::unrolled, 1, [&](Ex i) {
        builder.store(out, row(i), arena.load(rows, row(arena.sub(arena.integer(3), i))));
      });
    });
  });
  expect_same(kernel);
  compiler::CodegenOptions options;
  options.llvm_ir = true;
  const std::string code =
      compiler::generate_host(kernel, "k", compiler::host_target(), options).llvm_ir;
  EXPECT_FALSE(contains(code, "alloca")) << code;
}

TEST(Memory, Tables) {
  Kernel kernel;
  auto& arena = kernel.arena;
  std::vector<double> values;
  for (int i = 0; i < 50; ++i) values.push_back(std::round(std::sin(i) * 100));
  Builder builder(kernel);
  std::vector<const loop::Buffer*> tables;
  for (const DType dtype :
       {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i32, DType::i64}) {
    tables.push_back(kernel.table("table", dtype, values));
    const auto* out = kernel.argument("out", dtype, 53, true);
    builder.phase(1, [&](Ex) {
      builder.loop(50, Role::vector, 16,
                   [&](Ex i) { builder.store(out, i, arena.load(tables.back(), i)); });
      for (std::int64_t i = 50; i < 53; ++i) {
        builder.store(out, arena.integer(i), arena.load(tables.back(), arena.integer(i - 49)));
      }
    });
  }
  expect_same(kernel);
}

TEST(Memory, SameMemoryAsOperandAndResult) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::f32, 70, false);
  const auto* out = kernel.argument("out", DType::f32, 70, true);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    builder.loop(70, Role::vector, 16, [&](Ex i) {
      builder.store(out, i, arena.add(arena.load(x, i), arena.constant(Scalar::f32, 1)));
    });
  });
  const tests::Compiled compiled(kernel);
  std::vector<float> data(70);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>(i);
  compiled.run({data.data(), data.data()});
  for (std::size_t i = 0; i < data.size(); ++i) EXPECT_EQ(data[i], static_cast<float>(i) + 1);
}

TEST(Memory, EveryIterationReadsAgain) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* out = kernel.argument("out", DType::f32, 40, true);
  const auto* log = kernel.argument("log", DType::f32, 40, true);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    const Ex first = arena.load(out, arena.integer(0));
    builder.store(log, arena.integer(0), first);
    // The load from before the loop is not good for its second iteration.
    builder.loop(5, Role::serial, 1, [&](Ex i) {
      builder.store(log, arena.add(i, arena.integer(1)), first);
      builder.store(out, arena.integer(0), arena.add(first, arena.constant(Scalar::f32, 1)));
    });
  });
  expect_same(kernel);
}

TEST(Memory, WhatLanesShareIsReadAheadOfTheLoop) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::f32, 300, false);
  const auto* variance = kernel.argument("variance", DType::f32, 4, false);
  const auto* out = kernel.argument("out", DType::f32, 300, true);
  const auto* length = kernel.argument("length", DType::i64, 1, false);
  Builder builder(kernel);
  builder.phase(2, [&](Ex) {
    const Ex deviation =
        arena.unary(loop::Unary::square_root, arena.load(variance, arena.integer(2)));
    builder.loop(300, Role::vector, 16,
                 [&](Ex i) { builder.store(out, i, arena.add(arena.load(x, i), deviation)); });
    // Not ahead of a loop that may not run: nothing says that this element exists.
    const Ex outside = arena.add(arena.load(length, arena.integer(0)), arena.integer(1'000'000));
    builder.loop(arena.load(length, arena.integer(0)),
                 [&](Ex i) { builder.store(out, i, arena.load(x, outside)); });
  });
  expect_same(kernel, [](const loop::Buffer& buffer, std::int64_t i) -> Number {
    return buffer.dtype == DType::i64 ? Number{} : Number{0, static_cast<double>(i * i)};
  });
  compiler::CodegenOptions options;
  options.llvm_ir = true;
  const std::string code =
      compiler::generate_host(kernel, "k", compiler::host_target(), options).llvm_ir;
  const std::size_t root = code.find("@llvm.sqrt.f32(");
  const std::size_t blocks = code.find("phi i64");
  const std::size_t lanes = code.find("phi i64", blocks + 1);
  ASSERT_NE(root, std::string::npos) << code;
  ASSERT_NE(lanes, std::string::npos) << code;
  EXPECT_LT(root, lanes) << code;
}

TEST(Memory, SomeBlocksOnly) {
  Kernel kernel;
  const auto* out = kernel.argument("out", DType::i64, 10, true);
  Builder builder(kernel);
  builder.phase(10, [&](Ex block) { builder.store(out, block, block); });
  const tests::Compiled compiled(kernel);
  std::vector<std::int64_t> data(10, -1);
  void* arguments[] = {data.data()};
  compiled.functions[0](arguments, compiled.scratch(), 3, 7);
  compiled.functions[0](arguments, compiled.scratch(), 7, 7);
  EXPECT_EQ(data, (std::vector<std::int64_t>{-1, -1, -1, 3, 4, 5, 6, -1, -1, -1}));
}

TEST(Memory, LoaderNamesWhatIsMissing) {
  plan::Plan plan;
  plan.name = "broken";
  plan.objects.push_back({"not an object"});
  plan.kernels.push_back({.name = "k", .kind = "elw", .object = 0, .phases = {{"k.0", 1}}});
  EXPECT_THROW(runtime::load_objects(plan), Error);
  plan.objects.clear();
  EXPECT_THROW(runtime::load_objects(plan), Error);
  plan.kernels.clear();
  EXPECT_THROW(runtime::load_objects(plan)->find("k.0"), Error);
}

}  // namespace
}  // namespace weft
