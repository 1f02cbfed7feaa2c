#include "compiler/loop/expr.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

#include "compiler/loop/range.h"

namespace weft::loop {

std::string_view name(Scalar scalar) {
  switch (scalar) {
    case Scalar::boolean:
      return "bool";
    case Scalar::u8:
      return "u8";
    case Scalar::i32:
      return "i32";
    case Scalar::i64:
      return "i64";
    case Scalar::f32:
      return "f32";
    case Scalar::f64:
      return "f64";
  }
  return "?";
}

Scalar register_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::f16:
    case DType::bf16:
    case DType::c64:
      return Scalar::f32;
    case DType::f64:
      return Scalar::f64;
    case DType::i32:
      return Scalar::i32;
    case DType::i64:
      return Scalar::i64;
    case DType::u8:
      return Scalar::u8;
    case DType::boolean:
      return Scalar::boolean;
  }
  throw std::logic_error("register_type: no such dtype");
}

namespace {

bool is_constant(Ex e) { return e->kind == ExprKind::constant; }
bool is_integer(Ex e, std::int64_t value) { return is_constant(e) && e->integer == value; }
/// Equal to the bit, so that -0 is not +0.
bool is_real(Ex e, double value) {
  return is_constant(e) &&
         std::bit_cast<std::uint64_t>(e->real) == std::bit_cast<std::uint64_t>(value);
}
bool is_unary(Ex e, Unary op) {
  return e->kind == ExprKind::unary && static_cast<Unary>(e->code) == op;
}

bool is_comparison(Binary op) {
  return op == Binary::equal || op == Binary::not_equal || op == Binary::less ||
         op == Binary::less_equal;
}

bool is_commutative(Binary op) {
  switch (op) {
    case Binary::add:
    case Binary::multiply:
    case Binary::minimum:
    case Binary::maximum:
    case Binary::bitwise_and:
    case Binary::bitwise_or:
    case Binary::bitwise_xor:
    case Binary::multiply_high_unsigned:
    case Binary::equal:
    case Binary::not_equal:
      return true;
    default:
      return false;
  }
}

/// A power of two whose reciprocal is a normal number as well, so that x / c is x * (1 / c).
bool has_exact_reciprocal(Scalar type, double value) {
  if (!std::isfinite(value) || value == 0) return false;
  int exponent = 0;
  const double mantissa = std::frexp(std::fabs(value), &exponent);
  const int limit = type == Scalar::f32 ? 120 : 1000;
  return mantissa == 0.5 && exponent > -limit && exponent < limit;
}

[[noreturn]] void mismatch(const char* what, Ex a, Ex b) {
  throw std::logic_error(std::string(what) + " of " + std::string(name(a->type)) + " and " +
                         std::string(name(b->type)));
}

}  // namespace

std::size_t Arena::Hash::operator()(const Expr* e) const {
  std::uint64_t h = static_cast<std::uint64_t>(e->kind) | static_cast<std::uint64_t>(e->type) << 8 |
                    static_cast<std::uint64_t>(e->code) << 16;
  const auto mix = [&h](std::uint64_t value) {
    h = (h ^ value) * 0x9e3779b97f4a7c15ULL;
    h ^= h >> 29;
  };
  for (const Expr* argument : e->arguments) mix(argument ? argument->serial + 1ULL : 0ULL);
  mix(static_cast<std::uint64_t>(e->integer));
  mix(std::bit_cast<std::uint64_t>(e->real));
  mix(reinterpret_cast<std::uintptr_t>(e->buffer));
  return static_cast<std::size_t>(h);
}

bool Arena::Same::operator()(const Expr* a, const Expr* b) const {
  return a->kind == b->kind && a->type == b->type && a->code == b->code &&
         a->arguments == b->arguments && a->integer == b->integer &&
         std::bit_cast<std::uint64_t>(a->real) == std::bit_cast<std::uint64_t>(b->real) &&
         a->buffer == b->buffer;
}

Ex Arena::intern(const Expr& expr) {
  if (const auto found = table_.find(&expr); found != table_.end()) return *found;
  storage_.push_back(expr);
  Expr& stored = storage_.back();
  stored.serial = static_cast<std::uint32_t>(storage_.size() - 1);
  for (const Expr* argument : stored.arguments) {
    if (!argument) continue;
    stored.reads_mutable = stored.reads_mutable || argument->reads_mutable;
    stored.innermost = std::max(stored.innermost, argument->innermost);
  }
  table_.insert(&stored);
  return &stored;
}

