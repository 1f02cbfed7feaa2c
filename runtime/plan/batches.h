#pragma once

#include <cstddef>
#include <vector>

#include "runtime/plan.h"

namespace weft::plan {

/// Of pointers that a launch on a GPU may be given: 4 KiB, on every device.
inline constexpr std::size_t most_arguments = 512;

/// The launches of a `together` step as a GPU executes them: executions of one object in one
/// launch, as many as its kernels' batch allows.
std::vector<std::vector<const Step*>> batches(const Plan& plan, const Step& together);

}  // namespace weft::plan
