#include <cmath>
#include <numbers>

#include "compiler/loop/math.h"
#include "ops/elementwise.h"

namespace weft::ops {

namespace {

using ir::AttributeSpec;
using loop::Arena;
using loop::Binary;
using loop::Ex;

constexpr double sqrt_2_over_pi = 0.79788456080286535588;
constexpr double gelu_cubic = 0.044715;

Op row(std::string_view name, std::vector<AttributeSpec> attributes, Derivative derivative,
       Reference reference, Lower lower, Generate generate, int cost, const char* description) {
  return Op({name, Pattern::elementwise, 1, 1, 0, std::move(attributes), infer_floating},
            floating_types(), derivative, reference, lower,
            Decompose::none("is computed in one expression"), generate, cost, description);
}

// ---- reference ----------------------------------------------------------------------------------

constexpr auto sigmoid_of = [](double x) { return 1 / (1 + std::exp(-x)); };
constexpr auto gelu_of = [](double x) { return x * 0.5 * std::erfc(-x * std::numbers::sqrt2 / 2); };
constexpr auto gelu_tanh_of = [](double x) {
  const double u = sqrt_2_over_pi * (x + gelu_cubic * x * x * x);
  return 0.5 * x * (1 + std::tanh(u));
};
constexpr auto relu_of = [](double x) { return std::isnan(x) ? x : std::fmax(x, 0.0); };
constexpr auto softplus_of = [](double x) {
  return std::fmax(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
};

void reference_leaky_relu(const Node& node, std::span<const Array* const> operands,
                          std::span<Array> results) {
  const double slope = node.attributes.real("slope");
  for (std::size_t i = 0; i < operands[0]->re.size(); ++i) {
    const double x = operands[0]->re[i];
    results[0].re[i] = x > 0 ? x : slope * x;
  }
}

void reference_elu(const Node& node, std::span<const Array* const> operands,
                   std::span<Array> results) {
  const double alpha = node.attributes.real("alpha");
  for (std::size_t i = 0; i < operands[0]->re.size(); ++i) {
    const double x = operands[0]->re[i];
    results[0].re[i] = x > 0 ? x : alpha * std::expm1(x);
  }
}

// ---- derivatives --------------------------------------------------------------------------------

Value one_minus(Builder& b, Value x) { return sub(b, constant_like(b, x, 1), x); }
Value square(Builder& b, Value x) { return mul(b, x, x); }
Value positive(Builder& b, Value x) { return binary(b, "less", constant_like(b, x, 0), x); }

void derive_sigmoid(Backward& d) {
  Builder& b = d.build();
  const Value y = d.result();
  d.add(0, mul(b, d.gradient(), mul(b, y, one_minus(b, y))));
}

void derive_silu(Backward& d) {
  Builder& b = d.build();
  const Value x = d.operand(0);
  const Value s = unary(b, "sigmoid", x);
  // (x s)' = s + x s (1 - s)
  d.add(0, mul(b, d.gradient(), mul(b, s, add(b, mul(b, x, one_minus(b, s)), 1))));
}

void derive_relu(Backward& d) {
  Builder& b = d.build();
  const Value g = d.gradient();
  d.add(0, where(b, positive(b, d.operand(0)), g, constant_like(b, g, 0)));
}

void derive_relu2(Backward& d) {
  Builder& b = d.build();
  d.add(0, mul(b, d.gradient(), mul(b, unary(b, "relu", d.operand(0)), 2)));
}

void derive_leaky_relu(Backward& d) {
  Builder& b = d.build();
  const Value g = d.gradient();
  d.add(0, where(b, positive(b, d.operand(0)), g, mul(b, g, d.node().attributes.real("slope"))));
}

void derive_gelu(Backward& d) {
  Builder& b = d.build();
  const Value x = d.operand(0);
  // (x P(x))' = P(x) + x p(x), with P and p of the standard normal distribution.
  const Value cumulative =
      add(b, mul(b, unary(b, "erf", mul(b, x, std::numbers::sqrt2 / 2)), 0.5), 0.5);
  const double scale = std::numbers::inv_sqrtpi / std::numbers::sqrt2;
  const Value density = mul(b, exp(b, mul(b, square(b, x), -0.5)), scale);
  d.add(0, mul(b, d.gradient(), add(b, cumulative, mul(b, x, density))));
}

void derive_gelu_tanh(Backward& d) {
  Builder& b = d.build();
  const Value x = d.operand(0);
  // y = x s(2u) with s the sigmoid, as (1 + tanh u) / 2 = s(2u).
  const Value xx = square(b, x);
  const Value u2 =
      mul(b, x, add(b, mul(b, xx, 2 * sqrt_2_over_pi * gelu_cubic), 2 * sqrt_2_over_pi));
  const Value u2_slope = add(b, mul(b, xx, 6 * sqrt_2_over_pi * gelu_cubic), 2 * sqrt_2_over_pi);
  const Value s = unary(b, "sigmoid", u2);
  const Value inner = add(b, mul(b, mul(b, x, u2_slope), one_minus(b, s)), 1);
  d.add(0, mul(b, d.gradient(), mul(b, s, inner)));
}

void derive_elu(Backward& d) {
  Builder& b = d.build();
  const Value g = d.gradient();
  // Below zero alpha e^x = y + alpha.
  const Value slope = add(b, d.result(), d.node().attributes.real("alpha"));
  d.add(0, where(b, positive(b, d.operand(0)), g, mul(b, g, slope)));
}

void derive_softplus(Backward& d) {
  Builder& b = d.build();
  d.add(0, mul(b, d.gradient(), unary(b, "sigmoid", d.operand(0))));
}

// ---- lowering -----------------------------------------------------------------------------------

/// e^-|x|, which never overflows.
Ex decay(Arena& arena, Ex x) {
  return loop::exp(arena, arena.neg(arena.unary(loop::Unary::absolute, x)));
}

Ex lower_sigmoid(Arena& arena, Ex x) {
  const Ex one = constant_as(arena, x, 1);
  const Ex e = decay(arena, x);
  const Ex above = arena.div(one, arena.add(one, e));
  return arena.select(arena.less(x, constant_as(arena, x, 0)), arena.mul(e, above), above);
}

Ex lower_silu(Arena& arena, Ex x) { return arena.mul(x, lower_sigmoid(arena, x)); }

Ex lower_relu(Arena& arena, Ex x) {
  return arena.binary(Binary::maximum, x, constant_as(arena, x, 0));
}

Ex lower_relu2(Arena& arena, Ex x) {
  const Ex y = lower_relu(arena, x);
  return arena.mul(y, y);
}

Element lower_leaky_relu(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  Arena& arena = lowering.arena();
  const Ex x = lowering.operand(node, 0, index).re;
  const Ex scaled = arena.mul(x, constant_as(arena, x, node.attributes.real("slope")));
  return {arena.select(arena.less(constant_as(arena, x, 0), x), x, scaled)};
}

Ex lower_gelu(Arena& arena, Ex x) {
  const Ex half = constant_as(arena, x, 0.5);
  const Ex erf = loop::erf(arena, arena.mul(x, constant_as(arena, x, std::numbers::sqrt2 / 2)));
  return arena.mul(x, arena.fma(erf, half, half));
}

Ex lower_gelu_tanh(Arena& arena, Ex x) {
  const Ex xx = arena.mul(x, x);
  const Ex u2 = arena.mul(x, arena.fma(xx, constant_as(arena, x, 2 * sqrt_2_over_pi * gelu_cubic),
                                       constant_as(arena, x, 2 * sqrt_2_over_pi)));
  return arena.mul(x, lower_sigmoid(arena, u2));
}

Element lower_elu(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  Arena& arena = lowering.arena();
  const Ex x = lowering.operand(node, 0, index).re;
  const Ex below =
      arena.mul(loop::expm1(arena, x), constant_as(arena, x, node.attributes.real("alpha")));
  return {arena.select(arena.less(constant_as(arena, x, 0), x), x, below)};
}

Ex lower_softplus(Arena& arena, Ex x) {
  return arena.add(lower_relu(arena, x), loop::log1p(arena, decay(arena, x)));
}

// ---- generators ---------------------------------------------------------------------------------

template <double low, double high>
Sample sample_slope(Random& random, DType dtype) {
  Sample sample = sample_with_kink(random, dtype);
  sample.attributes.set("slope", random_real(random, low, high));
  return sample;
}

Sample sample_elu(Random& random, DType dtype) {
  Sample sample = sample_with_kink(random, dtype);
  sample.attributes.set("alpha", random_real(random, 0.5, 2));
  return sample;
}

}  // namespace

std::span<const Op> activation_ops() {
  static const Op rows[] = {
      row("sigmoid", {}, derive_sigmoid, map_unary<sigmoid_of>, lower_unary<lower_sigmoid>,
          sample_unary<-6.0, 6.0>, 16, "1 / (1 + e^-x)"),
      row("silu", {}, derive_silu, map_unary<[](double x) { return x * sigmoid_of(x); }>,
          lower_unary<lower_silu>, sample_unary<-6.0, 6.0>, 17, "x sigmoid(x)"),
      row("relu", {}, derive_relu, map_unary<relu_of>, lower_unary<lower_relu>, sample_with_kink, 1,
          "max(x, 0). Its derivative at 0 is 0"),
      row("relu2", {}, derive_relu2, map_unary<[](double x) { return relu_of(x) * relu_of(x); }>,
          lower_unary<lower_relu2>, sample_with_kink, 2, "max(x, 0)^2"),
      row("leaky_relu", {{"slope", AttributeSpec::real}}, derive_leaky_relu, reference_leaky_relu,
          lower_leaky_relu, sample_slope<0.01, 0.3>, 2,
          "x where x > 0, else slope x. Its derivative at 0 is the slope"),
      row("gelu", {}, derive_gelu, map_unary<gelu_of>, lower_unary<lower_gelu>,
          sample_unary<-4.0, 4.0>, 24, "x P(x), P the cumulative normal distribution"),
      row("gelu_tanh", {}, derive_gelu_tanh, map_unary<gelu_tanh_of>, lower_unary<lower_gelu_tanh>,
          sample_unary<-4.0, 4.0>, 20, "0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))"),
      row("elu", {{"alpha", AttributeSpec::real}}, derive_elu, reference_elu, lower_elu, sample_elu,
          14, "x where x > 0, else alpha (e^x - 1)"),
      row("softplus", {}, derive_softplus, map_unary<softplus_of>, lower_unary<lower_softplus>,
          sample_unary<-6.0, 6.0>, 28, "log(1 + e^x)"),
  };
  return rows;
}

}  // namespace weft::ops
