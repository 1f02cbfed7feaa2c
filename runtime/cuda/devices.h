#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace weft::runtime::cuda {

struct DeviceInfo {
  std::string name;
  int major = 0;  ///< of the compute capability
  int minor = 0;
  int multiprocessors = 0;
  std::int64_t memory_bytes = 0;
  // What the device can do at most, by its clocks; 0 where the driver does not say.
  double bytes_a_second = 0;
  double operations_a_second = 0;          ///< f32, a fused multiply-add being two
  std::optional<std::int64_t> free_bytes;  ///< none where the device takes no further process
};

struct DeviceList {
  std::string absent;  ///< why there are none; "" where there are
  std::string driver;  ///< the newest CUDA that the driver is for, "12.4"; "" where unknown
  std::vector<DeviceInfo> devices;
};

/// The GPUs that CUDA's driver shows, or why there are none: weft was built without CUDA's headers,
/// no driver, one that is too old, no device.
DeviceList find_devices();

/// Why cuFFT, which computes some Fourier transforms on a GPU, cannot be loaded; "" where it can.
std::string fourier_library_absent();

}  // namespace weft::runtime::cuda
