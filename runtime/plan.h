#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/plan/tensor_map.h"
#include "runtime/plan/transform.h"
#include "runtime/plan/type.h"

/// What the compiler hands to the runtime: plain data, nothing else passes between them.
namespace weft::plan {

/// Machine code: a relocatable object file; for a GPU a module of PTX text or a cubin.
struct CodeObject {
  std::string bytes;
};

/// Signature of a phase's function in the code:
///   void(void* const* arguments, void* scratch, int64_t begin, int64_t end)
/// which runs blocks [begin, end). `scratch` is private to the calling worker, 64-byte aligned.
/// On a GPU it is a kernel whose parameters are device pointers, one for each argument, and then
/// the kernel's tensor maps: 128 bytes each, by value, 64-byte aligned.
struct Phase {
  /// What it does to an argument's memory, by tensor maps as well.
  struct Access {
    bool reads = true;
    bool writes = true;

    bool operator==(const Access&) const = default;
  };

  std::string symbol;
  std::int64_t grid = 1;
  std::int64_t threads = 0;       ///< of a block, on a GPU; 0: a phase for the host
  std::int64_t shared_bytes = 0;  ///< dynamic shared memory of a block
  /// On a GPU: no function of the plan's code but a library's.
  std::optional<Transform> transform = std::nullopt;
  /// On a GPU: by argument; those beyond the end may be read and written. A transform says itself.
  std::vector<Access> accesses = {};
};

struct Kernel {
  std::string name;           ///< "dot_elw.12"
  std::string kind;           ///< "dot_elw"
  std::string location = {};  ///< the user's line, "model.cpp:12", or ""
  std::uint32_t object = 0;
  std::vector<Phase> phases;
  std::vector<TensorMap> tensor_maps = {};  ///< on a GPU: parameters of all of its functions
  /// On a GPU: executions that one launch may be of, side by side; kernels of one object have the
  /// same. Where there may be several, the functions' parameter is one table, by value, of as many
  /// executions' arguments one after the other (zeros where there are fewer), and block b is block
  /// b % grid of execution b / grid.
  std::int64_t batch = 1;
  std::int64_t scratch_bytes = 0;
  // For dumps and profiles: an execution moves and computes this much.
  std::int64_t bytes_read = 0;
  std::int64_t bytes_written = 0;
  std::int64_t operations = 0;
};

enum class BufferKind : std::uint8_t {
  arena,     ///< at `offset` in the plan's arena
  state,     ///< a tensor of the State, by `name`
  constant,  ///< `data`, read-only
  scalar     ///< an argument set before a run, by `name`; `data` is its default
};

struct Buffer {
  BufferKind kind = BufferKind::arena;
  Type type;
  std::int64_t offset = 0;
  std::string name;
  std::string data;
};

struct Feeder {
  std::string name;
  Type type;
};

struct Receiver {
  std::string name;
  std::vector<Type> types;
  std::int64_t every = 1;
};

enum class StepKind : std::uint8_t { launch, copy, loop, feed, receive, together };

struct Step {
  StepKind kind = StepKind::launch;
  std::uint32_t index = 0;             ///< launch: kernel; feed: feeder; receive: receiver
  std::vector<std::uint32_t> buffers;  ///< launch: arguments; copy: {from, to}; feed: {to};
                                       ///< receive: sources; loop: {index buffer, i64 scalar}
  std::int64_t count = 0;              ///< loop
  std::vector<Step> body;              ///< loop; together: launches that do not depend on each
                                       ///< other, run as one (on a GPU: one for each object)
};

struct Plan {
  std::string name;
  std::string target;  ///< "x86-64/znver4", "nvptx64/sm_90a": must match what runs it
  std::vector<CodeObject> objects;
  std::vector<Kernel> kernels;
  std::vector<Buffer> buffers;
  std::vector<Feeder> feeders;
  std::vector<Receiver> receivers;
  std::int64_t arena_bytes = 0;
  std::int64_t live_bytes = 0;  ///< largest sum of arena buffers in use at one time; for dumps
  std::vector<Step> steps;
};

}  // namespace weft::plan
