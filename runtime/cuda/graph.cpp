#include "runtime/cuda/graph.h"

#include <array>

#include "runtime/cuda/fourier.h"

namespace weft::runtime::cuda {
namespace {

/// Where two nodes wait for as many others, one that does nothing takes their edges: m nodes before
/// n others have m + n edges and not m * n.
constexpr std::size_t worth_joining = 4;

/// The driver takes the address of each parameter, and reads through it during the call.
std::vector<void*> parameters(const KernelLaunch& kernel) {
  if (kernel.table) return {const_cast<std::uint64_t*>(kernel.arguments.data())};
  std::vector<void*> addresses;
  addresses.reserve(kernel.arguments.size() + kernel.tensor_maps.size());
  for (const std::uint64_t& argument : kernel.arguments) {
    addresses.push_back(const_cast<std::uint64_t*>(&argument));
  }
  for (const CUtensorMap& map : kernel.tensor_maps) {
    addresses.push_back(const_cast<CUtensorMap*>(&map));
  }
  return addresses;
}

}  // namespace

void launch(const Device& device, const Stream& stream, const KernelLaunch& kernel) {
  std::vector<void*> arguments = parameters(kernel);
  device.driver().check(
      device.driver().LaunchKernel(kernel.function->handle, kernel.grid, 1, 1, kernel.threads, 1, 1,
                                   kernel.shared_bytes, stream.get(), arguments.data(), nullptr),
      "launching {}", kernel.function->name);
}

void GraphExecutable::launch(const Stream& stream, std::string_view plan) const {
  graph_.driver().check(graph_.driver().GraphLaunch(graph_.get(), stream.get()),
                        "plan \"{}\": launching a graph of its kernels", plan);
}

GraphBuilder::GraphBuilder(const DeviceHandle& device) : device_(device) {
  CUgraph graph = nullptr;
  device->driver().check(device->driver().GraphCreate(&graph, 0), "making a graph");
  graph_ = {device, graph};
}

std::vector<CUgraphNode> GraphBuilder::handles(std::span<const std::uint32_t> numbers) const {
  std::vector<CUgraphNode> found;
  found.reserve(numbers.size());
  for (const std::uint32_t number : numbers) found.push_back(nodes_[number]);
  return found;
}

template <typename Make>
void GraphBuilder::add(std::span<const Touch> touches, const Make& make) {
  Numbers numbers = dependences_.wanted(touches);
  join(numbers);
  const std::vector<CUgraphNode> after = handles(numbers);
  CUgraphNode added = nullptr;
  make(&added, after.data(), after.size());
  nodes_.push_back(added);
  dependences_.add(numbers, touches);
}

void GraphBuilder::join(Numbers& numbers) {
  if (numbers.size() < worth_joining) return;
  const auto [known, first] = joins_.try_emplace(numbers);
  if (first) return;
  if (!known->second) {
    const std::vector<CUgraphNode> after = handles(numbers);
    CUgraphNode added = nullptr;
    device_->driver().check(
        device_->driver().GraphAddEmptyNode(&added, graph_.get(), after.data(), after.size()),
        "adding a node to a graph");
    known->second = static_cast<std::uint32_t>(nodes_.size());
    nodes_.push_back(added);
    dependences_.add(numbers, {});
  }
  numbers.assign(1, *known->second);
}

void GraphBuilder::kernel(const KernelLaunch& kernel) {
  std::vector<void*> arguments = parameters(kernel);
  CUDA_KERNEL_NODE_PARAMS_v2 node{};
  node.func = kernel.function->handle;
  node.gridDimX = kernel.grid;
  node.gridDimY = 1;
  node.gridDimZ = 1;
  node.blockDimX = kernel.threads;
  node.blockDimY = 1;
  node.blockDimZ = 1;
  node.sharedMemBytes = kernel.shared_bytes;
  node.kernelParams = arguments.data();
  add(kernel.touches, [&](CUgraphNode* made, const CUgraphNode* after, std::size_t count) {
    device_->driver().check(
        device_->driver().GraphAddKernelNode(made, graph_.get(), after, count, &node),
        "adding {} to a graph", kernel.function->name);
  });
}

void GraphBuilder::copy(CUdeviceptr from, CUdeviceptr to, std::int64_t bytes) {
  if (bytes == 0 || from == to) return;
  CUDA_MEMCPY3D_v2 node{};
  node.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  node.srcDevice = from;
  node.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  node.dstDevice = to;
  node.WidthInBytes = static_cast<std::size_t>(bytes);
  node.Height = 1;
  node.Depth = 1;
  const std::array<Touch, 2> touches = {Touch{from, bytes, false}, Touch{to, bytes, true}};
  add(touches, [&](CUgraphNode* made, const CUgraphNode* after, std::size_t count) {
    device_->driver().check(device_->driver().GraphAddMemcpyNode(made, graph_.get(), after, count,
                                                                 &node, device_->context()),
                            "adding a copy of {} bytes to a graph", bytes);
  });
}

void GraphBuilder::transform(const TransformLaunch& transform) {
  // The library takes a stream only; what it puts there while that is captured becomes a graph.
  const Driver& driver = device_->driver();
  const Stream stream(device_);
  driver.check(driver.StreamBeginCapture(stream.get(), CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
               "capturing a Fourier transform");
  CUgraph captured = nullptr;
  try {
    transform.plan->execute(stream, transform);
  } catch (...) {
    if (driver.StreamEndCapture(stream.get(), &captured) == CUDA_SUCCESS) {
      driver.GraphDestroy(captured);
    }
    throw;
  }
  driver.check(driver.StreamEndCapture(stream.get(), &captured), "capturing a Fourier transform");
  const Owned<CUgraph, &Driver::GraphDestroy> graph(device_, captured);
  add(transform.touches, [&](CUgraphNode* made, const CUgraphNode* after, std::size_t count) {
    driver.check(driver.GraphAddChildGraphNode(made, graph_.get(), after, count, graph.get()),
                 "adding a Fourier transform to a graph");
  });
}

GraphExecutable GraphBuilder::build(const Stream& stream) const {
  const Driver& driver = device_->driver();
  CUgraphExec made = nullptr;
  driver.check(driver.GraphInstantiateWithFlags(&made, graph_.get(), 0),
               "instantiating a graph of {} nodes", nodes());
  Owned<CUgraphExec, &Driver::GraphExecDestroy> owned(device_, made);
  driver.check(driver.GraphUpload(made, stream.get()), "uploading a graph of {} nodes", nodes());
  return GraphExecutable(std::move(owned));
}

}  // namespace weft::runtime::cuda
