#pragma once

#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/Module.h>

#include <cstdint>

#include "compiler/codegen/codegen.h"
#include "compiler/loop/kernel.h"

/// The loop language's scalar operations as LLVM instructions. Operands are scalars or vectors
/// alike; nothing here knows of lanes, loops or memory. Included by compiler/codegen/*.cpp only.
namespace weft::compiler {

/// Whether an LLVM feature string such as "+avx2,-sse4a" turns a feature on.
bool has_feature(const std::string& features, std::string_view feature);

/// The instructions of a target that scalar operations are made of.
struct ArithmeticFeatures {
  bool fma = false;
  bool half = false;  ///< conversions between f16 and f32
  /// Arithmetic of f16 flushes denormals where f32's does: conversions are to stay what they are.
  bool half_flushes = false;
  bool bfloat = false;      ///< the conversion of f32 to bf16
  bool extremum = false;    ///< of f32: NaN where either is
  bool library = true;      ///< the C library's functions
  unsigned pair_lanes = 0;  ///< of the instruction for dot_pair; 0: it has none

  static ArithmeticFeatures of(const HostTarget& target);
};

class Arithmetic {
 public:
  Arithmetic(llvm::IRBuilder<>& builder, llvm::Module& module, const ArithmeticFeatures& features)
      : builder_(builder), module_(module), features_(features) {}

  /// The type of a register; `lanes` 0 is a scalar.
  llvm::Type* type(loop::Scalar scalar, unsigned lanes = 0) const;
  /// The type of an element in memory: 16-bit floats are i16, boolean is i8.
  llvm::Type* memory_type(DType dtype, unsigned lanes = 0) const;
  llvm::Constant* integer(loop::Scalar scalar, std::int64_t value) const;
  llvm::Constant* real(loop::Scalar scalar, double value) const;
  llvm::Constant* zero(loop::Scalar scalar, unsigned lanes = 0) const;
  /// The neutral element of a combination.
  llvm::Constant* identity(loop::Combine combine, loop::Scalar scalar) const;

  llvm::Value* unary(loop::Unary op, loop::Scalar scalar, llvm::Value* a, unsigned active);
  /// `nonnegative`: the dividend of index arithmetic is known to be.
  llvm::Value* binary(loop::Binary op, loop::Scalar scalar, llvm::Value* a, llvm::Value* b,
                      unsigned active, bool nonnegative = false);
  llvm::Value* fma(loop::Scalar scalar, llvm::Value* a, llvm::Value* b, llvm::Value* c);
  llvm::Value* dot_pair(llvm::Value* a, llvm::Value* b, llvm::Value* c);
  llvm::Value* cast(loop::Scalar from, loop::Scalar to, llvm::Value* a);
  llvm::Value* combine(loop::Combine combine, loop::Scalar scalar, llvm::Value* a, llvm::Value* b);

  llvm::Value* from_memory(DType dtype, llvm::Value* a);
  llvm::Value* to_memory(DType dtype, llvm::Value* a);

  bool fuses() const { return features_.fma; }

 private:
  llvm::Type* like(llvm::Type* element, llvm::Value* shape) const;
  llvm::Constant* bits_like(llvm::Value* shape, std::int64_t value) const;
  llvm::Value* divide(bool remainder, bool is_signed, llvm::Value* a, llvm::Value* b);
  llvm::Value* index_divide(bool modulo, llvm::Value* a, llvm::Value* b, bool nonnegative);
  llvm::Value* shift(loop::Binary op, bool is_signed, llvm::Value* a, llvm::Value* b);
  llvm::Value* extremum(bool minimum, loop::Scalar scalar, llvm::Value* a, llvm::Value* b);
  /// A function of the C library for each of the first `active` lanes; the others give 0.
  llvm::Value* call(const char* function, llvm::Value* a, llvm::Value* b, unsigned active);
  /// A conversion that LLVM does not see through, of each lane.
  llvm::Value* convert_opaquely(llvm::Intrinsic::ID conversion, llvm::Type* element,
                                llvm::Value* a);
  llvm::Value* half_to_float(llvm::Value* bits);
  llvm::Value* float_to_half(llvm::Value* value);
  llvm::Value* float_to_bfloat(llvm::Value* value);

  llvm::IRBuilder<>& builder_;
  llvm::Module& module_;
  ArithmeticFeatures features_;
};

}  // namespace weft::compiler
