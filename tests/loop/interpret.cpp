#include "tests/loop/interpret.h"

#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace weft::tests {

using loop::Binary;
using loop::Combine;
using loop::Ex;
using loop::ExprKind;
using loop::Scalar;
using loop::StatementKind;
using loop::Unary;

namespace {

std::int64_t wrap(Scalar type, std::uint64_t value) {
  switch (type) {
    case Scalar::boolean:
      return static_cast<std::int64_t>(value & 1);
    case Scalar::u8:
      return static_cast<std::uint8_t>(value);
    case Scalar::i32:
      return static_cast<std::int32_t>(static_cast<std::uint32_t>(value));
    default:
      return static_cast<std::int64_t>(value);
  }
}

int bits_of(Scalar type) {
  return type == Scalar::u8 ? 8 : type == Scalar::i32 || type == Scalar::f32 ? 32 : 64;
}

double rounded(Scalar type, double value) {
  return type == Scalar::f32 ? static_cast<double>(static_cast<float>(value)) : value;
}

/// Rounds to `precision` bits of significand and a least exponent; ties to even.
double round_to(double value, int precision, int least, double limit) {
  if (std::isnan(value) || std::isinf(value) || value == 0) return value;
  int exponent = 0;
  std::frexp(value, &exponent);
  const double unit = std::ldexp(1.0, std::max(exponent - precision, least));
  const double scaled = value / unit;
  double whole = std::floor(scaled);
  const double fraction = scaled - whole;
  if (fraction > 0.5 || (fraction == 0.5 && std::fmod(whole, 2.0) != 0)) whole += 1;
  const double result = std::copysign(whole * unit, value);
  return std::fabs(result) > limit ? std::copysign(HUGE_VAL, value) : result;
}

}  // namespace

double round_to_half(double value) { return round_to(value, 11, -24, 65504); }
double round_to_bfloat(double value) { return round_to(value, 8, -133, 0x1.fep127); }

Number Interpreter::evaluate_unary(Ex expr) {
  const Number a = evaluate(expr->arguments[0]);
  const Scalar type = expr->type;
  const auto integer = static_cast<std::uint64_t>(a.integer);
  const bool floating = loop::is_float(type);
  switch (static_cast<Unary>(expr->code)) {
    case Unary::negate:
      return floating ? Number{0, -a.real} : Number{wrap(type, 0 - integer), 0};
    case Unary::absolute:
      if (floating) return {0, std::fabs(a.real)};
      return {wrap(type, a.integer < 0 ? 0 - integer : integer), 0};
    case Unary::square_root:
      return {0, rounded(type, std::sqrt(a.real))};
    case Unary::floor:
      return {0, std::floor(a.real)};
    case Unary::round_even:
      return {0, std::nearbyint(a.real)};
    case Unary::logical_not:
      return {a.integer == 0, 0};
    case Unary::bitwise_not:
      return {wrap(type, ~integer), 0};
    case Unary::call_exp2:
      return {0, std::exp2(a.real)};
    case Unary::call_log2:
      return {0, std::log2(a.real)};
    case Unary::call_exp:
      return {0, std::exp(a.real)};
    case Unary::call_log:
      return {0, std::log(a.real)};
    case Unary::call_sin:
      return {0, std::sin(a.real)};
    case Unary::call_cos:
      return {0, std::cos(a.real)};
    case Unary::call_tanh:
      return {0, std::tanh(a.real)};
    case Unary::call_erf:
      return {0, std::erf(a.real)};
    case Unary::round_f16:
      return {0, round_to_half(a.real)};
    case Unary::round_bf16:
      return {0, round_to_bfloat(a.real)};
  }
  throw std::logic_error("no such unary");
}

