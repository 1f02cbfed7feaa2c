#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "compiler/compile.h"
#include "compiler/fusion/fuse.h"

namespace weft::compiler {

/// "%x", or "%5" where the node has no name of its own.
std::string node_name(const ir::Node& node);
/// What the State calls the values that are read from it, at the top and carried by loops.
std::map<std::string, std::string> state_names(const ir::Graph& graph);

/// Lines of a kernel's dump: each computed node with the access expressions that movement became,
/// and the bytes and operations of one execution.
KernelReport report(const Group& group);

/// What separations() finds, in names; `fuse` is what fuse() was called with.
std::vector<FusionRefusal> report_refusals(const FusedGraph& fused, bool fuse);
std::vector<SiblingRefusal> report_sibling_refusals(const FusedGraph& fused);

/// The graph after fusion: kernels as nested blocks, loops, transfers.
std::string print_fused(const FusedGraph& fused, const std::string& name);

}  // namespace weft::compiler
