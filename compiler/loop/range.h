#pragma once

#include <cstdint>

#include "compiler/loop/expr.h"

/// Constant folding and ranges of integer expressions: the arithmetic behind Arena.
namespace weft::loop {

__extension__ typedef __int128 Wide;

/// Inclusive.
struct Range {
  std::int64_t minimum;
  std::int64_t maximum;
};

/// All values of a type; floats give the range of i64, which means nothing.
Range type_range(Scalar type);
/// The value modulo 2^bits; boolean: its lowest bit.
std::int64_t wrap(Scalar type, std::int64_t value);
/// Truncates and saturates; NaN gives 0; boolean: != 0.
std::int64_t to_integer(Scalar type, double value);
/// What a conversion between integer types gives: boolean is != 0, others wrap.
std::int64_t cast_integer(Scalar to, std::int64_t value);

std::int64_t floor_quotient(std::int64_t a, std::int64_t divisor);
Wide floor_quotient(Wide a, Wide divisor);

std::int64_t fold_unary(Unary op, Scalar type, std::int64_t a);
/// False where it is left to the machine.
bool fold_unary(Unary op, Scalar type, double a, double& result);
bool fold_binary(Binary op, Scalar type, std::int64_t a, std::int64_t b, std::int64_t& result);
bool fold_binary(Binary op, Scalar type, double a, double b, double& result);
bool fold_comparison(Binary op, double a, double b);

Range unary_range(Unary op, Scalar type, Range a);
/// The range of an expression of integer type; that of the type where it may overflow.
Range binary_range(Binary op, Scalar type, Range a, Range b);

}  // namespace weft::loop
