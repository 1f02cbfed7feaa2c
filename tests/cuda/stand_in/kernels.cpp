// Modules, launches, graphs.
#include <algorithm>
#include <cstring>
#include <set>

#include "entries.h"
#include "machine.h"

namespace weft::stand_in::entry {
namespace {

constexpr unsigned int most_blocks_x = 0x7fffffff;
constexpr unsigned int most_blocks_yz = 65535;
constexpr std::int64_t most_shared_bytes = 232448;

Machine& machine() { return Machine::get(); }

struct Shape {
  unsigned int grid[3];
  unsigned int block[3];
  unsigned int shared_bytes;
};

/// Arguments of several executions, by value. A tensor map is aligned to 64 bytes.
bool is_table(const ptx::Entry& entry) {
  return entry.parameters.size() == 1 && entry.parameters[0].bytes > 8 &&
         entry.parameters[0].alignment == 8;
}

/// What a launch is of; reports what no device takes.
CUresult launch_of(CUfunction handle, const Shape& shape, void** values, Work& work) {
  Function* function = machine().find(handle);
  if (function == nullptr) {
    machine().violation("launch: of a function of no loaded module");
    return CUDA_ERROR_INVALID_HANDLE;
  }
  const std::string what = "launch of " + function->name;
  const auto wrong = [&](const char* text) {
    machine().violation(what + ": " + text);
    return CUDA_ERROR_INVALID_VALUE;
  };
  if (shape.grid[0] < 1 || shape.grid[0] > most_blocks_x || shape.grid[1] < 1 ||
      shape.grid[1] > most_blocks_yz || shape.grid[2] < 1 || shape.grid[2] > most_blocks_yz) {
    return wrong("no such grid");
  }
  const std::uint64_t threads =
      std::uint64_t{shape.block[0]} * shape.block[1] * std::uint64_t{shape.block[2]};
  if (threads < 1 || threads > static_cast<std::uint64_t>(machine().settings.most_threads)) {
    return wrong("no such block");
  }
  if (shape.shared_bytes > function->shared_bytes) return wrong("more shared memory than it has");
  const std::vector<ptx::Parameter>& given = function->entry->parameters;
  work.kind = Work::Kind::kernel;
  work.name = function->name;
  work.function = function;
  work.call.grid = shape.grid[0];
  work.call.threads = static_cast<std::int64_t>(threads);
  work.call.shared_bytes = shape.shared_bytes;
  std::copy_n(shape.grid, 3, work.grid.begin());
  std::copy_n(shape.block, 3, work.block.begin());
  work.parameters.resize(static_cast<std::size_t>(function->entry->parameter_bytes));
  if (is_table(*function->entry)) {
    std::memcpy(work.parameters.data(), values[0], work.parameters.size());
    std::vector<std::uint64_t>& arguments = work.call.arguments;
    arguments.resize(work.parameters.size() / sizeof(std::uint64_t));
    std::memcpy(arguments.data(), values[0], work.parameters.size());
    arguments.erase(std::find(arguments.begin(), arguments.end(), 0), arguments.end());
    if (function->kernel != nullptr && arguments.size() % function->kernel->arguments.size() != 0) {
      return wrong("its table is not of executions of the test's kernel");
    }
    return CUDA_SUCCESS;
  }
  const auto is_map = [](const ptx::Parameter& one) { return one.bytes == sizeof(CUtensorMap); };
  const auto maps = std::find_if(given.begin(), given.end(), is_map);
  const auto arguments = static_cast<std::size_t>(maps - given.begin());
  if (!std::all_of(given.begin(), maps, [](const auto& one) { return one.bytes <= 8; }) ||
      !std::all_of(maps, given.end(), is_map) ||
      (function->kernel != nullptr && function->kernel->arguments.size() != arguments)) {
    return wrong("its parameters are not those of the test's kernel");
  }
  for (std::size_t i = 0; i < given.size(); ++i) {
    const auto bytes = static_cast<std::size_t>(given[i].bytes);
    std::memcpy(work.parameters.data() + given[i].offset, values[i], bytes);
    if (i < arguments) {
      std::uint64_t value = 0;
      std::memcpy(&value, values[i], bytes);
      work.call.arguments.push_back(value);
      continue;
    }
    CUtensorMap map{};
    std::memcpy(&map, values[i], sizeof map);
    const TensorMap* known = machine().find(map);
    if (known == nullptr) return wrong("it is given a tensor map that is none");
    work.call.tensor_maps.push_back(*known);
  }
  return CUDA_SUCCESS;
}

CUresult add_node(CUgraphNode* node, CUgraph handle, const CUgraphNode* after, std::size_t count,
                  Work work) {
  const auto graph = machine().graphs.find(handle);
  if (graph == machine().graphs.end()) {
    machine().violation("adding a node to no graph");
    return CUDA_ERROR_INVALID_HANDLE;
  }
  auto made = std::make_unique<Node>();
  made->work = std::move(work);
  made->index = graph->second->nodes.size();
  for (std::size_t i = 0; i < count; ++i) {
    const auto& nodes = graph->second->nodes;
    const auto known = std::find_if(nodes.begin(), nodes.end(), [&](const auto& other) {
      return reinterpret_cast<CUgraphNode>(other.get()) == after[i];
    });
    if (known == nodes.end()) {
      machine().violation("adding a node after one of another graph");
      return CUDA_ERROR_INVALID_VALUE;
    }
    made->after.push_back(known->get());
  }
  *node = reinterpret_cast<CUgraphNode>(made.get());
  graph->second->nodes.push_back(std::move(made));
  return CUDA_SUCCESS;
}

/// Reports accesses to the same memory by nodes that no edge orders.
void check_edges(const Graph& graph) {
  const std::size_t n = graph.nodes.size();
  std::vector<std::vector<bool>> before(n, std::vector<bool>(n));
  std::vector<std::vector<Range>> ranges(n);
  for (std::size_t i = 0; i < n; ++i) {
    const Node& node = *graph.nodes[i];
    ranges[i] = machine().ranges(node.work, node.work.name);
    for (const Node* other : node.after) {
      before[i][other->index] = true;
      for (std::size_t k = 0; k < other->index; ++k) {
        if (before[other->index][k]) before[i][k] = true;
      }
    }
    for (std::size_t k = 0; k < i; ++k) {
      if (before[i][k]) continue;
      for (const Range& a : ranges[i]) {
        for (const Range& b : ranges[k]) {
          if ((a.writes || b.writes) && a.begin < b.begin + static_cast<std::uintptr_t>(b.bytes) &&
              b.begin < a.begin + static_cast<std::uintptr_t>(a.bytes)) {
            machine().violation("graph: " + node.work.name + " is not ordered after " +
                                graph.nodes[k]->work.name + ", which touches the same memory");
          }
        }
      }
    }
  }
}

/// The works in an order that the edges allow, what was added last as early as may be.
std::vector<Work> ordered(const Graph& graph) {
  std::vector<std::size_t> missing(graph.nodes.size());
  std::vector<std::vector<std::size_t>> followers(graph.nodes.size());
  std::set<std::size_t> ready;
  for (const auto& node : graph.nodes) {
    missing[node->index] = node->after.size();
    for (const Node* other : node->after) followers[other->index].push_back(node->index);
    if (node->after.empty()) ready.insert(node->index);
  }
  std::vector<Work> works;
  while (!ready.empty()) {
    const std::size_t next = *ready.rbegin();
    ready.erase(next);
    works.push_back(graph.nodes[next]->work);
    for (const std::size_t follower : followers[next]) {
      if (--missing[follower] == 0) ready.insert(follower);
    }
  }
  return works;
}

}  // namespace

CUresult ModuleLoadDataEx(CUmodule* module, const void* image, unsigned int count,
                          CUjit_option* options, void** values) {
  auto made = std::make_unique<Module>();
  try {
    made->code.emplace(static_cast<const char*>(image));
  } catch (const ptx::Error& error) {
    char* log = nullptr;
    std::size_t bytes = 0;
    for (unsigned int i = 0; i < count; ++i) {
      if (options[i] == CU_JIT_ERROR_LOG_BUFFER) log = static_cast<char*>(values[i]);
      if (options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES) {
        bytes = reinterpret_cast<std::size_t>(values[i]);
      }
    }
    if (log != nullptr) std::strncpy(log, error.what(), bytes);
    return CUDA_ERROR_INVALID_PTX;
  }
  for (const ptx::Entry& entry : made->code->entries()) {
    auto function = std::make_unique<Function>();
    function->name = entry.name;
    function->entry = &entry;
    const auto kernel = machine().kernels.find(function->name);
    if (kernel != machine().kernels.end()) function->kernel = &kernel->second;
    made->functions[function->name] = std::move(function);
  }
  *module = reinterpret_cast<CUmodule>(made.get());
  machine().modules[*module] = std::move(made);
  return CUDA_SUCCESS;
}

CUresult ModuleUnload(CUmodule module) {
  if (machine().modules.erase(module) == 1) return CUDA_SUCCESS;
  machine().violation("cuModuleUnload: of no loaded module");
  return CUDA_ERROR_INVALID_HANDLE;
}

CUresult ModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  const auto found = machine().modules.find(module);
  if (found == machine().modules.end()) return CUDA_ERROR_INVALID_HANDLE;
  const auto named = found->second->functions.find(name);
  if (named == found->second->functions.end()) return CUDA_ERROR_NOT_FOUND;
  *function = reinterpret_cast<CUfunction>(named->second.get());
  return CUDA_SUCCESS;
}