Ex Arena::constant(Scalar type, double value) {
  if (!is_float(type)) return integer(type, to_integer(type, value));
  Expr e{.kind = ExprKind::constant, .type = type};
  e.real = type == Scalar::f32 ? static_cast<double>(static_cast<float>(value)) : value;
  return intern(e);
}

Ex Arena::integer(std::int64_t value) { return integer(Scalar::i64, value); }

Ex Arena::integer(Scalar type, std::int64_t value) {
  if (is_float(type)) {
    // One rounding only: i64 to f32 does not go through f64.
    return constant(type, type == Scalar::f32 ? static_cast<double>(static_cast<float>(value))
                                              : static_cast<double>(value));
  }
  Expr e{.kind = ExprKind::constant, .type = type};
  e.integer = wrap(type, value);
  e.minimum = e.maximum = e.integer;
  return intern(e);
}

Ex Arena::boolean(bool value) { return integer(Scalar::boolean, value ? 1 : 0); }

Ex Arena::variable(Scalar type, std::int64_t minimum, std::int64_t maximum) {
  Expr e{.kind = ExprKind::variable, .type = type};
  e.integer = variables_++;
  e.innermost = e.integer;
  const Range all = type_range(type);
  e.minimum = std::max(minimum, all.minimum);
  e.maximum = std::min(maximum, all.maximum);
  return intern(e);
}

Ex Arena::load(const Buffer* buffer, Ex index, Ex predicate) {
  if (!buffer) throw std::logic_error("load without a buffer");
  if (buffer->dtype == DType::c64) throw std::logic_error("load of c64: use f32 pairs");
  if (buffer->space == Space::tensor_map) throw std::logic_error("load of a tensor map");
  if (index->type != Scalar::i64) throw std::logic_error("load: the index must be i64");
  if (predicate && predicate->type != Scalar::boolean) {
    throw std::logic_error("load: the predicate must be boolean");
  }
  const Scalar type = register_type(buffer->dtype);
  if (predicate && is_constant(predicate)) {
    if (predicate->integer == 0) return integer(type, 0);
    predicate = nullptr;
  }
  const bool rounds = buffer->dtype == DType::f16 || buffer->dtype == DType::bf16;
  if (buffer->space == Space::table && is_constant(index) && !predicate && !rounds &&
      index->integer >= 0 && index->integer < buffer->elements) {
    return constant(type, buffer->values[static_cast<std::size_t>(index->integer)]);
  }
  Expr e{.kind = ExprKind::load, .type = type};
  e.arguments = {index, predicate, nullptr};
  e.buffer = buffer;
  e.reads_mutable = buffer->writable || buffer->space == Space::local;
  const Range all = type_range(type);
  e.minimum = all.minimum;
  e.maximum = all.maximum;
  return intern(e);
}

Ex Arena::unary(Unary op, Ex a) {
  const Scalar type = a->type;
  switch (op) {
    case Unary::negate:
    case Unary::absolute:
      if (type == Scalar::boolean) throw std::logic_error("arithmetic on a boolean");
      break;
    case Unary::square_root:
    case Unary::floor:
    case Unary::round_even:
      if (!is_float(type)) throw std::logic_error("float operation on an integer");
      break;
    case Unary::logical_not:
      if (type != Scalar::boolean) throw std::logic_error("logical_not of a number");
      break;
    case Unary::bitwise_not:
      if (is_float(type) || type == Scalar::boolean) {
        throw std::logic_error("bitwise_not needs an integer");
      }
      break;
    case Unary::round_f16:
    case Unary::round_bf16:
      if (type != Scalar::f32) throw std::logic_error("16-bit rounding needs f32");
      break;
    default:
      if (type != Scalar::f64) throw std::logic_error("library calls take f64");
      break;
  }
  if (is_constant(a)) {
    if (is_float(type)) {
      double value = 0;
      if (fold_unary(op, type, a->real, value)) return constant(type, value);
    } else {
      return integer(type, fold_unary(op, type, a->integer));
    }
  }
  if (op == Unary::negate || op == Unary::logical_not || op == Unary::bitwise_not) {
    if (is_unary(a, op)) return a->arguments[0];
  }
  if (op == Unary::negate && type == Scalar::i64) return binary(Binary::multiply, a, integer(-1));
  if (op == Unary::absolute && !is_float(type) && a->minimum >= 0) return a;
  if (op == Unary::absolute && (is_unary(a, Unary::absolute) || is_unary(a, Unary::negate))) {
    return is_unary(a, Unary::absolute) ? a : unary(op, a->arguments[0]);
  }
  if ((op == Unary::floor || op == Unary::round_even) &&
      (is_unary(a, Unary::floor) || is_unary(a, Unary::round_even))) {
    return a;
  }
  Expr e{.kind = ExprKind::unary, .type = type};
  e.code = static_cast<std::uint8_t>(op);
  e.arguments[0] = a;
  if (!is_float(type)) {
    const Range range = unary_range(op, type, {a->minimum, a->maximum});
    e.minimum = range.minimum;
    e.maximum = range.maximum;
  }
  return intern(e);
}

