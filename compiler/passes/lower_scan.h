#pragma once

#include "compiler/ir/graph.h"

namespace weft::compiler {

/// Rewrites every `scan` into a `loop`: stacked inputs are read with dynamic_slice, stacked results
/// are carried and written with dynamic_update_slice. A reverse scan's loop counts up and the
/// position is length - 1 - index. Returns whether there was a scan.
bool lower_scan(ir::Graph& graph);

}  // namespace weft::compiler
