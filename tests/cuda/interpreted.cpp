#include "interpreted.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "compiler/loop/interpret.h"
#include "runtime/cuda/runner.h"
#include "stand_in/stand_in.h"

namespace weft::runtime::testing {
namespace {

/// NaN in every floating type.
constexpr std::byte nonsense{0xff};

std::int64_t bytes_of(const loop::Buffer& buffer) {
  return buffer.elements * static_cast<std::int64_t>(size_of(buffer.dtype));
}

void run_execution(const loop::Kernel& kernel, std::size_t number, const plan::Phase& planned,
                   const stand_in::Call& call) {
  const loop::Phase& phase = kernel.phases[number];
  EXPECT_EQ(call.grid, phase.grid) << kernel.name;
  EXPECT_EQ(call.threads, phase.threads) << kernel.name;
  EXPECT_EQ(call.shared_bytes, planned.shared_bytes) << kernel.name;
  ASSERT_EQ(call.arguments.size(), kernel.arguments.size()) << kernel.name;
  std::vector<std::span<std::byte>> arguments;
  std::deque<std::vector<std::byte>> untouched;
  for (std::size_t i = 0; i < kernel.arguments.size(); ++i) {
    const auto bytes = static_cast<std::size_t>(bytes_of(*kernel.arguments[i]));
    const plan::Phase::Access& access = planned.accesses.at(i);
    if (access.reads || access.writes) {
      arguments.emplace_back(call.pointer<std::byte>(i), bytes);
    } else {
      // Other launches may be using the argument.
      arguments.emplace_back(untouched.emplace_back(bytes, nonsense));
    }
  }
  for (const loop::Report& report : loop::interpret(kernel, arguments, {.only_phase = number})) {
    ADD_FAILURE() << loop::print(report);
  }
  for (const std::vector<std::byte>& memory : untouched) {
    EXPECT_EQ(std::count(memory.begin(), memory.end(), nonsense), std::ssize(memory))
        << kernel.name;
  }
}

/// All executions that the launch is of.
void run_phase(const loop::Kernel& kernel, std::size_t number, const plan::Phase& planned,
               const stand_in::Call& call) {
  const std::size_t arguments = kernel.arguments.size();
  const auto executions =
      static_cast<std::int64_t>(call.arguments.size() / std::max<std::size_t>(arguments, 1));
  if (executions <= 1) return run_execution(kernel, number, planned, call);
  EXPECT_EQ(call.grid % executions, 0) << kernel.name;
  for (auto first = call.arguments.begin(); first != call.arguments.end();
       first += static_cast<std::ptrdiff_t>(arguments)) {
    stand_in::Call one = call;
    one.grid = call.grid / executions;
    one.arguments.assign(first, first + static_cast<std::ptrdiff_t>(arguments));
    run_execution(kernel, number, planned, one);
  }
}

/// What the stand-in runs for a phase of a kernel.
using RunPhase = std::function<std::function<void(const stand_in::Call&)>(
    const std::shared_ptr<const loop::Kernel>& kernel, std::size_t number,
    const plan::Phase& phase)>;

void add_kernels(const compiler::Compilation& compilation, const RunPhase& run) {
  if (!compilation.plan.target.starts_with(cuda::architecture)) return;
  for (std::size_t k = 0; k < compilation.loop_kernels.size(); ++k) {
    const std::shared_ptr<const loop::Kernel>& kernel = compilation.loop_kernels[k];
    const plan::Kernel& planned = compilation.plan.kernels[k];
    ASSERT_EQ(planned.phases.size(), kernel->phases.size());
    for (std::size_t number = 0; number < planned.phases.size(); ++number) {
      const plan::Phase& phase = planned.phases[number];
      std::vector<stand_in::Access> accesses;
      for (std::size_t i = 0; i < kernel->arguments.size(); ++i) {
        const plan::Phase::Access& access = phase.accesses.at(i);
        const bool any = access.reads || access.writes;
        accesses.push_back(
            {access.reads, access.writes, any ? bytes_of(*kernel->arguments[i]) : 0});
      }
      stand_in::add_kernel(phase.symbol, accesses, run(kernel, number, phase));
    }
  }
}

}  // namespace

void interpret_on_stand_in(const compiler::Compilation& compilation) {
  add_kernels(compilation, [](const auto& kernel, std::size_t number, const plan::Phase& phase) {
    return [kernel, number, phase](const stand_in::Call& call) {
      run_phase(*kernel, number, phase, call);
    };
  });
}

void emulate_on_stand_in(const compiler::Compilation& compilation) {
  add_kernels(compilation, [](const auto&, std::size_t, const plan::Phase&) { return nullptr; });
}

}  // namespace weft::runtime::testing
