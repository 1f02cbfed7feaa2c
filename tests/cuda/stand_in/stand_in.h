#pragma once

#include <cuda.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

/// A driver library for tests on machines without a GPU: device memory is host memory, kernels are
/// functions of the test or are what their PTX says (tests/ptx), and whatever a real driver would
/// let pass or crash on is reported. Any program can be run on it (WEFT_CUDA_DRIVER): the first
/// thing that is wrong then ends the process. WEFT_STAND_IN_CAPABILITY=80 and WEFT_STAND_IN_SEED=3
/// are the device's compute capability then, and another order of warps; the first call of
/// WEFT_STAND_IN_FAIL=cuGraphLaunch fails. WEFT_STAND_IN_COUNTS=FILE has what kernels did written
/// to a file, and with WEFT_STAND_IN_BLOCKS=4 launches are no more than so many blocks (whose
/// results are then no results).
///
/// Work runs as late as it may: when something waits for it, in the order of its dependences and in
/// no other (of nodes that may run in any order, the last added first). Whether two accesses to the
/// same memory are ordered by streams, events and a graph's edges is checked as they are enqueued.
/// The host's threads count as one. A kernel takes a millisecond, nothing else takes time.
namespace weft::stand_in {

struct Settings {
  int version = 12040;  ///< of the driver
  int devices = 1;
  int major = 9;
  int minor = 0;
  int most_threads = 1024;  ///< of a block, with the registers that kernels take
  std::int64_t memory_bytes = std::int64_t{256} << 20;
  std::uint64_t seed = 0;  ///< of the order in which warps of a kernel's PTX run
};
/// Takes effect at once; kept by reset().
Settings& settings();

/// Forgets kernels, violations, failures to come and counts. Nothing may be alive.
void reset();

/// What a kernel does to one argument, a pointer to device memory, or a number.
struct Access {
  bool reads = false;
  bool writes = false;
  std::int64_t bytes = 0;
};
inline Access reads(std::int64_t bytes) { return {true, false, bytes}; }
inline Access writes(std::int64_t bytes) { return {false, true, bytes}; }
inline Access changes(std::int64_t bytes) { return {true, true, bytes}; }
inline Access number() { return {}; }

/// What a tensor map means that a kernel is given.
struct TensorMap {
  std::uint64_t address = 0;
  std::int64_t element_bytes = 0;
  std::vector<std::int64_t> extents;  ///< elements
  std::vector<std::int64_t> strides;  ///< bytes, of all axes but the innermost
  std::vector<std::int64_t> box;      ///< elements
  bool exchanged = false;             ///< pieces of 16 bytes of rows of 128
  std::int64_t bytes = 0;             ///< from the address to the last element's end
};

struct Call {
  std::int64_t grid = 0;
  std::int64_t threads = 0;
  std::int64_t shared_bytes = 0;
  std::vector<std::uint64_t> arguments;
  std::vector<TensorMap> tensor_maps;

  template <typename T>
  T* pointer(std::size_t argument) const {
    return reinterpret_cast<T*>(arguments.at(argument));
  }
};

/// Kernels of that name in modules loaded from here on do this, or (no function) what their PTX
/// says. Their parameters are the arguments and then any tensor maps, through which they read, or a
/// table by value of several executions' arguments, whose first zero is its end.
/// Those of other names do what their PTX says; nothing is then checked of the order of their
/// accesses.
void add_kernel(const std::string& name, std::vector<Access> arguments,
                std::function<void(const Call&)> function = nullptr);

/// Memory that work of a library touches.
struct Touch {
  std::uint64_t address = 0;
  std::int64_t bytes = 0;
  bool writes = false;
};
/// Puts work of a library of the device's on a stream, or into the graph that captures it.
CUresult add_work(CUstream stream, const std::string& name, std::vector<Touch> touched,
                  std::function<void()> function);
/// Counts a call of a library's entry point; true where fail() has it fail.
bool call_fails(const std::string& entry);
/// Something of a library's that is alive from now on, or (-1) no more.
void count_alive(const std::string& what, int change);

/// The nth call from now (1: the next) of an entry point ("cuMemAlloc") gives that result and does
/// nothing; one that releases or waits does it all the same, as where earlier work failed.
void fail(const std::string& entry, int nth, CUresult result);
/// Calls of an entry point since reset().
int calls(const std::string& entry);
/// All entry points that have been called since reset().
std::vector<std::string> called();

/// A node of the graph that was instantiated last: a kernel's name, "copy", "child graph" or "empty
/// node", and the numbers of the nodes that it has edges from, ascending.
struct GraphNode {
  std::string name;
  std::vector<std::size_t> after;
};
std::vector<GraphNode> last_graph();

/// What was done wrong since reset().
std::vector<std::string> violations();
/// What is alive: contexts, memory, modules, streams, events, graphs.
std::vector<std::string> alive();

}  // namespace weft::stand_in