CUresult FuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
  Function* function = machine().find(handle);
  if (function == nullptr || attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES ||
      value < 0 || value > most_shared_bytes) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  function->shared_bytes = value;
  return CUDA_SUCCESS;
}

CUresult FuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction handle) {
  if (machine().find(handle) == nullptr || attribute != CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *value = machine().settings.most_threads;
  return CUDA_SUCCESS;
}

CUresult LaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y,
                      unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                      unsigned int block_z, unsigned int shared_bytes, CUstream stream,
                      void** values, void** extra) {
  const auto on = machine().streams.find(stream);
  if (on == machine().streams.end() || extra != nullptr) {
    machine().violation("cuLaunchKernel: on no stream, or with extra options");
    return CUDA_ERROR_INVALID_VALUE;
  }
  Work work;
  const Shape shape{{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes};
  if (const CUresult result = launch_of(function, shape, values, work); result != CUDA_SUCCESS) {
    return result;
  }
  machine().put(*on->second, std::move(work));
  return CUDA_SUCCESS;
}

CUresult StreamBeginCapture(CUstream stream, CUstreamCaptureMode) {
  const auto on = machine().streams.find(stream);
  if (on == machine().streams.end() || on->second->captured != nullptr) {
    machine().violation("cuStreamBeginCapture: of no stream, or of one that is captured already");
    return CUDA_ERROR_INVALID_VALUE;
  }
  on->second->captured = std::make_unique<Graph>();
  return CUDA_SUCCESS;
}

CUresult StreamEndCapture(CUstream stream, CUgraph* graph) {
  const auto on = machine().streams.find(stream);
  if (on == machine().streams.end() || on->second->captured == nullptr) {
    machine().violation("cuStreamEndCapture: of a stream that is not captured");
    return CUDA_ERROR_INVALID_VALUE;
  }
  *graph = reinterpret_cast<CUgraph>(on->second->captured.get());
  machine().graphs[*graph] = std::move(on->second->captured);
  return CUDA_SUCCESS;
}

CUresult GraphCreate(CUgraph* graph, unsigned int) {
  auto made = std::make_unique<Graph>();
  *graph = reinterpret_cast<CUgraph>(made.get());
  machine().graphs[*graph] = std::move(made);
  return CUDA_SUCCESS;
}

CUresult GraphDestroy(CUgraph graph) {
  if (machine().graphs.erase(graph) == 1) return CUDA_SUCCESS;
  machine().violation("cuGraphDestroy: of no graph");
  return CUDA_ERROR_INVALID_HANDLE;
}

CUresult GraphAddKernelNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after,
                            std::size_t count, const CUDA_KERNEL_NODE_PARAMS_v2* parameters) {
  Work work;
  const Shape shape{{parameters->gridDimX, parameters->gridDimY, parameters->gridDimZ},
                    {parameters->blockDimX, parameters->blockDimY, parameters->blockDimZ},
                    parameters->sharedMemBytes};
  const CUresult result = launch_of(parameters->func, shape, parameters->kernelParams, work);
  return result == CUDA_SUCCESS ? add_node(node, graph, after, count, std::move(work)) : result;
}

