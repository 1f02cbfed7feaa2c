#pragma once

#include "compiler/ir/graph.h"

namespace weft::compiler {

/// Folds constants, algebra and movement, merges common subexpressions, moves invariants out of
/// loops and removes dead code, until nothing changes: see the passes of those names. Returns
/// whether anything changed.
bool simplify(ir::Graph& graph);

}  // namespace weft::compiler
