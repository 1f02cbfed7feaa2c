#include "compiler/loop/math.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <vector>

// The lowerings are run by a small scalar evaluator, apart from any code generator, and compared
// with the C library in double precision.

namespace weft::loop {
namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

union Register {
  float f32;
  double f64;
  std::int32_t i32;
  std::int64_t i64;
  bool boolean;
};

/// An expression as a list of instructions over numbered registers.
class Tape {
 public:
  Tape(const std::vector<Ex>& inputs, std::vector<Ex> results) : results_(std::move(results)) {
    for (const Ex input : inputs) number(input);
    for (const Ex result : results_) number(result);
    registers_.resize(nodes_.size());
  }

  void set(std::size_t input, float value) { registers_[input].f32 = value; }
  void set(std::size_t input, double value) { registers_[input].f64 = value; }
  void set(std::size_t input, std::uint32_t value) {
    registers_[input].i32 = static_cast<std::int32_t>(value);
  }
  void run() {
    for (std::size_t i = 0; i < nodes_.size(); ++i) step(nodes_[i], registers_[i]);
  }
  Register result(std::size_t index = 0) { return registers_[numbers_.at(results_[index])]; }

 private:
  struct Instruction {
    Ex expr;
    std::array<std::size_t, 3> arguments;
  };

  std::size_t number(Ex e) {
    const auto found = numbers_.find(e);
    if (found != numbers_.end()) return found->second;
    Instruction instruction{e, {}};
    for (std::size_t k = 0; k < 3; ++k) {
      if (e->arguments[k] != nullptr) instruction.arguments[k] = number(e->arguments[k]);
    }
    nodes_.push_back(instruction);
    numbers_[e] = nodes_.size() - 1;
    return nodes_.size() - 1;
  }

  template <typename T>
  static T float_binary(Binary op, T a, T b) {
    switch (op) {
      case Binary::add:
        return a + b;
      case Binary::subtract:
        return a - b;
      case Binary::multiply:
        return a * b;
      case Binary::divide:
        return a / b;
      default:
        throw std::logic_error("the evaluator has no such operation on floats");
    }
  }
  template <typename T>
  static bool compare(Binary op, T a, T b) {
    switch (op) {
      case Binary::equal:
        return a == b;
      case Binary::not_equal:
        return a != b;
      case Binary::less:
        return a < b;
      case Binary::less_equal:
        return a <= b;
      default:
        throw std::logic_error("the evaluator has no such comparison");
    }
  }
  static std::uint32_t word_binary(Binary op, std::uint32_t a, std::uint32_t b) {
    switch (op) {
      case Binary::add:
        return a + b;
      case Binary::subtract:
        return a - b;
      case Binary::multiply:
        return a * b;
      case Binary::bitwise_and:
        return a & b;
      case Binary::bitwise_or:
        return a | b;
      case Binary::bitwise_xor:
        return a ^ b;
      case Binary::shift_left:
        return a << b;
      case Binary::shift_right:
        return static_cast<std::uint32_t>(static_cast<std::int32_t>(a) >> b);
      case Binary::shift_right_logical:
        return a >> b;
      case Binary::multiply_high_unsigned:
        return static_cast<std::uint32_t>((static_cast<std::uint64_t>(a) * b) >> 32);
      default:
        throw std::logic_error("the evaluator has no such operation on i32");
    }
  }
  static double float_unary(Unary op, double a) {
    switch (op) {
      case Unary::negate:
        return -a;
      case Unary::absolute:
        return std::fabs(a);
      case Unary::floor:
        return std::floor(a);
      case Unary::round_even:
        return std::nearbyint(a);
      case Unary::call_exp:
        return std::exp(a);
      case Unary::call_exp2:
        return std::exp2(a);
      case Unary::call_log:
        return std::log(a);
      case Unary::call_log2:
        return std::log2(a);
      case Unary::call_sin:
        return std::sin(a);
      case Unary::call_cos:
        return std::cos(a);
      case Unary::call_tanh:
        return std::tanh(a);
      case Unary::call_erf:
        return std::erf(a);
      default:
        throw std::logic_error("the evaluator has no such function");
    }
  }

