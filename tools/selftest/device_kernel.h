#pragma once

#include <cstddef>
#include <vector>

#include "compiler/loop/kernel.h"
#include "tools/selftest/cases.h"

namespace weft::selftest {

/// Runs a kernel of the loop language on a GPU, as a plan of its own. `arguments`: the memory of
/// each of its arguments, before and after. Throws Error.
void run_on_device(const loop::Kernel& kernel, std::vector<std::vector<std::byte>>& arguments,
                   const Target& target);

}  // namespace weft::selftest
