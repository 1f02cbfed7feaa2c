#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "ops/op.h"

/// The reference evaluation: a graph in double precision, node by node, as plain as the definition.
namespace weft::ops {

struct Environment {
  std::map<std::string, Array> state;    ///< read and written
  std::map<std::string, double> scalars;
  /// A feeder's values for an iteration (of the enclosing loops, counted as the runtime does).
  std::function<Array(const std::string& name, const Type& type, std::int64_t iteration)> feed;
  std::function<void(const std::string& name, std::int64_t iteration, std::span<const Array>)>
      receive;
  /// Called after each node, for debugging; may be empty.
  std::function<void(const Node& node, std::span<const Array> results)> observe;
};

/// Runs the graph once: reads states, runs loops, feeds, receives, writes states at the end.
/// Throws Error naming the node.
void evaluate(const ir::Graph& graph, Environment& environment);

}  // namespace weft::ops
