#include "compiler/codegen/arithmetic.h"

#include <llvm/IR/Constants.h>
#include <llvm/IR/Intrinsics.h>
#include <llvm/IR/IntrinsicsX86.h>

#include <limits>
#include <stdexcept>

#include "compiler/loop/math_f64.h"
#include "runtime/plan/error.h"

namespace weft::compiler {

using llvm::APInt;
using llvm::Constant;
using llvm::Value;
using loop::Binary;
using loop::Combine;
using loop::Scalar;
using loop::Unary;

namespace {

unsigned lanes_of(Value* value) {
  const auto* vector = llvm::dyn_cast<llvm::FixedVectorType>(value->getType());
  return vector ? vector->getNumElements() : 0;
}

/// The integer that a constant, or every lane of a constant, is.
const APInt* constant_integer(Value* value) {
  auto* constant = llvm::dyn_cast<Constant>(value);
  if (!constant) return nullptr;
  if (constant->getType()->isVectorTy()) constant = constant->getSplatValue();
  const auto* integer = llvm::dyn_cast_or_null<llvm::ConstantInt>(constant);
  return integer ? &integer->getValue() : nullptr;
}

}  // namespace

bool has_feature(const std::string& features, std::string_view feature) {
  const std::string wanted = "+" + std::string(feature);
  for (std::size_t start = 0; start < features.size();) {
    const std::size_t comma = std::min(features.find(',', start), features.size());
    if (features.compare(start, comma - start, wanted) == 0) return true;
    start = comma + 1;
  }
  return false;
}

ArithmeticFeatures ArithmeticFeatures::of(const HostTarget& target) {
  const auto lanes = static_cast<unsigned>(target.vector_lanes(DType::f32));
  return {.fma = target.has("fma"),
          .half = target.has("f16c"),
          .library = true,
          .pair_lanes = target.has("avx512bf16") ? lanes : 0};
}

llvm::Type* Arithmetic::type(Scalar scalar, unsigned lanes) const {
  llvm::Type* element = nullptr;
  switch (scalar) {
    case Scalar::boolean:
      element = builder_.getInt1Ty();
      break;
    case Scalar::u8:
      element = builder_.getInt8Ty();
      break;
    case Scalar::i32:
      element = builder_.getInt32Ty();
      break;
    case Scalar::i64:
      element = builder_.getInt64Ty();
      break;
    case Scalar::f32:
      element = builder_.getFloatTy();
      break;
    case Scalar::f64:
      element = builder_.getDoubleTy();
      break;
  }
  return lanes ? llvm::FixedVectorType::get(element, lanes) : element;
}

llvm::Type* Arithmetic::memory_type(DType dtype, unsigned lanes) const {
  llvm::Type* element = nullptr;
  switch (dtype) {
    case DType::f32:
      element = builder_.getFloatTy();
      break;
    case DType::f64:
      element = builder_.getDoubleTy();
      break;
    case DType::f16:
    case DType::bf16:
      element = builder_.getInt16Ty();
      break;
    case DType::i32:
      element = builder_.getInt32Ty();
      break;
    case DType::i64:
      element = builder_.getInt64Ty();
      break;
    case DType::u8:
    case DType::boolean:
      element = builder_.getInt8Ty();
      break;
    case DType::c64:
      throw std::logic_error("a buffer of c64 in the loop language");
  }
  return lanes ? llvm::FixedVectorType::get(element, lanes) : element;
}

Constant* Arithmetic::integer(Scalar scalar, std::int64_t value) const {
  return llvm::ConstantInt::get(type(scalar), static_cast<std::uint64_t>(value), true);
}

Constant* Arithmetic::real(Scalar scalar, double value) const {
  return llvm::ConstantFP::get(type(scalar), value);
}

Constant* Arithmetic::zero(Scalar scalar, unsigned lanes) const {
  return Constant::getNullValue(type(scalar, lanes));
}

Constant* Arithmetic::identity(Combine combine, Scalar scalar) const {
  const bool floating = loop::is_float(scalar);
  switch (combine) {
    case Combine::add:
      return zero(scalar);
    case Combine::multiply:
      return floating ? real(scalar, 1) : integer(scalar, 1);
    case Combine::minimum:
    case Combine::maximum: {
      const bool minimum = combine == Combine::minimum;
      if (floating) {
        constexpr double infinity = std::numeric_limits<double>::infinity();
        return real(scalar, minimum ? infinity : -infinity);
      }
      const unsigned bits = type(scalar)->getIntegerBitWidth();
      if (scalar == Scalar::u8 || scalar == Scalar::boolean) {
        return llvm::ConstantInt::get(type(scalar),
                                      minimum ? APInt::getAllOnes(bits) : APInt::getZero(bits));
      }
      return llvm::ConstantInt::get(
          type(scalar), minimum ? APInt::getSignedMaxValue(bits) : APInt::getSignedMinValue(bits));
    }
  }
  return nullptr;
}

llvm::Type* Arithmetic::like(llvm::Type* element, Value* shape) const {
  const unsigned lanes = lanes_of(shape);
  return lanes ? llvm::FixedVectorType::get(element, lanes) : element;
}

Constant* Arithmetic::bits_like(Value* shape, std::int64_t value) const {
  return llvm::ConstantInt::get(shape->getType(), static_cast<std::uint64_t>(value), true);
}

Value* Arithmetic::call(const char* function, Value* a, Value* b, unsigned active) {
  if (!features_.library) {
    throw Error(std::string(function) + " of f64 is not there on this device");
  }
  llvm::Type* real_type = builder_.getDoubleTy();
  std::vector<llvm::Type*> parameters(b ? 2 : 1, real_type);
  llvm::FunctionCallee callee =
      module_.getOrInsertFunction(function, llvm::FunctionType::get(real_type, parameters, false));
  const auto emit = [&](Value* x, Value* y) -> Value* {
    llvm::CallInst* result =
        y ? builder_.CreateCall(callee, {x, y}) : builder_.CreateCall(callee, {x});
    // Always the library's result: no rewriting of pow(x, 2) into something rounded otherwise.
    result->addFnAttr(llvm::Attribute::NoBuiltin);
    result->setDoesNotAccessMemory();
    result->setDoesNotThrow();
    result->addFnAttr(llvm::Attribute::WillReturn);
    return result;
  };
  const unsigned lanes = lanes_of(a);
  if (lanes == 0) return emit(a, b);
  Value* result = zero(Scalar::f64, lanes);
  for (unsigned lane = 0; lane < lanes && lane < active; ++lane) {
    Value* x = builder_.CreateExtractElement(a, lane);
    Value* y = b ? builder_.CreateExtractElement(b, lane) : nullptr;
    result = builder_.CreateInsertElement(result, emit(x, y), lane);
  }
  return result;
}

Value* Arithmetic::unary(Unary op, Scalar scalar, Value* a, unsigned active) {
  const bool floating = loop::is_float(scalar);
  switch (op) {
    case Unary::negate:
      return floating ? builder_.CreateFNeg(a) : builder_.CreateNeg(a);
    case Unary::absolute:
      if (floating) return builder_.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, a);
      if (scalar == Scalar::u8) return a;
      return builder_.CreateBinaryIntrinsic(llvm::Intrinsic::abs, a, builder_.getFalse());
    case Unary::square_root:
      return builder_.CreateUnaryIntrinsic(llvm::Intrinsic::sqrt, a);
    case Unary::floor:
      return builder_.CreateUnaryIntrinsic(llvm::Intrinsic::floor, a);
    case Unary::round_even:
      return builder_.CreateUnaryIntrinsic(llvm::Intrinsic::roundeven, a);
    case Unary::logical_not:
    case Unary::bitwise_not:
      return builder_.CreateNot(a);
    case Unary::round_f16:
      return from_memory(DType::f16, to_memory(DType::f16, a));
    case Unary::round_bf16:
      return from_memory(DType::bf16, to_memory(DType::bf16, a));
    default:
      return call(loop::library_name(op), a, nullptr, active);
  }
}

