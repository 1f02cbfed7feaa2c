#pragma once

#include <functional>

#include "compiler/ir/graph.h"

namespace weft::compiler {

/// Rewrites every node whose row has a `decompose` column into the nodes that it emits, regions
/// included, until none is left; returns whether anything changed. Nodes for which `has_schedule`
/// is true stay as they are (empty: none).
bool decompose(ir::Graph& graph, const std::function<bool(const ir::Node&)>& has_schedule = {});

}  // namespace weft::compiler
