#include "compiler/loop/expr.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <stdexcept>

#include "tests/loop/interpret.h"

namespace weft {
namespace {

using loop::Arena;
using loop::Binary;
using loop::Ex;
using loop::Scalar;
using loop::Unary;
using tests::Interpreter;

/// A random index expression, built in the arena and evaluated beside it as it is written.
class RandomIndex {
 public:
  RandomIndex(std::uint32_t seed, Arena& arena) : random_(seed), arena_(arena) {
    const int count = 1 + pick(4);
    for (int i = 0; i < count; ++i) {
      static constexpr std::int64_t extents[] = {1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 255, 256};
      const std::int64_t low = pick(4) == 0 ? -pick(20) : 0;
      const std::int64_t high = low + extents[pick(12)] - 1;
      variables_.push_back(arena_.variable(Scalar::i64, low, high));
    }
  }

  struct Node {
    Ex expr;
    std::function<std::int64_t()> value;
  };

  Node build(int depth) {
    if (depth == 0 || pick(8) == 0) {
      if (pick(3) == 0) {
        const std::int64_t c = pick(2) ? pick(30) - 5 : pick(6);
        return {arena_.integer(c), [c] { return c; }};
      }
      const Ex v = variables_[static_cast<std::size_t>(pick(static_cast<int>(variables_.size())))];
      return {v, [this, v] { return interpreter.variables.at(v).integer; }};
    }
    static constexpr std::int64_t factors[] = {-3, -1, 1,  2,  3,  4,  5,  6,
                                               8,  12, 16, 17, 24, 60, 255};
    static constexpr std::int64_t divisors[] = {1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 48, 60, 255};
    const Node a = build(depth - 1);
    switch (pick(9)) {
      case 0:
      case 1: {
        const Node b = build(depth - 1);
        return {arena_.add(a.expr, b.expr), [=] { return a.value() + b.value(); }};
      }
      case 2: {
        const Node b = build(depth - 1);
        return {arena_.sub(a.expr, b.expr), [=] { return a.value() - b.value(); }};
      }
      case 3: {
        const std::int64_t f = factors[pick(15)];
        return {arena_.mul(a.expr, arena_.integer(f)), [=] { return a.value() * f; }};
      }
      case 4:
      case 5: {
        const std::int64_t d = divisors[pick(13)];
        return {arena_.floor_div(a.expr, d), [=] { return floor_quotient(a.value(), d); }};
      }
      case 6: {
        const std::int64_t d = divisors[pick(13)];
        return {arena_.floor_mod(a.expr, d),
                [=] { return a.value() - floor_quotient(a.value(), d) * d; }};
      }
      case 7: {
        const Node b = build(depth - 1);
        const bool least = pick(2) == 0;
        return {arena_.binary(least ? Binary::minimum : Binary::maximum, a.expr, b.expr), [=] {
                  return least ? std::min(a.value(), b.value()) : std::max(a.value(), b.value());
                }};
      }
      default: {
        const Node b = build(depth - 1);
        const Node c = build(depth - 1);
        static constexpr Binary compares[] = {Binary::less, Binary::less_equal, Binary::equal,
                                              Binary::not_equal};
        const Binary op = compares[pick(4)];
        return {arena_.select(arena_.binary(op, a.expr, b.expr), b.expr, c.expr), [=] {
                  const std::int64_t x = a.value(), y = b.value();
                  const bool holds = op == Binary::less         ? x < y
                                     : op == Binary::less_equal ? x <= y
                                     : op == Binary::equal      ? x == y
                                                                : x != y;
                  return holds ? y : c.value();
                }};
      }
    }
  }

  void randomise() {
    for (Ex v : variables_) {
      interpreter.variables[v] = {
          std::uniform_int_distribution<std::int64_t>(v->minimum, v->maximum)(random_), 0};
    }
  }

  Interpreter interpreter;

 private:
  static std::int64_t floor_quotient(std::int64_t a, std::int64_t d) {
    return (a - (((a % d) + d) % d)) / d;
  }
  int pick(int count) { return std::uniform_int_distribution<int>(0, count - 1)(random_); }

