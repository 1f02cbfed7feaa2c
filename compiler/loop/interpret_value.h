#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "compiler/loop/expr.h"
#include "compiler/loop/intrinsic_meaning.h"

/// The interpreter's registers and arithmetic. A register is 64 bits: an integer with its sign
/// extended (u8 and boolean with zeros), the bits of an f32 in the lower half, or those of an f64.
namespace weft::loop::interpreter {

inline std::int64_t integer_of(Word word) { return static_cast<std::int64_t>(word); }
inline Word word_of(std::int64_t value) { return static_cast<Word>(value); }
inline float f32_of(Word word) { return std::bit_cast<float>(static_cast<std::uint32_t>(word)); }
inline Word word_of(float value) { return std::bit_cast<std::uint32_t>(value); }
inline double f64_of(Word word) { return std::bit_cast<double>(word); }
inline Word word_of(double value) { return std::bit_cast<Word>(value); }

/// A register that holds the constant.
Word constant(const Expr& expr);

/// Arithmetic of one lane. `flush`: f32 operands and results that are denormal count as zero of
/// their sign; negation, absolute value, selection and memory keep them.
struct Arithmetic {
  bool flush = true;

  Word unary(Unary op, Scalar type, Word a) const;
  /// `type` is that of the operands.
  Word binary(Binary op, Scalar type, Word a, Word b) const;
  Word fma(Scalar type, Word a, Word b, Word c) const;  ///< rounded once
  Word dot_pair(Word a, Word b, Word c) const;          ///< rounded once
  Word cast(Cast kind, Scalar from, Scalar to, Word a) const;
  float flushed(float value) const;
};

/// An element of memory as a register, and back with its rounding.
Word from_memory(DType dtype, const std::byte* from);
void to_memory(DType dtype, Word value, std::byte* to);

/// Bits of 16-bit floats; to nearest even.
float from_f16(std::uint16_t bits);
std::uint16_t to_f16(float value);
float from_bf16(std::uint16_t bits);
std::uint16_t to_bf16(float value);

}  // namespace weft::loop::interpreter
