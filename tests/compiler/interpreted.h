#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "compiler/codegen/codegen.h"
#include "compiler/loop/interpret.h"
#include "compiler/schedules/schedule.h"
#include "run.h"

namespace weft::test {

using Schedule = std::function<compiler::ScheduledKernel(const compiler::Group& group)>;

/// The host's schedules, and those for a GPU.
compiler::ScheduledKernel on_host(const compiler::Group& group);
compiler::ScheduledKernel on_device(const compiler::Group& group);
/// As if blocks of a GPU had so much shared memory: longer lines are then transformed in sweeps.
Schedule on_device_with(std::int64_t shared_bytes);

/// States after one run of the graph's kernels by the interpreter, which is expected to report
/// nothing. `graph` has states, kernels and state_write only. What kernels store and their
/// workspace start as NaN. With WEFT_TRAFFIC in the environment it prints what their accesses ask
/// of memory.
Values run_interpreted(const ir::Graph& graph, const Values& inputs, const Schedule& schedule,
                       const loop::InterpretOptions& options = {});

/// The same of kernels for a GPU, read twice: by the interpreter, and by their PTX for `target` on
/// the machine of tests/ptx. `seed` is the order of threads of both. Throws what the machine finds
/// wrong.
std::array<Values, 2> run_device(const ir::Graph& graph, const Values& inputs,
                                 const Schedule& schedule, std::uint64_t seed,
                                 const compiler::DeviceTarget& target = {});

}  // namespace weft::test