/// x / 0 and x % 0 are 0; the quotient of the least value by -1 wraps. The machine would trap.
Value* Arithmetic::divide(bool remainder, bool is_signed, Value* a, Value* b) {
  const auto emit = [&](Value* divisor) {
    if (remainder) {
      return is_signed ? builder_.CreateSRem(a, divisor) : builder_.CreateURem(a, divisor);
    }
    return is_signed ? builder_.CreateSDiv(a, divisor) : builder_.CreateUDiv(a, divisor);
  };
  Constant* none = Constant::getNullValue(a->getType());
  if (const APInt* constant = constant_integer(b)) {
    if (constant->isZero()) return none;
    if (is_signed && constant->isAllOnes()) return remainder ? none : builder_.CreateNeg(a);
    return emit(b);
  }
  Constant* one = bits_like(a, 1);
  Value* by_zero = builder_.CreateICmpEQ(b, none);
  if (!is_signed) {
    return builder_.CreateSelect(by_zero, none, emit(builder_.CreateSelect(by_zero, one, b)));
  }
  Value* by_minus_one = builder_.CreateICmpEQ(b, bits_like(b, -1));
  Value* special = builder_.CreateOr(by_zero, by_minus_one);
  Value* result = emit(builder_.CreateSelect(special, one, b));
  if (remainder) return builder_.CreateSelect(special, none, result);
  result = builder_.CreateSelect(by_minus_one, builder_.CreateNeg(a), result);
  return builder_.CreateSelect(by_zero, none, result);
}

