#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "compiler/compile.h"
#include "compiler/ir/graph.h"

/// Readable forms of what the compiler was given and made.
namespace weft::compiler {

/// Text for people, Graphviz's dot for pictures, JSON for programs.
enum class DumpFormat : std::uint8_t { text, dot, json };
/// "text", "dot" or "json".
std::optional<DumpFormat> parse_dump_format(std::string_view name);

/// A graph. Pictures have a box for each node, a frame for each loop's body, an edge for each use;
/// JSON is {"graph": name, "nodes": [{"op", "results", "operands", "attributes", "regions",
/// "at"}]}.
std::string dump(const ir::Graph& graph, DumpFormat format);

/// A stage of a compilation:
/// - simplified: the graph before fusion; fused: the same with kernels as nested blocks;
/// - kernels: each one's nodes with their index expressions, what it reads and writes, its cost;
///   pictures show the values that go between them; JSON has plan, kernels, refusals and passes;
/// - refusals: why pairs of nodes did not become one kernel;
/// - loops, assembly: the kernels' code, where the compilation kept it (keep_assembly).
/// Throws Error where there is no such stage, or not in this format: refusals, loops and assembly
/// are text only. `fused` as dot or JSON is that of kernels.
std::string dump(const Compilation& compilation, std::string_view stage, DumpFormat format);
/// Whether dump() needs CompileOptions::keep_assembly for it.
bool needs_assembly(std::string_view stage);

}  // namespace weft::compiler
