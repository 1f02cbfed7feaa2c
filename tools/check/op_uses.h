#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compiler/ir/graph.h"
#include "ops/op.h"
#include "tools/check/run.h"

/// Graphs that use one op of the table, with arguments by its own generator.
namespace weft::check {

/// Many uses in one graph, of each type that the op takes: generating code for a kernel takes
/// longer than running it.
struct OpUses {
  ir::Graph graph;
  Inputs inputs;
};

/// y = op(x...), and the gradients of sum(w * y) for random w where the op has a derivative.
OpUses uses_alone(const ops::Op& op, std::uint64_t seed);
/// a, b, sum -> b, a, sum / 2 + op(a...), three times.
OpUses uses_in_loops(const ops::Op& op, std::uint64_t seed);

/// Names of the rows that have a generator.
std::vector<std::string> generated_ops();

}  // namespace weft::check