  std::mt19937 random_;
  Arena& arena_;
  std::vector<Ex> variables_;
};

TEST(Arena, SimplificationKeepsValuesAndRanges) {
  for (std::uint32_t seed = 0; seed < 4000; ++seed) {
    Arena arena;
    RandomIndex random(seed, arena);
    const RandomIndex::Node node = random.build(1 + static_cast<int>(seed % 5));
    for (int trial = 0; trial < 20; ++trial) {
      random.randomise();
      const std::int64_t expected = node.value();
      ASSERT_EQ(random.interpreter.evaluate(node.expr).integer, expected)
          << "seed " << seed << ": " << loop::print(node.expr);
      ASSERT_LE(node.expr->minimum, expected) << "seed " << seed << loop::print(node.expr);
      ASSERT_GE(node.expr->maximum, expected) << "seed " << seed << loop::print(node.expr);
    }
  }
}

TEST(Arena, EqualExpressionsAreOnePointer) {
  Arena arena;
  const Ex i = arena.variable(Scalar::i64, 0, 9);
  const Ex j = arena.variable(Scalar::i64, 0, 9);
  EXPECT_EQ(arena.add(i, j), arena.add(j, i));
  EXPECT_EQ(arena.add(arena.add(i, arena.integer(3)), j),
            arena.add(i, arena.add(j, arena.integer(3))));
  EXPECT_EQ(arena.mul(arena.add(i, arena.integer(1)), arena.integer(4)),
            arena.add(arena.mul(i, arena.integer(4)), arena.integer(4)));
  EXPECT_EQ(arena.sub(arena.add(i, j), i), j);
  EXPECT_NE(arena.constant(Scalar::f32, 0.0), arena.constant(Scalar::f32, -0.0));
  EXPECT_NE(arena.constant(Scalar::f32, 1.0), arena.constant(Scalar::f64, 1.0));
  EXPECT_NE(arena.variable(Scalar::i64, 0, 9), i);
}

TEST(Arena, ReshapeVanishes) {
  Arena arena;
  const Shape from{6, 4, 5};
  const std::vector<Ex> index = {arena.variable(Scalar::i64, 0, 5),
                                 arena.variable(Scalar::i64, 0, 3),
                                 arena.variable(Scalar::i64, 0, 4)};
  const Ex position = arena.linearize(index, from);
  EXPECT_EQ(arena.delinearize(position, from), index);
  // Through another shape and back.
  for (const Shape& through :
       {Shape{24, 5}, Shape{6, 20}, Shape{120}, Shape{2, 60}, Shape{5, 24}}) {
    const Ex again = arena.linearize(arena.delinearize(position, through), through);
    EXPECT_EQ(again, position) << through.text() << ": " << loop::print(again);
  }
  // Splitting an axis: 24 = 6 * 4.
  EXPECT_EQ(arena.delinearize(position, Shape{24, 5})[0],
            arena.add(arena.mul(index[0], arena.integer(4)), index[1]));
}

TEST(Arena, UnknownPositionSurvivesReshapes) {
  Arena arena;
  const Ex p = arena.variable(Scalar::i64, 0, 119);
  for (const Shape& shape : {Shape{2, 3, 4, 5}, Shape{10, 12}, Shape{120, 1}, Shape{1, 8, 15}}) {
    EXPECT_EQ(arena.linearize(arena.delinearize(p, shape), shape), p) << shape.text();
  }
  EXPECT_EQ(arena.floor_mod(p, 120), p);
  EXPECT_EQ(arena.floor_div(p, 120), arena.integer(0));
}

TEST(Arena, OverflowIsNotAssumedAway) {
  Arena arena;
  const Ex any = arena.variable(Scalar::i64);
  Interpreter interpreter;
  interpreter.variables[any] = {std::numeric_limits<std::int64_t>::max() - 2, 0};
  const Ex scaled = arena.mul(any, arena.integer(12));
  const std::int64_t wrapped = interpreter.evaluate(scaled).integer;
  EXPECT_EQ(interpreter.evaluate(arena.floor_div(scaled, 12)).integer,
            static_cast<std::int64_t>(std::floor(static_cast<long double>(wrapped) / 12)));
  const Ex next = arena.add(any, arena.integer(5));
  EXPECT_EQ(interpreter.evaluate(arena.less(any, next)).integer, 0);
}

TEST(Arena, ComparisonsUseRanges) {
  Arena arena;
  const Ex i = arena.variable(Scalar::i64, 0, 9);
  const Ex j = arena.variable(Scalar::i64, 0, 15);
  const Ex p = arena.add(arena.mul(i, arena.integer(16)), j);
  EXPECT_EQ(arena.less(p, arena.integer(160)), arena.boolean(true));
  EXPECT_EQ(arena.less_equal(p, arena.integer(158))->kind, loop::ExprKind::binary);
  EXPECT_EQ(arena.less(arena.add(i, arena.integer(3)), arena.add(i, arena.integer(4))),
            arena.boolean(true));
  EXPECT_EQ(arena.equal(p, arena.integer(-1)), arena.boolean(false));
  EXPECT_EQ(arena.binary(Binary::minimum, p, arena.integer(159)), p);
  EXPECT_EQ(arena.binary(Binary::maximum, p, arena.integer(0)), p);
}

/// All lanes of an aligned vector lie on one side of a multiple of its width.
TEST(Arena, ComparisonsOfAlignedLanesAreOfTheVector) {
  Arena arena;
  const Ex i = arena.variable(Scalar::i64, 0, 99);
  const Ex j = arena.variable(Scalar::i64, -3, 5);
  const Ex lane = arena.variable(Scalar::i64, 0, 7);
  const auto n = [&](std::int64_t value) { return arena.integer(value); };
  const Ex p = arena.add(arena.mul(i, n(8)), lane);
  EXPECT_EQ(arena.less(p, n(512)), arena.less(i, n(64)));
  EXPECT_EQ(arena.less_equal(p, n(511)), arena.less_equal(i, n(63)));
  EXPECT_EQ(arena.less_equal(n(512), p), arena.less_equal(n(64), i));
  EXPECT_EQ(arena.less(n(511), p), arena.less(n(63), i));
  const Ex difference = arena.sub(i, arena.mul(j, n(2)));
  EXPECT_EQ(arena.less(p, arena.mul(j, n(16))), arena.less(difference, n(0)));
  // Lanes on both sides.
  for (const std::int64_t limit : {510, 513}) {
    EXPECT_EQ(arena.less(p, n(limit))->arguments[0], p);
  }
  EXPECT_EQ(arena.less(arena.add(p, n(1)), n(512))->arguments[1], n(512));
}

TEST(Arena, FloatIdentitiesAreExact) {
  Arena arena;
  const Ex x = arena.variable(Scalar::f32);
  const auto c = [&](double value) { return arena.constant(Scalar::f32, value); };
  EXPECT_EQ(arena.mul(x, c(1)), x);
  EXPECT_EQ(arena.mul(c(1), x), x);
  EXPECT_EQ(arena.div(x, c(4)), arena.mul(x, c(0.25)));
  EXPECT_EQ(arena.div(x, c(3))->code, static_cast<std::uint8_t>(Binary::divide));
  EXPECT_EQ(arena.add(x, c(-0.0)), x);
  // -0 + 0 is 0, and x * 0 may be NaN.
  EXPECT_NE(arena.add(x, c(0)), x);
  EXPECT_EQ(arena.mul(x, c(0))->kind, loop::ExprKind::binary);
  EXPECT_EQ(arena.neg(arena.neg(x)), x);
  EXPECT_EQ(arena.add(c(0.1), c(0.2))->real, static_cast<double>(0.1F + 0.2F));
  EXPECT_TRUE(std::isnan(arena.binary(Binary::minimum, c(NAN), c(1))->real));
  EXPECT_TRUE(std::isnan(arena.binary(Binary::minimum, c(1), c(NAN))->real));
  EXPECT_EQ(arena.unary(Unary::round_even, c(2.5))->real, 2);
  EXPECT_EQ(arena.unary(Unary::round_even, c(-0.3))->real, 0);
  EXPECT_TRUE(std::signbit(arena.unary(Unary::round_even, c(-0.3))->real));
}

TEST(Arena, ConstantsWrapAndSaturate) {
  Arena arena;
  EXPECT_EQ(arena.integer(Scalar::u8, 257)->integer, 1);
  EXPECT_EQ(arena.integer(Scalar::i32, std::int64_t{1} << 31)->integer,
            std::numeric_limits<std::int32_t>::min());
  EXPECT_EQ(arena.constant(Scalar::i32, 1e20)->integer, std::numeric_limits<std::int32_t>::max());
  EXPECT_EQ(arena.constant(Scalar::u8, -3)->integer, 0);
  EXPECT_EQ(arena.constant(Scalar::i64, NAN)->integer, 0);
  EXPECT_EQ(arena.cast(arena.integer(Scalar::i32, -1), Scalar::u8)->integer, 255);
  EXPECT_EQ(arena.div(arena.integer(7), arena.integer(0))->integer, 0);
  const Ex one = arena.constant(Scalar::f32, 1);
  EXPECT_EQ(arena.bits(one, Scalar::i32)->integer, 0x3f800000);
  EXPECT_EQ(arena.bits(arena.bits(one, Scalar::i32), Scalar::f32), one);
}

TEST(Arena, SelectsAndLogic) {
  Arena arena;
  const Ex c = arena.variable(Scalar::boolean);
  const Ex x = arena.variable(Scalar::f32);
  const Ex y = arena.variable(Scalar::f32);
  EXPECT_EQ(arena.select(arena.boolean(true), x, y), x);
  EXPECT_EQ(arena.select(c, x, x), x);
  EXPECT_EQ(arena.select(arena.logical_not(c), x, y), arena.select(c, y, x));
  EXPECT_EQ(arena.select(c, arena.boolean(true), arena.boolean(false)), c);
  EXPECT_EQ(arena.logical_and(c, arena.boolean(true)), c);
  EXPECT_EQ(arena.logical_or(arena.boolean(true), c), arena.boolean(true));
  EXPECT_EQ(arena.logical_not(arena.logical_not(c)), c);
}

TEST(Arena, RejectsMixedTypes) {
  Arena arena;
  const Ex i = arena.variable(Scalar::i64);
  const Ex x = arena.variable(Scalar::f32);
  const Ex c = arena.variable(Scalar::boolean);
  EXPECT_THROW(arena.add(i, x), std::logic_error);
  EXPECT_THROW(arena.add(c, c), std::logic_error);
  EXPECT_THROW(arena.select(i, x, x), std::logic_error);
  EXPECT_THROW(arena.unary(Unary::call_exp, x), std::logic_error);
  EXPECT_THROW(arena.bits(x, Scalar::i64), std::logic_error);
  EXPECT_THROW(arena.binary(Binary::bitwise_and, x, x), std::logic_error);
  EXPECT_THROW(arena.floor_div(i, 0), std::logic_error);
}

TEST(Arena, PrintsReadably) {
  Arena arena;
  const Ex i = arena.variable(Scalar::i64, 0, 9);
  const Ex j = arena.variable(Scalar::i64, 0, 254);
  const std::vector<Ex> index = {i, j};
  EXPECT_EQ(loop::print(arena.linearize(index, Shape{10, 255})), "((x0 * 255) + x1)");
  // Doubling sums are linear in the number of nodes, not in that of paths.
  Ex x = arena.variable(Scalar::f32);
  for (int k = 0; k < 200; ++k) x = arena.fma(x, x, x);
  EXPECT_LT(loop::print(x).size(), 10000U);
}

}  // namespace
}  // namespace weft
