#pragma once

#include "compiler/ir/graph.h"

namespace weft::compiler {

/// Moves reads of states to the start of the graph, one for each state: they cost nothing where
/// they stand, and what updates a state in place must see all that read its old value. Returns
/// whether something changed.
bool lift_states(ir::Graph& graph);

}  // namespace weft::compiler
