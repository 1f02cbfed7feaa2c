#include <algorithm>
#include <numeric>
#include <optional>

#include "compiler/loop/expr.h"
#include "compiler/loop/range.h"

/// Index arithmetic: an i64 expression as a sum of terms, coefficient times atom. Sums are kept in
/// one canonical order, so equal ones are equal pointers, and quotients and remainders by constants
/// are split by what divides and by what stays within one period.
namespace weft::loop {
namespace {

/// Sums with more terms than this are left as they are written.
constexpr std::size_t maximum_terms = 32;

std::int64_t wrapping_add(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}
std::int64_t wrapping_multiply(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
}

bool is(Ex e, Binary op) {
  return e->kind == ExprKind::binary && static_cast<Binary>(e->code) == op;
}
/// op with a constant on the right, which it gives.
bool is(Ex e, Binary op, std::int64_t& constant) {
  if (!is(e, op) || e->arguments[1]->kind != ExprKind::constant) return false;
  constant = e->arguments[1]->integer;
  return true;
}

}  // namespace

/// Of the exact sum, which may exceed i64.
struct Arena::Interval {
  Wide minimum = 0;
  Wide maximum = 0;

  bool fits() const {
    const Range all = type_range(Scalar::i64);
    return minimum >= all.minimum && maximum <= all.maximum;
  }
};

/// constant + sum of coefficient * atom, modulo 2^64.
struct Arena::Linear {
  struct Term {
    Ex atom;
    std::int64_t coefficient;
  };
  std::vector<Term> terms;
  std::int64_t constant = 0;

  Term* find(Ex atom) {
    for (Term& term : terms) {
      if (term.atom == atom) return &term;
    }
    return nullptr;
  }

  void add(Ex atom, std::int64_t coefficient) {
    if (Term* term = find(atom)) {
      term->coefficient = wrapping_add(term->coefficient, coefficient);
      if (term->coefficient == 0) terms.erase(terms.begin() + (term - terms.data()));
    } else if (coefficient != 0) {
      terms.push_back({atom, coefficient});
    }
  }

  /// Adds scale * e.
  void collect(Ex e, std::int64_t scale) {
    std::int64_t factor = 0;
    if (e->kind == ExprKind::constant) {
      constant = wrapping_add(constant, wrapping_multiply(scale, e->integer));
    } else if (is(e, Binary::add)) {
      collect(e->arguments[0], scale);
      collect(e->arguments[1], scale);
    } else if (is(e, Binary::subtract)) {
      collect(e->arguments[0], scale);
      collect(e->arguments[1], wrapping_multiply(scale, -1));
    } else if (is(e, Binary::multiply, factor)) {
      collect(e->arguments[0], wrapping_multiply(scale, factor));
    } else {
      add(e, scale);
    }
  }

  Interval interval() const {
    Interval sum{constant, constant};
    for (const Term& term : terms) {
      const Wide a = Wide{term.coefficient} * term.atom->minimum;
      const Wide b = Wide{term.coefficient} * term.atom->maximum;
      sum.minimum += std::min(a, b);
      sum.maximum += std::max(a, b);
    }
    return sum;
  }

