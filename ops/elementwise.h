#pragma once

#include <complex>
#include <type_traits>

#include "ops/support.h"

/// How the elementwise families turn a function of one element into the columns of a row.
namespace weft::ops {

/// One function object from several, for reference functions of double, complex and integers.
template <typename... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};

using Complex = std::complex<double>;

inline Complex complex_at(const Array& array, std::size_t i) { return {array.re[i], array.im[i]}; }
inline void set_complex(Array& array, std::size_t i, const Complex& value) {
  array.re[i] = value.real();
  array.im[i] = value.imag();
}

/// Reference of `function` of double, and of Complex and std::int64_t where the op takes those.
template <auto function>
void map_unary(const Node&, std::span<const Array* const> operands, std::span<Array> results) {
  const Array& x = *operands[0];
  Array& y = results[0];
  for (std::size_t i = 0; i < x.integers.size(); ++i) {
    y.integers[i] = wrap_to(y.type.dtype, static_cast<std::int64_t>(function(x.integers[i])));
  }
  for (std::size_t i = 0; i < x.re.size(); ++i) {
    if (x.im.empty()) {
      y.re[i] = function(x.re[i]);
    } else if constexpr (std::is_invocable_v<decltype(function), Complex>) {
      set_complex(y, i, function(complex_at(x, i)));
    }
  }
}

/// As map_unary, of two operands of one type.
template <auto function>
void map_binary(const Node&, std::span<const Array* const> operands, std::span<Array> results) {
  const Array& x = *operands[0];
  const Array& y = *operands[1];
  Array& z = results[0];
  for (std::size_t i = 0; i < x.integers.size(); ++i) {
    z.integers[i] =
        wrap_to(z.type.dtype, static_cast<std::int64_t>(function(x.integers[i], y.integers[i])));
  }
  for (std::size_t i = 0; i < x.re.size(); ++i) {
    if (x.im.empty()) {
      z.re[i] = function(x.re[i], y.re[i]);
    } else if constexpr (std::is_invocable_v<decltype(function), Complex, Complex>) {
      set_complex(z, i, function(complex_at(x, i), complex_at(y, i)));
    }
  }
}

/// Lowering by a function of (Arena&, Element) or (Arena&, Ex); the latter for real types.
template <auto function>
Element lower_unary(Lowering& lowering, const Node& node, std::span<const loop::Ex> index) {
  const Element x = lowering.operand(node, 0, index);
  if constexpr (std::is_invocable_v<decltype(function), loop::Arena&, Element>) {
    return function(lowering.arena(), x);
  } else {
    return {function(lowering.arena(), x.re)};
  }
}

template <auto function>
Element lower_binary(Lowering& lowering, const Node& node, std::span<const loop::Ex> index) {
  const Element x = lowering.operand(node, 0, index);
  const Element y = lowering.operand(node, 1, index);
  if constexpr (std::is_invocable_v<decltype(function), loop::Arena&, Element, Element>) {
    return function(lowering.arena(), x, y);
  } else {
    return {function(lowering.arena(), x.re, y.re)};
  }
}

/// A constant in the register type of `like`.
inline loop::Ex constant_as(loop::Arena& arena, loop::Ex like, double value) {
  if (loop::is_float(like->type)) return arena.constant(like->type, value);
  return arena.integer(like->type, static_cast<std::int64_t>(value));
}

/// x as it is: of an identity.
inline Element lower_identity(Lowering& lowering, const Node& node,
                              std::span<const loop::Ex> index) {
  return lowering.operand(node, 0, index);
}

inline void reference_identity(const Node&, std::span<const Array* const> operands,
                               std::span<Array> results) {
  results[0] = *operands[0];
}

template <double low, double high>
Sample sample_unary(Random& random, DType dtype) {
  return elementwise_sample(random, dtype, 1, low, high);
}

/// Both sides of a kink at 0: one sample in three has both signs and is not smooth, the others stay
/// away from 0.
inline Sample sample_with_kink(Random& random, DType dtype) {
  switch (random_integer(random, 0, 2)) {
    case 0:
      return elementwise_sample(random, dtype, 1, -3, 3, false);
    case 1:
      return elementwise_sample(random, dtype, 1, 0.1, 3);
    default:
      return elementwise_sample(random, dtype, 1, -3, -0.1);
  }
}

}  // namespace weft::ops
