#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/plan.h"

namespace weft::runtime {

/// The numbers that a feeder's or receiver's step runs under.
///
/// Under enclosing loops of counts c1 (outermost), c2, ... a step's number is that of its
/// execution, i1 * c2 + i2 and so on. Where a plan has exactly one top-level loop, run(from, to)
/// bounds i1 and what stands outside runs once, as number 0; otherwise the run's number counts as
/// one loop more, around all others.
struct TransferUse {
  bool used = false;               ///< has a step
  bool repeated = false;           ///< has a number for each of a run's [from, to)
  std::int64_t per_iteration = 1;  ///< executions in each of these

  /// The numbers of run(from, to): [first, last).
  struct Range {
    std::int64_t first = 0;
    std::int64_t last = 0;
  };
  Range range(std::int64_t from, std::int64_t to) const;
};

struct PlanInfo {
  std::optional<std::size_t> only_loop;  ///< the top-level loop's step where there is exactly one
  std::vector<TransferUse> feeders;
  std::vector<TransferUse> receivers;
  std::int64_t deepest = 1;  ///< most executions of any step in an iteration of a run
};

/// Checks all that the executor relies on: indices, sizes, offsets, types, names, counts. The plan
/// is untrusted. `loads_code`: the plan's own objects are to be loaded. Throws Error naming the
/// plan and what is wrong where.
PlanInfo check_plan(const plan::Plan& plan, bool loads_code);

/// Throws Error where the plan is for another machine than this one. `machine` as
/// plan::Plan::target, or "" where only the architecture is known.
void check_target(const plan::Plan& plan, const std::string& machine);

}  // namespace weft::runtime
