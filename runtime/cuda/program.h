#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "runtime/cuda/graph.h"
#include "runtime/plan.h"
#include "runtime/plan_check.h"

namespace weft::runtime::cuda {

/// What differs between the graphs of one segment: how many iterations it has in a row, and for
/// each of its feeders and receivers the number of the staging slot that it uses, plus 1; 0: a
/// receiver that takes nothing this time.
using Variant = std::vector<std::int64_t>;

struct Loop;

/// Steps that become one graph: kernels, copies, both ends of transfers, and short loops unrolled.
struct Segment {
  std::vector<const plan::Step*> steps;
  std::vector<std::uint32_t> feeders;    ///< of its feed steps
  std::vector<std::uint32_t> receivers;  ///< of its receive steps
  const Loop* counts = nullptr;          ///< begins by setting this loop's index
  /// No graph where nothing is to be done.
  std::map<Variant, std::optional<GraphExecutable>> graphs;
};

/// What one iteration runs, in order.
struct Body {
  std::vector<std::variant<Segment, std::unique_ptr<Loop>>> parts;
  std::vector<std::uint32_t> feeders;    ///< of feed steps right in this body
  std::vector<std::uint32_t> receivers;  ///< of receive steps here or in loops in here
};

/// A loop that the host counts: a graph launch for one iteration or several.
struct Loop {
  std::uint32_t index = 0;  ///< the buffer of its index
  std::int64_t count = 0;
  bool bounded_by_run = false;
  std::size_t counter = 0;      ///< which of Program::counters; where the body reads the index
  bool reads_index = false;     ///< the body
  std::int64_t iterations = 1;  ///< that one graph may have
  Body body;
};

/// A plan's steps as graphs and loops around them.
struct Program {
  Body top;
  std::size_t counters = 0;  ///< of loops whose index is read: a number in device memory each

  Program(const plan::Plan& plan, const PlanInfo& info);
  /// Drops all graphs, as addresses change.
  void forget_graphs();
};

/// Whether any of the steps uses memory of that buffer.
bool use_buffer(const plan::Plan& plan, const std::vector<plan::Step>& steps, std::uint32_t buffer);

}  // namespace weft::runtime::cuda
