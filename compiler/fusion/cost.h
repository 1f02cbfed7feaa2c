#pragma once

#include <cstdint>

#include "compiler/fusion/fuse.h"

namespace weft::compiler {

/// What one execution of a kernel must move and compute, whatever its schedule.
struct Cost {
  std::int64_t bytes_read = 0;
  std::int64_t bytes_written = 0;
  std::int64_t operations = 0;  ///< floating-point, a fused multiply-add being two

  /// On one core of some machine, about: for decisions that are the same on all machines.
  double seconds() const;
};
Cost cost_of(const Group& group);

}  // namespace weft::compiler
