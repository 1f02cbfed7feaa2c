#include "interpreted.h"

#include <gtest/gtest.h>

#include <span>
#include <vector>

#include "compiler/loop/interpret.h"
#include "runtime/cuda/runner.h"
#include "stand_in/stand_in.h"

namespace weft::runtime::testing {
namespace {

std::int64_t bytes_of(const loop::Buffer& buffer) {
  return buffer.elements * static_cast<std::int64_t>(size_of(buffer.dtype));
}

void run_phase(const loop::Kernel& kernel, std::size_t number, std::int64_t shared_bytes,
               const stand_in::Call& call) {
  const loop::Phase& phase = kernel.phases[number];
  EXPECT_EQ(call.grid, phase.grid) << kernel.name;
  EXPECT_EQ(call.threads, phase.threads) << kernel.name;
  EXPECT_EQ(call.shared_bytes, shared_bytes) << kernel.name;
  ASSERT_EQ(call.arguments.size(), kernel.arguments.size()) << kernel.name;
  std::vector<std::span<std::byte>> arguments;
  for (std::size_t i = 0; i < kernel.arguments.size(); ++i) {
    arguments.emplace_back(call.pointer<std::byte>(i),
                           static_cast<std::size_t>(bytes_of(*kernel.arguments[i])));
  }
  for (const loop::Report& report : loop::interpret(kernel, arguments, {.only_phase = number})) {
    ADD_FAILURE() << loop::print(report);
  }
}

}  // namespace

void interpret_on_stand_in(const compiler::Compilation& compilation) {
  if (!compilation.plan.target.starts_with(cuda::architecture)) return;
  for (std::size_t k = 0; k < compilation.loop_kernels.size(); ++k) {
    const std::shared_ptr<const loop::Kernel>& kernel = compilation.loop_kernels[k];
    const plan::Kernel& planned = compilation.plan.kernels[k];
    ASSERT_EQ(planned.phases.size(), kernel->phases.size());
    std::vector<stand_in::Access> accesses;
    for (const loop::Buffer* argument : kernel->arguments) {
      const std::int64_t bytes = bytes_of(*argument);
      accesses.push_back(argument->writable ? stand_in::changes(bytes) : stand_in::reads(bytes));
    }
    for (std::size_t phase = 0; phase < planned.phases.size(); ++phase) {
      stand_in::add_kernel(
          planned.phases[phase].symbol, accesses,
          [kernel, phase, bytes = planned.phases[phase].shared_bytes](const stand_in::Call& call) {
            run_phase(*kernel, phase, bytes, call);
          });
    }
  }
}

}  // namespace weft::runtime::testing
