#include "compiler/passes/algebra.h"

#include <cmath>
#include <limits>
#include <optional>
#include <string_view>

#include "compiler/passes/rewrite.h"
#include "ops/support.h"

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Value;
using ops::Builder;

bool is(Value value, std::string_view op) { return value.node->is(op); }
Value operand(Value value, std::size_t index = 0) { return value.node->operands[index]; }
bool is_splat(Value value, double expected) { return splat(value) == expected; }

// ---- sums ---------------------------------------------------------------------------------------

Value simplify_add(Builder& b, const Node& node) {
  if (!node.is("add")) return {};
  const Value x = node.operands[0];
  const Value y = node.operands[1];
  if (is_splat(y, 0)) return x;
  if (is_splat(x, 0)) return y;
  if (is(y, "neg")) return ops::sub(b, x, operand(y));
  if (is(x, "neg")) return ops::sub(b, y, operand(x));
  return {};
}

Value simplify_sub(Builder& b, const Node& node) {
  if (!node.is("sub")) return {};
  const Value x = node.operands[0];
  const Value y = node.operands[1];
  if (is_splat(y, 0)) return x;
  if (x == y && is_integer(x.dtype())) return ops::constant_like(b, x, 0);
  if (is(y, "neg")) return ops::add(b, x, operand(y));
  if (is_splat(x, 0)) return ops::neg(b, y);
  return {};
}

Value simplify_neg(Builder& b, const Node& node) {
  if (!node.is("neg")) return {};
  const Value x = node.operands[0];
  if (is(x, "neg")) return operand(x);
  if (is(x, "sub")) return ops::sub(b, operand(x, 1), operand(x, 0));
  return {};
}

// ---- products -----------------------------------------------------------------------------------

/// A value as constant * base, or constant / base where `inverse`.
struct Factored {
  double constant = 1;
  Value base;
  bool inverse = false;
};

/// Takes a node mul(x, c), div(x, c) or div(c, x) apart; nullopt for others.
std::optional<Factored> factored(const Node& node) {
  const bool product = node.is("mul");
  if (!product && !node.is("div")) return std::nullopt;
  const Value x = node.operands[0];
  const Value y = node.operands[1];
  if (const auto c = splat(y)) return Factored{product ? *c : 1 / *c, x, false};
  if (const auto c = splat(x)) return Factored{*c, y, !product};
  return std::nullopt;
}

/// Whether the constant is a normal number of the type, so that nothing is lost by folding.
bool is_normal(DType dtype, double value) {
  const double size = std::abs(value);
  if (dtype == DType::f32) {
    return size >= std::numeric_limits<float>::min() && size <= std::numeric_limits<float>::max();
  }
  return std::isnormal(value);
}

/// (x * c1) * c2, (x / c1) * c2, (c1 / x) * c2 and the like: one factor.
Value fold_factors(Builder& b, const Node& node) {
  const DType dtype = node.results[0].dtype;
  // 16-bit constants are too coarse to be multiplied with each other.
  if (dtype != DType::f32 && dtype != DType::f64) return {};
  const std::optional<Factored> outer = factored(node);
  if (!outer) return {};
  const std::optional<Factored> inner = factored(*outer->base.node);
  if (!inner) return {};
  const double constant =
      outer->inverse ? outer->constant / inner->constant : outer->constant * inner->constant;
  const bool inverse = outer->inverse != inner->inverse;
  if (!is_normal(dtype, constant) || !is_normal(dtype, inner->constant) ||
      !is_normal(dtype, outer->constant)) {
    return {};
  }
  const Value c = ops::constant_like(b, inner->base, constant);
  return inverse ? ops::div(b, c, inner->base) : ops::mul(b, inner->base, c);
}

Value simplify_mul(Builder& b, const Node& node) {
  if (!node.is("mul")) return {};
  const Value x = node.operands[0];
  const Value y = node.operands[1];
  const bool integers = is_integer(x.dtype());
  for (const auto& [value, other] : {std::pair{x, y}, std::pair{y, x}}) {
    if (is_splat(value, 1)) return other;
    if (is_splat(value, 0) && integers) return value;
    if (is_splat(value, -1)) return ops::neg(b, other);
  }
  if (is(x, "neg") && is(y, "neg")) return ops::mul(b, operand(x), operand(y));
  return fold_factors(b, node);
}

Value simplify_div(Builder& b, const Node& node) {
  if (!node.is("div")) return {};
  const Value x = node.operands[0];
  const Value y = node.operands[1];
  if (is_splat(y, 1)) return x;
  if (!is_floating(x.dtype())) return {};
  if (is(x, "neg") && is(y, "neg")) return ops::div(b, operand(x), operand(y));
  if (const auto c = splat(y)) {
    int exponent = 0;
    const bool power_of_two = std::abs(std::frexp(*c, &exponent)) == 0.5;
    const bool exact = power_of_two && ops::round_to(x.dtype(), 1 / *c) == 1 / *c;
    if (exact && (x.dtype() == DType::f64 || is_normal(DType::f32, 1 / *c))) {
      return ops::mul(b, x, 1 / *c);
    }
  }
  return fold_factors(b, node);
}