Number Interpreter::evaluate_binary(Ex expr) {
  const Number a = evaluate(expr->arguments[0]);
  const Number b = evaluate(expr->arguments[1]);
  const Scalar type = expr->arguments[0]->type;
  const auto op = static_cast<Binary>(expr->code);
  if (loop::is_float(type)) {
    // A double holds products and quotients of floats well enough to round once more exactly.
    switch (op) {
      case Binary::add:
        return {0, rounded(type, a.real + b.real)};
      case Binary::subtract:
        return {0, rounded(type, a.real - b.real)};
      case Binary::multiply:
        return {0, rounded(type, a.real * b.real)};
      case Binary::divide:
        return {0, rounded(type, a.real / b.real)};
      case Binary::minimum:
        if (std::isnan(a.real) || std::isnan(b.real)) return {0, std::nan("")};
        return {0, a.real < b.real ? a.real : b.real};
      case Binary::maximum:
        if (std::isnan(a.real) || std::isnan(b.real)) return {0, std::nan("")};
        return {0, a.real > b.real ? a.real : b.real};
      case Binary::equal:
        return {a.real == b.real, 0};
      case Binary::not_equal:
        return {a.real != b.real, 0};
      case Binary::less:
        return {a.real < b.real, 0};
      case Binary::less_equal:
        return {a.real <= b.real, 0};
      case Binary::call_pow:
        return {0, std::pow(a.real, b.real)};
      default:
        throw std::logic_error("no such float operation");
    }
  }
  const std::int64_t x = a.integer, y = b.integer;
  const auto ux = static_cast<std::uint64_t>(x), uy = static_cast<std::uint64_t>(y);
  const int bits = bits_of(type);
  const std::uint64_t pattern = bits == 64 ? ux : ux & ((std::uint64_t{1} << bits) - 1);
  const bool far = y < 0 || y >= bits;
  const bool overflows = y == -1;
  switch (op) {
    case Binary::add:
      return {wrap(type, ux + uy), 0};
    case Binary::subtract:
      return {wrap(type, ux - uy), 0};
    case Binary::multiply:
      return {wrap(type, ux * uy), 0};
    case Binary::divide:
      if (y == 0) return {};
      return {wrap(type, overflows ? 0 - ux : static_cast<std::uint64_t>(x / y)), 0};
    case Binary::remainder:
      return {y == 0 || overflows ? 0 : x % y, 0};
    case Binary::floor_divide:
    case Binary::floor_modulo: {
      std::int64_t remainder = x % y;
      if (remainder < 0) remainder += y;
      if (op == Binary::floor_modulo) return {remainder, 0};
      const std::int64_t quotient = x / y;
      return {x % y < 0 ? quotient - 1 : quotient, 0};
    }
    case Binary::minimum:
      return {std::min(x, y), 0};
    case Binary::maximum:
      return {std::max(x, y), 0};
    case Binary::bitwise_and:
      return {x & y, 0};
    case Binary::bitwise_or:
      return {x | y, 0};
    case Binary::bitwise_xor:
      return {x ^ y, 0};
    case Binary::shift_left:
      return {far ? 0 : wrap(type, ux << y), 0};
    case Binary::shift_right:
      if (type == Scalar::u8) return {far ? 0 : x >> y, 0};
      return {far ? (x < 0 ? -1 : 0) : x >> y, 0};
    case Binary::shift_right_logical:
      return {far ? 0 : wrap(type, pattern >> y), 0};
    case Binary::multiply_high_unsigned:
      return {wrap(type, (pattern * static_cast<std::uint32_t>(uy)) >> 32), 0};
    case Binary::equal:
      return {x == y, 0};
    case Binary::not_equal:
      return {x != y, 0};
    case Binary::less:
      return {x < y, 0};
    case Binary::less_equal:
      return {x <= y, 0};
    default:
      throw std::logic_error("no such integer operation");
  }
}

