#pragma once

#include <cufft.h>

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "runtime/cuda/graph.h"
#include "runtime/plan/transform.h"

/// cuFFT, loaded when a plan first has a transform for it.
namespace weft::runtime::cuda {

#define WEFT_CUFFT_FUNCTIONS(X) \
  X(Create)                     \
  X(Destroy)                    \
  X(SetAutoAllocation)          \
  X(MakePlanMany64)             \
  X(SetWorkArea)                \
  X(SetStream)                  \
  X(ExecC2C)                    \
  X(ExecR2C)                    \
  X(ExecC2R)

struct FourierLibrary {
#define WEFT_CUFFT_MEMBER(name)                  \
  using name##Function = decltype(&cufft##name); \
  name##Function name = nullptr;
  WEFT_CUFFT_FUNCTIONS(WEFT_CUFFT_MEMBER)
#undef WEFT_CUFFT_MEMBER

  /// Throws Error: "cuFFT: <doing>: CUFFT_...".
  void check(cufftResult result, std::string_view doing) const;
};

/// The process's library: libcufft.so.12, then libcufft.so.11, or what WEFT_CUFFT names. Throws
/// Error that says what could not be loaded, and then tries again when next called.
const FourierLibrary& fourier_library();

/// What the library has prepared for a kind of transform. Belongs to a Device, which outlives it.
class FourierPlan {
 public:
  FourierPlan(const Device& device, const plan::Transform& transform);
  ~FourierPlan();
  FourierPlan(const FourierPlan&) = delete;
  FourierPlan& operator=(const FourierPlan&) = delete;

  const plan::Transform& transform() const { return transform_; }
  std::int64_t workspace_bytes() const { return workspace_bytes_; }
  /// Puts it on a stream. The device's Scope must be the caller's.
  void execute(const Stream& stream, const TransformLaunch& launch) const;

 private:
  const Device& device_;
  const FourierLibrary& library_;
  plan::Transform transform_;
  cufftHandle handle_ = 0;
  std::int64_t workspace_bytes_ = 0;
  mutable std::mutex mutex_;  ///< the stream is set, and then used
};

/// A device's prepared transforms, of which those that were used last are kept.
class FourierPlans {
 public:
  /// Of the same strides and lengths; where in arguments it works does not matter.
  std::shared_ptr<const FourierPlan> get(const Device& device, const plan::Transform& transform);

 private:
  std::mutex mutex_;
  std::list<std::shared_ptr<const FourierPlan>> plans_;  ///< the last used first
};

}  // namespace weft::runtime::cuda
