#pragma once

#include "compiler/ir/graph.h"

namespace weft::compiler {

/// A Toeplitz operator and its gradients at the same operands become one node, whose kernel
/// transforms and reads them once, where the gradient that flows in does not depend on the
/// operator's result: where a layer is evaluated again for its derivative, or its loss is its own.
/// Pointwise readers of the gradient of x, which a kernel of the gradients alone takes in, prevent
/// it. Returns whether anything changed.
bool share_transforms(ir::Graph& graph);

}  // namespace weft::compiler
