#pragma once

#include <cstdint>
#include <vector>

#include "compiler/loop/kernel.h"

namespace weft::compiler {

/// A complex number in registers; a null part is zero and costs nothing.
struct ComplexEx {
  loop::Ex re = nullptr;
  loop::Ex im = nullptr;
};

ComplexEx add(loop::Arena& arena, const ComplexEx& x, const ComplexEx& y);
ComplexEx subtract(loop::Arena& arena, const ComplexEx& x, const ComplexEx& y);
ComplexEx multiply(loop::Arena& arena, const ComplexEx& x, const ComplexEx& y);
/// x (re + i im); factors of 0, 1 and -1 cost nothing.
ComplexEx rotate(loop::Arena& arena, const ComplexEx& x, double re, double im);
ComplexEx conjugate(loop::Arena& arena, const ComplexEx& x);

/// The discrete Fourier transform of a few values in registers, y_k = sum_j x_j w^(jk) with
/// w = exp(-2 pi i / n), conjugated for the inverse; composite lengths by Cooley and Tukey's
/// factorisation, prime ones by the definition. With `builder`, sums are computed where it stands,
/// one short transform after the other, so that few of them are in registers at a time.
std::vector<ComplexEx> butterfly(loop::Arena& arena, const std::vector<ComplexEx>& x, bool inverse,
                                 loop::Builder* builder = nullptr);

/// Lengths up to this one run as one butterfly in registers.
inline constexpr std::int64_t largest_butterfly = 16;

/// What a butterfly takes: sums, and products, joined with one or not.
struct ButterflyOperations {
  double sums = 0;
  double products = 0;
};
ButterflyOperations butterfly_operations(std::int64_t points);

/// Estimated cycles a point of a butterfly of up to largest_butterfly points in vectors, with its
/// turns and stores.
double butterfly_cycles(std::int64_t points);

}  // namespace weft::compiler