Value* Arithmetic::index_divide(bool modulo, Value* a, Value* b, bool nonnegative) {
  const APInt* constant = constant_integer(b);
  if (constant && constant->isPowerOf2()) {
    // Shifts and masks round toward minus infinity, as wanted.
    if (modulo) return builder_.CreateAnd(a, bits_like(a, constant->getSExtValue() - 1));
    return builder_.CreateAShr(a, bits_like(a, constant->logBase2()));
  }
  if (!constant) {
    // The divisor is positive wherever the result matters; inactive lanes must not trap.
    Value* positive = builder_.CreateICmpSGT(b, bits_like(b, 0));
    b = builder_.CreateSelect(positive, b, bits_like(b, 1));
  }
  if (nonnegative) return modulo ? builder_.CreateURem(a, b) : builder_.CreateUDiv(a, b);
  Value* quotient = builder_.CreateSDiv(a, b);
  Value* remainder = builder_.CreateSub(a, builder_.CreateMul(quotient, b));
  Value* negative = builder_.CreateICmpSLT(remainder, bits_like(a, 0));
  if (modulo) {
    return builder_.CreateAdd(remainder, builder_.CreateSelect(negative, b, bits_like(a, 0)));
  }
  return builder_.CreateAdd(quotient, builder_.CreateSExt(negative, a->getType()));
}

Value* Arithmetic::shift(Binary op, bool is_signed, Value* a, Value* b) {
  const unsigned bits = a->getType()->getScalarSizeInBits();
  const bool arithmetic = op == Binary::shift_right && is_signed;
  const auto emit = [&](Value* amount) {
    if (op == Binary::shift_left) return builder_.CreateShl(a, amount);
    return arithmetic ? builder_.CreateAShr(a, amount) : builder_.CreateLShr(a, amount);
  };
  Value* none = Constant::getNullValue(a->getType());
  if (const APInt* constant = constant_integer(b)) {
    if (constant->ult(bits)) return emit(b);
    return arithmetic ? emit(bits_like(a, bits - 1)) : none;
  }
  Value* in_range = builder_.CreateICmpULT(b, bits_like(b, bits));
  if (arithmetic) return emit(builder_.CreateSelect(in_range, b, bits_like(b, bits - 1)));
  return builder_.CreateSelect(in_range, emit(builder_.CreateSelect(in_range, b, none)), none);
}

