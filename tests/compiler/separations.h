#pragma once

#include "compiler/ir/graph.h"

namespace weft::test {

/// Fuses the graph as compile() does and checks that wherever a kernel computes a node, but not the
/// kernel node that it reads a value of, a reason is recorded. Returns how often that was.
int expect_reasons(const ir::Graph& traced, bool fuse = true);

}  // namespace weft::test
