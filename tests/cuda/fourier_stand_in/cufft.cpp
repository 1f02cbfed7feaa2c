// A cuFFT for tests on machines without a GPU: transforms by their definition, on the stand-in for
// the driver. What a plan was made with is checked where it is used.
#include <cufft.h>

#include <complex>
#include <cstring>
#include <map>
#include <mutex>
#include <numbers>
#include <vector>

#include "tests/cuda/stand_in/stand_in.h"

namespace {

using weft::stand_in::add_work;
using weft::stand_in::call_fails;
using weft::stand_in::Touch;
using Complex = std::complex<double>;

/// What a plan asks for and then writes all of.
constexpr std::size_t workspace_bytes = 4096;

struct Layout {
  long long stride = 0;
  long long distance = 0;
};

struct Plan {
  long long length = 0;
  long long lines = 0;
  Layout from;
  Layout to;
  cufftType type = CUFFT_C2C;
  bool allocates = true;
  bool made = false;
  cudaStream_t stream = nullptr;
  void* workspace = nullptr;
};

std::mutex mutex;
std::map<cufftHandle, Plan> plans;
cufftHandle made = 0;

Plan* find(cufftHandle handle) {
  const auto found = plans.find(handle);
  return found == plans.end() ? nullptr : &found->second;
}

/// Bytes from the first element to the last.
std::int64_t extent(const Plan& plan, const Layout& layout, long long points, int element) {
  return ((plan.lines - 1) * layout.distance + (points - 1) * layout.stride + 1) * element;
}

void transform(const Plan& plan, bool inverse, const std::byte* from, std::byte* to) {
  const bool real_from = plan.type == CUFFT_R2C;
  const bool real_to = plan.type == CUFFT_C2R;
  const long long bins = plan.length / 2 + 1;
  const auto at = [](long long index) { return static_cast<std::size_t>(index); };
  for (long long line = 0; line < plan.lines; ++line) {
    std::vector<Complex> points(at(plan.length));
    for (long long i = 0; i < (real_to ? bins : plan.length); ++i) {
      float value[2] = {0, 0};
      const long long position = line * plan.from.distance + i * plan.from.stride;
      std::memcpy(value, from + position * (real_from ? 4 : 8), real_from ? 4 : 8);
      points[at(i)] = {value[0], value[1]};
    }
    for (long long i = bins; real_to && i < plan.length; ++i) {
      points[at(i)] = std::conj(points[at(plan.length - i)]);
    }
    for (long long k = 0; k < (real_from ? bins : plan.length); ++k) {
      Complex sum = 0;
      for (long long i = 0; i < plan.length; ++i) {
        const double turn =
            static_cast<double>(i * k % plan.length) / static_cast<double>(plan.length);
        sum += points[at(i)] * std::polar(1.0, (inverse ? 2 : -2) * std::numbers::pi * turn);
      }
      const float value[2] = {static_cast<float>(sum.real()), static_cast<float>(sum.imag())};
      const long long position = line * plan.to.distance + k * plan.to.stride;
      std::memcpy(to + position * (real_to ? 4 : 8), value, real_to ? 4 : 8);
    }
  }
}

cufftResult execute(cufftHandle handle, cufftType type, bool inverse, void* from, void* to) {
  const std::lock_guard lock(mutex);
  const Plan* plan = find(handle);
  if (plan == nullptr || !plan->made || plan->type != type) return CUFFT_INVALID_PLAN;
  // A plan that must not allocate works where it was told to.
  if (plan->allocates || plan->workspace == nullptr) return CUFFT_EXEC_FAILED;
  const long long bins = plan->length / 2 + 1;
  const std::int64_t read =
      extent(*plan, plan->from, type == CUFFT_C2R ? bins : plan->length, type == CUFFT_R2C ? 4 : 8);
  const std::int64_t written =
      extent(*plan, plan->to, type == CUFFT_R2C ? bins : plan->length, type == CUFFT_C2R ? 4 : 8);
  const auto address = [](void* memory) { return reinterpret_cast<std::uint64_t>(memory); };
  const std::vector<Touch> touched = {{address(from), read, type == CUFFT_C2R},
                                      {address(to), written, true},
                                      {address(plan->workspace), workspace_bytes, true}};
  const auto work = [copy = *plan, inverse, from, to, read] {
    transform(copy, inverse, static_cast<const std::byte*>(from), static_cast<std::byte*>(to));
    std::memset(copy.workspace, 0xff, workspace_bytes);
    // The library may leave anything there.
    if (copy.type == CUFFT_C2R) std::memset(from, 0xff, static_cast<std::size_t>(read));
  };
  return add_work(plan->stream, "transform", touched, work) == CUDA_SUCCESS ? CUFFT_SUCCESS
                                                                            : CUFFT_EXEC_FAILED;
}

}  // namespace

