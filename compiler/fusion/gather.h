#pragma once

#include "compiler/fusion/fuse.h"

namespace weft::compiler {

/// Moves small kernels to others that are alike, where dependences allow, so that they can run side
/// by side as one launch: the norms of gradients, the same small network of several layers, casts
/// of weights. For a GPU, where one launch may be of many executions of one kernel and costs as
/// much as a few microseconds of a small one. What is moved keeps no value of more than a few MiB
/// alive for longer.
void gather_equal(FusedRegion& region);

}  // namespace weft::compiler
