#include <llvm/IR/Constants.h>

#include <bit>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "compiler/codegen/emitter.h"

namespace weft::compiler {

using llvm::Value;
using loop::Binary;
using loop::Ex;
using loop::ExprKind;
using loop::Scalar;

namespace {

bool fits_narrow(Ex expr) {
  return expr->minimum >= std::numeric_limits<std::int32_t>::min() &&
         expr->maximum <= std::numeric_limits<std::int32_t>::max();
}

/// Keeps moduli far from overflow; a smaller modulus only says less.
Congruence reduced(std::int64_t modulus, std::int64_t residue) {
  constexpr std::int64_t limit = std::int64_t{1} << 30;
  if (modulus == 0) return Congruence::exactly(residue);
  while (modulus > limit && modulus % 2 == 0) modulus /= 2;
  if (modulus > limit) modulus = 1;
  residue %= modulus;
  return {modulus, residue < 0 ? residue + modulus : residue};
}

std::int64_t wrapping(std::int64_t a, std::int64_t b, bool product) {
  const auto x = static_cast<std::uint64_t>(a), y = static_cast<std::uint64_t>(b);
  return static_cast<std::int64_t>(product ? x * y : x + y);
}

bool small(std::int64_t value) { return std::llabs(value) < (std::int64_t{1} << 31); }

/// Operations that may be carried out in i32 where operands and result are within its range.
bool narrows(Binary op) {
  switch (op) {
    case Binary::add:
    case Binary::subtract:
    case Binary::multiply:
    case Binary::floor_divide:
    case Binary::floor_modulo:
    case Binary::minimum:
    case Binary::maximum:
    case Binary::bitwise_and:
    case Binary::bitwise_or:
    case Binary::bitwise_xor:
    case Binary::equal:
    case Binary::not_equal:
    case Binary::less:
    case Binary::less_equal:
      return true;
    default:
      return false;
  }
}

}  // namespace

Congruence Congruence::plus(const Congruence& other) const {
  if (modulus == 0 && other.modulus == 0) {
    return exactly(wrapping(residue, other.residue, false));
  }
  const std::int64_t common = std::gcd(modulus, other.modulus);
  if (common == 0 || !small(residue % common) || !small(other.residue % common)) return {};
  return reduced(common, residue % common + other.residue % common);
}

Congruence Congruence::times(std::int64_t factor) const {
  if (factor == 0) return exactly(0);
  if (modulus == 0) return exactly(wrapping(residue, factor, true));
  if (!small(factor)) return {};
  return reduced(std::llabs(modulus * factor), residue * factor);
}

std::int64_t Congruence::modulo(std::int64_t divisor) const {
  if (modulus != 0 && modulus % divisor != 0) return -1;
  const std::int64_t value = residue % divisor;
  return value < 0 ? value + divisor : value;
}

Lanes Emitter::uniform(Value* value) const {
  Lanes lanes;
  lanes.scalar = value;
  if (const auto* constant = llvm::dyn_cast<llvm::ConstantInt>(value)) {
    if (constant->getBitWidth() == 64) {
      lanes.congruence = Congruence::exactly(constant->getSExtValue());
    }
  }
  return lanes;
}

void Emitter::bind(Ex variable, const Lanes& value) {
  scopes_.back().values[variable] = {value, std::numeric_limits<std::int64_t>::max()};
  dependences_[variable] = {scopes_.size() - 1, false};
}

std::uint64_t Emitter::bit(const loop::Buffer* buffer) {
  if (buffer->space == loop::Space::argument && buffer->index < 62) {
    return std::uint64_t{1} << buffer->index;
  }
  // The rest share two bits: a store to one of them forgets what was read from the others.
  return std::uint64_t{1} << (buffer->space == loop::Space::local ? 63 : 62);
}

void Emitter::wrote(std::uint64_t buffers) {
  ++epoch_;
  for (; buffers != 0; buffers &= buffers - 1) {
    written_[static_cast<std::size_t>(std::countr_zero(buffers))] = epoch_;
  }
}

/// The writable buffers that the expression reads.
std::uint64_t Emitter::mutable_buffers(Ex expr) {
  if (!expr->reads_mutable) return 0;
  if (const auto found = mutable_.find(expr); found != mutable_.end()) return found->second;
  std::uint64_t buffers = 0;
  for (Ex argument : expr->arguments) {
    if (argument) buffers |= mutable_buffers(argument);
  }
  if (expr->kind == ExprKind::load &&
      (expr->buffer->writable || expr->buffer->space == loop::Space::local)) {
    buffers |= bit(expr->buffer);
  }
  mutable_[expr] = buffers;
  return buffers;
}

const Lanes* Emitter::lookup(Ex expr) {
  for (std::size_t depth = visible_ == 0 ? scopes_.size() : visible_; depth-- > 0;) {
    const auto found = scopes_[depth].values.find(expr);
    if (found == scopes_[depth].values.end()) continue;
    for (std::uint64_t rest = mutable_buffers(expr); rest != 0; rest &= rest - 1) {
      if (written_[static_cast<std::size_t>(std::countr_zero(rest))] > found->second.epoch) {
        return nullptr;
      }
    }
    return &found->second.value;
  }
  return nullptr;
}

Emitter::Dependence Emitter::dependence(Ex expr) {
  if (const auto found = dependences_.find(expr); found != dependences_.end()) return found->second;
  Dependence all;
  all.loads = expr->kind == ExprKind::load;
  for (Ex argument : expr->arguments) {
    if (!argument) continue;
    const Dependence own = dependence(argument);
    all.depth = std::max(all.depth, own.depth);
    all.loads = all.loads || own.loads;
  }
  // A variable out of its block is found out when it is evaluated.
  if (expr->kind != ExprKind::variable) dependences_[expr] = all;
  return all;
}

Lanes Emitter::evaluate(Ex expr) {
  if (expr->kind == ExprKind::constant) {
    return uniform(loop::is_float(expr->type) ? arithmetic_.real(expr->type, expr->real)
                                              : arithmetic_.integer(expr->type, expr->integer));
  }
  if (const Lanes* known = lookup(expr)) return *known;
  if (expr->kind == ExprKind::variable) {
    throw std::logic_error("kernel " + kernel_.name + ": variable " + loop::print(expr) +
                           " is used outside of its block");
  }
  // Reads of memory that the kernel does not write move ahead of the loops that they do not depend
  // on. LLVM could not do that: it must assume that stores change what they read. The compiler lets
  // operand and result share memory only where each element is read before it is written, and
  // reading still earlier keeps that.
  const std::size_t current = (visible_ == 0 ? scopes_.size() : visible_) - 1;
  const Dependence needs = dependence(expr);
  if (!expr->reads_mutable && needs.loads && needs.depth < current) {
    std::size_t target = current;
    while (target > needs.depth && !scopes_[target].conditional) --target;
    if (target < current) {
      llvm::Instruction* before = nullptr;
      for (std::size_t depth = target + 1; depth <= current && !before; ++depth) {
        before = scopes_[depth].before;
      }
      const llvm::IRBuilderBase::InsertPointGuard guard(builder_);
      if (before) builder_.SetInsertPoint(before);
      const std::size_t visible = std::exchange(visible_, target + 1);
      const Lanes value = evaluate(expr);
      visible_ = visible;
      return value;
    }
  }
  const Lanes value = compute(expr);
  scope().values[expr] = {value, epoch_};
  return value;
}

Value* Emitter::scalar(Ex expr, const char* what) {
  const Lanes value = evaluate(expr);
  if (!value.uniform()) {
    throw std::logic_error("kernel " + kernel_.name + ": " + what +
                           " differs between the lanes of a vector loop");
  }
  return value.scalar;
}

Value* Emitter::vector(const Lanes& value, Scalar type) {
  if (value.vector) {
    return value.narrow ? builder_.CreateSExt(value.vector, arithmetic_.type(Scalar::i64, width_))
                        : value.vector;
  }
  Value* splat = builder_.CreateVectorSplat(width_, value.scalar);
  if (value.stride == 0) return splat;
  std::vector<llvm::Constant*> steps;
  for (unsigned lane = 0; lane < width_; ++lane) {
    steps.push_back(arithmetic_.integer(type, wrapping(value.stride, lane, true)));
  }
  return builder_.CreateAdd(splat, llvm::ConstantVector::get(steps));
}

Value* Emitter::narrow(const Lanes& value) {
  llvm::Type* wanted = arithmetic_.type(Scalar::i32, width_);
  if (value.vector) {
    return value.narrow ? value.vector : builder_.CreateTrunc(value.vector, wanted);
  }
  Value* splat =
      builder_.CreateVectorSplat(width_, builder_.CreateTrunc(value.scalar, builder_.getInt32Ty()));
  if (value.stride == 0) return splat;
  std::vector<llvm::Constant*> steps;
  for (unsigned lane = 0; lane < width_; ++lane) {
    const auto step = static_cast<std::uint32_t>(wrapping(value.stride, lane, true));
    steps.push_back(builder_.getInt32(step));
  }
  return builder_.CreateAdd(splat, llvm::ConstantVector::get(steps));
}

Value* Emitter::index_binary(Ex expr, Value* a, Value* b) {
  const auto op = static_cast<Binary>(expr->code);
  const Ex left = expr->arguments[0];
  const Ex right = expr->arguments[1];
  const bool nonnegative = left->minimum >= 0;
  if (device_ && narrows(op) && fits_narrow(left) && fits_narrow(right) &&
      (expr->type == Scalar::boolean || fits_narrow(expr))) {
    llvm::Type* small = builder_.getInt32Ty();
    Value* result = arithmetic_.binary(op, Scalar::i32, builder_.CreateTrunc(a, small),
                                       builder_.CreateTrunc(b, small), active_, nonnegative);
    if (expr->type == Scalar::boolean) return result;
    // By its range the result does not wrap: neighbours stay neighbours when it is widened.
    if (auto* own = llvm::dyn_cast<llvm::OverflowingBinaryOperator>(result);
        own != nullptr && llvm::isa<llvm::Instruction>(result) &&
        (op == Binary::add || op == Binary::subtract || op == Binary::multiply)) {
      llvm::cast<llvm::Instruction>(result)->setHasNoSignedWrap(true);
    }
    return builder_.CreateSExt(result, builder_.getInt64Ty());
  }
  return arithmetic_.binary(op, Scalar::i64, a, b, active_, nonnegative);
}

/// i64 operations that keep the lanes in one arithmetic sequence. Without scalar and vector in the
/// result: it is not one.
Lanes Emitter::affine_binary(Ex expr, const Lanes& a, const Lanes& b) {
  Lanes result;
  if (!a.affine() || !b.affine() || a.scalar->getType() != builder_.getInt64Ty()) return result;
  const auto op = static_cast<Binary>(expr->code);
  const auto emit = [&](Value* x, Value* y) { return index_binary(expr, x, y); };
  const auto* factor = llvm::dyn_cast<llvm::ConstantInt>(b.scalar);
  const bool constant = b.stride == 0 && factor;
  switch (op) {
    case Binary::add:
    case Binary::subtract: {
      const std::int64_t sign = op == Binary::add ? 1 : -1;
      result.stride = wrapping(a.stride, wrapping(b.stride, sign, true), false);
      result.scalar = emit(a.scalar, b.scalar);
      result.congruence = a.congruence.plus(b.congruence.times(sign));
      return result;
    }
    case Binary::multiply:
      if (constant) {
        result.stride = wrapping(a.stride, factor->getSExtValue(), true);
        result.scalar = emit(a.scalar, b.scalar);
        result.congruence = a.congruence.times(factor->getSExtValue());
      } else if (a.uniform() && b.uniform()) {
        result.scalar = emit(a.scalar, b.scalar);
      }
      return result;
    case Binary::floor_divide:
    case Binary::floor_modulo: {
      if (a.uniform() && b.uniform()) {
        result.scalar = emit(a.scalar, b.scalar);
        if (constant && op == Binary::floor_modulo && factor->getSExtValue() > 0) {
          const std::int64_t divisor = factor->getSExtValue();
          const std::int64_t common = std::gcd(a.congruence.modulus, divisor);
          if (common > 1) result.congruence = {common, a.congruence.modulo(common)};
        }
        return result;
      }
      if (!constant || a.stride < 0) return result;
      const std::int64_t divisor = factor->getSExtValue();
      if (a.stride % divisor == 0) {
        result.scalar = emit(a.scalar, b.scalar);
        if (op == Binary::floor_divide) result.stride = a.stride / divisor;
        return result;
      }
      // All lanes stay within one period where the base's place in it is far enough from the end.
      const std::int64_t common = std::gcd(a.congruence.modulus, divisor);
      const std::int64_t place = a.congruence.modulo(common);
      const std::int64_t reach = active_ > 0 ? active_ - 1 : 0;
      if (place >= 0 && small(a.stride) && place + a.stride * reach < common) {
        result.scalar = emit(a.scalar, b.scalar);
        if (op == Binary::floor_modulo) {
          result.stride = a.stride;
          result.congruence = {common, place};
        }
      }
      return result;
    }
    default:
      return result;
  }
}

Lanes Emitter::binary(Ex expr) {
  const auto op = static_cast<Binary>(expr->code);
  const Ex left = expr->arguments[0];
  const Ex right = expr->arguments[1];
  const Lanes a = evaluate(left);
  const Lanes b = evaluate(right);
  const Scalar type = left->type;
  if (type == Scalar::i64) {
    const Lanes affine = affine_binary(expr, a, b);
    if (affine.scalar) {
      if (affine.uniform() && llvm::isa<llvm::ConstantInt>(affine.scalar)) {
        return uniform(affine.scalar);
      }
      return affine;
    }
  }
  const bool nonnegative = left->minimum >= 0;
  if (a.uniform() && b.uniform()) {
    if (type == Scalar::i64) return uniform(index_binary(expr, a.scalar, b.scalar));
    return uniform(arithmetic_.binary(op, type, a.scalar, b.scalar, active_, nonnegative));
  }
  Lanes result;
  if (type == Scalar::i64 && narrows(op) && fits_narrow(left) && fits_narrow(right) &&
      (expr->type == Scalar::boolean || fits_narrow(expr))) {
    result.vector = arithmetic_.binary(op, Scalar::i32, narrow(a), narrow(b), active_, nonnegative);
    result.narrow = expr->type == Scalar::i64;
    return result;
  }
  result.vector =
      arithmetic_.binary(op, type, vector(a, type), vector(b, type), active_, nonnegative);
  return result;
}

Lanes Emitter::compute(Ex expr) {
  const auto& argument = expr->arguments;
  Lanes result;
  switch (expr->kind) {
    case ExprKind::load:
      return load(expr);
    case ExprKind::binary:
      return binary(expr);
    case ExprKind::unary: {
      const auto op = static_cast<loop::Unary>(expr->code);
      const Lanes a = evaluate(argument[0]);
      if (a.uniform()) return uniform(arithmetic_.unary(op, expr->type, a.scalar, active_));
      result.vector = arithmetic_.unary(op, expr->type, vector(a, expr->type), active_);
      return result;
    }
    case ExprKind::select: {
      const Lanes condition = evaluate(argument[0]);
      const Lanes a = evaluate(argument[1]);
      const Lanes b = evaluate(argument[2]);
      if (condition.uniform() && a.uniform() && b.uniform()) {
        return uniform(builder_.CreateSelect(condition.scalar, a.scalar, b.scalar));
      }
      if (condition.uniform() && a.affine() && b.affine() && a.stride == b.stride) {
        result.scalar = builder_.CreateSelect(condition.scalar, a.scalar, b.scalar);
        result.stride = a.stride;
        return result;
      }
      Value* chooser = condition.uniform() ? condition.scalar : vector(condition, Scalar::boolean);
      result.narrow =
          expr->type == Scalar::i64 && fits_narrow(argument[1]) && fits_narrow(argument[2]);
      result.vector = result.narrow ? builder_.CreateSelect(chooser, narrow(a), narrow(b))
                                    : builder_.CreateSelect(chooser, vector(a, expr->type),
                                                            vector(b, expr->type));
      return result;
    }
    case ExprKind::fma: {
      const Lanes a = evaluate(argument[0]);
      const Lanes b = evaluate(argument[1]);
      const Lanes c = evaluate(argument[2]);
      if (a.uniform() && b.uniform() && c.uniform()) {
        return uniform(arithmetic_.fma(expr->type, a.scalar, b.scalar, c.scalar));
      }
      result.vector = arithmetic_.fma(expr->type, vector(a, expr->type), vector(b, expr->type),
                                      vector(c, expr->type));
      return result;
    }
    case ExprKind::dot_pair: {
      const Lanes a = evaluate(argument[0]);
      const Lanes b = evaluate(argument[1]);
      const Lanes c = evaluate(argument[2]);
      if (a.uniform() && b.uniform() && c.uniform()) {
        return uniform(arithmetic_.dot_pair(a.scalar, b.scalar, c.scalar));
      }
      result.vector = arithmetic_.dot_pair(vector(a, Scalar::i32), vector(b, Scalar::i32),
                                           vector(c, Scalar::f32));
      return result;
    }
    case ExprKind::cast: {
      const Lanes a = evaluate(argument[0]);
      const Scalar from = argument[0]->type;
      const Scalar to = expr->type;
      if (static_cast<loop::Cast>(expr->code) == loop::Cast::bits) {
        if (a.uniform()) {
          return uniform(builder_.CreateBitCast(a.scalar, arithmetic_.type(to)));
        }
        result.vector = builder_.CreateBitCast(vector(a, from), arithmetic_.type(to, width_));
        return result;
      }
      if (a.uniform()) return uniform(arithmetic_.cast(from, to, a.scalar));
      if (from == Scalar::i32 && to == Scalar::i64) {
        result.vector = vector(a, from);
        result.narrow = true;
      } else if (from == Scalar::i64 && to != Scalar::boolean && fits_narrow(argument[0])) {
        result.vector = arithmetic_.cast(Scalar::i32, to, narrow(a));
      } else if ((from == Scalar::boolean || from == Scalar::u8) && to == Scalar::i64) {
        result.vector = arithmetic_.cast(from, Scalar::i32, vector(a, from));
        result.narrow = true;
      } else {
        result.vector = arithmetic_.cast(from, to, vector(a, from));
      }
      return result;
    }
    case ExprKind::constant:
    case ExprKind::variable:
      break;
  }
  throw std::logic_error("no such expression");
}

}  // namespace weft::compiler