extern "C" {

cufftResult cufftCreate(cufftHandle* handle) {
  if (call_fails("cufftCreate")) return CUFFT_ALLOC_FAILED;
  const std::lock_guard lock(mutex);
  *handle = ++made;
  plans[*handle] = {};
  weft::stand_in::count_alive("Fourier plans", 1);
  return CUFFT_SUCCESS;
}

cufftResult cufftDestroy(cufftHandle handle) {
  call_fails("cufftDestroy");
  const std::lock_guard lock(mutex);
  if (plans.erase(handle) != 1) return CUFFT_INVALID_PLAN;
  weft::stand_in::count_alive("Fourier plans", -1);
  return CUFFT_SUCCESS;
}

cufftResult cufftSetAutoAllocation(cufftHandle handle, int allocates) {
  if (call_fails("cufftSetAutoAllocation")) return CUFFT_INTERNAL_ERROR;
  const std::lock_guard lock(mutex);
  Plan* plan = find(handle);
  if (plan == nullptr || plan->made) return CUFFT_INVALID_PLAN;
  plan->allocates = allocates != 0;
  return CUFFT_SUCCESS;
}

cufftResult cufftMakePlanMany64(cufftHandle handle, int rank, long long* length,
                                long long* from_points, long long from_stride,
                                long long from_distance, long long* to_points, long long to_stride,
                                long long to_distance, cufftType type, long long lines,
                                size_t* bytes) {
  if (call_fails("cufftMakePlanMany64")) return CUFFT_INVALID_SIZE;
  const std::lock_guard lock(mutex);
  Plan* plan = find(handle);
  if (plan == nullptr || plan->made) return CUFFT_INVALID_PLAN;
  // Without these the strides count for nothing.
  if (rank != 1 || from_points == nullptr || to_points == nullptr) return CUFFT_INVALID_VALUE;
  plan->length = *length;
  plan->lines = lines;
  plan->from = {from_stride, from_distance};
  plan->to = {to_stride, to_distance};
  plan->type = type;
  plan->made = true;
  *bytes = workspace_bytes;
  return CUFFT_SUCCESS;
}

cufftResult cufftSetWorkArea(cufftHandle handle, void* workspace) {
  if (call_fails("cufftSetWorkArea")) return CUFFT_INTERNAL_ERROR;
  const std::lock_guard lock(mutex);
  Plan* plan = find(handle);
  if (plan == nullptr) return CUFFT_INVALID_PLAN;
  plan->workspace = workspace;
  return CUFFT_SUCCESS;
}

cufftResult cufftSetStream(cufftHandle handle, cudaStream_t stream) {
  if (call_fails("cufftSetStream")) return CUFFT_INTERNAL_ERROR;
  const std::lock_guard lock(mutex);
  Plan* plan = find(handle);
  if (plan == nullptr) return CUFFT_INVALID_PLAN;
  plan->stream = stream;
  return CUFFT_SUCCESS;
}

cufftResult cufftExecC2C(cufftHandle handle, cufftComplex* from, cufftComplex* to, int direction) {
  if (call_fails("cufftExecC2C")) return CUFFT_EXEC_FAILED;
  return execute(handle, CUFFT_C2C, direction == CUFFT_INVERSE, from, to);
}

cufftResult cufftExecR2C(cufftHandle handle, cufftReal* from, cufftComplex* to) {
  if (call_fails("cufftExecR2C")) return CUFFT_EXEC_FAILED;
  return execute(handle, CUFFT_R2C, false, from, to);
}

cufftResult cufftExecC2R(cufftHandle handle, cufftComplex* from, cufftReal* to) {
  if (call_fails("cufftExecC2R")) return CUFFT_EXEC_FAILED;
  return execute(handle, CUFFT_C2R, true, from, to);
}

}  // extern "C"