/// Interns a binary expression as it is.
Ex Arena::make(Scalar type, Binary op, Ex a, Ex b) {
  Expr e{.kind = ExprKind::binary, .type = type};
  e.code = static_cast<std::uint8_t>(op);
  e.arguments = {a, b, nullptr};
  if (type == Scalar::boolean) {
    e.minimum = 0;
    e.maximum = 1;
  } else if (!is_float(type)) {
    const Range range = binary_range(op, type, {a->minimum, a->maximum}, {b->minimum, b->maximum});
    if (range.minimum == range.maximum) return integer(type, range.minimum);
    e.minimum = range.minimum;
    e.maximum = range.maximum;
  }
  return intern(e);
}

Ex Arena::fold(Binary op, Ex a, Ex b) {
  const Scalar type = a->type;
  if (is_float(type)) {
    if (is_comparison(op)) return boolean(fold_comparison(op, a->real, b->real));
    double value = 0;
    return fold_binary(op, type, a->real, b->real, value) ? constant(type, value) : nullptr;
  }
  std::int64_t value = 0;
  if (!fold_binary(op, type, a->integer, b->integer, value)) return nullptr;
  return integer(is_comparison(op) ? Scalar::boolean : type, value);
}

Ex Arena::binary(Binary op, Ex a, Ex b) {
  if (a->type != b->type) mismatch("binary expression", a, b);
  const Scalar type = a->type;
  const bool floating = is_float(type);
  switch (op) {
    case Binary::add:
    case Binary::subtract:
    case Binary::multiply:
      if (type == Scalar::boolean) mismatch("arithmetic", a, b);
      break;
    case Binary::divide:
      if (type == Scalar::boolean) mismatch("divide", a, b);
      break;
    case Binary::floor_divide:
    case Binary::floor_modulo:
      if (type != Scalar::i64) mismatch("index arithmetic", a, b);
      if (is_constant(b) && b->integer <= 0)
        throw std::logic_error("index divisor is not positive");
      break;
    case Binary::remainder:
    case Binary::shift_left:
    case Binary::shift_right:
    case Binary::shift_right_logical:
      if (floating || type == Scalar::boolean) mismatch("integer operation", a, b);
      break;
    case Binary::bitwise_and:
    case Binary::bitwise_or:
    case Binary::bitwise_xor:
      if (floating) mismatch("bitwise operation", a, b);
      break;
    case Binary::multiply_high_unsigned:
      if (type != Scalar::i32) mismatch("multiply_high_unsigned", a, b);
      break;
    case Binary::call_pow:
      if (type != Scalar::f64) mismatch("pow", a, b);
      break;
    default:
      break;
  }
  if (is_constant(a) && is_constant(b)) {
    if (Ex folded = fold(op, a, b)) return folded;
  }
  if (is_commutative(op) && is_constant(a)) std::swap(a, b);
  Ex simple = nullptr;
  if (is_comparison(op)) {
    simple = compare(op, a, b);
    if (!simple) simple = simplify_order(op, a, b);
  } else if (floating) {
    simple = simplify_float(op, a, b);
  } else if (type == Scalar::boolean) {
    simple = simplify_boolean(op, a, b);
  } else {
    simple = simplify_integer(op, a, b);
  }
  if (simple) return simple;
  return make(is_comparison(op) ? Scalar::boolean : type, op, a, b);
}

