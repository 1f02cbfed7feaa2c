#pragma once

#include <cstdint>
#include <vector>

#include "ops/build.h"

/// What the composite families (softmax, norm, attention, tno) share.
namespace weft::ops {

/// The type in which a composite computes: f32 for 16-bit types, otherwise the type itself.
inline DType compute_dtype(DType dtype) {
  return dtype == DType::f16 || dtype == DType::bf16 ? DType::f32 : dtype;
}

/// x in its compute type.
inline Value widened(Builder& b, Value x) { return cast(b, x, compute_dtype(x.dtype())); }

/// The sum over one axis, broadcast back along it.
inline Value sum_along(Builder& b, Value x, int axis) {
  return broadcast_to(b, sum(b, x, {axis}, true), x.shape());
}

/// The pieces of softmax that its relatives share. Written down once, so that equal pieces of a
/// forward and a backward pass are found to be equal.
struct Exponentials {
  Value maximum;       ///< along the axis, which is kept with extent 1; no gradient flows into it
  Value shifted;       ///< x minus its maximum
  Value exponentials;  ///< exp(shifted)
  Value total;         ///< sum of exponentials, axis kept with extent 1
};
Exponentials exponentials_along(Builder& b, Value x, int axis);

/// softmax(x) as primitives, in x's type.
Value softmax_of(Builder& b, Value x, int axis);

}  // namespace weft::ops