CUresult GraphAddMemcpyNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after,
                            std::size_t count, const CUDA_MEMCPY3D_v2* copy, CUcontext context) {
  if (copy->srcMemoryType != CU_MEMORYTYPE_DEVICE || copy->dstMemoryType != CU_MEMORYTYPE_DEVICE ||
      copy->Height != 1 || copy->Depth != 1 || copy->WidthInBytes == 0 || context == nullptr) {
    machine().violation("cuGraphAddMemcpyNode: no copy of a row of bytes on a device");
    return CUDA_ERROR_INVALID_VALUE;
  }
  Work work;
  work.kind = Work::Kind::copy;
  work.name = "copy";
  work.from = copy->srcDevice + copy->srcXInBytes;
  work.to = copy->dstDevice + copy->dstXInBytes;
  work.bytes = static_cast<std::int64_t>(copy->WidthInBytes);
  return add_node(node, graph, after, count, std::move(work));
}

CUresult GraphAddEmptyNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after,
                           std::size_t count) {
  return add_node(node, graph, after, count, {});
}

CUresult GraphAddChildGraphNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after,
                                std::size_t count, CUgraph child) {
  const auto found = machine().graphs.find(child);
  if (found == machine().graphs.end() || graph == child) {
    machine().violation("cuGraphAddChildGraphNode: of no graph");
    return CUDA_ERROR_INVALID_HANDLE;
  }
  // One piece of work that does what its nodes do, in an order that their edges allow.
  check_edges(*found->second);
  const std::vector<Work> works = ordered(*found->second);
  Work work;
  work.kind = Work::Kind::library;
  work.name = "child graph";
  for (const Work& part : works) {
    for (const Range& range : machine().ranges(part, part.name)) {
      work.touched.push_back({range.begin, range.bytes, range.writes});
    }
  }
  work.library = [works] {
    for (const Work& part : works) machine().run(part, "child graph: " + part.name);
  };
  return add_node(node, graph, after, count, std::move(work));
}

