#pragma once

#include "compiler/ir/graph.h"

namespace weft::compiler {

/// Rounds the f32 operands of matrix products, those of attention as well, to `dtype` (f16 or bf16;
/// sums stay f32), and casts the results back: parameters, moments and everything between products
/// stay f32. Returns whether anything changed. Throws Error for another type.
bool autocast(ir::Graph& graph, DType dtype);

}  // namespace weft::compiler
