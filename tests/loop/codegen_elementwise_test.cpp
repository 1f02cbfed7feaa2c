#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/loop/compare.h"
#include "tests/loop/harness.h"

namespace weft {
namespace {

using loop::Binary;
using loop::Builder;
using loop::Ex;
using loop::Kernel;
using loop::Role;
using loop::Scalar;
using loop::Unary;
using tests::expect_same;
using tests::Number;

constexpr DType memory_types[] = {DType::f32, DType::f16, DType::bf16, DType::f64,
                                  DType::i32, DType::i64, DType::u8,   DType::boolean};
constexpr std::int64_t extents[] = {0, 1, 7, 16, 17, 255};
constexpr double infinity = std::numeric_limits<double>::infinity();

/// The values that go wrong, for each kind of register.
Number special(const loop::Buffer& buffer, std::int64_t index) {
  static const double reals[] = {
      0.0,      -0.0,      1.0,   -1.0,       0.5,     -0.5,    1.5,     2.5,     -2.5, 0.1,  NAN,
      infinity, -infinity, 255.0, 255.9,      256.0,   -3.7,    65504.0, 65536.0, 1e9,  -1e9, 3e9,
      -3e9,     1e19,      -1e19, 16777217.0, 0x1p-14, 0x1p-20, 1e30,    -1e30,   0.75, 1e-3};
  static const std::int64_t integers[] = {0,
                                          1,
                                          -1,
                                          2,
                                          -2,
                                          3,
                                          7,
                                          8,
                                          31,
                                          32,
                                          33,
                                          63,
                                          64,
                                          65,
                                          127,
                                          128,
                                          255,
                                          256,
                                          -128,
                                          1000000007,
                                          -1000000007,
                                          std::numeric_limits<std::int32_t>::max(),
                                          std::numeric_limits<std::int32_t>::min(),
                                          std::numeric_limits<std::int64_t>::max(),
                                          std::numeric_limits<std::int64_t>::min()};
  // Pairs of arguments run through all combinations of values.
  const std::int64_t step = buffer.index == 0 ? index : index / 32 + index * 5;
  const double real = reals[step % 32];
  const std::int64_t integer = integers[step % 25];
  switch (buffer.dtype) {
    case DType::f16:
      return {0, tests::round_to_half(real)};
    case DType::bf16:
      return {0, tests::round_to_bfloat(real)};
    case DType::f32:
      return {0, static_cast<double>(static_cast<float>(real))};
    case DType::f64:
      return {0, real};
    case DType::i32:
      return {static_cast<std::int32_t>(integer), 0};
    case DType::i64:
      return {integer, 0};
    case DType::u8:
      return {static_cast<std::uint8_t>(integer), 0};
    default:
      return {step % 2, 0};
  }
}

DType memory_type(Scalar scalar) {
  switch (scalar) {
    case Scalar::boolean:
      return DType::boolean;
    case Scalar::u8:
      return DType::u8;
    case Scalar::i32:
      return DType::i32;
    case Scalar::i64:
      return DType::i64;
    case Scalar::f32:
      return DType::f32;
    case Scalar::f64:
      return DType::f64;
  }
  return DType::f32;
}

TEST(Elementwise, CopiesEveryTypeAndExtent) {
  for (const DType dtype : memory_types) {
    for (const std::int64_t extent : extents) {
      for (const int width : {1, 16}) {
        Kernel kernel;
        const auto* x = kernel.argument("x", dtype, extent, false);
        const auto* y = kernel.argument("y", dtype, extent, true);
        Builder builder(kernel);
        builder.phase(1, [&](Ex) {
          builder.loop(extent, Role::vector, width,
                       [&](Ex i) { builder.store(y, i, kernel.arena.load(x, i)); });
        });
        expect_same(kernel, special);
      }
    }
  }
}

TEST(Elementwise, StoresRoundToSixteenBits) {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    Kernel kernel;
    const auto* x = kernel.argument("x", DType::f32, 4000, false);
    const auto* y = kernel.argument("y", dtype, 4000, true);
    const auto* z = kernel.argument("z", DType::f32, 4000, true);
    Builder builder(kernel);
    auto& arena = kernel.arena;
    builder.phase(1, [&](Ex) {
      builder.loop(4000, Role::vector, 16, [&](Ex i) {
        const Ex value = arena.load(x, i);
        builder.store(y, i, value);
        builder.store(
            z, i, arena.unary(dtype == DType::f16 ? Unary::round_f16 : Unary::round_bf16, value));
      });
    });
    expect_same(kernel, [](const loop::Buffer& buffer, std::int64_t i) -> Number {
      if (buffer.name != "x") return {};
      if (i < 32) return special(buffer, i);
      // Ties, neighbours of ties, the denormals of f16 and overflow.
      const double base =
          std::ldexp(1.0 + static_cast<double>(i % 37) * 0x1p-11, static_cast<int>(i % 44) - 26);
      const double nudge = static_cast<double>(i % 3 - 1) * 0x1p-20;
      const double tie = 1.0 + (i % 2 ? 0x1p-11 : 0x1p-8) + nudge;
      return {0, static_cast<double>(static_cast<float>((i % 5 ? 1 : -1) * base * tie))};
    });
  }
}

TEST(Elementwise, BinaryOperations) {
  struct Case {
    Binary op;
    bool floats, integers, booleans;
  };
  const Case cases[] = {{Binary::add, true, true, false},
                        {Binary::subtract, true, true, false},
                        {Binary::multiply, true, true, false},
                        {Binary::divide, true, true, false},
                        {Binary::remainder, false, true, false},
                        {Binary::minimum, true, true, true},
                        {Binary::maximum, true, true, true},
                        {Binary::bitwise_and, false, true, true},
                        {Binary::bitwise_or, false, true, true},
                        {Binary::bitwise_xor, false, true, true},
                        {Binary::shift_left, false, true, false},
                        {Binary::shift_right, false, true, false},
                        {Binary::shift_right_logical, false, true, false},
                        {Binary::equal, true, true, true},
                        {Binary::not_equal, true, true, true},
                        {Binary::less, true, true, true},
                        {Binary::less_equal, true, true, true}};
  for (const Scalar type :
       {Scalar::f32, Scalar::f64, Scalar::u8, Scalar::i32, Scalar::i64, Scalar::boolean}) {
    // One kernel a type, one output an operation; scalar code beside vector code.
    Kernel kernel;
    auto& arena = kernel.arena;
    const std::int64_t count = 32 * 32 + 5;
    const DType dtype = memory_type(type);
    const auto* x = kernel.argument("x", dtype, count, false);
    const auto* y = kernel.argument("y", dtype, count, false);
    Builder builder(kernel);
    for (const Case& c : cases) {
      const bool fits = loop::is_float(type)      ? c.floats
                        : type == Scalar::boolean ? c.booleans
                                                  : c.integers;
      if (!fits) continue;
      for (const int width : {1, 16}) {
        const bool compares =
            arena.binary(c.op, arena.variable(type), arena.variable(type))->type != type;
        const auto* out = kernel.argument("out" + std::to_string(static_cast<int>(c.op)),
                                          compares ? DType::boolean : dtype, count, true);
        builder.phase(1, [&](Ex) {
          builder.loop(count, Role::vector, width, [&](Ex i) {
            builder.store(out, i, arena.binary(c.op, arena.load(x, i), arena.load(y, i)));
          });
        });
      }
    }
    expect_same(kernel, special);
  }
}

TEST(Elementwise, NaNOfEitherOperandOfMinimum) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::f32, 4, false);
  const auto* y = kernel.argument("y", DType::f32, 4, false);
  const auto* out = kernel.argument("out", DType::boolean, 8, true);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    builder.loop(4, Role::vector, 4, [&](Ex i) {
      const Ex least = arena.binary(Binary::minimum, arena.load(x, i), arena.load(y, i));
      const Ex greatest = arena.binary(Binary::maximum, arena.load(x, i), arena.load(y, i));
      builder.store(out, i, arena.binary(Binary::not_equal, least, least));
      builder.store(out, arena.add(i, arena.integer(4)),
                    arena.binary(Binary::not_equal, greatest, greatest));
    });
  });
  expect_same(kernel, [](const loop::Buffer& buffer, std::int64_t i) -> Number {
    if (buffer.name == "x") return {0, (i & 1) ? NAN : 1};
    if (buffer.name == "y") return {0, (i & 2) ? NAN : 2};
    return {};
  });
}

