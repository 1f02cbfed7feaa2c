#pragma once

#include <cstddef>
#include <vector>

#include "compiler/loop/kernel.h"
#include "runtime/plan.h"

namespace weft::loop {

/// What a phase does to each of the kernel's arguments. Prefetches are no accesses.
std::vector<plan::Phase::Access> argument_accesses(const Kernel& kernel, std::size_t phase);

}  // namespace weft::loop
