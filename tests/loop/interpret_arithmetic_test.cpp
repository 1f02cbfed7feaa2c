#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "compiler/loop/interpret_value.h"
#include "tests/loop/interpret.h"
#include "tests/loop/interpreted.h"

namespace weft {
namespace {

using loop::Binary;
using loop::Cast;
using loop::Combine;
using loop::Ex;
using loop::Scalar;
using loop::Unary;
using loop::Word;
using loop::interpreter::Arithmetic;
using loop::interpreter::f32_of;
using loop::interpreter::f64_of;
using loop::interpreter::integer_of;
using loop::interpreter::word_of;

constexpr std::array all_scalars = {Scalar::boolean, Scalar::u8,  Scalar::i32,
                                    Scalar::i64,     Scalar::f32, Scalar::f64};

Word to_word(Scalar type, const tests::Number& number) {
  if (type == Scalar::f32) return word_of(static_cast<float>(number.real));
  if (type == Scalar::f64) return word_of(number.real);
  return word_of(number.integer);
}

/// Edge cases and random values of a type.
std::vector<tests::Number> numbers(Scalar type) {
  std::mt19937_64 random(static_cast<std::uint64_t>(type) + 1);
  std::vector<tests::Number> all;
  if (loop::is_float(type)) {
    const double infinity = std::numeric_limits<double>::infinity();
    for (const double value :
         {0.0,    -0.0,    1.0,   -1.0,    0.5,      1.5,          2.5,
          -2.5,   300.7,   -7.25, 65520.0, 1e-6,     2147483648.0, -2147483648.0,
          9.3e18, -9.3e18, 1e-40, 3e38,    infinity, -infinity,    std::nan("")}) {
      all.push_back(
          {0, type == Scalar::f32 ? static_cast<double>(static_cast<float>(value)) : value});
    }
    std::uniform_real_distribution<double> exponent(-20, 20);
    for (int i = 0; i < 12; ++i) {
      const double value = std::exp2(exponent(random)) * ((random() & 1U) != 0 ? -1 : 1);
      all.push_back(
          {0, type == Scalar::f32 ? static_cast<double>(static_cast<float>(value)) : value});
    }
    return all;
  }
  if (type == Scalar::boolean) return {{0, 0}, {1, 0}};
  if (type == Scalar::u8) return {{0, 0}, {1, 0}, {7, 0}, {8, 0}, {127, 0}, {128, 0}, {255, 0}};
  const std::int64_t most = type == Scalar::i32 ? std::numeric_limits<std::int32_t>::max()
                                                : std::numeric_limits<std::int64_t>::max();
  for (const std::int64_t value :
       {std::int64_t{0}, std::int64_t{1}, std::int64_t{-1}, std::int64_t{2}, std::int64_t{31},
        std::int64_t{33}, std::int64_t{63}, std::int64_t{-5}, std::int64_t{17}, most, -most - 1,
        most - 1}) {
    all.push_back({value, 0});
  }
  for (int i = 0; i < 8; ++i) {
    const auto value = static_cast<std::int64_t>(random());
    all.push_back({type == Scalar::i32 ? static_cast<std::int32_t>(value) : value, 0});
  }
  return all;
}

bool same(Scalar type, Word found, const tests::Number& wanted) {
  if (type == Scalar::f32 && std::isnan(wanted.real)) return std::isnan(f32_of(found));
  if (type == Scalar::f64 && std::isnan(wanted.real)) return std::isnan(f64_of(found));
  return found == to_word(type, wanted);
}

/// Whether the expression exists: the arena refuses operations on types that they are not for.
template <typename Make>
Ex made(const Make& make) {
  try {
    return make();
  } catch (const std::logic_error&) {
    return nullptr;
  }
}

const Arithmetic exact{.flush = false};

TEST(InterpretArithmetic, UnaryIsAsDefined) {
  int checked = 0;
  for (const Scalar type : all_scalars) {
    for (int code = 0; code <= static_cast<int>(Unary::round_bf16); ++code) {
      const auto op = static_cast<Unary>(code);
      loop::Arena arena;
      const Ex x = arena.variable(type);
      const Ex expr = made([&] { return arena.unary(op, x); });
      // Negation of i64 is a product.
      if (!expr || expr->kind != loop::ExprKind::unary) continue;
      for (const tests::Number& a : numbers(type)) {
        tests::Interpreter reference;
        reference.variables[x] = a;
        const Word found = exact.unary(op, type, to_word(type, a));
        EXPECT_TRUE(same(type, found, reference.evaluate(expr)))
            << print(expr) << " of " << a.integer << " / " << a.real;
        ++checked;
      }
    }
  }
  EXPECT_GT(checked, 500);
}

TEST(InterpretArithmetic, BinaryIsAsDefined) {
  int checked = 0;
  for (const Scalar type : all_scalars) {
    for (int code = 0; code <= static_cast<int>(Binary::call_pow); ++code) {
      const auto op = static_cast<Binary>(code);
      loop::Arena arena;
      const bool index = op == Binary::floor_divide || op == Binary::floor_modulo;
      const Ex x = arena.variable(type);
      const Ex y = arena.variable(type, index ? 1 : std::numeric_limits<std::int64_t>::min());
      const Ex expr = made([&] { return arena.binary(op, x, y); });
      if (!expr || expr->kind != loop::ExprKind::binary) continue;
      for (const tests::Number& a : numbers(type)) {
        for (const tests::Number& b : numbers(type)) {
          if (index && b.integer <= 0) continue;
          tests::Interpreter reference;
          reference.variables[x] = a;
          reference.variables[y] = b;
          const Word found = exact.binary(op, type, to_word(type, a), to_word(type, b));
          const tests::Number wanted = reference.evaluate(expr);
          EXPECT_TRUE(same(expr->type, found, wanted))
              << print(expr) << " of " << a.integer << " / " << a.real << " and " << b.integer
              << " / " << b.real << ": " << integer_of(found) << " instead of " << wanted.integer
              << " / " << wanted.real;
          ++checked;
        }
      }
    }
  }
  EXPECT_GT(checked, 10000);
}

TEST(InterpretArithmetic, CastsAreAsDefined) {
  for (const Scalar from : all_scalars) {
    for (const Scalar to : all_scalars) {
      for (const Cast kind : {Cast::convert, Cast::bits}) {
        loop::Arena arena;
        const Ex x = arena.variable(from);
        const Ex expr =
            made([&] { return kind == Cast::bits ? arena.bits(x, to) : arena.cast(x, to); });
        if (!expr || expr->kind != loop::ExprKind::cast) continue;
        for (const tests::Number& a : numbers(from)) {
          tests::Interpreter reference;
          reference.variables[x] = a;
          const tests::Number wanted = reference.evaluate(expr);
          EXPECT_TRUE(same(to, exact.cast(kind, from, to, to_word(from, a)), wanted))
              << print(expr) << " of " << a.integer << " / " << a.real;
        }
      }
    }
  }
}

TEST(InterpretArithmetic, SixteenBitFloats) {
  using loop::interpreter::from_bf16;
  using loop::interpreter::from_f16;
  using loop::interpreter::to_bf16;
  using loop::interpreter::to_f16;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto word = static_cast<std::uint16_t>(bits);
    ASSERT_TRUE(std::isnan(from_f16(word)) || to_f16(from_f16(word)) == word) << bits;
    ASSERT_TRUE(std::isnan(from_bf16(word)) || to_bf16(from_bf16(word)) == word) << bits;
  }
  EXPECT_TRUE(std::isnan(from_f16(to_f16(std::nanf("")))));
  EXPECT_TRUE(std::isnan(from_bf16(to_bf16(std::bit_cast<float>(0x7f800001U)))));
  // Every half and the floats around its upper neighbour's tie.
  for (std::uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const float low = from_f16(static_cast<std::uint16_t>(bits));
    const float high = bits == 0x7bff ? 65536.0F : from_f16(static_cast<std::uint16_t>(bits + 1));
    const float tie = (low + high) / 2;
    for (const float value : {std::nextafter(tie, 0.0F), tie, std::nextafter(tie, 1e6F)}) {
      const auto wanted = static_cast<float>(tests::round_to_half(static_cast<double>(value)));
      ASSERT_EQ(from_f16(to_f16(value)), wanted) << value;
      ASSERT_EQ(from_f16(to_f16(-value)), -wanted) << value;
    }
  }
  std::mt19937 random(3);
  for (int i = 0; i < 20000; ++i) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (std::isnan(value)) continue;
    ASSERT_EQ(static_cast<double>(from_bf16(to_bf16(value))),
              tests::round_to_bfloat(static_cast<double>(value)));
  }
}