Value* Arithmetic::extremum(bool minimum, Scalar scalar, Value* a, Value* b) {
  if (scalar == Scalar::f32 && features_.extremum) {
    return builder_.CreateBinaryIntrinsic(
        minimum ? llvm::Intrinsic::minimum : llvm::Intrinsic::maximum, a, b);
  }
  if (loop::is_float(scalar)) {
    // The choice gives a where either is NaN; a NaN in b is put back. A constant is b: its test
    // folds away. (LLVM 19 merges |x| > 0 with a test of |x| for NaN into x > 0: that pair of
    // comparisons with zero must not arise.)
    if (llvm::isa<Constant>(a)) std::swap(a, b);
    Value* first = minimum ? builder_.CreateFCmpULT(a, b) : builder_.CreateFCmpUGT(a, b);
    Value* chosen = builder_.CreateSelect(first, a, b);
    return builder_.CreateSelect(builder_.CreateFCmpUNO(b, b), b, chosen);
  }
  if (scalar == Scalar::boolean) {
    return minimum ? builder_.CreateAnd(a, b) : builder_.CreateOr(a, b);
  }
  const bool is_signed = scalar != Scalar::u8;
  const auto intrinsic = minimum ? (is_signed ? llvm::Intrinsic::smin : llvm::Intrinsic::umin)
                                 : (is_signed ? llvm::Intrinsic::smax : llvm::Intrinsic::umax);
  return builder_.CreateBinaryIntrinsic(intrinsic, a, b);
}

Value* Arithmetic::binary(Binary op, Scalar scalar, Value* a, Value* b, unsigned active,
                          bool nonnegative) {
  const bool floating = loop::is_float(scalar);
  const bool is_signed = scalar == Scalar::i32 || scalar == Scalar::i64;
  switch (op) {
    case Binary::add:
      return floating ? builder_.CreateFAdd(a, b) : builder_.CreateAdd(a, b);
    case Binary::subtract:
      return floating ? builder_.CreateFSub(a, b) : builder_.CreateSub(a, b);
    case Binary::multiply:
      return floating ? builder_.CreateFMul(a, b) : builder_.CreateMul(a, b);
    case Binary::divide:
      return floating ? builder_.CreateFDiv(a, b) : divide(false, is_signed, a, b);
    case Binary::remainder:
      return divide(true, is_signed, a, b);
    case Binary::floor_divide:
      return index_divide(false, a, b, nonnegative);
    case Binary::floor_modulo:
      return index_divide(true, a, b, nonnegative);
    case Binary::minimum:
      return extremum(true, scalar, a, b);
    case Binary::maximum:
      return extremum(false, scalar, a, b);
    case Binary::bitwise_and:
      return builder_.CreateAnd(a, b);
    case Binary::bitwise_or:
      return builder_.CreateOr(a, b);
    case Binary::bitwise_xor:
      return builder_.CreateXor(a, b);
    case Binary::shift_left:
    case Binary::shift_right:
    case Binary::shift_right_logical:
      return shift(op, is_signed, a, b);
    case Binary::multiply_high_unsigned: {
      llvm::Type* wide = like(builder_.getInt64Ty(), a);
      Value* product =
          builder_.CreateMul(builder_.CreateZExt(a, wide), builder_.CreateZExt(b, wide));
      return builder_.CreateTrunc(builder_.CreateLShr(product, bits_like(product, 32)),
                                  a->getType());
    }
    case Binary::equal:
      return floating ? builder_.CreateFCmpOEQ(a, b) : builder_.CreateICmpEQ(a, b);
    case Binary::not_equal:
      return floating ? builder_.CreateFCmpUNE(a, b) : builder_.CreateICmpNE(a, b);
    case Binary::less:
      if (floating) return builder_.CreateFCmpOLT(a, b);
      return is_signed ? builder_.CreateICmpSLT(a, b) : builder_.CreateICmpULT(a, b);
    case Binary::less_equal:
      if (floating) return builder_.CreateFCmpOLE(a, b);
      return is_signed ? builder_.CreateICmpSLE(a, b) : builder_.CreateICmpULE(a, b);
    case Binary::call_pow:
      return call("pow", a, b, active);
  }
  throw std::logic_error("no such binary operation");
}