  void step(const Instruction& instruction, Register& out) {
    const Ex e = instruction.expr;
    const auto argument = [&](std::size_t k) { return registers_[instruction.arguments[k]]; };
    const auto argument_type = [&](std::size_t k) { return e->arguments[k]->type; };
    switch (e->kind) {
      case ExprKind::variable:
        return;
      case ExprKind::load:
        throw std::logic_error("the evaluator has no memory");
      case ExprKind::constant:
        if (e->type == Scalar::f32) out.f32 = static_cast<float>(e->real);
        if (e->type == Scalar::f64) out.f64 = e->real;
        if (e->type == Scalar::i32) out.i32 = static_cast<std::int32_t>(e->integer);
        if (e->type == Scalar::i64) out.i64 = e->integer;
        if (e->type == Scalar::boolean) out.boolean = e->integer != 0;
        return;
      case ExprKind::select:
        out = argument(0).boolean ? argument(1) : argument(2);
        return;
      case ExprKind::fma:
        if (e->type == Scalar::f32) {
          out.f32 = std::fma(argument(0).f32, argument(1).f32, argument(2).f32);
        } else {
          out.f64 = std::fma(argument(0).f64, argument(1).f64, argument(2).f64);
        }
        return;
      case ExprKind::dot_pair:
        throw std::logic_error("no function is made of pairs of 16 bits");
      case ExprKind::cast:
        if (static_cast<Cast>(e->code) == Cast::bits) {
          out = argument(0);
        } else if (argument_type(0) == Scalar::i32 && e->type == Scalar::f32) {
          out.f32 = static_cast<float>(argument(0).i32);
        } else {
          throw std::logic_error("the evaluator has no such cast");
        }
        return;
      case ExprKind::unary: {
        const auto op = static_cast<Unary>(e->code);
        if (op == Unary::logical_not) {
          out.boolean = !argument(0).boolean;
        } else if (op == Unary::square_root) {
          if (e->type == Scalar::f32) out.f32 = std::sqrt(argument(0).f32);
          if (e->type == Scalar::f64) out.f64 = std::sqrt(argument(0).f64);
        } else if (e->type == Scalar::f32) {
          // Exact in double: no f32 expression may hold a call.
          if (op >= Unary::call_exp2) throw std::logic_error("a library call on f32");
          out.f32 = static_cast<float>(float_unary(op, argument(0).f32));
        } else {
          out.f64 = float_unary(op, argument(0).f64);
        }
        return;
      }
      case ExprKind::binary: {
        const auto op = static_cast<Binary>(e->code);
        const Scalar type = argument_type(0);
        if (type == Scalar::boolean) {
          if (op == Binary::bitwise_and) out.boolean = argument(0).boolean && argument(1).boolean;
          if (op == Binary::bitwise_or) out.boolean = argument(0).boolean || argument(1).boolean;
        } else if (op == Binary::call_pow) {
          ASSERT_EQ(type, Scalar::f64);
          out.f64 = std::pow(argument(0).f64, argument(1).f64);
        } else if (e->type == Scalar::boolean) {
          if (type == Scalar::f32) out.boolean = compare(op, argument(0).f32, argument(1).f32);
          if (type == Scalar::f64) out.boolean = compare(op, argument(0).f64, argument(1).f64);
          if (type == Scalar::i32) out.boolean = compare(op, argument(0).i32, argument(1).i32);
        } else if (type == Scalar::f32) {
          out.f32 = float_binary(op, argument(0).f32, argument(1).f32);
        } else if (type == Scalar::f64) {
          out.f64 = float_binary(op, argument(0).f64, argument(1).f64);
        } else {
          ASSERT_EQ(type, Scalar::i32);
          out.i32 =
              static_cast<std::int32_t>(word_binary(op, static_cast<std::uint32_t>(argument(0).i32),
                                                    static_cast<std::uint32_t>(argument(1).i32)));
        }
        return;
      }
    }
  }