TEST(InterpretArithmetic, FmaRoundsOnce) {
  const float above = 1 + 0x1p-23F, below = 1 - 0x1p-23F;
  EXPECT_EQ(f32_of(exact.fma(Scalar::f32, word_of(above), word_of(below), word_of(-1.0F))),
            -0x1p-46F);
  // Its sum in double precision would be a tie of f32 that it is not.
  const float tie = 1 + 0x1p-12F;
  EXPECT_EQ(f32_of(exact.fma(Scalar::f32, word_of(0x1p-30F), word_of(0x1p-30F), word_of(tie))),
            tie);
  EXPECT_EQ(integer_of(exact.fma(Scalar::i32, word_of(std::int64_t{1} << 20),
                                 word_of(std::int64_t{1} << 12), word_of(std::int64_t{5}))),
            5);
}

TEST(InterpretArithmetic, DenormalsFlushWhereAsked) {
  const Arithmetic flushing{.flush = true};
  const Word tiny = word_of(-0x1p-130F), large = word_of(0x1p20F);
  EXPECT_EQ(flushing.binary(Binary::multiply, Scalar::f32, tiny, large), word_of(-0.0F));
  EXPECT_EQ(exact.binary(Binary::multiply, Scalar::f32, tiny, large), word_of(-0x1p-110F));
  EXPECT_EQ(flushing.binary(Binary::multiply, Scalar::f32, word_of(0x1p-100F), word_of(0x1p-30F)),
            word_of(0.0F));
  EXPECT_EQ(flushing.binary(Binary::less, Scalar::f32, tiny, word_of(0.0F)), 0U);
  EXPECT_EQ(exact.binary(Binary::less, Scalar::f32, tiny, word_of(0.0F)), 1U);
  EXPECT_EQ(flushing.unary(Unary::negate, Scalar::f32, tiny), word_of(0x1p-130F));
  EXPECT_EQ(flushing.binary(Binary::multiply, Scalar::f64, word_of(0x1p-1060), word_of(2.0)),
            word_of(0x1p-1059));
}

TEST(InterpretArithmetic, ProductsThatAreAddedAreContracted) {
  loop::Kernel kernel;
  loop::Arena& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::f32, 2, false);
  const auto* out = kernel.argument("out", DType::f32, 2, true);
  loop::Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    const Ex product = arena.mul(arena.load(x, arena.integer(0)), arena.load(x, arena.integer(1)));
    const Ex minus_one = arena.constant(Scalar::f32, -1);
    loop::Accumulator* sum = builder.declare(Scalar::f32, Combine::add, minus_one);
    builder.accumulate(sum, product);
    builder.store(out, arena.integer(0), builder.read(sum));
    builder.store(out, arena.integer(1), arena.add(product, minus_one));
  });
  tests::Arguments arguments(kernel);
  arguments.fill(0, [](std::int64_t i) { return i == 0 ? 1 + 0x1p-23 : 1 - 0x1p-23; });
  arguments.run_clean();
  EXPECT_EQ(arguments.get(1, 0), -0x1p-46);
  EXPECT_EQ(arguments.get(1, 1), 0);
}

}  // namespace
}  // namespace weft
