#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "compiler/codegen/codegen.h"
#include "compiler/loop/kernel.h"
#include "tests/loop/interpret.h"

namespace weft::tests {

/// This machine, and older ones of its family: AVX2 without AVX-512, and plain SSE2.
std::vector<compiler::HostTarget> targets();

/// The initial value of an element of an argument.
using Fill = std::function<Number(const loop::Buffer& buffer, std::int64_t index)>;
/// Small whole numbers, whose sums and products are exact.
Number small_numbers(const loop::Buffer& buffer, std::int64_t index);

/// Runs the kernel by the interpreter and as machine code for all targets and expects the same
/// bits in every argument (any NaN equals any other). Each argument lies against an inaccessible
/// page, once with its end and once with its start, so a stray access is caught by the machine.
void expect_same(const loop::Kernel& kernel, const Fill& fill = small_numbers);

}  // namespace weft::tests
