#include "device.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "runtime/plan/error.h"

namespace weft::detail {

std::string processor_of(const runtime::cuda::DeviceInfo& gpu) {
  // Those that the code generator knows; a newer one runs what is for an older one.
  constexpr std::array known = {80, 86, 87, 89, 90};
  const int capability = gpu.major * 10 + gpu.minor;
  const auto* const newer = std::upper_bound(known.begin(), known.end(), capability);
  if (newer == known.begin()) {
    throw Error(fmt::format("{} has the compute capability {}.{}; weft needs {}.{} or newer",
                            gpu.name, gpu.major, gpu.minor, known.front() / 10,
                            known.front() % 10));
  }
  // What only this one has is in code for nothing else.
  return fmt::format("sm_{}{}", *(newer - 1), capability == 90 ? "a" : "");
}

Device find_device(std::string_view name) {
  if (name == "cpu") return {};
  const std::string_view number = name.starts_with("cuda:") ? name.substr(5) : "0";
  Device device;
  const auto [end, error] =
      std::from_chars(number.data(), number.data() + number.size(), device.index);
  const bool good = error == std::errc{} && end == number.data() + number.size();
  if ((name != "cuda" && !name.starts_with("cuda:")) || !good || device.index < 0) {
    throw Error("there is no device of that name; devices are cpu, cuda and cuda:1");
  }
  const runtime::cuda::DeviceList gpus = runtime::cuda::find_devices();
  if (gpus.devices.empty()) throw Error(gpus.absent);
  if (static_cast<std::size_t>(device.index) >= gpus.devices.size()) {
    throw Error(fmt::format("CUDA: the driver shows {} device{}, counted from 0",
                            gpus.devices.size(), gpus.devices.size() == 1 ? "" : "s"));
  }
  device.gpu = processor_of(gpus.devices[static_cast<std::size_t>(device.index)]);
  return device;
}

}  // namespace weft::detail
