#include <cmath>
#include <limits>

#include "compiler/loop/math.h"
#include "ops/elementwise.h"

namespace weft::ops {

namespace {

using loop::Arena;
using loop::Binary;
using loop::Ex;
using loop::Scalar;

Op row(std::string_view name, std::vector<Type> (*infer)(const Node&), DTypes dtypes,
       Derivative derivative, Reference reference, Lower lower, Generate generate, int cost,
       const char* description) {
  return Op({name, Pattern::elementwise, 2, 2, 0, {}, infer}, std::move(dtypes), derivative,
            reference, lower, Decompose::none("is primitive"), generate, cost, description);
}

// ---- reference: integers wrap, x / 0 = x % 0 = 0 ------------------------------------------------

std::int64_t wrap(std::uint64_t bits) { return static_cast<std::int64_t>(bits); }

constexpr Overloaded add_of{
    [](double x, double y) { return x + y; }, [](Complex x, Complex y) { return x + y; },
    [](std::int64_t x, std::int64_t y) {
      return wrap(static_cast<std::uint64_t>(x) + static_cast<std::uint64_t>(y));
    }};
constexpr Overloaded sub_of{
    [](double x, double y) { return x - y; }, [](Complex x, Complex y) { return x - y; },
    [](std::int64_t x, std::int64_t y) {
      return wrap(static_cast<std::uint64_t>(x) - static_cast<std::uint64_t>(y));
    }};
constexpr Overloaded mul_of{
    [](double x, double y) { return x * y; }, [](Complex x, Complex y) { return x * y; },
    [](std::int64_t x, std::int64_t y) {
      return wrap(static_cast<std::uint64_t>(x) * static_cast<std::uint64_t>(y));
    }};
constexpr Overloaded div_of{[](double x, double y) { return x / y; },
                            [](Complex x, Complex y) { return x / y; },
                            [](std::int64_t x, std::int64_t y) {
                              if (y == 0) return std::int64_t{0};
                              return y == -1 ? wrap(-static_cast<std::uint64_t>(x)) : x / y;
                            }};
constexpr Overloaded remainder_of{
    [](double x, double y) { return std::fmod(x, y); },
    [](std::int64_t x, std::int64_t y) { return y == 0 || y == -1 ? std::int64_t{0} : x % y; }};
constexpr Overloaded minimum_of{[](double x, double y) { return std::isnan(x) || x < y ? x : y; },
                                [](std::int64_t x, std::int64_t y) { return x < y ? x : y; }};
constexpr Overloaded maximum_of{[](double x, double y) { return std::isnan(x) || y < x ? x : y; },
                                [](std::int64_t x, std::int64_t y) { return y < x ? x : y; }};

void reference_where(const Node&, std::span<const Array* const> operands,
                     std::span<Array> results) {
  for (std::int64_t i = 0; i < results[0].elements(); ++i) {
    const bool condition = operands[0]->integers[static_cast<std::size_t>(i)] != 0;
    copy_element(*operands[condition ? 1 : 2], i, results[0], i);
  }
}

// ---- derivatives --------------------------------------------------------------------------------

void derive_add(Backward& d) {
  if (d.wanted(0)) d.add(0, d.gradient());
  if (d.wanted(1)) d.add(1, d.gradient());
}

void derive_sub(Backward& d) {
  if (d.wanted(0)) d.add(0, d.gradient());
  if (d.wanted(1)) d.add(1, neg(d.build(), d.gradient()));
}

void derive_mul(Backward& d) {
  Builder& b = d.build();
  if (d.wanted(0)) d.add(0, mul(b, d.gradient(), conj(b, d.operand(1))));
  if (d.wanted(1)) d.add(1, mul(b, d.gradient(), conj(b, d.operand(0))));
}

void derive_div(Backward& d) {
  Builder& b = d.build();
  const Value gx = div(b, d.gradient(), conj(b, d.operand(1)));
  if (d.wanted(0)) d.add(0, gx);
  if (d.wanted(1)) d.add(1, neg(b, mul(b, gx, conj(b, d.result()))));
}

void derive_pow(Backward& d) {
  Builder& b = d.build();
  const Value x = d.operand(0);
  const Value y = d.operand(1);
  const Value zero = constant_like(b, x, 0);
  if (d.wanted(0)) {
    // x^0 is 1 everywhere, at x = 0 too, where y x^(y-1) would be 0 times infinity.
    const Value slope = mul(b, y, binary(b, "pow", x, add(b, y, -1)));
    d.add(0, where(b, binary(b, "equal", y, zero), zero, mul(b, d.gradient(), slope)));
  }
  if (d.wanted(1)) {
    // At x = 0 the limit of x^y log(x) for y > 0 is 0.
    const Value slope = mul(b, d.result(), log(b, x));
    d.add(1, where(b, binary(b, "equal", x, zero), zero, mul(b, d.gradient(), slope)));
  }
}

/// Where both are equal x has the whole gradient.
void derive_choice(Backward& d, Value x_chosen) {
  Builder& b = d.build();
  const Value g = d.gradient();
  const Value zero = constant_like(b, g, 0);
  if (d.wanted(0)) d.add(0, where(b, x_chosen, g, zero));
  if (d.wanted(1)) d.add(1, where(b, x_chosen, zero, g));
}
void derive_minimum(Backward& d) {
  derive_choice(d, binary(d.build(), "less_equal", d.operand(0), d.operand(1)));
}
void derive_maximum(Backward& d) {
  derive_choice(d, binary(d.build(), "greater_equal", d.operand(0), d.operand(1)));
}

void derive_remainder(Backward& d) {
  Builder& b = d.build();
  if (d.wanted(0)) d.add(0, d.gradient());
  if (d.wanted(1)) {
    // r = x - y trunc(x / y); the quotient x - r is a whole number of y, so that rounding is exact.
    const Value quotient =
        unary(b, "round", div(b, sub(b, d.operand(0), d.result()), d.operand(1)));
    d.add(1, neg(b, mul(b, d.gradient(), quotient)));
  }
}

void derive_where(Backward& d) {
  Builder& b = d.build();
  const Value g = d.gradient();
  const Value zero = constant_like(b, g, 0);
  if (d.wanted(1)) d.add(1, where(b, d.operand(0), g, zero));
  if (d.wanted(2)) d.add(2, where(b, d.operand(0), zero, g));
}

// ---- lowering -----------------------------------------------------------------------------------

Element lower_add(Arena& arena, Element x, Element y) {
  return {arena.add(x.re, y.re), x.im == nullptr ? nullptr : arena.add(x.im, y.im)};
}
Element lower_sub(Arena& arena, Element x, Element y) {
  return {arena.sub(x.re, y.re), x.im == nullptr ? nullptr : arena.sub(x.im, y.im)};
}
Element lower_mul(Arena& arena, Element x, Element y) {
  return x.im == nullptr ? Element{arena.mul(x.re, y.re)} : complex_multiply(arena, x, y);
}
Element lower_div(Arena& arena, Element x, Element y) {
  return x.im == nullptr ? Element{arena.div(x.re, y.re)} : complex_divide(arena, x, y);
}

template <Binary code>
Ex lower_code(Arena& arena, Ex x, Ex y) {
  return arena.binary(code, x, y);
}

/// fmod for |x / y| < 2^53: in f64, where the rounded quotient is off by at most one. Values of f32
/// make the product exact as long as the quotient has at most 29 bits.
Ex lower_remainder(Arena& arena, Ex x, Ex y) {
  if (!loop::is_float(x->type)) return arena.binary(Binary::remainder, x, y);
  const Scalar type = x->type;
  const Ex wide_x = arena.cast(x, Scalar::f64);
  const Ex wide_y = arena.cast(y, Scalar::f64);
  const Ex zero = arena.constant(Scalar::f64, 0);
  const Ex magnitude_x = arena.unary(loop::Unary::absolute, wide_x);
  const Ex magnitude_y = arena.unary(loop::Unary::absolute, wide_y);
  const Ex quotient = arena.unary(loop::Unary::floor, arena.div(magnitude_x, magnitude_y));
  Ex rest = arena.fma(arena.neg(quotient), magnitude_y, magnitude_x);
  rest = arena.select(arena.less(rest, zero), arena.add(rest, magnitude_y), rest);
  rest = arena.select(arena.less_equal(magnitude_y, rest), arena.sub(rest, magnitude_y), rest);
  // Also where y is infinite, which makes 0 times infinity of the product.
  rest = arena.select(arena.less(magnitude_x, magnitude_y), magnitude_x, rest);
  const Ex with_sign = arena.select(arena.less(wide_x, zero), arena.neg(rest), rest);
  return arena.cast(with_sign, type);
}

Element lower_where(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  const Ex condition = lowering.operand(node, 0, index).re;
  return lower_select(lowering.arena(), condition, lowering.operand(node, 1, index),
                      lowering.operand(node, 2, index));
}

// ---- shape rules and generators -----------------------------------------------------------------

std::vector<Type> infer_where(const Node& node) {
  expect_dtype(node, 0, {DType::boolean});
  expect_same_type(node, 1, 2);
  const Type& condition = node.operand_type(0);
  const Type& value = node.operand_type(1);
  require(condition.shape == value.shape, "condition {} and values {} differ in shape",
          condition.text(), value.text());
  return {value};
}

Sample sample_binary(Random& random, DType dtype) {
  return elementwise_sample(random, dtype, 2, -4, 4);
}

/// A divisor away from zero for floats; integers meet 0 as well.
Sample sample_div(Random& random, DType dtype) {
  Sample sample = elementwise_sample(random, dtype, 2, -20, 20);
  if (is_differentiable(dtype)) {
    const bool positive = random_chance(random, 0.5);
    sample.operands[1].low = positive ? 0.5 : -4;
    sample.operands[1].high = positive ? 4 : -0.5;
  } else {
    sample.operands[1].high = 6;
    if (dtype != DType::u8) sample.operands[1].low = -6;
  }
  return sample;
}

Sample sample_remainder(Random& random, DType dtype) {
  Sample sample = sample_div(random, dtype);
  if (is_floating(dtype) && random_chance(random, 0.5)) {
    // x between 2.5 and 3 times y: no jump in between.
    const Type type = sample.operands[0].type;
    sample.operands = {{type, 5.2, 5.8}, {type, 1.95, 2.05}};
  } else {
    sample.smooth = false;
  }
  return sample;
}

Sample sample_pow(Random& random, DType dtype) {
  Sample sample = elementwise_sample(random, dtype, 2, -3, 3);
  sample.operands[0].low = 0.3;
  return sample;
}

/// Equal operands one time in five, else one below the other, or any.
Sample sample_choice(Random& random, DType dtype) {
  Sample sample = elementwise_sample(random, dtype, 2, 0, 2);
  const auto kind = random_integer(random, 0, 4);
  if (kind == 0) {
    for (Sample::Operand& operand : sample.operands) operand.low = operand.high = 1;
  } else if (kind <= 2) {
    Sample::Operand& above = sample.operands[static_cast<std::size_t>(kind - 1)];
    above.low = 3;
    above.high = 5;
  }
  sample.smooth = kind == 1 || kind == 2;
  return sample;
}

Sample sample_where(Random& random, DType dtype) {
  const double low = dtype == DType::boolean ? 0 : -4;
  const double high = dtype == DType::boolean ? 1 : 4;
  Sample sample = elementwise_sample(random, dtype, 2, low, high);
  const Type condition{DType::boolean, sample.operands[0].type.shape};
  sample.operands.insert(sample.operands.begin(), {condition, 0, 1});
  return sample;
}

}  // namespace

std::span<const Op> elementwise_binary_ops() {
  static const Op rows[] = {
      row("add", infer_numeric_or_complex, numeric_and_complex_types(), derive_add,
          map_binary<add_of>, lower_binary<lower_add>, sample_binary, 1, "x + y; integers wrap"),
      row("sub", infer_numeric_or_complex, numeric_and_complex_types(), derive_sub,
          map_binary<sub_of>, lower_binary<lower_sub>, sample_binary, 1, "x - y; integers wrap"),
      row("mul", infer_numeric_or_complex, numeric_and_complex_types(), derive_mul,
          map_binary<mul_of>, lower_binary<lower_mul>, sample_binary, 1, "x y; integers wrap"),
      row("div", infer_numeric_or_complex, numeric_and_complex_types(), derive_div,
          map_binary<div_of>, lower_binary<lower_div>, sample_div, 4,
          "x / y; integers truncate toward zero, and x / 0 = 0"),
      row("pow", infer_floating, floating_types(), derive_pow,
          map_binary<[](double x, double y) { return std::pow(x, y); }>, lower_binary<loop::pow>,
          sample_pow, 30, "x^y, with C's special cases"),
      row("minimum", infer_numeric, numeric_types(), derive_minimum, map_binary<minimum_of>,
          lower_binary<lower_code<Binary::minimum>>, sample_choice, 1,
          "the smaller; NaN where either is. Where both are equal x has the whole gradient"),
      row("maximum", infer_numeric, numeric_types(), derive_maximum, map_binary<maximum_of>,
          lower_binary<lower_code<Binary::maximum>>, sample_choice, 1,
          "the larger; NaN where either is. Where both are equal x has the whole gradient"),
      row("remainder", infer_numeric, numeric_types(), derive_remainder, map_binary<remainder_of>,
          lower_binary<lower_remainder>, sample_remainder, 12,
          "x - y trunc(x / y), with the sign of x (fmod); integers: x % 0 = 0"),
      Op({"where", Pattern::elementwise, 3, 3, 0, {}, infer_where}, every_type(), derive_where,
         reference_where, lower_where, Decompose::none("is primitive"), sample_where, 1,
         "x where the condition (bool) is true, else y"),
  };
  return rows;
}

}  // namespace weft::ops
