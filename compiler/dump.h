#pragma once

#include <string>

#include "compiler/compile.h"
#include "compiler/ir/graph.h"

/// Readable forms of what the compiler was given and made: text for people, Graphviz's dot for
/// pictures, JSON for programs.
namespace weft::compiler {

/// The graph as a picture: a box for each node, a frame for each loop's body, an edge for each use.
std::string graph_dot(const ir::Graph& graph);
/// {"graph": name, "nodes": [{"op", "results", "operands", "attributes", "regions", "at"}]}.
std::string graph_json(const ir::Graph& graph);

/// Each kernel: its nodes with their index expressions, what it reads and writes, what it costs.
std::string kernels_text(const Compilation& compilation);
/// Kernels and the values that go between them.
std::string kernels_dot(const Compilation& compilation);
/// {"plan": ..., "kernels": [...], "refusals": [...], "passes": [...]}.
std::string kernels_json(const Compilation& compilation);

/// Why pairs of nodes did not become one kernel, one line each.
std::string refusals_text(const Compilation& compilation);
/// The loop language, or the assembly where the compilation kept it, of every kernel.
std::string loops_text(const Compilation& compilation);
std::string assembly_text(const Compilation& compilation);

}  // namespace weft::compiler
