#pragma once

#include <string>
#include <string_view>

#include "runtime/cuda/devices.h"

namespace weft::detail {

/// Where a program is to run.
struct Device {
  std::string gpu = {};  ///< what its kernels are generated for, "sm_90a"; "": this processor
  int index = 0;         ///< of a GPU, as the driver counts them
};

/// Of "cpu", "cuda" or "cuda:1" (the first GPU is 0). Throws Error that says what is missing where
/// there is no such device, or weft has no code for it.
Device find_device(std::string_view name);

/// What kernels for a GPU are generated for. Throws Error where it is too old.
std::string processor_of(const runtime::cuda::DeviceInfo& gpu);

}  // namespace weft::detail
