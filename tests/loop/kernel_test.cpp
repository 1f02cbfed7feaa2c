#include "compiler/loop/kernel.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace weft {
namespace {

using loop::Accumulator;
using loop::Builder;
using loop::Combine;
using loop::Ex;
using loop::Kernel;
using loop::Role;
using loop::Scalar;

void build(Kernel& kernel, const std::string& name, double scale, bool waste) {
  kernel.name = name;
  auto& arena = kernel.arena;
  if (waste) arena.variable(Scalar::i64, 0, 3);
  const auto* x = kernel.argument(name + ".x", DType::f32, 120, false);
  const auto* weights = kernel.table(name + ".weights", DType::f32, {1, 2, scale});
  const auto* out = kernel.argument(name + ".out", DType::f32, 10, true);
  Builder builder(kernel);
  builder.phase(10, [&](Ex row) {
    Accumulator* sum = builder.declare(Scalar::f32, Combine::add, arena.constant(Scalar::f32, 0));
    builder.loop(12, Role::vector, 8, [&](Ex i) {
      const Ex position = arena.add(arena.mul(row, arena.integer(12)), i);
      builder.accumulate(
          sum, arena.mul(arena.load(x, position), arena.load(weights, arena.floor_mod(i, 3))));
    });
    const Ex total = builder.read(sum);
    builder.condition(arena.less(total, arena.constant(Scalar::f32, 5)),
                      [&] { builder.store(out, row, total); });
  });
}

TEST(Kernel, PrintsReadably) {
  Kernel kernel;
  build(kernel, "rows", 3, false);
  EXPECT_EQ(loop::print(kernel),
            "kernel rows(rows.x: f32[120], rows.out: out f32[10])\n"
            "  table rows.weights: f32[3] = {1, 2, 3}\n"
            "  phase x0 in 10:\n"
            "    r0: f32 += from 0f\n"
            "    for vector<8> x1 in 12:\n"
            "      r0 += (rows.x[((x0 * 12) + x1)] * rows.weights[(x1 % 3)])\n"
            "    let x2: f32 = r0\n"
            "    if (x2 < 5f):\n"
            "      rows.out[x0] = x2\n");
}

TEST(Kernel, CanonicalTextIgnoresNamesOnly) {
  Kernel a, b, c;
  build(a, "a", 3, false);
  build(b, "b", 3, true);
  build(c, "a", 4, false);
  EXPECT_EQ(loop::canonical(a), loop::canonical(b));
  EXPECT_NE(loop::canonical(a), loop::canonical(c));
  EXPECT_NE(loop::print(a), loop::print(b));
}

TEST(Kernel, LoopsOfOneIterationVanish) {
  Kernel kernel;
  const auto* out = kernel.argument("out", DType::i64, 1, true);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    builder.loop(1, Role::vector, 16, [&](Ex i) { builder.store(out, i, i); });
    builder.loop(0, Role::serial, 1, [&](Ex i) { builder.store(out, i, i); });
  });
  EXPECT_EQ(kernel.phases[0].body.size(), 1U);
  EXPECT_EQ(kernel.phases[0].body[0]->index, kernel.arena.integer(0));
}

TEST(Kernel, MistakesAreErrors) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::f32, 4, false);
  const auto* out = kernel.argument("out", DType::f32, 4, true);
  Builder builder(kernel);
  const Ex zero = arena.integer(0);
  const Ex one = arena.constant(Scalar::f32, 1);
  EXPECT_THROW(builder.store(out, zero, one), std::logic_error);  // outside of a phase
  builder.phase(1, [&](Ex block) {
    EXPECT_THROW(builder.store(x, zero, one), std::logic_error);
    EXPECT_THROW(builder.store(out, zero, zero), std::logic_error);
    EXPECT_THROW(builder.store(out, one, one), std::logic_error);
    EXPECT_THROW(builder.store(out, zero, one, zero), std::logic_error);
    EXPECT_THROW(builder.condition(zero, [] {}), std::logic_error);
    EXPECT_THROW(builder.declare(Scalar::f32, Combine::add, zero), std::logic_error);
    EXPECT_THROW(builder.loop(-1, Role::serial, 1, [](Ex) {}), std::logic_error);
    EXPECT_THROW(builder.phase(1, [](Ex) {}), std::logic_error);
    EXPECT_THROW(arena.load(x, one), std::logic_error);
    EXPECT_EQ(builder.let(block), block);
  });
}

}  // namespace
}  // namespace weft
