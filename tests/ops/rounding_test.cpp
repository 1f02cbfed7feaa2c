// The lowering of casts to 16 bits against exact rounding: from f64 they must not round twice.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "interpret.h"
#include "support.h"

namespace weft::test {
namespace {

using ir::Node;
using ops::Element;

/// The operand is one variable.
class ScalarLowering final : public ops::Lowering {
 public:
  explicit ScalarLowering(DType dtype) : x_(arena_.variable(loop::register_type(dtype))) {}
  loop::Arena& arena() override { return arena_; }
  Element operand(const Node&, std::size_t, std::span<const loop::Ex>) override { return {x_}; }
  Element operand_if(const Node&, std::size_t, std::span<const loop::Ex>, loop::Ex) override {
    return {x_};
  }
  loop::Ex x() const { return x_; }

 private:
  loop::Arena arena_;
  loop::Ex x_;
};

class CastLowering {
 public:
  CastLowering(DType from, DType to) : to_(to), lowering_(from) {
    ops::Builder b(graph_, graph_.body());
    const ir::Value x = state(b, "x", {from, {}});
    node_ = ops::cast(b, x, to).node;
    result_ = ops::row(*node_).lower.function(lowering_, *node_, {}).re;
  }

  void check(double x) {
    Interpreter interpreter;
    interpreter.set(lowering_.x(), {x, 0});
    const double lowered = interpreter.evaluate(result_).real;
    const double expected = ops::round_to(to_, x);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(lowered)) << x;
    } else {
      ASSERT_EQ(lowered, expected) << x;
      ASSERT_EQ(std::signbit(lowered), std::signbit(expected)) << x;
    }
  }

 private:
  DType to_;
  ir::Graph graph_;
  ScalarLowering lowering_;
  Node* node_ = nullptr;
  loop::Ex result_ = nullptr;
};

/// Bit patterns of f32 around all that rounding to 16 bits distinguishes: every upper half with
/// lower halves at and beside the ties of both formats.
template <typename Check>
void for_each_pattern(Check&& check) {
  for (std::uint32_t upper = 0; upper <= 0xffff; upper += 7) {
    for (const std::uint32_t lower : {0x0U, 0x1U, 0xfffU, 0x1000U, 0x1001U, 0x2fffU, 0x3000U,
                                      0x3001U, 0x7fffU, 0x8000U, 0x8001U, 0xffffU}) {
      check(std::bit_cast<float>(upper << 16 | lower));
    }
  }
}

class RoundingTest : public testing::TestWithParam<DType> {};

TEST_P(RoundingTest, OfF32) {
  CastLowering cast(DType::f32, GetParam());
  for_each_pattern([&](float x) {
    // The machine may flush a denormal f32.
    if (std::fpclassify(x) != FP_SUBNORMAL) cast.check(static_cast<double>(x));
  });
  for (int exponent = -26; exponent <= -13; ++exponent) {
    for (const double factor : {1.0, 1.25, 1.5, 1.75, 1.0 + 0x1p-20, 1.5 - 0x1p-20}) {
      cast.check(std::ldexp(factor, exponent));
      cast.check(-std::ldexp(factor, exponent));
    }
  }
  cast.check(65504);
  cast.check(65519.99609375);
  cast.check(65520);
  cast.check(0.0);
  cast.check(-0.0);
}

TEST_P(RoundingTest, OfF64RoundsOnce) {
  CastLowering cast(DType::f64, GetParam());
  for_each_pattern([&](float near) {
    // Beside a value of f32, where rounding to f32 first would hide on which side of a tie it was.
    const auto x = static_cast<double>(near);
    const bool normal = std::abs(x) >= 0x1p-125;
    if (!std::isfinite(x) || !normal) return;
    cast.check(x);
    cast.check(std::nextafter(x, 1e300));
    cast.check(std::nextafter(x, -1e300));
  });
  cast.check(1e300);
  cast.check(-1e300);
  cast.check(std::numeric_limits<double>::infinity());
  cast.check(std::numeric_limits<double>::quiet_NaN());
}

INSTANTIATE_TEST_SUITE_P(Formats, RoundingTest, testing::Values(DType::f16, DType::bf16),
                         [](const auto& test) { return std::string(name(test.param)); });

}  // namespace
}  // namespace weft::test
