#pragma once

#include <cstdint>
#include <vector>

#include "compiler/loop/expr.h"

namespace weft::compiler {

struct ComplexEx {
  loop::Ex re;
  loop::Ex im;
};

ComplexEx multiply(loop::Arena& arena, const ComplexEx& x, const ComplexEx& y);

/// The discrete Fourier transform of a few values in registers, y_k = sum_j x_j w^(jk) with
/// w = exp(-2 pi i / n), conjugated for the inverse; composite lengths by Cooley and Tukey's
/// factorisation, prime ones by the definition.
std::vector<ComplexEx> butterfly(loop::Arena& arena, const std::vector<ComplexEx>& x, bool inverse);

/// The radices of a transform's passes, in order: 8s, then what is left, smallest last. Their
/// product is n.
std::vector<std::int64_t> radices(std::int64_t n);

}  // namespace weft::compiler
