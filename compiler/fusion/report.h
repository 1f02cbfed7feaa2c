#pragma once

#include <functional>
#include <string>

#include "compiler/compile.h"
#include "compiler/fusion/fuse.h"

namespace weft::compiler {

/// Lines of a kernel's dump: each computed node with the access expressions that movement became,
/// and the bytes and operations of one execution.
KernelReport report(const Group& group);

/// The graph after fusion: kernels as nested blocks, loops, transfers.
std::string print_fused(const FusedGraph& fused, const std::string& name);

}  // namespace weft::compiler
