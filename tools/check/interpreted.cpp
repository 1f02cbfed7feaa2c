#include "tools/check/interpreted.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <stdexcept>
#include <utility>

#include "compiler/loop/kernel.h"

namespace weft::check {
namespace {

constexpr std::int64_t most_threads = 1024;
constexpr std::int64_t most_blocks = (std::int64_t{1} << 31) - 1;
constexpr std::byte fresh{0xff};

std::int64_t bytes_of(const loop::Buffer& buffer) {
  return buffer.elements * static_cast<std::int64_t>(size_of(buffer.dtype));
}

class PlanRun {
 public:
  PlanRun(const compiler::Compilation& compilation, const Interface& interface,
          const Inputs& inputs, const loop::InterpretOptions& options)
      : compilation_(compilation),
        plan_(compilation.plan),
        interface_(interface),
        inputs_(inputs),
        options_(options),
        random_(options.seed) {
    if (compilation.loop_kernels.size() != plan_.kernels.size()) {
      throw std::logic_error("run_interpreted: the compilation has not kept its kernels");
    }
  }

  Interpreted run() {
    arena_.assign(static_cast<std::size_t>(plan_.arena_bytes), fresh);
    for (const auto& [name, type] : interface_.states) {
      std::vector<std::byte>& memory = states_[name];
      memory.resize(static_cast<std::size_t>(type.bytes()));
      to_bytes(inputs_.states.at(name), memory);
    }
    owned_.resize(plan_.buffers.size());
    for (std::size_t i = 0; i < plan_.buffers.size(); ++i) {
      const std::string& data = plan_.buffers[i].data;
      const auto* begin = reinterpret_cast<const std::byte*>(data.data());
      owned_[i].assign(begin, begin + data.size());
    }
    for (const plan::Receiver& receiver : plan_.receivers) out_.outcome.received[receiver.name];
    steps(plan_.steps, 0);
    for (const auto& [name, type] : interface_.states) {
      out_.outcome.states[name] = from_bytes(type, states_.at(name));
    }
    return std::move(out_);
  }

 private:
  std::span<std::byte> memory(std::uint32_t index) {
    const plan::Buffer& buffer = plan_.buffers.at(index);
    switch (buffer.kind) {
      case plan::BufferKind::arena:
        return std::span(arena_).subspan(static_cast<std::size_t>(buffer.offset),
                                         static_cast<std::size_t>(buffer.type.bytes()));
      case plan::BufferKind::state:
        return states_.at(buffer.name);
      default:
        return owned_[index];
    }
  }

  /// `number`: which execution of these steps it is.
  void steps(const std::vector<plan::Step>& steps, std::int64_t number) {
    for (const plan::Step& step : steps) run(step, number);
  }

  void run(const plan::Step& step, std::int64_t number) {
    switch (step.kind) {
      case plan::StepKind::launch:
        return launch(step);
      case plan::StepKind::copy: {
        const std::span<std::byte> from = memory(step.buffers.at(0));
        std::memmove(memory(step.buffers.at(1)).data(), from.data(), from.size());
        return;
      }
      case plan::StepKind::loop:
        for (std::int64_t i = 0; i < step.count; ++i) {
          if (!step.buffers.empty()) std::memcpy(memory(step.buffers[0]).data(), &i, sizeof i);
          steps(step.body, number * step.count + i);
        }
        return;
      case plan::StepKind::together: {
        std::vector<const plan::Step*> order;
        for (const plan::Step& one : step.body) order.push_back(&one);
        std::shuffle(order.begin(), order.end(), random_);
        for (const plan::Step* one : order) run(*one, number);
        return;
      }
      case plan::StepKind::feed: {
        const plan::Feeder& feeder = plan_.feeders.at(step.index);
        to_bytes(inputs_.feed(feeder.name, feeder.type, number), memory(step.buffers.at(0)));
        return;
      }
      case plan::StepKind::receive:
        return receive(step, number);
    }
  }

  void receive(const plan::Step& step, std::int64_t number) {
    const plan::Receiver& receiver = plan_.receivers.at(step.index);
    if (number % receiver.every != 0) return;
    Received& call = out_.outcome.received[receiver.name].emplace_back();
    call.iteration = number;
    for (std::size_t i = 0; i < step.buffers.size(); ++i) {
      call.tensors.push_back(from_bytes(receiver.types.at(i), memory(step.buffers[i])));
    }
  }

