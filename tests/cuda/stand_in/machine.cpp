#include "machine.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace weft::stand_in {

void join(Clock& into, const Clock& other) {
  for (const auto& [stream, time] : other) into[stream] = std::max(into[stream], time);
}

Machine::Machine() {
  const auto number = [](const char* name, int before) {
    const char* text = std::getenv(name);
    return text == nullptr ? before : std::atoi(text);
  };
  settings.seed = static_cast<std::uint64_t>(number("WEFT_STAND_IN_SEED", 0));
  const int capability = number("WEFT_STAND_IN_CAPABILITY", 10 * settings.major + settings.minor);
  const char* failing = std::getenv("WEFT_STAND_IN_FAIL");
  if (failing != nullptr) failures[failing] = {1, CUDA_ERROR_ILLEGAL_ADDRESS};
  const char* counts = std::getenv("WEFT_STAND_IN_COUNTS");
  if (counts != nullptr) counts_file = counts;
  most_blocks = static_cast<std::uint64_t>(number("WEFT_STAND_IN_BLOCKS", 0));
  settings.major = capability / 10;
  settings.minor = capability % 10;
}

Machine::~Machine() {
  if (!counts_file.empty()) write_counts();
}

Machine& Machine::get() {
  static Machine machine;
  return machine;
}

std::int64_t Machine::used_bytes() const {
  std::int64_t total = 0;
  for (const auto& [address, allocation] : allocations) {
    if (allocation->kind == Allocation::Kind::device) total += allocation->bytes;
  }
  return total;
}

Allocation* Machine::find(std::uintptr_t address) {
  auto next = allocations.upper_bound(address);
  if (next == allocations.begin()) return nullptr;
  Allocation& before = *std::prev(next)->second;
  return address < before.begin + static_cast<std::uintptr_t>(before.bytes) ? &before : nullptr;
}

Function* Machine::find(CUfunction function) {
  for (const auto& [handle, module] : modules) {
    for (const auto& [name, known] : module->functions) {
      if (reinterpret_cast<CUfunction>(known.get()) == function) return known.get();
    }
  }
  return nullptr;
}

bool Machine::inside_device(std::uintptr_t begin, std::int64_t bytes, const std::string& what) {
  if (bytes == 0) return true;
  const Allocation* allocation = find(begin);
  if (allocation == nullptr || allocation->kind != Allocation::Kind::device) {
    violation(what + ": touches what is no device memory");
    return false;
  }
  if (begin + static_cast<std::uintptr_t>(bytes) >
      allocation->begin + static_cast<std::uintptr_t>(allocation->bytes)) {
    violation(what + ": goes beyond the end of an allocation");
    return false;
  }
  return true;
}

std::vector<Range> Machine::ranges(const Work& work, const std::string& what) {
  std::vector<Range> touched;
  if (work.kind == Work::Kind::copy) {
    touched = {{work.from, work.bytes, false}, {work.to, work.bytes, true}};
  } else if (work.kind == Work::Kind::library) {
    for (const Touch& touch : work.touched) {
      touched.push_back({touch.address, touch.bytes, touch.writes});
    }
  } else if (work.kind == Work::Kind::kernel) {
    if (work.function->kernel == nullptr) return {};
    const std::vector<Access>& arguments = work.function->kernel->arguments;
    for (std::size_t i = 0; i < work.call.arguments.size(); ++i) {
      const Access& access = arguments[i % arguments.size()];
      if (!access.reads && !access.writes) continue;
      touched.push_back({work.call.arguments[i], access.bytes, access.writes});
    }
    for (const TensorMap& map : work.call.tensor_maps) {
      touched.push_back({map.address, map.bytes, false});
    }
  }
  std::erase_if(touched, [&](const Range& range) {
    return range.bytes == 0 || !inside_device(range.begin, range.bytes, what);
  });
  return touched;
}

void Machine::violation(std::string text) {
  if (!in_test) {
    std::fprintf(stderr, "stand-in: %s\n", text.c_str());
    std::_Exit(70);
  }
  violations.push_back(std::move(text));
}

void Machine::run(const Work& work, const std::string& what) {
  if (work.kind == Work::Kind::kernel &&
      find(reinterpret_cast<CUfunction>(work.function)) == nullptr) {
    return violation(what + ": its module has been unloaded");
  }
  const std::size_t before = violations.size();
  // Memory may have been freed since this was enqueued.
  ranges(work, what);
  if (violations.size() > before) return;
  if (work.kind == Work::Kind::copy) {
    std::memcpy(reinterpret_cast<void*>(work.to), reinterpret_cast<const void*>(work.from),
                static_cast<std::size_t>(work.bytes));
  } else if (work.kind == Work::Kind::library) {
    ++launches;
    work.library();
  } else if (work.kind == Work::Kind::kernel) {
    ++launches;
    const Kernel* kernel = work.function->kernel;
    if (kernel != nullptr && kernel->function != nullptr) {
      kernel->function(work.call);
    } else {
      emulate(work, what);
    }
  }
}