  std::vector<Ex> results_;
  std::vector<Instruction> nodes_;
  std::map<Ex, std::size_t> numbers_;
  std::vector<Register> registers_;
};

using UnaryFunction = Ex (*)(Arena&, Ex);

class Unary32 {
 public:
  explicit Unary32(UnaryFunction function)
      : x_(arena_.variable(Scalar::f32)), tape_({x_}, {function(arena_, x_)}) {}
  float operator()(float x) {
    tape_.set(0, x);
    tape_.run();
    return tape_.result().f32;
  }

 private:
  Arena arena_;
  Ex x_;
  Tape tape_;
};

class Unary64 {
 public:
  explicit Unary64(UnaryFunction function)
      : x_(arena_.variable(Scalar::f64)), tape_({x_}, {function(arena_, x_)}) {}
  double operator()(double x) {
    tape_.set(0, x);
    tape_.run();
    return tape_.result().f64;
  }

 private:
  Arena arena_;
  Ex x_;
  Tape tape_;
};

class Pow32 {
 public:
  Pow32()
      : x_(arena_.variable(Scalar::f32)),
        y_(arena_.variable(Scalar::f32)),
        tape_({x_, y_}, {pow(arena_, x_, y_)}) {}
  float operator()(float x, float y) {
    tape_.set(0, x);
    tape_.set(1, y);
    tape_.run();
    return tape_.result().f32;
  }

 private:
  Arena arena_;
  Ex x_;
  Ex y_;
  Tape tape_;
};

/// Error in units of the f32 spacing at the exact result. Infinity stands for 2^128; results that
/// are denormal may be 0.
double ulps(float got, double exact) {
  constexpr double smallest = std::numeric_limits<float>::min();
  if (std::isnan(exact)) return std::isnan(got) ? 0 : inf;
  if (std::isnan(got)) return inf;
  if (std::isinf(exact)) return got == exact ? 0 : inf;
  const double magnitude = std::fabs(exact);
  if (magnitude < smallest && std::fabs(got) <= smallest) return 0;
  const int exponent = std::clamp(std::ilogb(magnitude), -126, 127);
  double value = got;
  if (std::isinf(got)) value = std::copysign(0x1p128, static_cast<double>(got));
  if (magnitude >= 0x1p128) return std::isinf(got) && (got > 0) == (exact > 0) ? 0 : inf;
  return std::fabs(value - exact) / std::ldexp(1.0, exponent - 23);
}

struct Worst {
  double error = 0;
  float at = 0;
};

/// The largest error over bit patterns from one end to the other, both signs, and over a dense set
/// of moderate numbers.
Worst sweep(UnaryFunction function, double (*exact)(double), float limit) {
  Unary32 lowered(function);
  Worst worst;
  const auto check = [&](float x) {
    const double error = ulps(lowered(x), exact(static_cast<double>(x)));
    if (!(error <= worst.error)) worst = {error, x};
  };
  // A prime stride visits all low bits.
  for (std::uint64_t pattern = 0; pattern <= 0xffffffffU; pattern += 8191) {
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(pattern));
    if (std::fabs(x) <= limit || !std::isfinite(x)) check(x);
  }
  std::mt19937 random(1);
  for (const float scale : {1.0F, 4.0F, 20.0F, 100.0F}) {
    std::uniform_real_distribution<float> uniform(-scale, scale);
    for (int i = 0; i < 100000; ++i) check(uniform(random));
  }
  return worst;
}

double rsqrt_exact(double x) { return 1 / std::sqrt(x); }

void expect_accuracy(const char* name, UnaryFunction function, double (*exact)(double),
                     double promise, float limit = inf) {
  const Worst worst = sweep(function, exact, limit);
  ::testing::Test::RecordProperty(name, std::to_string(worst.error));
  EXPECT_LE(worst.error, promise) << name << "(" << worst.at
                                  << ") = " << Unary32(function)(worst.at) << ", exactly "
                                  << exact(static_cast<double>(worst.at));
}

