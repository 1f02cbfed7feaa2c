#include "roof.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "compiler/codegen/cached.h"
#include "compiler/codegen/codegen.h"
#include "compiler/schedules/roof.h"
#include "kernel_cache.h"
#include "runtime/cuda/devices.h"
#include "runtime/cuda/runner.h"
#include "runtime/machine.h"
#include "trace.h"

namespace weft::detail {

namespace {

using compiler::RoofKernel;

runtime::Roof measure(int threads, KernelCache* cache) {
  constexpr std::array kernels = {RoofKernel::read, RoofKernel::copy, RoofKernel::triad,
                                  RoofKernel::multiply_add};
  const compiler::HostTarget target = compiler::host_target();
  plan::Plan plan;
  plan.name = "roof";
  plan.target = target.name();
  std::vector<std::string> symbols;
  for (const RoofKernel which : kernels) {
    loop::Kernel kernel;
    compiler::build_roof_kernel(which, target, kernel);
    const std::string symbol = fmt::format("weft_roof_{}", static_cast<int>(which));
    bool cached = false;
    plan.objects.push_back(compiler::generate_cached(kernel, loop::canonical(kernel), symbol,
                                                     target, {}, cache, cached)
                               .object);
    symbols.push_back(compiler::phase_symbol(symbol, 0));
    plan::Kernel described;
    described.name = symbol;
    described.object = static_cast<std::uint32_t>(plan.objects.size() - 1);
    described.phases.push_back({symbols.back(), 1});
    plan.kernels.push_back(described);
  }
  const std::unique_ptr<runtime::Code> code = runtime::load_objects(plan);
  return runtime::measure_roof({.read = code->find(symbols[0]),
                                .copy = code->find(symbols[1]),
                                .triad = code->find(symbols[2]),
                                .multiply_add = code->find(symbols[3]),
                                .block_elements = compiler::roof_block,
                                .block_operations = compiler::roof_operations(target)},
                               threads);
}

runtime::Roof load_or_measure(int threads) {
  const std::shared_ptr<KernelCache> cache = kernel_cache();
  const std::string conditions =
      fmt::format("machine {}\nthreads {}\ngenerator {}\n", runtime::machine_name(), threads,
                  compiler::codegen_version());
  if (cache != nullptr) {
    if (const auto kept = cache->disk().find("roof", conditions)) {
      if (const auto roof = runtime::Roof::parse(*kept)) return *roof;
    }
  }
  const runtime::Roof roof = measure(threads, cache.get());
  log("cache", "roof of {} threads measured: {}", threads, roof.text());
  if (cache != nullptr) cache->disk().store("roof", conditions, roof.text());
  return roof;
}

}  // namespace

const runtime::Roof& roof_of(int threads) {
  static std::mutex mutex;
  static std::map<int, runtime::Roof> known;
  const std::lock_guard lock(mutex);
  const auto found = known.find(threads);
  if (found != known.end()) return found->second;
  return known.emplace(threads, load_or_measure(threads)).first->second;
}

namespace {

/// A GPU's by its clocks.
const runtime::Roof& roof_of_gpu(int index) {
  static std::mutex mutex;
  static std::map<int, runtime::Roof> known;
  const std::lock_guard lock(mutex);
  const auto [found, added] = known.try_emplace(index);
  if (added) {
    const runtime::cuda::DeviceList gpus = runtime::cuda::find_devices();
    if (static_cast<std::size_t>(index) < gpus.devices.size()) {
      const auto& gpu = gpus.devices[static_cast<std::size_t>(index)];
      found->second.levels.push_back({0, gpu.bytes_a_second});
      found->second.operations_a_second = gpu.operations_a_second;
    }
  }
  return found->second;
}

const runtime::Roof& roof_for(const runtime::Executable& executable) {
  const bool gpu = executable.plan().target.starts_with(runtime::cuda::architecture);
  return gpu ? roof_of_gpu(executable.device()) : roof_of(executable.threads());
}

}  // namespace

void add_times(compiler::Compilation& compilation, const runtime::Executable& executable) {
  const std::vector<runtime::KernelTime> times = executable.profile();
  const bool profiled =
      std::any_of(times.begin(), times.end(),
                  [](const runtime::KernelTime& time) { return time.launches > 0; });
  if (!profiled) return;
  const runtime::Roof& roof = roof_for(executable);
  for (std::size_t i = 0; i < compilation.kernels.size() && i < times.size(); ++i) {
    compiler::KernelReport& kernel = compilation.kernels[i];
    kernel.launches = times[i].launches;
    kernel.seconds = times[i].seconds;
    if (kernel.launches == 0) continue;
    kernel.roof_share = roof.share(kernel.bytes_read + kernel.bytes_written, kernel.operations,
                                   kernel.seconds / static_cast<double>(kernel.launches));
  }
}

}  // namespace weft::detail
