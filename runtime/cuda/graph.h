#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/cuda/dependences.h"
#include "runtime/cuda/device.h"

namespace weft::runtime::cuda {

/// A kernel with its arguments: device pointers, or a number where the kernel takes one; then its
/// tensor maps. All arguments as one parameter where it has a `table`.
struct KernelLaunch {
  const Function* function = nullptr;
  std::uint32_t grid = 1;
  std::uint32_t threads = 1;
  std::uint32_t shared_bytes = 0;
  std::span<const std::uint64_t> arguments;
  std::span<const CUtensorMap> tensor_maps = {};
  std::span<const Touch> touches = {};  ///< all memory that it reads or writes; for graphs
  bool table = false;
};

class FourierPlan;

/// A transform by the library, which needs memory of its own while it runs.
struct TransformLaunch {
  const FourierPlan* plan = nullptr;
  CUdeviceptr workspace = 0;
  CUdeviceptr from = 0;
  CUdeviceptr to = 0;
  std::span<const Touch> touches;  ///< as of a kernel, the workspace included
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

/// Takes work whose effect is that of doing it in the order in which it comes.
class Work {
 public:
  virtual ~Work() = default;

  virtual void kernel(const KernelLaunch& kernel) = 0;
  virtual void transform(const TransformLaunch& transform) = 0;
  virtual void copy(CUdeviceptr from, CUdeviceptr to, std::int64_t bytes) = 0;

  /// Whether one launch may be of several executions; otherwise each is one of its own.
  virtual bool takes_batches() const { return false; }
  /// Around the launches of a plan's kernel, by its number.
  virtual void begin_kernel(std::uint32_t) {}
  virtual void end_kernel() {}
};

/// Makes a graph of the work, in which a node waits for those that it depends on.
class GraphBuilder : public Work {
 public:
  explicit GraphBuilder(const DeviceHandle& device);

  void kernel(const KernelLaunch& kernel) override;
  void transform(const TransformLaunch& transform) override;
  void copy(CUdeviceptr from, CUdeviceptr to, std::int64_t bytes) override;
  bool takes_batches() const override { return true; }

  std::int64_t nodes() const { return static_cast<std::int64_t>(nodes_.size()); }
  /// Instantiates; uploads through `stream`, so that the first launch does not wait for it.
  GraphExecutable build(const Stream& stream) const;

 private:
  using Numbers = std::vector<std::uint32_t>;

  /// Adds a node by `make(its handle, the handles that it waits for, how many)`.
  template <typename Make>
  void add(std::span<const Touch> touches, const Make& make);
  std::vector<CUgraphNode> handles(std::span<const std::uint32_t> numbers) const;
  /// One node to wait for in place of those, where another node has waited for the same.
  void join(Numbers& numbers);

  DeviceHandle device_;
  Owned<CUgraph, &Driver::GraphDestroy> graph_;
  Dependences dependences_;
  std::vector<CUgraphNode> nodes_;  ///< by number
  /// What nodes have waited for, where that is much; the node that waits for it on behalf of
  /// others.
  std::map<Numbers, std::optional<std::uint32_t>> joins_;
};

}  // namespace weft::runtime::cuda
