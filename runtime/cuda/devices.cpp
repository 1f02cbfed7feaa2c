#include "runtime/cuda/devices.h"

#include <array>

#include "runtime/cuda/driver.h"
#include "runtime/plan/error.h"

namespace weft::runtime::cuda {
namespace {

/// Only a context knows; asking makes the device's primary one for a moment.
std::optional<std::int64_t> free_memory(const Driver& driver, CUdevice device) {
  CUcontext context = nullptr;
  if (driver.DevicePrimaryCtxRetain(&context, device) != CUDA_SUCCESS) return std::nullopt;
  std::optional<std::int64_t> bytes;
  if (driver.CtxPushCurrent(context) == CUDA_SUCCESS) {
    std::size_t free = 0;
    std::size_t total = 0;
    if (driver.MemGetInfo(&free, &total) == CUDA_SUCCESS) bytes = static_cast<std::int64_t>(free);
    driver.CtxPopCurrent(&context);
  }
  driver.DevicePrimaryCtxRelease(device);
  return bytes;
}

int cores_of_multiprocessor(int major, int minor) { return major == 8 && minor == 0 ? 64 : 128; }

DeviceInfo describe(const Driver& driver, int index) {
  CUdevice device = 0;
  driver.check(driver.DeviceGet(&device, index), "asking for device {}", index);
  DeviceInfo info;
  std::array<char, 256> name{};
  driver.check(driver.DeviceGetName(name.data(), static_cast<int>(name.size()) - 1, device),
               "asking for the name of device {}", index);
  info.name = name.data();
  const auto attribute = [&](CUdevice_attribute which, int& value) {
    driver.check(driver.DeviceGetAttribute(&value, which, device),
                 "asking for attribute {} of device {}", static_cast<int>(which), index);
  };
  attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, info.major);
  attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, info.minor);
  attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, info.multiprocessors);
  // Drivers may have given these up.
  const auto or_zero = [&](CUdevice_attribute which) {
    int value = 0;
    return driver.DeviceGetAttribute(&value, which, device) == CUDA_SUCCESS ? value : 0;
  };
  constexpr double kilohertz = 1e3;
  info.operations_a_second = 2.0 * or_zero(CU_DEVICE_ATTRIBUTE_CLOCK_RATE) * kilohertz *
                             info.multiprocessors * cores_of_multiprocessor(info.major, info.minor);
  // Two transfers a clock, of bits.
  info.bytes_a_second = 2.0 * or_zero(CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE) * kilohertz *
                        or_zero(CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH) / 8;
  std::size_t bytes = 0;
  driver.check(driver.DeviceTotalMem(&bytes, device), "asking for the memory of device {}", index);
  info.memory_bytes = static_cast<std::int64_t>(bytes);
  info.free_bytes = free_memory(driver, device);
  return info;
}

}  // namespace

DeviceList find_devices() {
  DeviceList list;
  try {
    const Driver& loaded = driver();
    list.driver = version_text(loaded.version);
    for (int i = 0; i < loaded.devices; ++i) list.devices.push_back(describe(loaded, i));
  } catch (const Error& error) {
    list.devices.clear();
    list.absent = error.what();
  }
  return list;
}

}  // namespace weft::runtime::cuda