TEST(Math, Exp) { expect_accuracy("exp", exp, std::exp, 2); }
TEST(Math, Exp2) { expect_accuracy("exp2", exp2, std::exp2, 2); }
TEST(Math, Log) { expect_accuracy("log", log, std::log, 2); }
TEST(Math, Log2) { expect_accuracy("log2", log2, std::log2, 2); }
TEST(Math, Sin) { expect_accuracy("sin", sin, std::sin, 3, 1e5F); }
TEST(Math, Cos) { expect_accuracy("cos", cos, std::cos, 3, 1e5F); }
TEST(Math, Tanh) { expect_accuracy("tanh", tanh, std::tanh, 4); }
TEST(Math, Erf) { expect_accuracy("erf", erf, std::erf, 4); }
TEST(Math, Rsqrt) { expect_accuracy("rsqrt", rsqrt, rsqrt_exact, 2); }
TEST(Math, Expm1) { expect_accuracy("expm1", expm1, std::expm1, 3); }
TEST(Math, Log1p) { expect_accuracy("log1p", log1p, std::log1p, 3); }

/// The arguments of sin and cos that are hardest to reduce: next to multiples of pi/2.
TEST(Math, SineAndCosineNextToTheirZeros) {
  Unary32 sine(sin);
  Unary32 cosine(cos);
  const double half_pi = std::acos(0.0);
  for (int n = 1; n < 63000; ++n) {
    const auto nearest = static_cast<float>(n * half_pi);
    for (const float x : {std::nextafter(nearest, 0.0F), nearest, std::nextafter(nearest, inf)}) {
      EXPECT_LE(ulps(sine(x), std::sin(static_cast<double>(x))), 3) << x;
      EXPECT_LE(ulps(cosine(x), std::cos(static_cast<double>(x))), 3) << x;
    }
  }
}

TEST(Math, SineStaysBoundedForLargeArguments) {
  Unary32 sine(sin);
  Unary32 cosine(cos);
  for (float x = 1e5F; x < 1e38F; x *= 1.37F) {
    EXPECT_LE(std::fabs(sine(x)), 1.0F) << x;
    EXPECT_LE(std::fabs(cosine(x)), 1.0F) << x;
  }
}

TEST(Math, CosineOfTurns) {
  Unary32 lowered(cos_turns);
  const long double two_pi = 2 * std::acos(-1.0L);
  for (int i = 0; i < 1 << 24; i += 97) {
    const float turns = static_cast<float>(i) * 0x1p-24F;
    // A quarter turn is a zero; the library's pi is not exact there.
    const auto exact =
        i == 1 << 22 || i == 3 << 22
            ? 0.0
            : static_cast<double>(std::cos(two_pi * static_cast<long double>(turns)));
    ASSERT_LE(ulps(lowered(turns), exact), 3) << turns;
  }
  for (const float quarter : {-0.75F, -0.25F, 0.25F, 0.75F}) EXPECT_EQ(lowered(quarter), 0.0F);
  EXPECT_EQ(lowered(0.0F), 1.0F);
  EXPECT_EQ(lowered(0.5F), -1.0F);
  Unary64 wide(cos_turns);
  for (const double quarter : {-0.75, -0.25, 0.25, 0.75, 1000.25}) EXPECT_EQ(wide(quarter), 0.0);
  for (const double turns : {0.0, 0.1, 0.2500001, -0.6, 0.9, 77.3}) {
    const long double exact = std::cos(two_pi * (static_cast<long double>(turns)));
    EXPECT_NEAR(wide(turns) / static_cast<double>(exact), 1, 1e-9) << turns;
  }
}

