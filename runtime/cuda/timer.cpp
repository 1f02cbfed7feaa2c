#include "runtime/cuda/timer.h"

#include "runtime/cuda/fourier.h"

namespace weft::runtime::cuda {
namespace {

/// More are collected before the run goes on.
constexpr std::size_t most_measurements = 4096;

}  // namespace

Timer::Timer(const plan::Plan& plan, const DeviceHandle& device) : device_(device) {
  for (const plan::Kernel& kernel : plan.kernels) times_.push_back({kernel.name, 0, 0});
}

void Timer::kernel(const KernelLaunch& kernel) { launch(*device_, *stream_, kernel); }

void Timer::transform(const TransformLaunch& transform) {
  transform.plan->execute(*stream_, transform);
}

void Timer::copy(CUdeviceptr from, CUdeviceptr to, std::int64_t bytes) {
  stream_->copy(from, to, bytes);
}

void Timer::begin_kernel(std::uint32_t kernel) {
  if (used_ == most_measurements) collect();
  if (used_ == measurements_.size()) {
    measurements_.push_back(
        {Event(device_, Event::Kind::timed), Event(device_, Event::Kind::timed), 0});
  }
  measurements_[used_].kernel = kernel;
  stream_->mark(measurements_[used_].begin);
}

void Timer::end_kernel() {
  stream_->mark(measurements_[used_].end);
  ++used_;
}

void Timer::collect() {
  // Whatever happens, they are not collected twice.
  const std::size_t count = std::exchange(used_, 0);
  if (count == 0) return;
  stream_->wait();
  for (std::size_t i = 0; i < count; ++i) {
    const Measurement& measurement = measurements_[i];
    KernelTime& time = times_[measurement.kernel];
    time.seconds += Event::elapsed_seconds(measurement.begin, measurement.end);
    ++time.launches;
  }
}

}  // namespace weft::runtime::cuda