Number Interpreter::evaluate_cast(Ex expr) {
  const Number a = evaluate(expr->arguments[0]);
  const Scalar from = expr->arguments[0]->type;
  const Scalar to = expr->type;
  if (static_cast<loop::Cast>(expr->code) == loop::Cast::bits) {
    switch (to) {
      case Scalar::i32:
        return {std::bit_cast<std::int32_t>(static_cast<float>(a.real)), 0};
      case Scalar::i64:
        return {std::bit_cast<std::int64_t>(a.real), 0};
      case Scalar::f32:
        return {0, static_cast<double>(std::bit_cast<float>(static_cast<std::int32_t>(a.integer)))};
      default:
        return {0, std::bit_cast<double>(a.integer)};
    }
  }
  if (loop::is_float(from)) {
    if (loop::is_float(to)) return {0, rounded(to, a.real)};
    if (to == Scalar::boolean) return {a.real != 0, 0};
    if (std::isnan(a.real)) return {};
    const double low = to == Scalar::u8 ? 0 : to == Scalar::i32 ? -0x1p31 : -0x1p63;
    const double high = to == Scalar::u8 ? 256 : to == Scalar::i32 ? 0x1p31 : 0x1p63;
    const double whole = std::trunc(a.real);
    if (whole >= high) {
      return {to == Scalar::u8    ? 255
              : to == Scalar::i32 ? std::numeric_limits<std::int32_t>::max()
                                  : std::numeric_limits<std::int64_t>::max(),
              0};
    }
    if (whole < low) {
      return {to == Scalar::u8    ? 0
              : to == Scalar::i32 ? std::numeric_limits<std::int32_t>::min()
                                  : std::numeric_limits<std::int64_t>::min(),
              0};
    }
    return {static_cast<std::int64_t>(whole), 0};
  }
  if (to == Scalar::f32) return {0, static_cast<double>(static_cast<float>(a.integer))};
  if (to == Scalar::f64) return {0, static_cast<double>(a.integer)};
  if (to == Scalar::boolean) return {a.integer != 0, 0};
  return {wrap(to, static_cast<std::uint64_t>(a.integer)), 0};
}

/// c + the products of both halves.
static Number dot_pair(const Number& a, const Number& b, const Number& c) {
  const auto half = [](const Number& pair, bool high) {
    const auto word = static_cast<std::uint32_t>(pair.integer);
    return static_cast<double>(std::bit_cast<float>(high ? word & 0xffff0000U : word << 16U));
  };
  return {0, rounded(Scalar::f32,
                     c.real + half(a, false) * half(b, false) + half(a, true) * half(b, true))};
}

Number Interpreter::evaluate(Ex expr) {
  switch (expr->kind) {
    case ExprKind::constant:
      return {expr->integer, expr->real};
    case ExprKind::variable:
      return variables.at(expr);
    case ExprKind::load: {
      if (expr->arguments[1] && evaluate(expr->arguments[1]).integer == 0) return {};
      const std::int64_t index = evaluate(expr->arguments[0]).integer;
      return memory.at(expr->buffer).at(static_cast<std::size_t>(index));
    }
    case ExprKind::unary:
      return evaluate_unary(expr);
    case ExprKind::binary:
      return evaluate_binary(expr);
    case ExprKind::select:
      return evaluate(expr->arguments[0]).integer ? evaluate(expr->arguments[1])
                                                  : evaluate(expr->arguments[2]);
    case ExprKind::fma: {
      const double a = evaluate(expr->arguments[0]).real;
      const double b = evaluate(expr->arguments[1]).real;
      const double c = evaluate(expr->arguments[2]).real;
      if (expr->type == Scalar::f64) return {0, std::fma(a, b, c)};
      return {0, static_cast<double>(std::fma(static_cast<float>(a), static_cast<float>(b),
                                              static_cast<float>(c)))};
    }
    case ExprKind::dot_pair:
      return dot_pair(evaluate(expr->arguments[0]), evaluate(expr->arguments[1]),
                      evaluate(expr->arguments[2]));
    case ExprKind::cast:
      return evaluate_cast(expr);
  }
  throw std::logic_error("no such expression");
}

