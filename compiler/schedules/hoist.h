#pragma once

#include "compiler/loop/kernel.h"

namespace weft::compiler {

/// Moves what does not change in a loop in front of it: the deepest-nested subexpressions that
/// compute or load something, do not use what the loop's body binds, and read no memory that the
/// kernel writes. A per-row value broadcast along the row is computed once a row.
void hoist_invariants(loop::Kernel& kernel);

}  // namespace weft::compiler
