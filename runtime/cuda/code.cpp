#include "runtime/cuda/code.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <exception>
#include <functional>
#include <limits>
#include <map>
#include <string_view>
#include <thread>

#include "runtime/cuda/runner.h"
#include "runtime/plan/batches.h"
#include "runtime/plan/error.h"

namespace weft::runtime::cuda {
namespace {

/// What a block has without asking.
constexpr std::int64_t plain_shared_bytes = std::int64_t{48} << 10;
constexpr std::size_t most_parameter_bytes = plan::most_arguments * sizeof(CUdeviceptr);

/// Loops count on the device, so that an iteration's launch needs nothing from the host.
constexpr const char* index_kernels = R"(
.version 7.0
.target sm_75
.address_size 64

.visible .entry weft_set_index(.param .u64 argument0, .param .u64 argument1)
{
  .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [argument0];
  cvta.to.global.u64 %rd2, %rd1;
  ld.param.u64 %rd3, [argument1];
  st.global.u64 [%rd2], %rd3;
  ret;
}

.visible .entry weft_next_index(.param .u64 argument0, .param .u64 argument1)
{
  .reg .b64 %rd<7>;
  ld.param.u64 %rd1, [argument0];
  cvta.to.global.u64 %rd2, %rd1;
  ld.param.u64 %rd3, [argument1];
  cvta.to.global.u64 %rd4, %rd3;
  ld.global.u64 %rd5, [%rd2];
  st.global.u64 [%rd4], %rd5;
  add.s64 %rd6, %rd5, 1;
  st.global.u64 [%rd2], %rd6;
  ret;
}
)";

/// Throws Error where a device cannot run code for the plan's target: "sm_80" runs on that compute
/// capability and all later ones, "sm_90a" on that one only, "sm_100f" on its generation.
void check_device(const plan::Plan& plan, const Device& device) {
  std::string_view text = plan.target;
  text.remove_prefix(architecture.size());
  int number = 0;
  const auto parsed = text.starts_with("sm_")
                          ? std::from_chars(text.data() + 3, text.data() + text.size(), number)
                          : std::from_chars_result{text.data(), std::errc::invalid_argument};
  const std::string_view suffix(parsed.ptr,
                                static_cast<std::size_t>(text.data() + text.size() - parsed.ptr));
  if (parsed.ec != std::errc() || number < 10 ||
      (!suffix.empty() && suffix != "a" && suffix != "f")) {
    throw Error(fmt::format("plan \"{}\" is for \"{}\", which names no compute capability",
                            plan.name, plan.target));
  }
  const int has = device.major() * 10 + device.minor();
  const bool fits = suffix == "a"   ? has == number
                    : suffix == "f" ? has >= number && device.major() == number / 10
                                    : has >= number;
  if (!fits) {
    throw Error(
        fmt::format("plan \"{}\" is for \"{}\"; {} has the compute capability {}.{}: "
                    "compile it again for this one",
                    plan.name, plan.target, device.name(), device.major(), device.minor()));
  }
}

void check_steps(const plan::Plan& plan, const std::vector<plan::Step>& steps) {
  for (const plan::Step& step : steps) {
    check_steps(plan, step.body);
    if (step.kind == plan::StepKind::launch) {
      const plan::Kernel& kernel = plan.kernels[step.index];
      const auto executions = static_cast<std::size_t>(kernel.batch);
      if (step.buffers.size() > plan::most_arguments / executions) {
        throw Error(
            fmt::format("plan \"{}\": {} has {} arguments{}; a GPU takes {}", plan.name,
                        text_of(kernel), step.buffers.size(),
                        executions == 1 ? "" : fmt::format(" of up to {} executions", executions),
                        plan::most_arguments));
      }
    }
    if (step.kind == plan::StepKind::launch) {
      const std::size_t maps = plan.kernels[step.index].tensor_maps.size();
      const auto pointers = static_cast<std::size_t>(
          align_up(static_cast<std::int64_t>(step.buffers.size() * sizeof(CUdeviceptr))));
      if (maps > 0 && pointers + maps * sizeof(CUtensorMap) > most_parameter_bytes) {
        throw Error(
            fmt::format("plan \"{}\": {} has {} arguments and {} tensor maps; a GPU takes "
                        "{} bytes of them",
                        plan.name, text_of(plan.kernels[step.index]), step.buffers.size(), maps,
                        most_parameter_bytes));
      }
    }
    if (step.kind != plan::StepKind::copy) continue;
    const plan::Buffer& from = plan.buffers[step.buffers[0]];
    const plan::Buffer& to = plan.buffers[step.buffers[1]];
    const std::int64_t bytes = from.type.bytes();
    if (from.kind == plan::BufferKind::arena && to.kind == plan::BufferKind::arena &&
        from.offset != to.offset && from.offset < to.offset + bytes &&
        to.offset < from.offset + bytes) {
      throw Error(fmt::format("plan \"{}\": copies {} from offset {} to {}: they overlap",
                              plan.name, from.type.text(), from.offset, to.offset));
    }
  }
}

/// Runs work(i) for each i below `count` on as many threads as there are cores; throws what the
/// first of those that failed threw.
void parallel(std::size_t count, const std::function<void(std::size_t)>& work) {
  std::vector<std::exception_ptr> failures(count);
  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  const auto run = [&] {
    for (std::size_t i = next++; i < count && !failed; i = next++) {
      try {
        work(i);
      } catch (...) {
        failures[i] = std::current_exception();
        failed = true;
      }
    }
  };
  std::vector<std::thread> helpers;
  for (std::size_t i = 1; i < std::min<std::size_t>(count, std::thread::hardware_concurrency());
       ++i) {
    helpers.emplace_back(run);
  }
  run();
  for (std::thread& helper : helpers) helper.join();
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace

std::string text_of(const plan::Kernel& kernel) {
  if (kernel.location.empty()) return fmt::format("kernel {}", kernel.name);
  return fmt::format("kernel {} ({})", kernel.name, kernel.location);
}

PlanCode::PlanCode(const plan::Plan& plan, const DeviceHandle& device) : device_(device) {
  check_device(plan, *device);
  check_steps(plan, plan.steps);
  std::map<std::uint32_t, std::size_t> module_of;
  std::vector<const plan::Kernel*> firsts;  // of each object, by module
  for (const plan::Kernel& kernel : plan.kernels) {
    if (module_of.emplace(kernel.object, firsts.size()).second) firsts.push_back(&kernel);
  }
  modules_.resize(firsts.size());
  // The driver compiles PTX when it is loaded, on the calling thread.
  parallel(firsts.size(), [&](std::size_t i) {
    modules_[i] =
        Module(device, plan.objects[firsts[i]->object].bytes,
               fmt::format("the code of {} of plan \"{}\"", text_of(*firsts[i]), plan.name));
  });
  for (const plan::Kernel& kernel : plan.kernels) {
    load(plan, kernel, modules_[module_of.at(kernel.object)]);
  }
  const Module& own = modules_.emplace_back(device, index_kernels, "the kernels of loops");
  set_index_ = own.function("weft_set_index");
  next_index_ = own.function("weft_next_index");
  prepare_transforms(plan);
}

void PlanCode::prepare_transforms(const plan::Plan& plan) {
  std::int64_t workspace = 0;
  bool any = false;
  for (std::size_t k = 0; k < plan.kernels.size(); ++k) {
    for (std::size_t p = 0; p < plan.kernels[k].phases.size(); ++p) {
      if (!plan.kernels[k].phases[p].transform) continue;
      Phase& phase = kernels_[k][p];
      try {
        phase.fourier_plan = device_->fourier_plans().get(*device_, phase.transform);
      } catch (const Error& error) {
        throw Error(
            fmt::format("plan \"{}\": {}: {}", plan.name, text_of(plan.kernels[k]), error.what()));
      }
      workspace = std::max(workspace, phase.fourier_plan->workspace_bytes());
      any = true;
    }
  }
  if (any) {
    fourier_workspace_ = DeviceMemory(
        device_, workspace, fmt::format("the Fourier transforms of plan \"{}\"", plan.name));
  }
}

void PlanCode::load(const plan::Plan& plan, const plan::Kernel& kernel, const Module& module) {
  const auto fail = [&](const plan::Phase& phase, const std::string& text) {
    throw Error(fmt::format("plan \"{}\": {}: phase {}: {}", plan.name, text_of(kernel),
                            phase.symbol, text));
  };
  if (!kernel.tensor_maps.empty() && device_->major() < 9) {
    throw Error(fmt::format(
        "plan \"{}\": {} has tensor maps; {} has none, being of the compute "
        "capability {}.{}",
        plan.name, text_of(kernel), device_->name(), device_->major(), device_->minor()));
  }
  std::vector<Phase>& phases = kernels_.emplace_back();
  for (const plan::Phase& phase : kernel.phases) {
    if (phase.transform) {
      phases.emplace_back().transform = *phase.transform;
      continue;
    }
    if (phase.threads < 1) fail(phase, "is for the host");
    if (phase.grid > std::numeric_limits<std::int32_t>::max() / kernel.batch) {
      fail(phase, fmt::format(
                      "{} blocks{}; a GPU takes {}", phase.grid,
                      kernel.batch == 1 ? "" : fmt::format(" of up to {} executions", kernel.batch),
                      std::numeric_limits<std::int32_t>::max()));
    }
    if (phase.shared_bytes < 0 || phase.shared_bytes > device_->most_shared_bytes()) {
      fail(phase, fmt::format("{} bytes of shared memory; {} has {} for a block",
                              phase.shared_bytes, device_->name(), device_->most_shared_bytes()));
    }
    Phase& made = phases.emplace_back();
    made.function = module.function(phase.symbol);
    if (phase.threads > made.function.most_threads) {
      fail(phase, fmt::format("{} threads in a block; with its registers {} has {}", phase.threads,
                              device_->name(), made.function.most_threads));
    }
    if (phase.shared_bytes > plain_shared_bytes) {
      module.allow_shared(made.function, phase.shared_bytes);
    }
    made.grid = static_cast<std::uint32_t>(phase.grid);
    made.threads = static_cast<std::uint32_t>(phase.threads);
    made.shared_bytes = static_cast<std::uint32_t>(phase.shared_bytes);
  }
}

}  // namespace weft::runtime::cuda
