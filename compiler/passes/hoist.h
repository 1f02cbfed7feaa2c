#pragma once

#include "compiler/ir/graph.h"

namespace weft::compiler {

/// Moves nodes that are the same in every step out of the bodies of loops and scans of at least two
/// steps, where the result is cheap to store between the steps: reductions, dots, transforms and
/// other anchors whose result is no larger than what they read or 1 MiB, and elementwise results of
/// costly functions of at most 64 KiB; with them everything that they are computed from. Cheap
/// elementwise work and movement stay: they are computed where they are read. Carried values that
/// every step hands on unchanged are replaced by what they start from. Returns whether anything
/// changed.
bool hoist_invariants(ir::Graph& graph);

}  // namespace weft::compiler
