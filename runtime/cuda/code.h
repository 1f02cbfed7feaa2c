#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/cuda/fourier.h"
#include "runtime/cuda/graph.h"
#include "runtime/plan.h"

namespace weft::runtime::cuda {

/// "kernel dot_elw.12 (model.cpp:7)".
std::string text_of(const plan::Kernel& kernel);

/// A plan's kernels and what the runtime itself runs on a device, loaded.
class PlanCode {
 public:
  /// Throws Error where the plan is for another GPU, its code does not load, or a kernel wants more
  /// than the device has.
  PlanCode(const plan::Plan& plan, const DeviceHandle& device);

  struct Phase {
    Function function;
    std::uint32_t grid = 0;  ///< 0: nothing to run
    std::uint32_t threads = 0;
    std::uint32_t shared_bytes = 0;
    /// What the library does in place of the function, between two arguments.
    std::shared_ptr<const FourierPlan> fourier_plan = nullptr;
    plan::Transform transform{};
  };
  const std::vector<Phase>& phases(std::uint32_t kernel) const { return kernels_[kernel]; }
  /// Memory for the library, of which one transform at a time has all.
  CUdeviceptr fourier_workspace() const { return fourier_workspace_.address(); }
  /// (a, b): *a = b, an i64.
  const Function& set_index() const { return set_index_; }
  /// (a, b): *b = *a, then *a += 1; both i64.
  const Function& next_index() const { return next_index_; }

 private:
  void load(const plan::Plan& plan, const plan::Kernel& kernel, const Module& module);
  void prepare_transforms(const plan::Plan& plan);

  DeviceHandle device_;
  std::vector<Module> modules_;
  std::vector<std::vector<Phase>> kernels_;
  DeviceMemory fourier_workspace_;
  Function set_index_;
  Function next_index_;
};

}  // namespace weft::runtime::cuda