  struct Split;
  /// The split by the largest factor above 1 that coefficients and `divisor` have in common and
  /// for which there is one.
  std::optional<Split> split(std::int64_t divisor) const;
};

/// factor * high + low, where low lies in [0, factor).
struct Arena::Linear::Split {
  std::int64_t factor;
  Linear high, low;
};

std::optional<Arena::Linear::Split> Arena::Linear::split(std::int64_t divisor) const {
  std::int64_t factor = 1;
  for (const Term& term : terms) factor = std::max(factor, std::gcd(term.coefficient, divisor));
  while (factor > 1) {
    Split result{factor, {}, {}};
    for (const auto& [atom, coefficient] : terms) {
      if (coefficient % factor == 0) {
        result.high.terms.push_back({atom, coefficient / factor});
      } else {
        result.low.terms.push_back({atom, coefficient});
      }
    }
    result.high.constant = floor_quotient(constant, factor);
    result.low.constant = constant - result.high.constant * factor;
    const Interval span = result.low.interval();
    const Wide period = floor_quotient(span.minimum, Wide{factor});
    if (period == floor_quotient(span.maximum, Wide{factor}) && result.high.interval().fits()) {
      const auto periods = static_cast<std::int64_t>(period);
      result.high.constant = wrapping_add(result.high.constant, periods);
      result.low.constant = static_cast<std::int64_t>(Wide{result.low.constant} - period * factor);
      return result;
    }
    std::int64_t next = 1;
    for (const Term& term : terms) {
      const std::int64_t candidate = std::gcd(term.coefficient, divisor);
      if (candidate < factor) next = std::max(next, candidate);
    }
    factor = next;
  }
  return std::nullopt;
}

/// coefficient * d * floor_divide(y, d) + coefficient * floor_modulo(y, d) is coefficient * y.
void Arena::recombine(Linear& linear) {
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t i = 0; i < linear.terms.size() && !changed; ++i) {
      const Linear::Term modulo = linear.terms[i];
      std::int64_t divisor = 0;
      if (!is(modulo.atom, Binary::floor_modulo, divisor)) continue;
      const Ex dividend = modulo.atom->arguments[0];
      Linear quotient;
      quotient.collect(floor_divide(dividend, divisor),
                       wrapping_multiply(modulo.coefficient, divisor));
      if (quotient.terms.empty()) continue;
      const bool present =
          std::all_of(quotient.terms.begin(), quotient.terms.end(), [&](const Linear::Term& term) {
            const Linear::Term* own = linear.find(term.atom);
            return own && own->coefficient == term.coefficient;
          });
      if (!present) continue;
      for (const Linear::Term& term : quotient.terms) {
        linear.add(term.atom, wrapping_multiply(term.coefficient, -1));
      }
      linear.constant = wrapping_add(linear.constant, wrapping_multiply(quotient.constant, -1));
      linear.add(modulo.atom, wrapping_multiply(modulo.coefficient, -1));
      linear.collect(dividend, modulo.coefficient);
      changed = true;
    }
  }
}

/// The expression of a sum. Terms come in the order of the loops that they depend on, outermost
/// first, so that what does not change in a loop is a common prefix that moves out of it.
Ex Arena::from_linear(Linear linear) {
  recombine(linear);
  std::sort(linear.terms.begin(), linear.terms.end(),
            [](const Linear::Term& a, const Linear::Term& b) {
              if (a.atom->innermost != b.atom->innermost) {
                return a.atom->innermost < b.atom->innermost;
              }
              return a.atom->serial < b.atom->serial;
            });
  const auto scaled = [&](Ex atom, std::int64_t coefficient) {
    return coefficient == 1 ? atom
                            : make(Scalar::i64, Binary::multiply, atom, integer(coefficient));
  };
  Ex sum = nullptr;
  std::int64_t constant = linear.constant;
  for (const auto& [atom, coefficient] : linear.terms) {
    const bool negative = coefficient < 0 && coefficient != type_range(Scalar::i64).minimum;
    if (!sum && negative && constant != 0) {
      sum = integer(constant);
      constant = 0;
    }
    if (!sum) {
      sum = scaled(atom, coefficient);
    } else if (negative) {
      sum = make(Scalar::i64, Binary::subtract, sum, scaled(atom, -coefficient));
    } else {
      sum = make(Scalar::i64, Binary::add, sum, scaled(atom, coefficient));
    }
  }
  if (!sum) return integer(constant);
  return constant == 0 ? sum : make(Scalar::i64, Binary::add, sum, integer(constant));
}

Ex Arena::floor_divide(Ex a, std::int64_t divisor) {
  if (divisor == 1) return a;
  if (a->kind == ExprKind::constant) return integer(floor_quotient(a->integer, divisor));
  const auto plain = [&](Ex dividend) -> Ex {
    std::int64_t inner = 0;
    if (is(dividend, Binary::floor_divide, inner)) {
      std::int64_t product = 0;
      if (!__builtin_mul_overflow(inner, divisor, &product)) {
        return floor_divide(dividend->arguments[0], product);
      }
    }
    if (is(dividend, Binary::floor_modulo, inner) && inner % divisor == 0) {
      return floor_modulo(floor_divide(dividend->arguments[0], divisor), inner / divisor);
    }
    return make(Scalar::i64, Binary::floor_divide, dividend, integer(divisor));
  };

  Linear sum;
  sum.collect(a, 1);
  // Where the exact sum may leave i64, splitting it would not be the quotient of what wrapped.
  if (sum.terms.size() > maximum_terms || !sum.interval().fits()) return plain(a);

  Linear quotient, rest;
  for (const auto& [atom, coefficient] : sum.terms) {
    if (coefficient % divisor == 0) {
      quotient.terms.push_back({atom, coefficient / divisor});
    } else {
      rest.terms.push_back({atom, coefficient});
    }
  }
  quotient.constant = floor_quotient(sum.constant, divisor);
  rest.constant = sum.constant - quotient.constant * divisor;
  const Interval range = rest.interval();
  if (!range.fits() || !quotient.interval().fits()) return plain(a);
  const Wide low = floor_quotient(range.minimum, Wide{divisor});
  if (low == floor_quotient(range.maximum, Wide{divisor})) {
    quotient.constant = wrapping_add(quotient.constant, static_cast<std::int64_t>(low));
    return from_linear(std::move(quotient));
  }
  // (g * high + low) / (g * d) is high / d where low is within one period of g.
  if (auto split = rest.split(divisor)) {
    const Ex tail = floor_divide(from_linear(std::move(split->high)), divisor / split->factor);
    quotient.collect(tail, 1);
    return from_linear(std::move(quotient));
  }
  if (quotient.terms.empty() && quotient.constant == 0) return plain(a);
  quotient.collect(plain(from_linear(std::move(rest))), 1);
  return from_linear(std::move(quotient));
}

