#pragma once

#include <initializer_list>
#include <optional>
#include <vector>

#include "ops/build.h"

namespace weft::compiler {

/// Looks at a node with one result and returns a value that equals it (an operand, or nodes that it
/// emits), or null. A rule that returns null must not have emitted anything.
using Rule = ir::Value (*)(ops::Builder& builder, const ir::Node& node);

/// One walk in order of execution, regions included: replaces each node by what the first matching
/// rule gives. Nodes that a rule emits are seen by the next walk. Returns whether anything changed.
bool rewrite(ir::Graph& graph, std::initializer_list<Rule> rules);

/// The same of nodes with any number of results: values for all of them, or none at all.
using NodeRule = std::vector<ir::Value> (*)(ops::Builder& builder, const ir::Node& node);
bool rewrite(ir::Graph& graph, NodeRule rule);

/// The value of a splat constant (its real part); nullopt for others and for integers that a double
/// does not hold exactly.
std::optional<double> splat(ir::Value value);

}  // namespace weft::compiler
