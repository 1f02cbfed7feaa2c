#include <cmath>
#include <numbers>

#include "compiler/loop/math.h"
#include "ops/elementwise.h"

namespace weft::ops {

namespace {

using loop::Arena;
using loop::Ex;
using loop::Unary;

Op row(std::string_view name, std::vector<Type> (*infer)(const Node&), DTypes dtypes,
       Derivative derivative, Reference reference, Lower lower, Generate generate, int cost,
       const char* description) {
  return Op({name, Pattern::elementwise, 1, 1, 0, {}, infer}, std::move(dtypes), derivative,
            reference, lower, Decompose::none("is primitive"), generate, cost, description);
}

// ---- derivatives --------------------------------------------------------------------------------

void derive_neg(Backward& d) { d.add(0, neg(d.build(), d.gradient())); }

void derive_abs(Backward& d) {
  Builder& b = d.build();
  d.add(0, mul(b, d.gradient(), unary(b, "sign", d.operand(0))));
}

void derive_exp(Backward& d) {
  Builder& b = d.build();
  d.add(0, mul(b, d.gradient(), conj(b, d.result())));
}

void derive_exp2(Backward& d) {
  Builder& b = d.build();
  d.add(0, mul(b, d.gradient(), mul(b, d.result(), std::numbers::ln2)));
}

void derive_log(Backward& d) { d.add(0, div(d.build(), d.gradient(), d.operand(0))); }

void derive_log2(Backward& d) {
  Builder& b = d.build();
  d.add(0, mul(b, div(b, d.gradient(), d.operand(0)), std::numbers::log2e));
}

void derive_sin(Backward& d) {
  Builder& b = d.build();
  d.add(0, mul(b, d.gradient(), unary(b, "cos", d.operand(0))));
}

void derive_cos(Backward& d) {
  Builder& b = d.build();
  d.add(0, neg(b, mul(b, d.gradient(), unary(b, "sin", d.operand(0)))));
}

void derive_tanh(Backward& d) {
  Builder& b = d.build();
  const Value y = d.result();
  d.add(0, mul(b, d.gradient(), sub(b, constant_like(b, y, 1), mul(b, y, y))));
}

void derive_erf(Backward& d) {
  Builder& b = d.build();
  const Value x = d.operand(0);
  const Value slope = mul(b, exp(b, neg(b, mul(b, x, x))), 2 * std::numbers::inv_sqrtpi);
  d.add(0, mul(b, d.gradient(), slope));
}

void derive_sqrt(Backward& d) {
  Builder& b = d.build();
  d.add(0, div(b, mul(b, d.gradient(), 0.5), d.result()));
}

void derive_rsqrt(Backward& d) {
  Builder& b = d.build();
  const Value y = d.result();
  d.add(0, mul(b, mul(b, d.gradient(), -0.5), mul(b, y, mul(b, y, y))));
}

void derive_reciprocal(Backward& d) {
  Builder& b = d.build();
  const Value y = conj(b, d.result());
  d.add(0, neg(b, mul(b, d.gradient(), mul(b, y, y))));
}

/// Nothing flows: the gradient is zero, because the function is constant almost everywhere (steps)
/// or because the model says so (stop_gradient).
void derive_zero(Backward&) {}

void derive_identity(Backward& d) { d.add(0, d.gradient()); }

// ---- reference ----------------------------------------------------------------------------------

constexpr Overloaded sign_of{
    [](double x) { return x > 0 ? 1.0 : (x < 0 ? -1.0 : x); },
    [](std::int64_t x) { return std::int64_t{x > 0} - std::int64_t{x < 0}; }};

// ---- lowering -----------------------------------------------------------------------------------

template <Unary code>
Ex lower_code(Arena& arena, Ex x) {
  return arena.unary(code, x);
}

Element lower_neg(Arena& arena, Element x) {
  return {arena.neg(x.re), x.im == nullptr ? nullptr : arena.neg(x.im)};
}

Ex lower_abs(Arena& arena, Ex x) {
  if (loop::is_float(x->type)) return arena.unary(Unary::absolute, x);
  return arena.select(arena.less(x, constant_as(arena, x, 0)), arena.neg(x), x);
}

Ex lower_sign(Arena& arena, Ex x) {
  const Ex zero = constant_as(arena, x, 0);
  // NaN and zeros are neither above nor below zero and stay what they are.
  const Ex negative = x->type == loop::Scalar::u8
                          ? x
                          : arena.select(arena.less(x, zero), constant_as(arena, x, -1), x);
  return arena.select(arena.less(zero, x), constant_as(arena, x, 1), negative);
}

Element lower_exp(Arena& arena, Element x) {
  const Ex magnitude = loop::exp(arena, x.re);
  if (x.im == nullptr) return {magnitude};
  return {arena.mul(magnitude, loop::cos(arena, x.im)),
          arena.mul(magnitude, loop::sin(arena, x.im))};
}

Element lower_reciprocal(Arena& arena, Element x) {
  const Ex one = constant_as(arena, x.re, 1);
  if (x.im == nullptr) return {arena.div(one, x.re)};
  return complex_divide(arena, {one, constant_as(arena, x.re, 0)}, x);
}

// ---- generators ---------------------------------------------------------------------------------

/// Away from zero, on either side.
Sample sample_nonzero(Random& random, DType dtype) {
  return random_chance(random, 0.5) ? elementwise_sample(random, dtype, 1, 0.3, 4)
                                    : elementwise_sample(random, dtype, 1, -4, -0.3);
}

/// Ties of round() one time in four, values between two steps as often.
Sample sample_step(Random& random, DType dtype) {
  switch (random_integer(random, 0, 3)) {
    case 0:
      return elementwise_sample(random, dtype, 1, 2.5, 2.5, false);
    case 1:
      return elementwise_sample(random, dtype, 1, -1.4, -1.1);
    default:
      return elementwise_sample(random, dtype, 1, -9, 9, false);
  }
}

Sample sample_any(Random& random, DType dtype) {
  return dtype == DType::boolean ? elementwise_sample(random, dtype, 1, 0, 1)
                                 : elementwise_sample(random, dtype, 1, -4, 4);
}

/// Differences see what the derivative leaves out on purpose.
Sample sample_stop(Random& random, DType dtype) {
  Sample sample = sample_any(random, dtype);
  sample.smooth = false;
  return sample;
}

}  // namespace

std::span<const Op> elementwise_unary_ops() {
  const DTypes& real = floating_types();
  static const Op rows[] = {
      row("neg", infer_numeric_or_complex, numeric_and_complex_types(), derive_neg,
          map_unary<Overloaded{[](double x) { return -x; }, [](Complex x) { return -x; },
                               [](std::int64_t x) {
                                 return static_cast<std::int64_t>(-static_cast<std::uint64_t>(x));
                               }}>,
          lower_unary<lower_neg>, sample_any, 1, "-x; integers wrap"),
      row("abs", infer_numeric, numeric_types(), derive_abs,
          map_unary<Overloaded{[](double x) { return std::abs(x); },
                               [](std::int64_t x) {
                                 const auto bits = static_cast<std::uint64_t>(x);
                                 return static_cast<std::int64_t>(x < 0 ? -bits : bits);
                               }}>,
          lower_unary<lower_abs>, sample_with_kink, 1,
          "|x|; integers wrap. Its derivative at 0 is 0"),
      row("sign", infer_numeric, numeric_types(), derive_zero, map_unary<sign_of>,
          lower_unary<lower_sign>, sample_with_kink, 2, "-1, 0 or 1. Its derivative is 0"),
      row("exp", infer_floating_or_complex, differentiable_types(), derive_exp,
          map_unary<Overloaded{[](double x) { return std::exp(x); },
                               [](Complex x) { return std::exp(x); }}>,
          lower_unary<lower_exp>, sample_unary<-4.0, 4.0>, 12, "e^x"),
      row("exp2", infer_floating, real, derive_exp2,
          map_unary<[](double x) { return std::exp2(x); }>, lower_unary<loop::exp2>,
          sample_unary<-4.0, 4.0>, 12, "2^x"),
      row("log", infer_floating, real, derive_log, map_unary<[](double x) { return std::log(x); }>,
          lower_unary<loop::log>, sample_unary<0.2, 6.0>, 14, "natural logarithm"),
      row("log2", infer_floating, real, derive_log2,
          map_unary<[](double x) { return std::log2(x); }>, lower_unary<loop::log2>,
          sample_unary<0.2, 6.0>, 14, "logarithm of base 2"),
      row("sin", infer_floating, real, derive_sin, map_unary<[](double x) { return std::sin(x); }>,
          lower_unary<loop::sin>, sample_unary<-7.0, 7.0>, 16, "sine of radians"),
      row("cos", infer_floating, real, derive_cos, map_unary<[](double x) { return std::cos(x); }>,
          lower_unary<loop::cos>, sample_unary<-7.0, 7.0>, 16, "cosine of radians"),
      row("tanh", infer_floating, real, derive_tanh,
          map_unary<[](double x) { return std::tanh(x); }>, lower_unary<loop::tanh>,
          sample_unary<-4.0, 4.0>, 16, "hyperbolic tangent"),
      row("erf", infer_floating, real, derive_erf, map_unary<[](double x) { return std::erf(x); }>,
          lower_unary<loop::erf>, sample_unary<-3.0, 3.0>, 20, "error function"),
      row("sqrt", infer_floating, real, derive_sqrt,
          map_unary<[](double x) { return std::sqrt(x); }>,
          lower_unary<lower_code<Unary::square_root>>, sample_unary<0.2, 6.0>, 6, "square root"),
      row("rsqrt", infer_floating, real, derive_rsqrt,
          map_unary<[](double x) { return 1 / std::sqrt(x); }>, lower_unary<loop::rsqrt>,
          sample_unary<0.2, 6.0>, 8, "1 / sqrt(x)"),
      row("reciprocal", infer_floating_or_complex, differentiable_types(), derive_reciprocal,
          map_unary<Overloaded{[](double x) { return 1 / x; }, [](Complex x) { return 1.0 / x; }}>,
          lower_unary<lower_reciprocal>, sample_nonzero, 4, "1 / x"),
      row("floor", infer_floating, real, derive_zero,
          map_unary<[](double x) { return std::floor(x); }>, lower_unary<lower_code<Unary::floor>>,
          sample_step, 1, "largest integer not above x. Its derivative is 0"),
      row("ceil", infer_floating, real, derive_zero,
          map_unary<[](double x) { return std::ceil(x); }>,
          lower_unary<[](Arena& a, Ex x) { return a.neg(a.unary(Unary::floor, a.neg(x))); }>,
          sample_step, 1, "smallest integer not below x. Its derivative is 0"),
      row("round", infer_floating, real, derive_zero,
          map_unary<[](double x) { return std::nearbyint(x); }>,
          lower_unary<lower_code<Unary::round_even>>, sample_step, 1,
          "nearest integer, ties to even. Its derivative is 0"),
      row("stop_gradient", infer_same, every_type(), derive_zero, reference_identity,
          lower_identity, sample_stop, 0, "x, through which no gradient flows"),
      row("keep", infer_same, every_type(), derive_identity, reference_identity, lower_identity,
          sample_any, 0, "x, stored once: neither recomputed nor removed"),
  };
  return rows;
}

}  // namespace weft::ops
