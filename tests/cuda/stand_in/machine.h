#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "stand_in.h"
#include "tests/ptx/machine/machine.h"

/// What the stand-in's entry points work on.
namespace weft::stand_in {

/// How far each stream's work is known to be done before something; 0 is the host.
using Clock = std::map<int, std::int64_t>;
void join(Clock& into, const Clock& other);

/// A range of memory that an operation touches.
struct Range {
  std::uintptr_t begin = 0;
  std::int64_t bytes = 0;
  bool writes = false;
};

struct Allocation {
  enum class Kind { device, pinned } kind = Kind::device;
  std::unique_ptr<std::byte[]> owner;
  std::uintptr_t begin = 0;
  std::int64_t bytes = 0;

  struct Record {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    bool writes = false;
    int stream = 0;
    std::int64_t time = 0;
    std::string what;
  };
  std::vector<Record> records;  ///< of accesses that something may still conflict with
};

struct StreamState;

/// Something enqueued on a stream.
struct Operation {
  std::string what;
  Clock clock;
  std::vector<Range> ranges;
  std::function<void()> execute;
  std::shared_ptr<Operation> waits_for;  ///< of an event
  StreamState* stream = nullptr;
  bool done = false;
  std::int64_t launches_before = 0;  ///< when it was done
};

struct Graph;

struct StreamState {
  int number = 0;
  Clock clock;
  std::deque<std::shared_ptr<Operation>> pending;
  std::unique_ptr<Graph> captured;  ///< what comes goes there
};

struct Event {
  bool timed = false;
  std::shared_ptr<Operation> operation;
  Clock clock;
};

struct Kernel {
  std::vector<Access> arguments;
  std::function<void(const Call&)> function;  ///< none: what the PTX says
};

struct Function {
  std::string name;
  const ptx::Entry* entry = nullptr;
  const Kernel* kernel = nullptr;  ///< of a test; none: what it accesses is not known
  std::int64_t shared_bytes = std::int64_t{48} << 10;
};

struct Module {
  std::optional<ptx::Module> code;
  std::map<std::string, std::unique_ptr<Function>> functions;
};

/// A kernel, a copy or a library's work with all that it was given.
struct Work {
  enum class Kind { kernel, copy, library, empty } kind = Kind::empty;
  std::string name = "empty node";
  Function* function = nullptr;
  Call call;
  std::array<std::uint32_t, 3> grid{};
  std::array<std::uint32_t, 3> block{};
  std::vector<std::byte> parameters;  ///< as the kernel reads them
  std::uintptr_t from = 0;
  std::uintptr_t to = 0;
  std::int64_t bytes = 0;
  std::vector<Touch> touched;
  std::function<void()> library;
};

struct Node {
  Work work;
  std::vector<const Node*> after;
  std::size_t index = 0;
};

struct Graph {
  std::vector<std::unique_ptr<Node>> nodes;
};

struct GraphExecution {
  std::vector<Work> works;  ///< in the order in which they run
};

/// All of the stand-in; its members are for one thread at a time.
class Machine {
 public:
  static Machine& get();
  Machine();
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  std::recursive_mutex mutex;
  Settings settings;
  std::map<std::string, Kernel> kernels;
  std::map<std::string, int> calls;
  struct Failure {
    int at = 0;
    CUresult result = CUDA_SUCCESS;
  };
  std::map<std::string, Failure> failures;
  std::vector<std::string> violations;
  std::vector<GraphNode> last_graph;

  int retained = 0;  ///< of the primary context
  std::map<std::uintptr_t, std::unique_ptr<Allocation>> allocations;
  std::map<CUstream, std::unique_ptr<StreamState>> streams;
  std::map<CUevent, std::unique_ptr<Event>> events;
  std::map<CUmodule, std::unique_ptr<Module>> modules;
  std::map<CUgraph, std::unique_ptr<Graph>> graphs;
  std::map<CUgraphExec, std::shared_ptr<GraphExecution>> executions;
  std::vector<TensorMap> tensor_maps;  ///< all that were made since reset()
  std::map<std::string, int> others;   ///< alive, of libraries
  Clock host;
  int streams_made = 0;
  std::int64_t launches = 0;  ///< of kernels that have run: the time

  /// Of kernels that ran by their PTX, where WEFT_STAND_IN_COUNTS names a file for them: written at
  /// the end, a line of JSON a kernel. Of WEFT_STAND_IN_BLOCKS=4 blocks of a launch, or all.
  struct Counted {
    ptx::Counts counts;
    std::int64_t launches = 0;
    std::int64_t blocks = 0;  ///< of the grid
    std::int64_t threads = 0;
    std::int64_t shared_bytes = 0;
  };
  std::map<std::string, Counted> counted;
  std::string counts_file;
  std::uint64_t most_blocks = 0;
  void write_counts() const;

  bool in_test = false;  ///< somebody asks for violations; otherwise the first ends the process

  void violation(std::string text);
  std::int64_t used_bytes() const;
  /// A large GPU's for a program that was not written for the stand-in.
  std::int64_t memory_bytes() const {
    return in_test ? settings.memory_bytes : std::int64_t{80} << 30;
  }
  /// The allocation with that address; nullptr: none.
  Allocation* find(std::uintptr_t address);
  Function* find(CUfunction function);
  const TensorMap* find(const CUtensorMap& map) const;

  /// What a kernel or copy touches; reports what lies outside of an allocation.
  std::vector<Range> ranges(const Work& work, const std::string& what);
  bool inside_device(std::uintptr_t begin, std::int64_t bytes, const std::string& what);
  void run(const Work& work, const std::string& what);
  /// Runs a kernel's PTX.
  void emulate(const Work& work, const std::string& what);

  /// Puts an operation on a stream, after all that is there, checking it against what is not
  /// ordered before it.
  std::shared_ptr<Operation> enqueue(StreamState& stream, Operation operation);
  /// The same of a piece of work; into the graph that captures the stream, where one does.
  void put(StreamState& stream, Work work);
  void execute(const std::shared_ptr<Operation>& operation);
  void execute_all(StreamState& stream);

 private:
  void check(const Operation& operation, int stream, std::int64_t time);
};

}  // namespace weft::stand_in
