#pragma once

#include <string>

#include "compiler/schedules/schedule.h"

namespace weft::test {

/// A group's kernel for a GPU.
struct Assembled {
  compiler::ScheduledKernel scheduled;
  compiler::GeneratedDeviceCode code;
  std::string said;  ///< by ptxas (ptxas.h)

  /// Of each entry: "40, 32"; nothing where there is no ptxas.
  std::string registers() const;
};

/// Schedules a group for "sm_80", ..., generates its code and has it assembled. Expects that blocks
/// have no more shared memory than they may, that no registers are kept in memory, and that group
/// products do not wait for each other (C75xx).
Assembled assembled(const compiler::Group& group, const std::string& processor,
                    compiler::DeviceOptions options = {});

}  // namespace weft::test
