#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "runtime/cuda/graph.h"
#include "runtime/executable.h"
#include "runtime/plan.h"

namespace weft::runtime::cuda {

/// Does work as it comes, one launch after the other, and measures each kernel on the device.
class Timer : public Work {
 public:
  Timer(const plan::Plan& plan, const DeviceHandle& device);

  /// Where work goes from here on.
  void use(Stream& stream) { stream_ = &stream; }
  void kernel(const KernelLaunch& kernel) override;
  void transform(const TransformLaunch& transform) override;
  void copy(CUdeviceptr from, CUdeviceptr to, std::int64_t bytes) override;
  void begin_kernel(std::uint32_t kernel) override;
  void end_kernel() override;

  /// Waits for what was launched and adds up its times.
  void collect();
  const std::vector<KernelTime>& times() const { return times_; }

 private:
  struct Measurement {
    Event begin;
    Event end;
    std::uint32_t kernel = 0;
  };

  DeviceHandle device_;
  Stream* stream_ = nullptr;
  std::vector<KernelTime> times_;
  std::deque<Measurement> measurements_;  ///< the first `used_` are not collected
  std::size_t used_ = 0;
};

}  // namespace weft::runtime::cuda
