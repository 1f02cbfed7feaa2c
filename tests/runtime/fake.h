#pragma once

#include <cstring>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/executable.h"
#include "runtime/plan/error.h"

/// Plans written by hand, whose machine code is C++ functions: the runtime without a compiler.
namespace weft::runtime::testing {

using Functions = std::map<std::string, PhaseFunction>;

class FakeCode : public Code {
 public:
  explicit FakeCode(Functions functions, std::string target = {})
      : functions_(std::move(functions)), target_(std::move(target)) {}
  PhaseFunction find(const std::string& symbol) const override {
    const auto found = functions_.find(symbol);
    if (found == functions_.end()) throw Error("fake code: no " + symbol);
    return found->second;
  }
  std::string target() const override { return target_; }

 private:
  Functions functions_;
  std::string target_;
};

/// The address of an argument as elements of T.
template <typename T>
T* argument(void* const* arguments, int index) {
  return static_cast<T*>(arguments[index]);
}

/// Adds to a plan and hands out indices.
struct PlanBuilder {
  plan::Plan plan;
  Functions functions;

  PlanBuilder() { plan.name = "test"; }

  std::uint32_t arena(const Type& type) {
    plan::Buffer buffer;
    buffer.type = type;
    buffer.offset = plan.arena_bytes;
    plan.arena_bytes += (type.bytes() + 63) / 64 * 64;
    return add(buffer);
  }
  std::uint32_t state(const std::string& name, const Type& type) {
    plan::Buffer buffer;
    buffer.kind = plan::BufferKind::state;
    buffer.name = name;
    buffer.type = type;
    return add(buffer);
  }
  template <typename T>
  std::uint32_t constant(const Type& type, const std::vector<T>& values) {
    plan::Buffer buffer;
    buffer.kind = plan::BufferKind::constant;
    buffer.type = type;
    buffer.data.assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    return add(buffer);
  }
  std::uint32_t scalar(const std::string& name, float value) {
    plan::Buffer buffer;
    buffer.kind = plan::BufferKind::scalar;
    buffer.name = name;
    buffer.type = {DType::f32, {}};
    buffer.data.assign(reinterpret_cast<const char*>(&value), sizeof value);
    return add(buffer);
  }
  std::uint32_t feeder(const std::string& name, const Type& type) {
    plan.feeders.push_back({name, type});
    return static_cast<std::uint32_t>(plan.feeders.size() - 1);
  }
  std::uint32_t receiver(const std::string& name, std::vector<Type> types, std::int64_t every = 1) {
    plan.receivers.push_back({name, std::move(types), every});
    return static_cast<std::uint32_t>(plan.receivers.size() - 1);
  }
  /// A kernel of one phase.
  std::uint32_t kernel(const std::string& name, std::int64_t grid, PhaseFunction function) {
    return kernel(name, {{name, grid, function}});
  }
  struct NewPhase {
    std::string symbol;
    std::int64_t grid;
    PhaseFunction function;
  };
  std::uint32_t kernel(const std::string& name, std::initializer_list<NewPhase> phases) {
    plan::Kernel made;
    made.name = name;
    for (const NewPhase& phase : phases) {
      made.phases.push_back({phase.symbol, phase.grid});
      functions[phase.symbol] = phase.function;
    }
    plan.kernels.push_back(made);
    return static_cast<std::uint32_t>(plan.kernels.size() - 1);
  }

  std::unique_ptr<Code> code() const { return std::make_unique<FakeCode>(functions); }
  Executable executable(RunOptions options = {}) const {
    if (options.threads == 0) options.threads = 2;
    return Executable(plan, options, code());
  }

 private:
  std::uint32_t add(const plan::Buffer& buffer) {
    plan.buffers.push_back(buffer);
    return static_cast<std::uint32_t>(plan.buffers.size() - 1);
  }
};

inline plan::Step step(plan::StepKind kind, std::uint32_t index,
                       std::vector<std::uint32_t> buffers) {
  plan::Step made;
  made.kind = kind;
  made.index = index;
  made.buffers = std::move(buffers);
  return made;
}
inline plan::Step launch(std::uint32_t kernel, std::vector<std::uint32_t> arguments) {
  return step(plan::StepKind::launch, kernel, std::move(arguments));
}
inline plan::Step copy(std::uint32_t from, std::uint32_t to) {
  return step(plan::StepKind::copy, 0, {from, to});
}
inline plan::Step feed(std::uint32_t feeder, std::uint32_t to) {
  return step(plan::StepKind::feed, feeder, {to});
}
inline plan::Step receive(std::uint32_t receiver, std::vector<std::uint32_t> from) {
  return step(plan::StepKind::receive, receiver, std::move(from));
}
inline plan::Step loop(std::uint32_t index, std::int64_t count, std::vector<plan::Step> body) {
  plan::Step made = step(plan::StepKind::loop, 0, {index});
  made.count = count;
  made.body = std::move(body);
  return made;
}

/// The message of the Error that `call` throws, or "" where it throws none.
template <typename Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

inline const Type i64_scalar{DType::i64, {}};

/// `value`, as what a feeder or receiver of an i64 scalar sees.
inline void put(std::span<std::byte> to, std::int64_t value) {
  std::memcpy(to.data(), &value, sizeof value);
}
inline std::int64_t get(const TensorView& view) {
  std::int64_t value = 0;
  std::memcpy(&value, view.bytes.data(), sizeof value);
  return value;
}

}  // namespace weft::runtime::testing
