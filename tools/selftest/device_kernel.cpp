#include "tools/selftest/device_kernel.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "compiler/codegen/codegen.h"
#include "runtime/executable.h"
#include "runtime/plan/error.h"

namespace weft::selftest {

void run_on_device(const loop::Kernel& kernel, std::vector<std::vector<std::byte>>& arguments,
                   const Target& target) {
  if (target.gpu.empty()) throw Error(kernel.name + ": is a kernel for a GPU");
  const compiler::DeviceTarget gpu = compiler::device_target(target.gpu);
  const std::string symbol = "weft_selftest";
  compiler::GeneratedDeviceCode code = compiler::generate_device(kernel, symbol, gpu);
  plan::Plan plan;
  plan.name = kernel.name;
  plan.target = gpu.name();
  plan.objects.push_back({std::move(code.ptx)});
  plan::Kernel made;
  made.name = kernel.name;
  made.kind = "selftest";
  for (std::size_t i = 0; i < kernel.phases.size(); ++i) {
    made.phases.push_back({.symbol = compiler::device_phase_symbol(symbol, i),
                           .grid = kernel.phases[i].grid,
                           .threads = kernel.phases[i].threads,
                           .shared_bytes = code.shared_bytes});
  }
  for (const loop::TensorView& view : kernel.tensor_maps) {
    made.tensor_maps.push_back(loop::tensor_map(view));
  }
  plan.kernels.push_back(std::move(made));
  plan::Step launch;
  State state;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string name = fmt::format("argument{}", i);
    const Type type{DType::u8, {static_cast<std::int64_t>(arguments[i].size())}};
    state.add(name, type);
    std::copy(arguments[i].begin(), arguments[i].end(), state.bytes(name).begin());
    plan.buffers.push_back(
        {.kind = plan::BufferKind::state, .type = type, .name = name, .data = {}});
    launch.buffers.push_back(static_cast<std::uint32_t>(i));
  }
  plan.steps.push_back(std::move(launch));
  runtime::Executable executable(std::move(plan), {.device = target.index});
  executable.bind(state);
  executable.run();
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::span<std::byte> bytes = state.bytes(fmt::format("argument{}", i));
    std::copy(bytes.begin(), bytes.end(), arguments[i].begin());
  }
}

}  // namespace weft::selftest
