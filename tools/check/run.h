#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "compiler/ir/graph.h"
#include "ops/op.h"
#include "runtime/executable.h"
#include "runtime/plan.h"
#include "runtime/state.h"

/// A graph run twice on the same values: compiled, and by the reference evaluation.
namespace weft::check {

/// What a graph reads from the world outside and hands to it, by name.
struct Interface {
  std::map<std::string, Type> states;  ///< read or written
  std::map<std::string, Type> feeders;
  std::map<std::string, ir::Value> written;                 ///< the value that a state gets
  std::map<std::string, std::vector<ir::Value>> receivers;  ///< the values that it receives
};

/// Throws Error where a name stands for two types, and where the graph's tensors need more than
/// `gibibytes` together: nothing else keeps a text of a few lines from asking for all of the
/// memory.
Interface read_interface(const ir::Graph& graph, std::int64_t gibibytes);

/// Values for a graph's interface. feed() may be called on any thread.
struct Inputs {
  std::map<std::string, ops::Array> states;
  std::function<ops::Array(const std::string& name, const Type& type, std::int64_t iteration)> feed;
};
/// Random values in the ranges that input_ranges() finds, a function of graph and seed alone.
Inputs random_inputs(const ir::Graph& graph, const Interface& interface, std::uint64_t seed);

struct Received {
  std::int64_t iteration = 0;
  std::vector<ops::Array> tensors;
};
/// What a run leaves: states after it, and receivers' calls in order of arrival.
struct Outcome {
  std::map<std::string, ops::Array> states;
  std::map<std::string, std::vector<Received>> received;
};

/// A State with the inputs' values, and feeders' functions; `inputs` must outlive the runs.
State bind_inputs(runtime::Executable& executable, const Interface& interface,
                  const Inputs& inputs);

/// Runs the whole plan once. Throws Error.
Outcome run_compiled(plan::Plan plan, const Interface& interface, const Inputs& inputs,
                     const runtime::RunOptions& options);

/// Runs the graph once by the reference evaluation. Throws Error.
Outcome run_reference(const ir::Graph& graph, const Inputs& inputs);

/// A tensor's bytes as the runtime holds them, integers exactly, to and from an Array.
ops::Array from_bytes(const Type& type, std::span<const std::byte> bytes);
void to_bytes(const ops::Array& array, std::span<std::byte> bytes);

}  // namespace weft::check
