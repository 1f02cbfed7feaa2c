#pragma once

#include <cstdint>

#include "runtime/cuda/graph.h"
#include "runtime/plan.h"

namespace weft::runtime::cuda {

/// Does work as it comes and waits after each launch, so that an Error names the kernel that went
/// wrong: from a graph the device says no more than that something did.
class SingleStep : public Work {
 public:
  SingleStep(const plan::Plan& plan, const DeviceHandle& device, Stream& stream);

  void kernel(const KernelLaunch& kernel) override;
  void transform(const TransformLaunch& transform) override;
  void copy(CUdeviceptr from, CUdeviceptr to, std::int64_t bytes) override;
  void begin_kernel(std::uint32_t kernel) override { kernel_ = &plan_.kernels[kernel]; }
  void end_kernel() override { kernel_ = nullptr; }

 private:
  const plan::Plan& plan_;
  DeviceHandle device_;
  Stream& stream_;
  const plan::Kernel* kernel_ = nullptr;
};

}  // namespace weft::runtime::cuda