TEST(Elementwise, UnaryOperations) {
  for (const Scalar type :
       {Scalar::f32, Scalar::f64, Scalar::i32, Scalar::i64, Scalar::u8, Scalar::boolean}) {
    Kernel kernel;
    auto& arena = kernel.arena;
    const DType dtype = memory_type(type);
    const auto* x = kernel.argument("x", dtype, 100, false);
    Builder builder(kernel);
    std::vector<Unary> operations;
    if (loop::is_float(type)) {
      operations = {Unary::negate, Unary::absolute, Unary::square_root, Unary::floor,
                    Unary::round_even};
    } else if (type == Scalar::boolean) {
      operations = {Unary::logical_not};
    } else {
      operations = {Unary::negate, Unary::absolute, Unary::bitwise_not};
    }
    for (const Unary op : operations) {
      for (const int width : {1, 16}) {
        const auto* out = kernel.argument("out", dtype, 100, true);
        builder.phase(1, [&](Ex) {
          builder.loop(100, Role::vector, width,
                       [&](Ex i) { builder.store(out, i, arena.unary(op, arena.load(x, i))); });
        });
      }
    }
    expect_same(kernel, special);
  }
}

TEST(Elementwise, LibraryCalls) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::f64, 21, false);
  Builder builder(kernel);
  for (const Unary op : {Unary::call_exp2, Unary::call_log2, Unary::call_exp, Unary::call_log,
                         Unary::call_sin, Unary::call_cos, Unary::call_tanh, Unary::call_erf}) {
    const auto* out = kernel.argument("out", DType::f64, 21, true);
    builder.phase(1, [&](Ex) {
      builder.loop(21, Role::vector, 8,
                   [&](Ex i) { builder.store(out, i, arena.unary(op, arena.load(x, i))); });
    });
  }
  const auto* power = kernel.argument("power", DType::f64, 21, true);
  builder.phase(1, [&](Ex) {
    builder.loop(21, Role::vector, 8, [&](Ex i) {
      builder.store(
          power, i,
          arena.binary(Binary::call_pow, arena.load(x, i), arena.constant(Scalar::f64, 2)));
    });
  });
  expect_same(kernel, [](const loop::Buffer&, std::int64_t i) -> Number {
    return {0, 0.3 * static_cast<double>(i)};
  });
}