Ex Arena::simplify_float(Binary op, Ex a, Ex b) {
  switch (op) {
    case Binary::add:
      if (is_real(b, -0.0)) return a;
      if (is_unary(b, Unary::negate)) return binary(Binary::subtract, a, b->arguments[0]);
      if (is_unary(a, Unary::negate)) return binary(Binary::subtract, b, a->arguments[0]);
      break;
    case Binary::subtract:
      if (is_real(b, 0.0)) return a;
      if (is_real(a, -0.0)) return unary(Unary::negate, b);
      if (is_unary(b, Unary::negate)) return binary(Binary::add, a, b->arguments[0]);
      break;
    case Binary::multiply:
      if (is_real(b, 1.0)) return a;
      if (is_real(b, -1.0)) return unary(Unary::negate, a);
      break;
    case Binary::divide:
      if (is_real(b, 1.0)) return a;
      if (is_real(b, -1.0)) return unary(Unary::negate, a);
      if (is_constant(b) && has_exact_reciprocal(b->type, b->real)) {
        return binary(Binary::multiply, a, constant(b->type, 1.0 / b->real));
      }
      break;
    case Binary::minimum:
    case Binary::maximum:
      if (a == b) return a;
      break;
    default:
      break;
  }
  return nullptr;
}

Ex Arena::simplify_boolean(Binary op, Ex a, Ex b) {
  switch (op) {
    case Binary::bitwise_and:
    case Binary::minimum:
      if (a == b || is_integer(b, 1)) return a;
      if (is_integer(b, 0)) return b;
      break;
    case Binary::bitwise_or:
    case Binary::maximum:
      if (a == b || is_integer(b, 0)) return a;
      if (is_integer(b, 1)) return b;
      break;
    case Binary::bitwise_xor:
      if (a == b) return boolean(false);
      if (is_integer(b, 0)) return a;
      if (is_integer(b, 1)) return unary(Unary::logical_not, a);
      break;
    default:
      break;
  }
  if (op == Binary::minimum) return binary(Binary::bitwise_and, a, b);
  if (op == Binary::maximum) return binary(Binary::bitwise_or, a, b);
  return nullptr;
}

Ex Arena::select(Ex condition, Ex a, Ex b) {
  if (condition->type != Scalar::boolean) throw std::logic_error("select: condition not boolean");
  if (a->type != b->type) mismatch("select", a, b);
  if (is_constant(condition)) return condition->integer ? a : b;
  if (a == b) return a;
  if (is_unary(condition, Unary::logical_not)) return select(condition->arguments[0], b, a);
  if (a->type == Scalar::boolean && is_constant(a) && is_constant(b)) {
    return a->integer ? condition : unary(Unary::logical_not, condition);
  }
  Expr e{.kind = ExprKind::select, .type = a->type};
  e.arguments = {condition, a, b};
  e.minimum = std::min(a->minimum, b->minimum);
  e.maximum = std::max(a->maximum, b->maximum);
  return intern(e);
}

Ex Arena::fma(Ex a, Ex b, Ex c) {
  if (a->type != b->type) mismatch("fma", a, b);
  if (a->type != c->type) mismatch("fma", a, c);
  const Scalar type = a->type;
  if (!is_float(type)) return add(mul(a, b), c);
  if (is_constant(a)) std::swap(a, b);
  if (is_constant(a) && is_constant(b) && is_constant(c)) {
    return type == Scalar::f32
               ? constant(type, std::fma(static_cast<float>(a->real), static_cast<float>(b->real),
                                         static_cast<float>(c->real)))
               : constant(type, std::fma(a->real, b->real, c->real));
  }
  if (is_real(b, 1.0)) return add(a, c);
  if (is_real(b, -1.0)) return sub(c, a);
  if (is_real(c, -0.0)) return mul(a, b);
  Expr e{.kind = ExprKind::fma, .type = type};
  e.arguments = {a, b, c};
  return intern(e);
}

Ex Arena::dot_pair(Ex a, Ex b, Ex c) {
  if (a->type != Scalar::i32 || b->type != Scalar::i32) mismatch("dot_pair", a, b);
  if (c->type != Scalar::f32) mismatch("dot_pair", a, c);
  Expr e{.kind = ExprKind::dot_pair, .type = Scalar::f32};
  e.arguments = {a, b, c};
  return intern(e);
}

