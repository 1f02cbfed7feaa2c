#include "runtime/plan/batches.h"

#include <map>

namespace weft::plan {

std::vector<std::vector<const Step*>> batches(const Plan& plan, const Step& together) {
  std::vector<std::vector<const Step*>> made;
  std::map<std::uint32_t, std::size_t> open;  // by object, those that may not be full
  for (const Step& launch : together.body) {
    const Kernel& kernel = plan.kernels[launch.index];
    const auto [found, first] = open.try_emplace(kernel.object, made.size());
    if (!first && std::ssize(made[found->second]) == kernel.batch) found->second = made.size();
    if (found->second == made.size()) made.emplace_back();
    made[found->second].push_back(&launch);
  }
  return made;
}

}  // namespace weft::plan
