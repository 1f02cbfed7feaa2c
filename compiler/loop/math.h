#pragma once

#include "compiler/loop/expr.h"

/// Transcendental functions as arithmetic, so that they vectorise on any target and need no
/// library. f32: polynomials and range reduction, at most the stated error in units in the last
/// place (ulp) over all finite inputs, with IEEE results for infinities and NaN; denormal results
/// may flush. f64: calls of the target's library.
namespace weft::loop {

Ex exp(Arena& arena, Ex x);        ///< 2 ulp
Ex exp2(Arena& arena, Ex x);       ///< 2 ulp
Ex log(Arena& arena, Ex x);        ///< 2 ulp
Ex log2(Arena& arena, Ex x);       ///< 2 ulp
Ex sin(Arena& arena, Ex x);        ///< 3 ulp for |x| <= 1e5; beyond 2^22 only in [-1, 1]
Ex cos(Arena& arena, Ex x);        ///< 3 ulp for |x| <= 1e5; beyond 2^22 only in [-1, 1]
Ex tanh(Arena& arena, Ex x);       ///< 4 ulp
Ex erf(Arena& arena, Ex x);        ///< 4 ulp
Ex pow(Arena& arena, Ex x, Ex y);  ///< 16 ulp; C's special cases for negative bases and zeros
Ex rsqrt(Arena& arena, Ex x);      ///< 1 / sqrt(x), correctly rounded steps
Ex expm1(Arena& arena, Ex x);      ///< 3 ulp: exp(x) - 1 without cancellation
Ex log1p(Arena& arena, Ex x);      ///< 3 ulp: log(1 + x) without cancellation

/// cos(2 pi turns): the reduction of |turns| <= 2^20 is exact, so that the result is accurate next
/// to its zeros as well. 3 ulp.
Ex cos_turns(Arena& arena, Ex turns);

/// Philox 4x32-10 (Salmon et al. 2011): four i32 words from a 128-bit counter and a 64-bit key.
std::array<Ex, 4> philox(Arena& arena, std::array<Ex, 4> counter, std::array<Ex, 2> key);

}  // namespace weft::loop
