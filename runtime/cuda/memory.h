#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/cuda/device.h"
#include "runtime/plan.h"
#include "runtime/state.h"

namespace weft::runtime::cuda {

/// A State's tensor on a device. May outlive the executable that asked for it.
class StateTensor : public DeviceTensor {
 public:
  StateTensor(std::shared_ptr<Stream> stream, const DeviceHandle& device, std::int64_t bytes,
              const std::string& name);
  void upload(std::span<const std::byte> from) override;
  void download(std::span<std::byte> to) override;

  const DeviceHandle& device() const { return device_; }
  CUdeviceptr address() const { return memory_.address(); }

 private:
  DeviceHandle device_;
  std::shared_ptr<Stream> stream_;
  DeviceMemory memory_;
};

/// A plan's buffers on a device, at addresses that do not change but for states'. All but states is
/// allocated and filled when it is made; Error where there is not enough.
class PlanMemory {
 public:
  PlanMemory(const plan::Plan& plan, const DeviceHandle& device, Stream& stream);

  /// By buffer; of a state 0 until it is bound.
  std::span<const CUdeviceptr> addresses() const { return addresses_; }
  /// Gives the state's tensors copies on the device and takes their addresses; says whether any
  /// address is another than before.
  bool bind(State& state);
  /// Uploads what the host has of the states, which from here on is the device's to change.
  void take_states();
  void set_scalar(std::size_t buffer, std::span<const std::byte> value);
  /// Uploads what set_scalar() was given.
  void upload_scalars(Stream& stream);

 private:
  void fill(Stream& stream);

  const plan::Plan& plan_;
  DeviceHandle device_;
  DeviceMemory arena_;
  DeviceMemory constants_;  ///< and scalars
  std::vector<CUdeviceptr> addresses_;
  std::vector<std::vector<std::byte>> scalars_;  ///< by buffer; empty: as it is on the device
  std::unique_ptr<State> state_;
  std::vector<std::string> names_;                     ///< of states, each once
  std::vector<std::shared_ptr<StateTensor>> tensors_;  ///< as long as addresses_ has theirs
};

}  // namespace weft::runtime::cuda
