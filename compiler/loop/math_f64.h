#pragma once

#include "compiler/loop/expr.h"

/// The library calls of f64 as arithmetic, for targets without a library. Errors are in units in
/// the last place over all finite operands unless said otherwise; infinities, NaN and denormals
/// are as IEEE 754 and C have them.
namespace weft::loop {

/// The value of one of Unary's call_ operations on an f64: call_exp and call_exp2 2 ulp; call_log 2
/// and call_log2 3; call_sin and call_cos 2 for |x| <= 2^30, beyond 2^50 only in [-1, 1]; call_tanh
/// 3; call_erf 4. Throws std::logic_error for other operations.
Ex expand_call(Arena& arena, Unary call, Ex x);
/// call_pow: 16 ulp.
Ex expand_pow(Arena& arena, Ex x, Ex y);

/// What the C library calls one of Unary's call_ operations on an f64; null for other operations.
const char* library_name(Unary op);
inline bool is_library_call(Unary op) { return library_name(op) != nullptr; }

}  // namespace weft::loop