void Machine::check(const Operation& operation, int stream, std::int64_t time) {
  for (const Range& range : operation.ranges) {
    Allocation* allocation = find(range.begin);
    if (allocation == nullptr) continue;
    const std::uintptr_t end = range.begin + static_cast<std::uintptr_t>(range.bytes);
    for (const Allocation::Record& record : allocation->records) {
      if (record.begin >= end || range.begin >= record.end) continue;
      if (!record.writes && !range.writes) continue;
      if (record.stream == stream) continue;
      const auto known = operation.clock.find(record.stream);
      if (known == operation.clock.end() || known->second < record.time) {
        violation(operation.what + ": not ordered after " + record.what +
                  ", which touches the same memory");
      }
    }
    // What this replaces conflicts with nothing that does not conflict with this.
    std::erase_if(allocation->records, [&](const Allocation::Record& record) {
      return record.begin >= range.begin && record.end <= end &&
             (range.writes || (!record.writes && record.stream == stream));
    });
    allocation->records.push_back({range.begin, end, range.writes, stream, time, operation.what});
  }
}

std::shared_ptr<Operation> Machine::enqueue(StreamState& stream, Operation operation) {
  join(stream.clock, host);
  const std::int64_t time = ++stream.clock[stream.number];
  operation.clock = stream.clock;
  operation.stream = &stream;
  check(operation, stream.number, time);
  stream.pending.push_back(std::make_shared<Operation>(std::move(operation)));
  return stream.pending.back();
}

void Machine::put(StreamState& stream, Work work) {
  if (stream.captured != nullptr) {
    auto node = std::make_unique<Node>();
    node->work = std::move(work);
    node->index = stream.captured->nodes.size();
    if (node->index > 0) node->after.push_back(stream.captured->nodes.back().get());
    stream.captured->nodes.push_back(std::move(node));
    return;
  }
  Operation operation;
  operation.what = "launch of " + work.name;
  operation.ranges = ranges(work, operation.what);
  operation.execute = [this, work, what = operation.what] { run(work, what); };
  enqueue(stream, std::move(operation));
}

void Machine::execute(const std::shared_ptr<Operation>& operation) {
  while (!operation->done) {
    StreamState& stream = *operation->stream;
    const std::shared_ptr<Operation> next = stream.pending.front();
    stream.pending.pop_front();
    if (next->waits_for) execute(next->waits_for);
    if (next->execute) next->execute();
    next->done = true;
    next->launches_before = launches;
  }
}

void Machine::execute_all(StreamState& stream) {
  if (!stream.pending.empty()) execute(std::shared_ptr<Operation>(stream.pending.back()));
  join(host, stream.clock);
}

Settings& settings() {
  Machine& machine = Machine::get();
  machine.in_test = true;
  return machine.settings;
}

void reset() {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex);
  machine.in_test = true;
  machine.kernels.clear();
  machine.calls.clear();
  machine.failures.clear();
  machine.violations.clear();
  machine.tensor_maps.clear();
  machine.last_graph.clear();
}

std::vector<GraphNode> last_graph() {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex);
  return machine.last_graph;
}

void add_kernel(const std::string& name, std::vector<Access> arguments,
                std::function<void(const Call&)> function) {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex);
  machine.kernels[name] = {std::move(arguments), std::move(function)};
}

CUresult add_work(CUstream stream, const std::string& name, std::vector<Touch> touched,
                  std::function<void()> function) {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex);
  const auto on = machine.streams.find(stream);
  if (on == machine.streams.end()) {
    machine.violation(name + ": on no stream");
    return CUDA_ERROR_INVALID_HANDLE;
  }
  Work work;
  work.kind = Work::Kind::library;
  work.name = name;
  work.touched = std::move(touched);
  work.library = std::move(function);
  machine.put(*on->second, std::move(work));
  return CUDA_SUCCESS;
}

bool call_fails(const std::string& entry) {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex);
  const int number = ++machine.calls[entry];
  const auto failure = machine.failures.find(entry);
  return failure != machine.failures.end() && failure->second.at == number;
}

void count_alive(const std::string& what, int change) {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex);
  machine.others[what] += change;
}

void fail(const std::string& entry, int nth, CUresult result) {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex);
  machine.failures[entry] = {machine.calls[entry] + nth, result};
}

int calls(const std::string& entry) {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex);
  return machine.calls[entry];
}

std::vector<std::string> called() {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex);
  std::vector<std::string> names;
  for (const auto& [name, count] : machine.calls) {
    if (count > 0) names.push_back(name);
  }
  return names;
}

std::vector<std::string> violations() {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex);
  return machine.violations;
}

std::vector<std::string> alive() {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex);
  std::vector<std::string> found;
  const auto add = [&](const char* what, std::size_t count) {
    if (count > 0) found.push_back(std::to_string(count) + " " + what);
  };
  add("contexts", static_cast<std::size_t>(machine.retained));
  add("allocations", machine.allocations.size());
  add("streams", machine.streams.size());
  add("events", machine.events.size());
  add("modules", machine.modules.size());
  add("graphs", machine.graphs.size());
  add("executable graphs", machine.executions.size());
  for (const auto& [what, count] : machine.others) {
    add(what.c_str(), static_cast<std::size_t>(count));
  }
  return found;
}

}  // namespace weft::stand_in
