#pragma once

#include <string>

#include "runtime/plan.h"

namespace weft::plan {

/// A readable listing of a plan: buffers, kernels with what they move and compute, transfers,
/// steps. Never throws, whatever the plan holds: indices out of range are shown as such.
std::string describe(const Plan& plan);

}  // namespace weft::plan
