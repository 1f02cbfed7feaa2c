#include "interpreted.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <iostream>
#include <map>
#include <stdexcept>
#include <utility>

#include "compiler/fusion/fuse.h"
#include "compiler/loop/interpret_value.h"
#include "tests/loop/ptx_run.h"

namespace weft::test {
namespace {

using loop::interpreter::f32_of;
using loop::interpreter::f64_of;
using loop::interpreter::integer_of;
using loop::interpreter::word_of;

/// The type of the elements in memory: complex tensors are pairs of f32.
DType element(DType dtype) { return dtype == DType::c64 ? DType::f32 : dtype; }

std::vector<std::byte> to_bytes(DType dtype, std::span<const double> values) {
  const std::size_t size = size_of(element(dtype));
  const loop::Scalar type = loop::register_type(dtype);
  std::vector<std::byte> bytes(values.size() * size);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const loop::Word word = type == loop::Scalar::f32 ? word_of(static_cast<float>(values[i]))
                            : type == loop::Scalar::f64
                                ? word_of(values[i])
                                : word_of(static_cast<std::int64_t>(values[i]));
    loop::interpreter::to_memory(element(dtype), word, bytes.data() + i * size);
  }
  return bytes;
}

std::vector<double> to_values(DType dtype, const std::vector<std::byte>& bytes) {
  const std::size_t size = size_of(element(dtype));
  const loop::Scalar type = loop::register_type(dtype);
  std::vector<double> values;
  for (std::size_t at = 0; at < bytes.size(); at += size) {
    const loop::Word word = loop::interpreter::from_memory(element(dtype), bytes.data() + at);
    values.push_back(type == loop::Scalar::f32   ? static_cast<double>(f32_of(word))
                     : type == loop::Scalar::f64 ? f64_of(word)
                                                 : static_cast<double>(integer_of(word)));
  }
  return values;
}

/// Runs a kernel on its arguments' memory.
using Launch = std::function<void(const loop::Kernel& kernel,
                                  std::span<const std::span<std::byte>> arguments)>;

class Run {
 public:
  Run(const Values& inputs, const Schedule& schedule, Launch launch)
      : inputs_(inputs), schedule_(schedule), launch_(std::move(launch)) {}

  Values run(const ir::Graph& graph) {
    const compiler::FusedGraph fused = compiler::fuse(graph);
    ir::walk(graph.body(), [&](const ir::Node& node) {
      if (node.is("state")) read_state(node);
    });
    for (const compiler::Item& item : fused.body.items) {
      for (const compiler::Group* group : item.groups) run(*group);
      if (item.node && item.node->is("state_write")) {
        states_[item.node->attributes.text("name")] =
            to_values(item.node->operands[0].dtype(), memory_.at(key(item.node->operands[0])));
      } else if (item.node) {
        throw std::logic_error(fmt::format("run_interpreted: {}", item.node->op->name));
      }
    }
    return std::move(states_);
  }

 private:
  using Key = std::pair<const ir::Node*, std::uint32_t>;
  static Key key(const ir::Value& value) { return {value.node, value.index}; }

  void read_state(const ir::Node& node) {
    const std::string& name = node.attributes.text("name");
    const Type& type = node.results[0];
    const std::size_t parts = is_complex(type.dtype) ? 2 : 1;
    std::vector<double> values(static_cast<std::size_t>(type.elements()) * parts);
    if (const auto given = inputs_.find(name); given != inputs_.end()) values = given->second;
    memory_[{&node, 0}] = to_bytes(type.dtype, values);
    states_[name] = to_values(type.dtype, memory_[{&node, 0}]);
  }

  void run(const compiler::Group& group) {
    const compiler::ScheduledKernel scheduled = schedule_(group);
    std::vector<std::span<std::byte>> arguments;
    for (const ir::Value& input : group.inputs) arguments.emplace_back(memory_.at(key(input)));
    for (const ir::Value& output : group.outputs) {
      std::vector<std::byte>& memory = memory_[key(output)];
      memory.assign(static_cast<std::size_t>(output.type().bytes()), std::byte{0xff});
      arguments.emplace_back(memory);
    }
    std::vector<std::vector<std::byte>> further;
    for (std::size_t i = arguments.size(); i < scheduled.kernel->arguments.size(); ++i) {
      const loop::Buffer& buffer = *scheduled.kernel->arguments[i];
      further.emplace_back(static_cast<std::size_t>(buffer.elements) * size_of(buffer.dtype),
                           std::byte{0xff});
    }
    for (std::vector<std::byte>& memory : further) arguments.emplace_back(memory);
    launch_(*scheduled.kernel, arguments);
  }

  const Values& inputs_;
  const Schedule& schedule_;
  Launch launch_;
  std::map<Key, std::vector<std::byte>> memory_;
  Values states_;
};

}  // namespace

compiler::ScheduledKernel on_host(const compiler::Group& group) {
  return compiler::schedule_host(group, compiler::host_target());
}

compiler::ScheduledKernel on_device(const compiler::Group& group) {
  return compiler::schedule_device(group);
}

Schedule on_device_with(std::int64_t shared_bytes) {
  return [shared_bytes](const compiler::Group& group) {
    compiler::DeviceOptions options;
    options.shared_limit = shared_bytes;
    return compiler::schedule_device(group, options);
  };
}

Values run_interpreted(const ir::Graph& graph, const Values& inputs, const Schedule& schedule,
                       const loop::InterpretOptions& options) {
  const auto launch = [&](const loop::Kernel& kernel,
                          std::span<const std::span<std::byte>> arguments) {
    loop::InterpretOptions own = options;
    std::vector<loop::Traffic> traffic;
    if (std::getenv("WEFT_TRAFFIC") != nullptr) own.traffic = &traffic;
    for (const loop::Report& report : loop::interpret(kernel, arguments, own)) {
      ADD_FAILURE() << loop::print(report);
    }
    for (const loop::Traffic& one : traffic) std::cout << loop::print(one) << "\n";
  };
  return Run(inputs, schedule, launch).run(graph);
}

std::array<Values, 2> run_device(const ir::Graph& graph, const Values& inputs,
                                 const Schedule& schedule, std::uint64_t seed,
                                 const compiler::DeviceTarget& target) {
  const auto launch = [&](const loop::Kernel& kernel,
                          std::span<const std::span<std::byte>> arguments) {
    std::vector<std::vector<std::byte>> memory;
    for (const std::span<std::byte> argument : arguments) {
      memory.emplace_back(argument.begin(), argument.end());
    }
    run_ptx(kernel, generate_ptx(kernel, target), memory, seed);
    for (std::size_t i = 0; i < memory.size(); ++i) {
      std::copy(memory[i].begin(), memory[i].end(), arguments[i].begin());
    }
  };
  return {run_interpreted(graph, inputs, schedule, {.seed = seed}),
          Run(inputs, schedule, launch).run(graph)};
}

}  // namespace weft::test
