#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/cuda/device.h"

namespace weft::runtime::cuda {

/// A kernel with its arguments: device pointers, or a number where the kernel takes one; then its
/// tensor maps.
struct KernelLaunch {
  const Function* function = nullptr;
  std::uint32_t grid = 1;
  std::uint32_t threads = 1;
  std::uint32_t shared_bytes = 0;
  std::span<const std::uint64_t> arguments;
  std::span<const CUtensorMap> tensor_maps = {};
};

class FourierPlan;

/// A transform by the library, which needs memory of its own while it runs.
struct TransformLaunch {
  const FourierPlan* plan = nullptr;
  CUdeviceptr workspace = 0;
  CUdeviceptr from = 0;
  CUdeviceptr to = 0;
};

/// Into a stream, on its own. The calling thread must be in the device's Scope for all below.
void launch(const Device& device, const Stream& stream, const KernelLaunch& kernel);

/// A graph ready to be launched.
class GraphExecutable {
 public:
  explicit GraphExecutable(Owned<CUgraphExec, &Driver::GraphExecDestroy> graph)
      : graph_(std::move(graph)) {}
  /// `what` for errors: "iteration 3 of plan \"mlp\"".
  void launch(const Stream& stream, std::string_view plan) const;

 private:
  Owned<CUgraphExec, &Driver::GraphExecDestroy> graph_;
};

/// Takes work that is done in the order in which it comes, but for branches beside each other.
class Work {
 public:
  virtual ~Work() = default;

  virtual void kernel(const KernelLaunch& kernel) = 0;
  virtual void transform(const TransformLaunch& transform) = 0;
  virtual void copy(CUdeviceptr from, CUdeviceptr to, std::int64_t bytes) = 0;

  /// What comes between begin_branch() and end_branches() is in the branch begun last; a branch
  /// waits for what was before the first, and what comes after end_branches() for all of them.
  virtual void begin_branch() = 0;
  virtual void end_branches() = 0;

  /// Around the launches of a plan's kernel, by its number.
  virtual void begin_kernel(std::uint32_t) {}
  virtual void end_kernel() {}
};

/// Makes a graph of the work.
class GraphBuilder : public Work {
 public:
  explicit GraphBuilder(const DeviceHandle& device);

  void kernel(const KernelLaunch& kernel) override;
  void transform(const TransformLaunch& transform) override;
  void copy(CUdeviceptr from, CUdeviceptr to, std::int64_t bytes) override;
  void begin_branch() override;
  void end_branches() override;

  std::int64_t nodes() const { return nodes_; }
  /// Instantiates; uploads through `stream`, so that the first launch does not wait for it.
  GraphExecutable build(const Stream& stream) const;

 private:
  void add(CUgraphNode node);
  void join();  ///< one node to wait for where there are several

  DeviceHandle device_;
  Owned<CUgraph, &Driver::GraphDestroy> graph_;
  std::vector<CUgraphNode> tails_;     ///< what the next node waits for
  std::vector<CUgraphNode> fork_;      ///< what a branch's first node waits for
  std::vector<CUgraphNode> branches_;  ///< the last nodes of the branches that are complete
  bool branching_ = false;
  std::int64_t nodes_ = 0;
};

}  // namespace weft::runtime::cuda
