#pragma once

#include <string>

#include "compiler/compile.h"
#include "compiler/ir/graph.h"

/// Pictures, in graphviz' language.
namespace weft::compiler {

/// Nodes, with loops as frames around theirs.
std::string graph_dot(const ir::Graph& graph);

/// A box a launch, and an edge for what it reads of another's. What no kernel makes is a line in
/// the box, with the name that it has in the State: as nodes of their own parameters would be most
/// of the picture.
std::string kernels_dot(const Compilation& compilation);

}  // namespace weft::compiler