  void launch(const plan::Step& step) {
    const loop::Kernel& kernel = *compilation_.loop_kernels.at(step.index);
    check_launches(kernel);
    std::vector<std::span<std::byte>> arguments;
    for (std::size_t i = 0; i < kernel.arguments.size(); ++i) {
      const std::span<std::byte> whole = memory(step.buffers.at(i));
      const auto bytes = static_cast<std::size_t>(bytes_of(*kernel.arguments[i]));
      if (whole.size() < bytes) {
        throw std::logic_error(fmt::format("kernel {}: argument {} is too small", kernel.name, i));
      }
      arguments.push_back(whole.first(bytes));
    }
    if (!is_device()) return interpret(kernel, arguments, options_);
    const std::vector<plan::Phase>& phases = plan_.kernels.at(step.index).phases;
    for (std::size_t i = 0; i < kernel.phases.size(); ++i) {
      run_phase(kernel, i, phases.at(i).accesses, arguments);
    }
  }

  void interpret(const loop::Kernel& kernel, std::span<const std::span<std::byte>> arguments,
                 const loop::InterpretOptions& options) {
    for (const loop::Report& report : loop::interpret(kernel, arguments, options)) {
      out_.reports.push_back(loop::print(report));
    }
  }

  /// One launch, which is to keep to what the plan says of its accesses.
  void run_phase(const loop::Kernel& kernel, std::size_t number,
                 const std::vector<plan::Phase::Access>& accesses,
                 const std::vector<std::span<std::byte>>& arguments) {
    std::vector<std::span<std::byte>> given = arguments;
    std::vector<std::vector<std::byte>> before(arguments.size());
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      const plan::Phase::Access& access = accesses.at(i);
      if (access.writes) continue;
      if (access.reads) {
        const bool also_written =
            std::any_of(accesses.begin(), accesses.end(), [&](const plan::Phase::Access& other) {
              const auto& memory = arguments[static_cast<std::size_t>(&other - accesses.data())];
              return other.writes && memory.data() < arguments[i].data() + arguments[i].size() &&
                     arguments[i].data() < memory.data() + memory.size();
            });
        if (!also_written) before[i].assign(arguments[i].begin(), arguments[i].end());
      } else {
        // What reads it all the same gives NaN.
        unused_.resize(std::max(unused_.size(), arguments.size()));
        unused_[i].assign(arguments[i].size(), fresh);
        before[i] = unused_[i];
        given[i] = unused_[i];
      }
    }
    loop::InterpretOptions options = options_;
    options.only_phase = number;
    interpret(kernel, given, options);
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      if (before[i].empty()) continue;
      if (std::equal(before[i].begin(), before[i].end(), given[i].begin())) continue;
      out_.reports.push_back(
          fmt::format("kernel {}: phase {} writes to argument {}; the plan says that it does not",
                      kernel.name, number, i));
    }
  }

  bool is_device() const { return plan_.target.starts_with("nvptx64/"); }

  void check_launches(const loop::Kernel& kernel) {
    if (!is_device() || !checked_.insert(&kernel).second) return;
    const auto complain = [&](const std::string& what) {
      out_.reports.push_back(fmt::format("kernel {}: {}", kernel.name, what));
    };
    for (const loop::Phase& phase : kernel.phases) {
      if (phase.threads < 1 || phase.threads > most_threads) {
        complain(fmt::format("{} threads in a block", phase.threads));
      }
      if (phase.grid > most_blocks) complain(fmt::format("{} blocks", phase.grid));
    }
  }

  const compiler::Compilation& compilation_;
  const plan::Plan& plan_;
  const Interface& interface_;
  const Inputs& inputs_;
  loop::InterpretOptions options_;
  std::mt19937_64 random_;
  std::vector<std::byte> arena_;
  std::map<std::string, std::vector<std::byte>> states_;
  std::vector<std::vector<std::byte>> owned_;   ///< of constants and scalars, by buffer
  std::vector<std::vector<std::byte>> unused_;  ///< for what a phase does not touch, by argument
  std::set<const loop::Kernel*> checked_;
  Interpreted out_;
};

}  // namespace

Interpreted run_interpreted(const compiler::Compilation& compilation, const Interface& interface,
                            const Inputs& inputs, const loop::InterpretOptions& options) {
  return PlanRun(compilation, interface, inputs, options).run();
}

}  // namespace weft::check