void Interpreter::run(const loop::Kernel& kernel) {
  for (const loop::Buffer& buffer : kernel.buffers) {
    std::vector<Number>& values = memory[&buffer];
    if (buffer.space == loop::Space::argument) continue;
    values.assign(static_cast<std::size_t>(buffer.elements), {});
    for (std::size_t i = 0; i < buffer.values.size(); ++i) {
      const double value = buffer.values[i];
      const Scalar type = loop::register_type(buffer.dtype);
      if (!loop::is_float(type)) {
        values[i] = {static_cast<std::int64_t>(value), 0};
      } else if (buffer.dtype == DType::f16) {
        values[i] = {0, round_to_half(value)};
      } else {
        values[i] = {0,
                     buffer.dtype == DType::bf16 ? round_to_bfloat(value) : rounded(type, value)};
      }
    }
  }
  for (const loop::Phase& phase : kernel.phases) {
    for (std::int64_t index = 0; index < phase.grid; ++index) {
      variables[phase.block] = {index, 0};
      block(phase.body);
    }
  }
}

void Interpreter::block(const loop::Block& block) {
  for (const loop::Statement* s : block) statement(*s);
}

void Interpreter::statement(const loop::Statement& s) {
  switch (s.kind) {
    case StatementKind::loop: {
      const std::int64_t extent = evaluate(s.extent).integer;
      for (std::int64_t i = 0; i < extent; ++i) {
        variables[s.variable] = {i, 0};
        block(s.body);
      }
      break;
    }
    case StatementKind::prefetch:
      break;
    case StatementKind::tile_product: {
      const loop::TileProduct& t = s.tile;
      const auto at = [&](const loop::MatrixView& view, std::int64_t row,
                          std::int64_t column) -> Number& {
        const std::int64_t index = evaluate(view.index).integer + row * view.stride + column;
        return memory.at(view.buffer).at(static_cast<std::size_t>(index));
      };
      const std::int64_t steps = evaluate(t.steps).integer;
      for (std::int64_t r = 0; r < t.rows; ++r) {
        for (std::int64_t c = 0; c < t.columns; ++c) {
          Number sum = t.accumulate ? at(t.sums, r, c) : Number{};
          for (std::int64_t k = 0; k < steps; ++k) {
            sum = dot_pair(at(t.left, r, k), at(t.right, k, c), sum);
          }
          at(t.sums, r, c) = sum;
        }
      }
      break;
    }
    case StatementKind::store: {
      if (s.predicate && evaluate(s.predicate).integer == 0) break;
      Number value = evaluate(s.value);
      if (s.buffer->dtype == DType::f16) value.real = round_to_half(value.real);
      if (s.buffer->dtype == DType::bf16) value.real = round_to_bfloat(value.real);
      memory.at(s.buffer).at(static_cast<std::size_t>(evaluate(s.index).integer)) = value;
      break;
    }
    case StatementKind::let:
      variables[s.variable] = s.value ? evaluate(s.value) : accumulators_.at(s.accumulator);
      break;
    case StatementKind::declare:
      accumulators_[s.accumulator] = evaluate(s.accumulator->initial);
      break;
    case StatementKind::assign:
      accumulators_.at(s.accumulator) = evaluate(s.value);
      break;
    case StatementKind::accumulate: {
      Number& target = accumulators_.at(s.accumulator);
      const Number value = evaluate(s.value);
      const Scalar type = s.accumulator->type;
      const auto x = static_cast<std::uint64_t>(target.integer);
      const auto y = static_cast<std::uint64_t>(value.integer);
      switch (s.accumulator->combine) {
        case Combine::add:
          target = {type == Scalar::boolean ? target.integer | value.integer : wrap(type, x + y),
                    rounded(type, target.real + value.real)};
          break;
        case Combine::multiply:
          target = {wrap(type, x * y), rounded(type, target.real * value.real)};
          break;
        case Combine::minimum:
          target.integer = std::min(target.integer, value.integer);
          if (!(target.real < value.real) && !std::isnan(target.real)) target.real = value.real;
          break;
        case Combine::maximum:
          target.integer = std::max(target.integer, value.integer);
          if (!(target.real > value.real) && !std::isnan(target.real)) target.real = value.real;
          break;
      }
      break;
    }
    case StatementKind::condition:
      if (evaluate(s.value).integer) block(s.body);
      break;
    case StatementKind::barrier:
    case StatementKind::intrinsic:
      throw std::logic_error("a statement of a GPU in a phase of the host");
  }
}

}  // namespace weft::tests
