#include "runtime/cuda/single_step.h"

#include "runtime/cuda/code.h"
#include "runtime/cuda/fourier.h"
#include "runtime/plan/error.h"

namespace weft::runtime::cuda {

SingleStep::SingleStep(const plan::Plan& plan, const DeviceHandle& device, Stream& stream)
    : plan_(plan), device_(device), stream_(stream) {}

void SingleStep::kernel(const KernelLaunch& kernel) {
  try {
    launch(*device_, stream_, kernel);
    stream_.wait();
  } catch (const Error& error) {
    if (kernel_ == nullptr) throw;
    throw Error(fmt::format("plan \"{}\": {}, phase {}, of {} blocks of {} threads: {}", plan_.name,
                            text_of(*kernel_), kernel.function->name, kernel.grid, kernel.threads,
                            error.what()));
  }
}

void SingleStep::transform(const TransformLaunch& transform) {
  try {
    transform.plan->execute(stream_, transform);
    stream_.wait();
  } catch (const Error& error) {
    throw Error(fmt::format("plan \"{}\": {}, a Fourier transform: {}", plan_.name,
                            text_of(*kernel_), error.what()));
  }
}

void SingleStep::copy(CUdeviceptr from, CUdeviceptr to, std::int64_t bytes) {
  stream_.copy(from, to, bytes);
  stream_.wait();
}

}  // namespace weft::runtime::cuda