Value* Arithmetic::fma(Scalar scalar, Value* a, Value* b, Value* c) {
  if (!loop::is_float(scalar)) return builder_.CreateAdd(builder_.CreateMul(a, b), c);
  if (!features_.fma) return builder_.CreateFAdd(builder_.CreateFMul(a, b), c);
  return builder_.CreateIntrinsic(llvm::Intrinsic::fma, {a->getType()}, {a, b, c});
}

Value* Arithmetic::dot_pair(Value* a, Value* b, Value* c) {
  const auto* vector = llvm::dyn_cast<llvm::FixedVectorType>(c->getType());
  const unsigned lanes = vector ? vector->getNumElements() : 0;
  if (features_.pair_lanes != 16 || lanes == 0 || lanes % features_.pair_lanes != 0) {
    const auto half = [&](Value* pair, bool high) {
      Value* word = high ? builder_.CreateAnd(pair, bits_like(pair, 0xffff0000))
                         : builder_.CreateShl(pair, bits_like(pair, 16));
      return builder_.CreateBitCast(word, c->getType());
    };
    return fma(Scalar::f32, half(a, true), half(b, true),
               fma(Scalar::f32, half(a, false), half(b, false), c));
  }
  auto* pairs = llvm::FixedVectorType::get(builder_.getBFloatTy(), 2 * features_.pair_lanes);
  const auto part = [&](Value* value, unsigned first) {
    if (lanes == features_.pair_lanes) return value;
    std::vector<int> chosen(features_.pair_lanes);
    for (unsigned i = 0; i < features_.pair_lanes; ++i) chosen[i] = static_cast<int>(first + i);
    return builder_.CreateShuffleVector(value, chosen);
  };
  std::vector<Value*> sums;
  for (unsigned first = 0; first < lanes; first += features_.pair_lanes) {
    sums.push_back(
        builder_.CreateIntrinsic(llvm::Intrinsic::x86_avx512bf16_dpbf16ps_512, {},
                                 {part(c, first), builder_.CreateBitCast(part(a, first), pairs),
                                  builder_.CreateBitCast(part(b, first), pairs)}));
  }
  for (unsigned width = features_.pair_lanes; sums.size() > 1; width *= 2) {
    std::vector<int> all(2 * std::size_t{width});
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int>(i);
    for (std::size_t i = 0; i < sums.size() / 2; ++i) {
      sums[i] = builder_.CreateShuffleVector(sums[2 * i], sums[2 * i + 1], all);
    }
    sums.resize(sums.size() / 2);
  }
  return sums[0];
}

Value* Arithmetic::combine(Combine combine, Scalar scalar, Value* a, Value* b) {
  const bool boolean = scalar == Scalar::boolean;
  switch (combine) {
    case Combine::add:
      return boolean ? builder_.CreateOr(a, b) : binary(Binary::add, scalar, a, b, 0);
    case Combine::multiply:
      return boolean ? builder_.CreateAnd(a, b) : binary(Binary::multiply, scalar, a, b, 0);
    case Combine::minimum:
      return extremum(true, scalar, a, b);
    case Combine::maximum:
      return extremum(false, scalar, a, b);
  }
  return nullptr;
}

