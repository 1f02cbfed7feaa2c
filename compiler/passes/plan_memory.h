#pragma once

#include <vector>

#include "compiler/fusion/fuse.h"
#include "runtime/plan.h"

namespace weft::compiler {

/// Gives every stored value a buffer and every item a step: fills the plan's buffers, feeders,
/// receivers, steps and arena size. A launch's `index` is the number of its group. States and
/// carried values are updated in place where no later reader needs the old value, otherwise copied
/// at the end of their region. Temporaries share one arena by their lifetimes. `workspace_bytes[i]`
/// is what group i needs for itself.
void plan_memory(const FusedGraph& fused, const std::vector<std::int64_t>& workspace_bytes,
                 plan::Plan& plan);

}  // namespace weft::compiler
