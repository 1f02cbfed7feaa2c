#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "compiler/codegen/codegen.h"
#include "compiler/loop/kernel.h"

namespace weft::test {

/// PTX for a kernel, for run_ptx(). Throws weft::Error of what cannot be generated.
compiler::GeneratedDeviceCode generate_ptx(const loop::Kernel& kernel,
                                           const compiler::DeviceTarget& target);

/// Runs all phases of a kernel on the machine of tests/ptx, by the PTX that was generated for it.
/// `arguments`: the memory of each of its arguments, before and after; the machine may access
/// nothing else. `seed` is the launches'. Throws ptx::Error of what the machine finds wrong.
void run_ptx(const loop::Kernel& kernel, const compiler::GeneratedDeviceCode& code,
             std::vector<std::vector<std::byte>>& arguments, std::uint64_t seed);

}  // namespace weft::test