TEST(Math, SpecialValues) {
  EXPECT_EQ(Unary32(exp)(-inf), 0.0F);
  EXPECT_EQ(Unary32(exp)(inf), inf);
  EXPECT_EQ(Unary32(exp)(0.0F), 1.0F);
  EXPECT_EQ(Unary32(exp2)(-inf), 0.0F);
  EXPECT_EQ(Unary32(exp2)(inf), inf);
  for (int n = -126; n < 128; ++n) {
    EXPECT_EQ(Unary32(exp2)(static_cast<float>(n)), std::ldexp(1.0F, n));
  }
  for (const UnaryFunction logarithm : {log, log2}) {
    EXPECT_EQ(Unary32(logarithm)(0.0F), -inf);
    EXPECT_EQ(Unary32(logarithm)(-0.0F), -inf);
    EXPECT_EQ(Unary32(logarithm)(inf), inf);
    EXPECT_EQ(Unary32(logarithm)(1.0F), 0.0F);
    EXPECT_TRUE(std::isnan(Unary32(logarithm)(-1.0F)));
    EXPECT_TRUE(std::isnan(Unary32(logarithm)(-inf)));
  }
  EXPECT_EQ(Unary32(log2)(8.0F), 3.0F);
  EXPECT_EQ(Unary32(log1p)(-1.0F), -inf);
  EXPECT_TRUE(std::isnan(Unary32(log1p)(-1.5F)));
  EXPECT_EQ(Unary32(log1p)(inf), inf);
  EXPECT_EQ(Unary32(expm1)(-inf), -1.0F);
  EXPECT_EQ(Unary32(expm1)(inf), inf);
  EXPECT_EQ(Unary32(tanh)(inf), 1.0F);
  EXPECT_EQ(Unary32(tanh)(-inf), -1.0F);
  EXPECT_EQ(Unary32(erf)(inf), 1.0F);
  EXPECT_EQ(Unary32(erf)(-inf), -1.0F);
  EXPECT_EQ(Unary32(rsqrt)(0.0F), inf);
  EXPECT_EQ(Unary32(rsqrt)(inf), 0.0F);
  EXPECT_TRUE(std::isnan(Unary32(rsqrt)(-1.0F)));
  EXPECT_TRUE(std::isnan(Unary32(sin)(inf)));
  EXPECT_TRUE(std::isnan(Unary32(cos)(-inf)));
  for (const UnaryFunction odd : {sin, tanh, erf, expm1, log1p}) {
    EXPECT_TRUE(std::signbit(Unary32(odd)(-0.0F)));
    EXPECT_EQ(Unary32(odd)(-0.0F), 0.0F);
    EXPECT_FALSE(std::signbit(Unary32(odd)(0.0F)));
  }
}

TEST(Math, EveryNanStaysNan) {
  for (const UnaryFunction function :
       {exp, exp2, log, log2, sin, cos, tanh, erf, rsqrt, expm1, log1p}) {
    Unary32 lowered(function);
    for (std::uint32_t payload = 1; payload < 0x800000U; payload += 4099) {
      EXPECT_TRUE(std::isnan(lowered(std::bit_cast<float>(0x7f800000U | payload))));
      EXPECT_TRUE(std::isnan(lowered(std::bit_cast<float>(0xff800000U | payload))));
    }
  }
}

TEST(Math, TanhAndErfNeverExceedOne) {
  for (const UnaryFunction function : {tanh, erf}) {
    Unary32 lowered(function);
    for (float x = 0.001F; x < 30; x *= 1.0003F) ASSERT_LE(std::fabs(lowered(x)), 1.0F) << x;
  }
}

TEST(Math, Pow) {
  Pow32 lowered;
  std::mt19937 random(2);
  std::uniform_real_distribution<double> exponent(-126, 127.9);
  std::uniform_real_distribution<double> result(-130, 130);
  Worst worst;
  float worst_y = 0;
  const auto check = [&](float x, float y) {
    const double error = ulps(lowered(x, y), std::pow(static_cast<double>(x), y));
    if (!(error <= worst.error)) {
      worst = {error, x};
      worst_y = y;
    }
  };
  for (int i = 0; i < 400000; ++i) {
    // Results are spread over the whole range.
    const double e = exponent(random);
    check(static_cast<float>(std::exp2(e)), static_cast<float>(result(random) / e));
    const double near_one = 1 + e * 1e-3;
    check(static_cast<float>(near_one), static_cast<float>(result(random) / std::log2(near_one)));
    check(static_cast<float>(-near_one), static_cast<float>(i % 2001 - 1000));
  }
  RecordProperty("pow", std::to_string(worst.error));
  EXPECT_LE(worst.error, 16) << "pow(" << worst.at << ", " << worst_y << ")";
  for (int n = -20; n <= 20; ++n) {
    EXPECT_EQ(lowered(2.0F, static_cast<float>(n)), std::ldexp(1.0F, n));
  }
  EXPECT_EQ(lowered(3.0F, 2.0F), 9.0F);
}

