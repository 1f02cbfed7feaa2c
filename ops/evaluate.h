#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "ops/op.h"

/// The reference evaluation: a graph in double precision, node by node, as plain as the definition.
namespace weft::ops {

/// What a graph reads from and hands to the world outside.
///
/// Iterations: a feeder or receiver is told how often its place in the program had been reached
/// before: in a loop the index, in a loop of `inner` iterations inside another outer * inner +
/// index, and so on. A scan counts its executions, from 0, whatever its direction. A receiver with
/// `every` fires in iterations 0, every, 2 every, ...: those with iteration % every == 0.
struct Environment {
  std::map<std::string, Array> state;     ///< read and written
  std::map<std::string, double> scalars;  ///< those that are missing have their defaults
  /// A feeder's values for an iteration.
  std::function<Array(const std::string& name, const Type& type, std::int64_t iteration)> feed;
  std::function<void(const std::string& name, std::int64_t iteration, std::span<const Array>)>
      receive;
  /// Called after each node, for debugging; may be empty.
  std::function<void(const Node& node, std::span<const Array> results)> observe;
  /// Executions of the whole graph before this one, of which iterations are counted on: the runtime
  /// runs a graph without a loop once for each iteration.
  std::int64_t iteration = 0;
};

/// Runs the graph once: reads states, runs loops, feeds, receives, writes states at the end. Every
/// read of a state sees its value from before the run. Throws Error naming the node; states are
/// then unchanged.
void evaluate(const ir::Graph& graph, Environment& environment);

/// The results of one node that has a reference column. Throws Error naming the node.
std::vector<Array> evaluate_node(const Node& node, std::span<const Array* const> operands);

}  // namespace weft::ops
