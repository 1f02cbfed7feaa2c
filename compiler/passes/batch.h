#pragma once

#include <cstdint>
#include <vector>

#include "compiler/loop/kernel.h"
#include "runtime/plan.h"

namespace weft::compiler {

/// How many executions one launch on a GPU may be of: for each code object as many as a `together`
/// step has launches of it, as far as their arguments fit the parameters of a launch. A launch
/// costs as much as many a kernel of one parameter's update. `object` is the code of each of the
/// plan's kernels, `kernels` what an object is generated from.
std::vector<std::int64_t> batches_of(const plan::Plan& plan,
                                     const std::vector<std::uint32_t>& object,
                                     const std::vector<const loop::Kernel*>& kernels);

}  // namespace weft::compiler
