#pragma once

#include "compiler/loop/kernel.h"

namespace weft::compiler {

/// On a GPU: the values of `warps` whole warps combined, in an order of their own that is always
/// the same; every thread gets the result. `thread` counts within these warps. For more than one
/// warp these are all of the block, and all of them must come here.
loop::Ex across_threads(loop::Builder& builder, loop::Combine combine, loop::Ex value,
                        loop::Ex thread, std::int64_t warps);

/// On a GPU: values of `lanes` neighbouring lanes, a power of two, combined; all get the result.
loop::Ex across_lanes(loop::Builder& builder, loop::Combine combine, loop::Ex value, int lanes);

/// On a GPU: the value of the lane of this number (i32) in the caller's warp, which is whole.
loop::Ex value_of_lane(loop::Builder& builder, loop::Ex value, loop::Ex lane);
/// The value of the lane of the warp whose number differs in the bits of `mask`; of any type.
loop::Ex exchange_lanes(loop::Builder& builder, loop::Ex value, int mask);

}  // namespace weft::compiler
