#include "compiler/passes/batch.h"

#include <algorithm>
#include <limits>
#include <map>

#include "runtime/plan/batches.h"

namespace weft::compiler {
namespace {

std::int64_t most_executions(const loop::Kernel& kernel) {
  if (!kernel.tensor_maps.empty() || kernel.arguments.empty()) return 1;
  auto most = static_cast<std::int64_t>(plan::most_arguments / kernel.arguments.size());
  for (const loop::Phase& phase : kernel.phases) {
    if (phase.transform || phase.grid < 1) return 1;
    most = std::min(most, std::numeric_limits<std::int32_t>::max() / phase.grid);
  }
  return std::max<std::int64_t>(most, 1);
}

void count(const std::vector<plan::Step>& steps, const std::vector<std::uint32_t>& object,
           std::vector<std::int64_t>& most) {
  for (const plan::Step& step : steps) {
    if (step.kind != plan::StepKind::together) {
      count(step.body, object, most);
      continue;
    }
    std::map<std::uint32_t, std::int64_t> launches;
    for (const plan::Step& launch : step.body) {
      const std::uint32_t of = object[launch.index];
      most[of] = std::max(most[of], ++launches[of]);
    }
  }
}

}  // namespace

std::vector<std::int64_t> batches_of(const plan::Plan& plan,
                                     const std::vector<std::uint32_t>& object,
                                     const std::vector<const loop::Kernel*>& kernels) {
  std::vector<std::int64_t> most(kernels.size(), 1);
  count(plan.steps, object, most);
  for (std::size_t i = 0; i < most.size(); ++i) {
    if (most[i] > 1) most[i] = std::min(most[i], most_executions(*kernels[i]));
  }
  return most;
}

}  // namespace weft::compiler