Value simplify_pow(Builder& b, const Node& node) {
  if (!node.is("pow")) return {};
  const Value x = node.operands[0];
  if (is_splat(node.operands[1], 0)) return ops::constant_like(b, x, 1);
  if (is_splat(node.operands[1], 1)) return x;
  if (is_splat(node.operands[1], 2)) return ops::mul(b, x, x);
  if (is_splat(node.operands[1], 3)) return ops::mul(b, ops::mul(b, x, x), x);
  if (is_splat(node.operands[1], -1)) return ops::unary(b, "reciprocal", x);
  return {};
}

Value simplify_reciprocal(Builder& b, const Node& node) {
  if (!node.is("reciprocal")) return {};
  const Value x = node.operands[0];
  if (is(x, "sqrt")) return ops::unary(b, "rsqrt", operand(x));
  if (is(x, "rsqrt")) return ops::unary(b, "sqrt", operand(x));
  return {};
}

// ---- selection and logic ------------------------------------------------------------------------

Value simplify_where(Builder& b, const Node& node) {
  if (!node.is("where")) return {};
  const Value condition = node.operands[0];
  const Value x = node.operands[1];
  const Value y = node.operands[2];
  if (x == y) return x;
  if (const auto c = splat(condition)) return *c != 0 ? x : y;
  if (is(condition, "logical_not")) return ops::where(b, operand(condition), y, x);
  return {};
}

Value simplify_idempotent(Builder&, const Node& node) {
  for (const std::string_view op :
       {"minimum", "maximum", "logical_and", "logical_or", "bitwise_and", "bitwise_or"}) {
    if (node.is(op) && node.operands[0] == node.operands[1]) return node.operands[0];
  }
  return {};
}

Value simplify_logic(Builder&, const Node& node) {
  const bool conjunction = node.is("logical_and");
  if (!conjunction && !node.is("logical_or")) return {};
  for (std::size_t i = 0; i < 2; ++i) {
    if (const auto c = splat(node.operands[i])) {
      const bool neutral = (*c != 0) == conjunction;
      return neutral ? node.operands[1 - i] : node.operands[i];
    }
  }
  return {};
}

/// f(f(x)) = x.
Value simplify_involution(Builder&, const Node& node) {
  for (const std::string_view op : {"logical_not", "bitwise_not", "conj"}) {
    if (node.is(op) && is(node.operands[0], op)) return operand(node.operands[0]);
  }
  return {};
}

// ---- complex ------------------------------------------------------------------------------------

Value simplify_complex(Builder&, const Node& node) {
  if (node.is("real") && is(node.operands[0], "complex")) return operand(node.operands[0], 0);
  if (node.is("imag") && is(node.operands[0], "complex")) return operand(node.operands[0], 1);
  if (node.is("complex")) {
    const Value re = node.operands[0];
    const Value im = node.operands[1];
    if (is(re, "real") && is(im, "imag") && operand(re) == operand(im)) return operand(re);
  }
  return {};
}

// ---- casts --------------------------------------------------------------------------------------

/// Whether `to` holds every value of `from`.
bool holds(DType to, DType from) {
  if (to == from) return true;
  switch (from) {
    case DType::f16:
    case DType::bf16:
      return to == DType::f32 || to == DType::f64;
    case DType::f32:
    case DType::i32:
      return to == DType::f64 || (from == DType::i32 && to == DType::i64);
    case DType::u8:
      return to != DType::boolean && !is_complex(to);
    case DType::boolean:
      return !is_complex(to);
    default:
      return false;
  }
}

Value simplify_cast(Builder& b, const Node& node) {
  if (!node.is("cast")) return {};
  const Value x = node.operands[0];
  const DType to = node.results[0].dtype;
  if (x.dtype() == to) return x;
  if (!is(x, "cast")) return {};
  const DType from = operand(x).dtype();
  if (!holds(x.dtype(), from) || is_complex(to)) return {};
  // Integers wrap among themselves, but saturate when they come from a float.
  if (is_integer(from) && is_floating(x.dtype()) && is_integer(to) && !holds(to, from)) return {};
  return ops::cast(b, operand(x), to);
}

Value remove_stop_gradient(Builder&, const Node& node) {
  return node.is("stop_gradient") ? node.operands[0] : Value{};
}

}  // namespace

bool algebra(ir::Graph& graph) {
  return rewrite(
      graph, {remove_stop_gradient, simplify_add, simplify_sub, simplify_neg, simplify_mul,
              simplify_div, simplify_pow, simplify_reciprocal, simplify_where, simplify_idempotent,
              simplify_logic, simplify_involution, simplify_complex, simplify_cast});
}

}  // namespace weft::compiler