TEST(Elementwise, CastsBetweenAllTypes) {
  const Scalar types[] = {Scalar::boolean, Scalar::u8,  Scalar::i32,
                          Scalar::i64,     Scalar::f32, Scalar::f64};
  for (const Scalar from : types) {
    Kernel kernel;
    auto& arena = kernel.arena;
    const auto* x = kernel.argument("x", memory_type(from), 77, false);
    Builder builder(kernel);
    for (const Scalar to : types) {
      for (const int width : {1, 16}) {
        const auto* out = kernel.argument("out", memory_type(to), 77, true);
        builder.phase(1, [&](Ex) {
          builder.loop(77, Role::vector, width,
                       [&](Ex i) { builder.store(out, i, arena.cast(arena.load(x, i), to)); });
        });
      }
    }
    expect_same(kernel, special);
  }
}

TEST(Elementwise, BitsSelectAndHighProducts) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::i32, 200, false);
  const auto* y = kernel.argument("y", DType::i32, 200, false);
  const auto* bits = kernel.argument("bits", DType::i32, 200, true);
  const auto* high = kernel.argument("high", DType::i32, 200, true);
  const auto* chosen = kernel.argument("chosen", DType::i32, 200, true);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    builder.loop(200, Role::vector, 16, [&](Ex i) {
      const Ex a = arena.load(x, i);
      const Ex b = arena.load(y, i);
      const Ex positive = arena.unary(Unary::absolute, arena.cast(a, Scalar::f32));
      builder.store(bits, i,
                    arena.bits(arena.add(positive, arena.constant(Scalar::f32, 1)), Scalar::i32));
      builder.store(high, i, arena.binary(Binary::multiply_high_unsigned, a, b));
      builder.store(chosen, i, arena.select(arena.less(a, b), arena.add(a, b), b));
    });
  });
  expect_same(kernel, special);
}

TEST(Elementwise, FusedMultiplyAddRoundsOnce) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const auto* x = kernel.argument("x", DType::f32, 33, false);
  const auto* out = kernel.argument("out", DType::f32, 33, true);
  Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    builder.loop(33, Role::vector, 16, [&](Ex i) {
      const Ex a = arena.load(x, i);
      builder.store(out, i, arena.fma(a, a, arena.constant(Scalar::f32, -1)));
    });
  });
  if (compiler::host_target().features.find("+fma") == std::string::npos) {
    GTEST_SKIP() << "this machine has no fused multiply-add";
  }
  // (1 + e)^2 - 1 keeps e^2 only where the product is not rounded. SSE2 has no such instruction.
  const auto compare = [&](const compiler::HostTarget& target) {
    const tests::Compiled compiled(kernel, target);
    std::vector<float> in(33), result(33);
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = 1.0F + static_cast<float>(i) * 0x1p-20F;
    compiled.run({in.data(), result.data()});
    for (std::size_t i = 0; i < in.size(); ++i) {
      EXPECT_EQ(result[i], std::fma(in[i], in[i], -1.0F)) << target.name() << " " << i;
    }
  };
  compare(compiler::host_target());
}

}  // namespace
}  // namespace weft
