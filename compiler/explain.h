#pragma once

#include <string>

#include "compiler/compile.h"

namespace weft::compiler {

/// Why nodes are not one kernel: for each kernel, which values it loads from other kernels, for
/// which of its nodes, and why it does not compute them itself. With the user's lines.
std::string explain(const Compilation& compilation);

/// The same for two nodes ("%5"), in either order: their kernels; where they have none in common,
/// the reason, or, where they are not neighbours, the reasons on a way from one to the other.
/// Throws Error where one of them is in no kernel, with what that means.
std::string explain(const Compilation& compilation, const std::string& a, const std::string& b);

}  // namespace weft::compiler
