#pragma once

#include "compiler/ir/graph.h"

namespace weft::compiler {

/// Removes what nothing observable needs. Receivers, state writes, keep nodes and the top level's
/// yields are observable, and so are loops that contain them. A feeder that nothing reads is
/// removed: its fill is a pure function of the iteration. Of loops and scans, carried values that
/// neither the result nor a step's observable part needs are dropped, as are a scan's unread xs and
/// ys. Returns whether anything changed.
bool dead_code(ir::Graph& graph);

}  // namespace weft::compiler