Ex Arena::floor_modulo(Ex a, std::int64_t divisor) {
  if (divisor == 1) return integer(0);
  if (a->kind == ExprKind::constant) {
    return integer(a->integer - floor_quotient(a->integer, divisor) * divisor);
  }
  const auto plain = [&](Ex dividend) -> Ex {
    std::int64_t inner = 0;
    if (is(dividend, Binary::floor_modulo, inner) && inner % divisor == 0) {
      return floor_modulo(dividend->arguments[0], divisor);
    }
    return make(Scalar::i64, Binary::floor_modulo, dividend, integer(divisor));
  };

  Linear sum;
  sum.collect(a, 1);
  if (sum.terms.size() > maximum_terms || !sum.interval().fits()) return plain(a);

  Linear rest;
  bool reduced = false;
  for (const auto& [atom, coefficient] : sum.terms) {
    const std::int64_t remainder = coefficient % divisor;
    reduced = reduced || remainder != coefficient;
    if (remainder != 0) rest.terms.push_back({atom, remainder});
  }
  rest.constant = sum.constant - floor_quotient(sum.constant, divisor) * divisor;
  reduced = reduced || rest.constant != sum.constant;
  const Interval range = rest.interval();
  if (!range.fits()) return plain(a);
  const Wide period = floor_quotient(range.minimum, Wide{divisor});
  if (period == floor_quotient(range.maximum, Wide{divisor})) {
    rest.constant = static_cast<std::int64_t>(Wide{rest.constant} - period * divisor);
    return from_linear(std::move(rest));
  }
  // (g * high + low) % (g * d) is g * (high % d) + low where low is within one period of g.
  if (auto split = rest.split(divisor)) {
    const Ex high = floor_modulo(from_linear(std::move(split->high)), divisor / split->factor);
    split->low.collect(high, split->factor);
    return from_linear(std::move(split->low));
  }
  return plain(reduced ? from_linear(std::move(rest)) : a);
}

/// A constant, or null where nothing is known.
Ex Arena::compare(Binary op, Ex a, Ex b) {
  if (is_float(a->type)) return nullptr;
  if (a == b) return boolean(op == Binary::equal || op == Binary::less_equal);
  Interval difference{Wide{a->minimum} - b->maximum, Wide{a->maximum} - b->minimum};
  if (a->type == Scalar::i64) {
    Linear left, right;
    left.collect(a, 1);
    right.collect(b, 1);
    if (left.interval().fits() && right.interval().fits()) {
      Linear both;
      both.collect(a, 1);
      both.collect(b, -1);
      const Interval exact = both.interval();
      difference.minimum = std::max(difference.minimum, exact.minimum);
      difference.maximum = std::min(difference.maximum, exact.maximum);
    }
  }
  const bool positive = difference.minimum > 0;
  const bool negative = difference.maximum < 0;
  switch (op) {
    case Binary::equal:
      if (positive || negative) return boolean(false);
      break;
    case Binary::not_equal:
      if (positive || negative) return boolean(true);
      // A boolean compared with 0 is itself.
      if (a->type == Scalar::boolean && b->kind == ExprKind::constant) {
        return b->integer == 0 ? a : unary(Unary::logical_not, a);
      }
      break;
    case Binary::less:
      if (negative) return boolean(true);
      if (difference.minimum >= 0) return boolean(false);
      break;
    case Binary::less_equal:
      if (difference.maximum <= 0) return boolean(true);
      if (positive) return boolean(false);
      break;
    default:
      break;
  }
  return nullptr;
}