Value* Arithmetic::cast(Scalar from, Scalar to, Value* a) {
  if (from == to) return a;
  const bool from_signed = from == Scalar::i32 || from == Scalar::i64;
  llvm::Type* result = like(type(to), a);
  if (to == Scalar::boolean) {
    Constant* none = Constant::getNullValue(a->getType());
    return loop::is_float(from) ? builder_.CreateFCmpUNE(a, none) : builder_.CreateICmpNE(a, none);
  }
  if (loop::is_float(from)) {
    if (to == Scalar::f64) return builder_.CreateFPExt(a, result);
    if (to == Scalar::f32) return builder_.CreateFPTrunc(a, result);
    const auto intrinsic =
        to == Scalar::u8 ? llvm::Intrinsic::fptoui_sat : llvm::Intrinsic::fptosi_sat;
    return builder_.CreateIntrinsic(intrinsic, {result, a->getType()}, {a});
  }
  if (loop::is_float(to)) {
    return from_signed ? builder_.CreateSIToFP(a, result) : builder_.CreateUIToFP(a, result);
  }
  return from_signed ? builder_.CreateSExtOrTrunc(a, result)
                     : builder_.CreateZExtOrTrunc(a, result);
}

Value* Arithmetic::convert_opaquely(llvm::Intrinsic::ID conversion, llvm::Type* element, Value* a) {
  const auto one = [&](Value* value) {
    // The type that the intrinsics are overloaded on is the wider one.
    return builder_.CreateIntrinsic(conversion, {builder_.getFloatTy()}, {value});
  };
  const auto* vector = llvm::dyn_cast<llvm::FixedVectorType>(a->getType());
  if (vector == nullptr) return one(a);
  Value* result = llvm::PoisonValue::get(like(element, a));
  for (unsigned lane = 0; lane < vector->getNumElements(); ++lane) {
    result =
        builder_.CreateInsertElement(result, one(builder_.CreateExtractElement(a, lane)), lane);
  }
  return result;
}

/// Where f16's arithmetic flushes: of widened operands LLVM compares, adds and multiplies the f16
/// themselves where that rounds alike, and NVPTX makes ".ftz" instructions of it for functions
/// whose f32 are flushed. The language's f16 have denormals.
Value* Arithmetic::half_to_float(Value* bits) {
  if (features_.half && features_.half_flushes) {
    return convert_opaquely(llvm::Intrinsic::convert_from_fp16, builder_.getFloatTy(), bits);
  }
  llvm::Type* single = like(builder_.getFloatTy(), bits);
  if (features_.half) {
    return builder_.CreateFPExt(builder_.CreateBitCast(bits, like(builder_.getHalfTy(), bits)),
                                single);
  }
  Value* word = builder_.CreateZExt(bits, like(builder_.getInt32Ty(), bits));
  const auto constant = [&](std::int64_t value) { return bits_like(word, value); };
  Value* sign = builder_.CreateShl(builder_.CreateAnd(word, constant(0x8000)), constant(16));
  Value* mantissa = builder_.CreateAnd(word, constant(0x3ff));
  Value* exponent = builder_.CreateAnd(word, constant(0x7c00));
  Value* payload = builder_.CreateShl(builder_.CreateAnd(word, constant(0x7fff)), constant(13));
  Value* normal = builder_.CreateAdd(payload, constant((127 - 15) << 23));
  Value* special = builder_.CreateOr(payload, constant(0x7f800000));
  // Denormals through an integer conversion: exact, also where the machine flushes denormals.
  Value* small = builder_.CreateFMul(builder_.CreateSIToFP(mantissa, single),
                                     llvm::ConstantFP::get(single, 0x1p-24));
  small = builder_.CreateBitCast(small, word->getType());
  Value* result = builder_.CreateSelect(
      builder_.CreateICmpEQ(exponent, constant(0)), small,
      builder_.CreateSelect(builder_.CreateICmpEQ(exponent, constant(0x7c00)), special, normal));
  return builder_.CreateBitCast(builder_.CreateOr(result, sign), single);
}

