#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include "compiler/loop/expr.h"

namespace weft::loop {

/// Short names for arithmetic on an arena in floats of one type, and for their bits, words of the
/// same size. `Number`: float or double.
template <typename Number>
class FloatTerms {
 public:
  static constexpr bool is_single = std::is_same_v<Number, float>;
  static constexpr Scalar type = is_single ? Scalar::f32 : Scalar::f64;
  static constexpr Scalar word_type = is_single ? Scalar::i32 : Scalar::i64;
  using Word = std::conditional_t<is_single, std::uint32_t, std::uint64_t>;
  static constexpr Word sign_mask = Word{1} << (8 * sizeof(Word) - 1);

  explicit FloatTerms(Arena& arena) : a_(arena) {}

  Ex constant(double value) { return a_.constant(type, value); }
  Ex add(Ex a, Ex b) { return a_.add(a, b); }
  Ex add(Ex a, Number b) { return add(a, constant(b)); }
  Ex sub(Ex a, Ex b) { return a_.sub(a, b); }
  Ex sub(Ex a, Number b) { return sub(a, constant(b)); }
  Ex mul(Ex a, Ex b) { return a_.mul(a, b); }
  Ex mul(Ex a, Number b) { return mul(a, constant(b)); }
  Ex div(Ex a, Ex b) { return a_.div(a, b); }
  Ex neg(Ex a) { return a_.neg(a); }
  Ex fma(Ex a, Ex b, Ex c) { return a_.fma(a, b, c); }
  Ex fma(Ex a, Number b, Ex c) { return fma(a, constant(b), c); }
  Ex fma(Ex a, Number b, Number c) { return fma(a, constant(b), constant(c)); }
  Ex less(Ex a, Number b) { return a_.less(a, constant(b)); }
  Ex greater(Ex a, Number b) { return a_.less(constant(b), a); }
  Ex at_most(Ex a, Number b) { return a_.less_equal(a, constant(b)); }
  Ex equal(Ex a, Ex b) { return a_.equal(a, b); }
  Ex equal(Ex a, Number b) { return equal(a, constant(b)); }
  Ex select(Ex condition, Ex a, Ex b) { return a_.select(condition, a, b); }
  Ex select(Ex condition, Number a, Ex b) { return select(condition, constant(a), b); }
  Ex select(Ex condition, Ex a, Number b) { return select(condition, a, constant(b)); }
  Ex both(Ex a, Ex b) { return a_.logical_and(a, b); }
  Ex either(Ex a, Ex b) { return a_.logical_or(a, b); }
  Ex logical_not(Ex a) { return a_.logical_not(a); }
  Ex absolute(Ex a) { return a_.unary(Unary::absolute, a); }
  Ex rounded(Ex a) { return a_.unary(Unary::round_even, a); }
  Ex floor(Ex a) { return a_.unary(Unary::floor, a); }
  /// Within [low, high]; NaN stays.
  Ex clamped(Ex a, Number low, Number high) {
    return a_.binary(Binary::minimum, a_.binary(Binary::maximum, a, constant(low)), constant(high));
  }

  Ex bits(Ex a) { return a_.bits(a, word_type); }
  Ex from_bits(Ex a) { return a_.bits(a, type); }
  Ex to_float(Ex a) { return a_.cast(a, type); }
  Ex to_word(Ex a) { return a_.cast(a, word_type); }
  Ex word(Word value) {
    return a_.integer(word_type, static_cast<std::make_signed_t<Word>>(value));
  }
  Ex equal_word(Ex a, Word value) { return a_.equal(a, word(value)); }
  Ex bit_and(Ex a, Word mask) { return a_.binary(Binary::bitwise_and, a, word(mask)); }
  Ex bit_or(Ex a, Ex b) { return a_.binary(Binary::bitwise_or, a, b); }
  Ex bit_xor(Ex a, Ex b) { return a_.binary(Binary::bitwise_xor, a, b); }
  Ex shift_left(Ex a, Word by) { return a_.binary(Binary::shift_left, a, word(by)); }
  Ex shift_right(Ex a, Word by) { return a_.binary(Binary::shift_right, a, word(by)); }
  Ex sign_bit(Ex a) { return bit_and(bits(a), sign_mask); }
  /// Flips the sign of `a` where `sign` (a bit pattern) has its top bit set.
  Ex flip_sign(Ex a, Ex sign) { return from_bits(bit_xor(bits(a), sign)); }

  /// coefficients[0] + coefficients[1] x + ..., by Horner's rule.
  Ex polynomial(Ex x, std::span<const Number> coefficients) {
    Ex sum = constant(coefficients.back());
    for (std::size_t k = coefficients.size() - 1; k-- > 0;) {
      sum = fma(sum, x, constant(coefficients[k]));
    }
    return sum;
  }

 private:
  Arena& a_;
};

}  // namespace weft::loop