/// a < b where a - b is g * high + low, with low within one period of g: high < 0; and a <= b where
/// b - a is: high >= 0. What the lanes of a vector differ in is low, where they are aligned. Null
/// where nothing is simpler.
Ex Arena::simplify_order(Binary op, Ex a, Ex b) {
  const bool less = op == Binary::less;
  if (a->type != Scalar::i64 || !(less || op == Binary::less_equal)) return nullptr;
  Linear difference;
  difference.collect(a, less ? 1 : -1);
  difference.collect(b, less ? -1 : 1);
  if (difference.terms.size() > maximum_terms || !difference.interval().fits()) return nullptr;
  auto split = difference.split(0);
  if (!split || split->low.terms.empty()) return nullptr;
  Linear& high = split->high;
  const std::int64_t constant = high.constant;
  high.constant = 0;
  // Written without negative terms where all of them are.
  const bool negative = std::all_of(high.terms.begin(), high.terms.end(),
                                    [](const auto& term) { return term.coefficient < 0; });
  if (negative) {
    Linear positive;
    positive.collect(from_linear(std::move(high)), -1);
    const Ex sum = from_linear(std::move(positive));
    return less ? binary(op, integer(constant), sum) : binary(op, sum, integer(constant));
  }
  const Ex limit = integer(wrapping_multiply(constant, -1));
  const Ex sum = from_linear(std::move(high));
  return less ? binary(op, sum, limit) : binary(op, limit, sum);
}

/// Null where nothing is simpler.
Ex Arena::simplify_integer(Binary op, Ex a, Ex b) {
  const bool constant = b->kind == ExprKind::constant;
  const std::int64_t value = b->integer;
  switch (op) {
    case Binary::add:
    case Binary::subtract:
      if (constant && value == 0) return a;
      if (op == Binary::subtract && a == b) return integer(a->type, 0);
      if (a->type == Scalar::i64) {
        Linear sum;
        sum.collect(a, 1);
        sum.collect(b, op == Binary::add ? 1 : -1);
        if (sum.terms.size() <= maximum_terms) return from_linear(std::move(sum));
      }
      break;
    case Binary::multiply:
      if (constant && value == 0) return b;
      if (constant && value == 1) return a;
      if (constant && a->type == Scalar::i64) {
        Linear product;
        product.collect(a, value);
        if (product.terms.size() <= maximum_terms) return from_linear(std::move(product));
      }
      break;
    case Binary::divide:
      if (constant && value == 1) return a;
      if (constant && value == 0) return b;
      if (constant && value > 0 && a->minimum >= 0 && a->type == Scalar::i64) {
        return floor_divide(a, value);
      }
      break;
    case Binary::remainder:
      if (constant && (value == 1 || value == 0)) return integer(a->type, 0);
      if (constant && value > 0 && a->minimum >= 0 && a->type == Scalar::i64) {
        return floor_modulo(a, value);
      }
      break;
    case Binary::floor_divide:
      if (constant) return floor_divide(a, value);
      break;
    case Binary::floor_modulo:
      if (constant) return floor_modulo(a, value);
      break;
    case Binary::minimum:
    case Binary::maximum: {
      if (a == b) return a;
      const Ex least = op == Binary::minimum ? a : b;
      const Ex greatest = op == Binary::minimum ? b : a;
      const Ex ordered = compare(Binary::less_equal, a, b);
      if (ordered) return ordered->integer != 0 ? least : greatest;
      const Ex reversed = compare(Binary::less_equal, b, a);
      if (reversed) return reversed->integer != 0 ? greatest : least;
      break;
    }
    case Binary::bitwise_and:
      if (a == b) return a;
      if (constant && value == 0) return b;
      if (constant && (value == -1 || (a->type == Scalar::u8 && value == 255))) return a;
      break;
    case Binary::bitwise_or:
      if (a == b) return a;
      if (constant && value == 0) return a;
      break;
    case Binary::bitwise_xor:
      if (a == b) return integer(a->type, 0);
      if (constant && value == 0) return a;
      break;
    case Binary::shift_left:
      if (constant && value == 0) return a;
      if (constant && a->type == Scalar::i64 && value > 0 && value < 63) {
        return binary(Binary::multiply, a, integer(std::int64_t{1} << value));
      }
      break;
    case Binary::shift_right:
    case Binary::shift_right_logical:
      if (constant && value == 0) return a;
      break;
    case Binary::multiply_high_unsigned:
      if (constant && value == 0) return b;
      break;
    default:
      break;
  }
  return nullptr;
}

}  // namespace weft::loop
