#pragma once

#include "compiler/ir/graph.h"

namespace weft::compiler {

/// Common subexpressions: a node equal to an earlier one (op, operands, attributes; commutative
/// operands in either order) of its region or an enclosing one is replaced by it. Random nodes are
/// functions of their iteration and attributes, and states are read as they were when the run
/// began, so that equal ones are one. Feeders, writers, receivers and nodes with bodies are left
/// alone. Returns whether anything changed.
bool common_subexpressions(ir::Graph& graph);

}  // namespace weft::compiler
