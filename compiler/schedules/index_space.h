#pragma once

#include "compiler/fusion/fuse.h"

/// The index space that a pointwise kernel runs over, on any target.
namespace weft::compiler {

/// Among the outputs' shapes the one of highest rank, for which the others' indices need no
/// division.
Shape loop_shape(const Group& group);

/// The loop shape with neighbouring axes merged where that changes no access: found by evaluating
/// the group once in a kernel that is thrown away.
Shape collapse(const Group& group, const Shape& shape);

}  // namespace weft::compiler
