#pragma once

#include <map>
#include <span>
#include <vector>

#include "runtime/cuda/device.h"
#include "runtime/plan.h"

namespace weft::runtime::cuda {

/// The tensor maps of a plan's launches, encoded by the driver for the memory that a launch has.
class TensorMaps {
 public:
  TensorMaps(const plan::Plan& plan, const DeviceHandle& device) : plan_(plan), device_(device) {}

  /// Of a launch, which is one of the plan's steps and has these addresses of its buffers; at one
  /// place until forget(). Throws Error that names the kernel and what the driver was asked for.
  /// The calling thread must be in the device's Scope.
  std::span<const CUtensorMap> of(const plan::Step& launch,
                                  std::span<const std::uint64_t> addresses);
  /// Addresses have changed.
  void forget() { encoded_.clear(); }

 private:
  CUtensorMap encode(const plan::Kernel& kernel, std::size_t number,
                     std::span<const std::uint64_t> addresses) const;

  const plan::Plan& plan_;
  DeviceHandle device_;
  std::map<const plan::Step*, std::vector<CUtensorMap>> encoded_;
};

}  // namespace weft::runtime::cuda
