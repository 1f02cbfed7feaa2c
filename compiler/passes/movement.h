#pragma once

#include "compiler/ir/graph.h"

namespace weft::compiler {

/// Movement that changes nothing is removed, neighbours are joined (reshape of reshape, permute of
/// permute, broadcast of broadcast, slice of slice, of pad and of concat, pad of pad, flip of
/// flip), permutes and broadcasts that only move or add axes of extent 1 become reshapes, dynamic
/// slices at constant starts become slices, reductions over axes of extent 1 become reshapes, sums
/// over broadcast axes become products. Returns whether anything changed.
bool movement(ir::Graph& graph);

}  // namespace weft::compiler
