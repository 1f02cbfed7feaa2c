// Compiled in place of this folder's other sources where CUDA's headers were not found.
#include <fmt/format.h>

#include "runtime/cuda/devices.h"
#include "runtime/cuda/runner.h"
#include "runtime/plan/error.h"

namespace weft::runtime::cuda {

DeviceList find_devices() {
  DeviceList list;
  list.absent = "CUDA: weft was built without CUDA's headers";
  return list;
}

std::string fourier_library_absent() { return "cuFFT: weft was built without CUDA's headers"; }

std::unique_ptr<Runner> make_runner(const plan::Plan& plan, const PlanInfo&, const RunOptions&) {
  throw Error(fmt::format("plan \"{}\" is for {}: weft was built without CUDA's headers", plan.name,
                          plan.target));
}

}  // namespace weft::runtime::cuda