/// Every pair of special values agrees with C's pow.
TEST(Math, PowSpecialCases) {
  Pow32 lowered;
  const std::vector<float> values = {
      0.0F, 0.5F,  1.0F,   1.5F,    2.0F,  3.0F,     1e10F,     16777217.0F, 16777216.0F,
      inf,  1e30F, 1e-30F, 2.5F,    33.0F, 0.999F,   1.0001F,   3e38F,       8388607.5F,
      0.1F, 7.0F,  1e-10F, 1234.5F, 1e20F, 0.33333F, 8388609.0F};
  std::vector<float> signed_values = {nan};
  for (const float value : values) {
    signed_values.push_back(value);
    signed_values.push_back(-value);
  }
  for (const float x : signed_values) {
    for (const float y : signed_values) {
      const float got = lowered(x, y);
      const double exact = std::pow(static_cast<double>(x), static_cast<double>(y));
      EXPECT_LE(ulps(got, exact), 16) << "pow(" << x << ", " << y << ") = " << got;
      if (!std::isnan(exact)) {
        EXPECT_EQ(std::signbit(got), std::signbit(exact)) << "pow(" << x << ", " << y << ")";
      }
    }
  }
}

TEST(Math, DoublePrecisionUsesTheLibrary) {
  for (const double x : {-3.0, -0.5, -1e-9, 1e-9, 0.25, 2.0, 11.0}) {
    EXPECT_EQ(Unary64(exp)(x), std::exp(x));
    EXPECT_EQ(Unary64(tanh)(x), std::tanh(x));
    EXPECT_EQ(Unary64(erf)(x), std::erf(x));
    EXPECT_NEAR(Unary64(expm1)(x) / std::expm1(x), 1, 1e-15) << x;
    if (x > -1) {
      EXPECT_NEAR(Unary64(log1p)(x) / std::log1p(x), 1, 1e-15) << x;
    }
  }
  EXPECT_EQ(Unary64(expm1)(0.0), 0.0);
  EXPECT_EQ(Unary64(expm1)(1000.0), std::numeric_limits<double>::infinity());
  EXPECT_EQ(Unary64(expm1)(-1000.0), -1.0);
  EXPECT_EQ(Unary64(log1p)(std::numeric_limits<double>::infinity()),
            std::numeric_limits<double>::infinity());
  EXPECT_EQ(Unary64(log1p)(-1.0), -std::numeric_limits<double>::infinity());
}

TEST(Math, OperandsOfOtherTypesAreRefused) {
  Arena arena;
  EXPECT_THROW(exp(arena, arena.integer(Scalar::i32, 1)), std::logic_error);
  EXPECT_THROW(pow(arena, arena.variable(Scalar::f32), arena.variable(Scalar::f64)),
               std::logic_error);
}

/// The known answers published with Random123.
TEST(Math, Philox) {
  Arena arena;
  std::vector<Ex> inputs;
  for (int i = 0; i < 6; ++i) inputs.push_back(arena.variable(Scalar::i32));
  const auto words =
      philox(arena, {inputs[0], inputs[1], inputs[2], inputs[3]}, {inputs[4], inputs[5]});
  Tape tape(inputs, {words.begin(), words.end()});
  struct Case {
    std::array<std::uint32_t, 6> counter_and_key;
    std::array<std::uint32_t, 4> words;
  };
  constexpr std::uint32_t ones = 0xffffffffU;
  const Case cases[] = {
      {{0, 0, 0, 0, 0, 0}, {0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U}},
      {{ones, ones, ones, ones, ones, ones}, {0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU}},
      {{0x243f6a88U, 0x85a308d3U, 0x13198a2eU, 0x03707344U, 0xa4093822U, 0x299f31d0U},
       {0xd16cfe09U, 0x94fdccebU, 0x5001e420U, 0x24126ea1U}}};
  for (const Case& known : cases) {
    for (std::size_t i = 0; i < 6; ++i) tape.set(i, known.counter_and_key[i]);
    tape.run();
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(static_cast<std::uint32_t>(tape.result(i).i32), known.words[i]);
    }
  }
}

}  // namespace
}  // namespace weft::loop