CUresult GraphInstantiateWithFlags(CUgraphExec* execution, CUgraph handle, unsigned long long) {
  const auto graph = machine().graphs.find(handle);
  if (graph == machine().graphs.end()) return CUDA_ERROR_INVALID_HANDLE;
  check_edges(*graph->second);
  auto made = std::make_shared<GraphExecution>();
  made->works = ordered(*graph->second);
  machine().last_graph.clear();
  for (const auto& node : graph->second->nodes) {
    GraphNode& noted = machine().last_graph.emplace_back(GraphNode{node->work.name, {}});
    for (const Node* other : node->after) noted.after.push_back(other->index);
    std::sort(noted.after.begin(), noted.after.end());
  }
  *execution = reinterpret_cast<CUgraphExec>(made.get());
  machine().executions[*execution] = std::move(made);
  return CUDA_SUCCESS;
}

CUresult GraphExecDestroy(CUgraphExec execution) {
  if (machine().executions.erase(execution) == 1) return CUDA_SUCCESS;
  machine().violation("cuGraphExecDestroy: of no graph");
  return CUDA_ERROR_INVALID_HANDLE;
}

CUresult GraphLaunch(CUgraphExec handle, CUstream stream) {
  const auto on = machine().streams.find(stream);
  const auto execution = machine().executions.find(handle);
  if (on == machine().streams.end() || execution == machine().executions.end()) {
    machine().violation("cuGraphLaunch: of no graph, or on no stream");
    return CUDA_ERROR_INVALID_HANDLE;
  }
  Operation operation;
  operation.what = "launch of a graph";
  for (const Work& work : execution->second->works) {
    if (work.kind == Work::Kind::kernel &&
        machine().find(reinterpret_cast<CUfunction>(work.function)) == nullptr) {
      machine().violation("cuGraphLaunch: the module of a kernel has been unloaded");
      return CUDA_ERROR_INVALID_HANDLE;
    }
    const std::vector<Range> ranges = machine().ranges(work, "graph: " + work.name);
    operation.ranges.insert(operation.ranges.end(), ranges.begin(), ranges.end());
  }
  operation.execute = [kept = execution->second] {
    for (const Work& work : kept->works) machine().run(work, "graph: " + work.name);
  };
  machine().enqueue(*on->second, std::move(operation));
  return CUDA_SUCCESS;
}

CUresult GraphUpload(CUgraphExec handle, CUstream stream) {
  if (machine().streams.count(stream) == 0 || machine().executions.count(handle) == 0) {
    machine().violation("cuGraphUpload: of no graph, or to no stream");
    return CUDA_ERROR_INVALID_HANDLE;
  }
  return CUDA_SUCCESS;
}

}  // namespace weft::stand_in::entry