Value* Arithmetic::float_to_half(Value* value) {
  if (features_.half && features_.half_flushes) {
    return convert_opaquely(llvm::Intrinsic::convert_to_fp16, builder_.getInt16Ty(), value);
  }
  llvm::Type* half = like(builder_.getInt16Ty(), value);
  if (features_.half) {
    return builder_.CreateBitCast(builder_.CreateFPTrunc(value, like(builder_.getHalfTy(), value)),
                                  half);
  }
  Value* word = builder_.CreateBitCast(value, like(builder_.getInt32Ty(), value));
  const auto constant = [&](std::int64_t bits) { return bits_like(word, bits); };
  Value* sign = builder_.CreateAnd(builder_.CreateLShr(word, constant(16)), constant(0x8000));
  Value* magnitude = builder_.CreateAnd(word, constant(0x7fffffff));
  // The unit in the last place of 0.5 is that of a half's denormals: the addition rounds.
  Value* half_one = llvm::ConstantFP::get(value->getType(), 0.5);
  Value* small = builder_.CreateFAdd(builder_.CreateBitCast(magnitude, value->getType()), half_one);
  small = builder_.CreateSub(builder_.CreateBitCast(small, word->getType()), constant(0x3f000000));
  Value* odd = builder_.CreateAnd(builder_.CreateLShr(magnitude, constant(13)), constant(1));
  Value* normal = builder_.CreateAdd(builder_.CreateAdd(magnitude, odd),
                                     constant(((15 - 127) * (std::int64_t{1} << 23)) + 0xfff));
  normal = builder_.CreateLShr(normal, constant(13));
  Value* is_small = builder_.CreateICmpULT(magnitude, constant(0x38800000));
  Value* is_large = builder_.CreateICmpUGE(magnitude, constant(0x477ff000));
  Value* is_nan = builder_.CreateICmpUGT(magnitude, constant(0x7f800000));
  Value* large = builder_.CreateSelect(is_nan, constant(0x7e00), constant(0x7c00));
  Value* result =
      builder_.CreateSelect(is_small, small, builder_.CreateSelect(is_large, large, normal));
  return builder_.CreateTrunc(builder_.CreateOr(result, sign), half);
}

Value* Arithmetic::float_to_bfloat(Value* value) {
  if (features_.bfloat) {
    Value* rounded = builder_.CreateFPTrunc(value, like(builder_.getBFloatTy(), value));
    return builder_.CreateBitCast(rounded, like(builder_.getInt16Ty(), value));
  }
  Value* word = builder_.CreateBitCast(value, like(builder_.getInt32Ty(), value));
  const auto constant = [&](std::int64_t bits) { return bits_like(word, bits); };
  Value* upper = builder_.CreateLShr(word, constant(16));
  Value* odd = builder_.CreateAnd(upper, constant(1));
  Value* rounded = builder_.CreateLShr(
      builder_.CreateAdd(builder_.CreateAdd(word, odd), constant(0x7fff)), constant(16));
  Value* quiet = builder_.CreateOr(upper, constant(0x40));
  Value* result = builder_.CreateSelect(builder_.CreateFCmpUNO(value, value), quiet, rounded);
  return builder_.CreateTrunc(result, like(builder_.getInt16Ty(), value));
}

Value* Arithmetic::from_memory(DType dtype, Value* a) {
  switch (dtype) {
    case DType::f16:
      return half_to_float(a);
    case DType::bf16: {
      Value* word = builder_.CreateZExt(a, like(builder_.getInt32Ty(), a));
      word = builder_.CreateShl(word, bits_like(word, 16));
      return builder_.CreateBitCast(word, like(builder_.getFloatTy(), a));
    }
    case DType::boolean:
      return builder_.CreateICmpNE(a, Constant::getNullValue(a->getType()));
    default:
      return a;
  }
}

Value* Arithmetic::to_memory(DType dtype, Value* a) {
  switch (dtype) {
    case DType::f16:
      return float_to_half(a);
    case DType::bf16:
      return float_to_bfloat(a);
    case DType::boolean:
      return builder_.CreateZExt(a, like(builder_.getInt8Ty(), a));
    default:
      return a;
  }
}

}  // namespace weft::compiler