Ex Arena::cast(Ex a, Scalar to) {
  if (a->type == to) return a;
  if (is_constant(a)) {
    return is_float(a->type) ? constant(to, a->real) : integer(to, cast_integer(to, a->integer));
  }
  // Widening and back.
  if (a->kind == ExprKind::cast && static_cast<Cast>(a->code) == Cast::convert) {
    const Ex inner = a->arguments[0];
    const bool widened = (a->type == Scalar::f64 && inner->type != Scalar::i64) ||
                         (a->type == Scalar::i64 && !is_float(inner->type));
    if (inner->type == to && widened) return inner;
  }
  if (to == Scalar::boolean) {
    return binary(Binary::not_equal, a, integer(a->type, 0));
  }
  Expr e{.kind = ExprKind::cast, .type = to};
  e.code = static_cast<std::uint8_t>(Cast::convert);
  e.arguments[0] = a;
  if (!is_float(to)) {
    Range range = type_range(to);
    if (!is_float(a->type) && a->minimum >= range.minimum && a->maximum <= range.maximum) {
      range = {a->minimum, a->maximum};
    }
    e.minimum = range.minimum;
    e.maximum = range.maximum;
  }
  return intern(e);
}

Ex Arena::bits(Ex a, Scalar to) {
  if (a->type == to) return a;
  const auto width = [](Scalar s) {
    return s == Scalar::i32 || s == Scalar::f32   ? 32
           : s == Scalar::i64 || s == Scalar::f64 ? 64
                                                  : 0;
  };
  if (width(a->type) == 0 || width(a->type) != width(to)) {
    throw std::logic_error("bits: from " + std::string(name(a->type)) + " to " +
                           std::string(name(to)));
  }
  // A NaN's payload is not kept in a constant: those stay as they are.
  if (is_constant(a)) {
    if (to == Scalar::i32) {
      const auto value = static_cast<float>(a->real);
      if (!std::isnan(value)) return integer(to, std::bit_cast<std::int32_t>(value));
    } else if (to == Scalar::i64) {
      if (!std::isnan(a->real)) return integer(to, std::bit_cast<std::int64_t>(a->real));
    } else if (to == Scalar::f32) {
      const auto value = std::bit_cast<float>(static_cast<std::int32_t>(a->integer));
      if (!std::isnan(value)) return constant(to, value);
    } else {
      const auto value = std::bit_cast<double>(a->integer);
      if (!std::isnan(value)) return constant(to, value);
    }
  }
  if (a->kind == ExprKind::cast && static_cast<Cast>(a->code) == Cast::bits) {
    return bits(a->arguments[0], to);
  }
  Expr e{.kind = ExprKind::cast, .type = to};
  e.code = static_cast<std::uint8_t>(Cast::bits);
  e.arguments[0] = a;
  if (!is_float(to)) {
    const Range range = type_range(to);
    e.minimum = range.minimum;
    e.maximum = range.maximum;
  }
  return intern(e);
}

Ex Arena::linearize(std::span<const Ex> index, const Shape& shape) {
  if (static_cast<int>(index.size()) != shape.rank()) {
    throw std::logic_error("linearize: an index of another rank than the shape");
  }
  const auto strides = shape.strides();
  Ex position = integer(0);
  for (std::size_t axis = 0; axis < index.size(); ++axis) {
    position = add(position, mul(index[axis], integer(strides[axis])));
  }
  return position;
}

std::vector<Ex> Arena::delinearize(Ex position, const Shape& shape) {
  const auto rank = static_cast<std::size_t>(shape.rank());
  std::vector<Ex> index(rank);
  if (shape.elements() == 0) {
    std::fill(index.begin(), index.end(), integer(0));
    return index;
  }
  const auto strides = shape.strides();
  for (std::size_t axis = 0; axis < rank; ++axis) {
    const std::int64_t extent = shape[static_cast<int>(axis)];
    Ex value = floor_div(position, strides[axis]);
    // The outermost index is in range if the position is.
    const bool outermost =
        axis == 0 && position->minimum >= 0 && position->maximum < shape.elements();
    index[axis] = outermost ? value : floor_mod(value, extent);
  }
  return index;
}

}  // namespace weft::loop
