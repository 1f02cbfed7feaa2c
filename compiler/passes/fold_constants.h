#pragma once

#include "compiler/ir/graph.h"

namespace weft::compiler {

/// Elementwise and movement nodes whose operands are all splat constants become splat constants,
/// computed by the row's reference and rounded to the type; results that are not finite stay as
/// they are. Returns whether anything changed.
bool fold_constants(ir::Graph& graph);

}  // namespace weft::compiler
