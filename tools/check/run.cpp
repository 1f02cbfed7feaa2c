#include "tools/check/run.h"

#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "ops/evaluate.h"
#include "tools/check/inputs.h"

namespace weft::check {

namespace {

void add_once(std::map<std::string, Type>& types, const ir::Node& node) {
  const std::string& name = node.attributes.text("name");
  const auto [entry, added] = types.emplace(name, node.results[0]);
  if (!added && !(entry->second == node.results[0])) {
    throw Error(fmt::format("{} '{}' has two types: {} and {}", node.op->name, name,
                            entry->second.text(), node.results[0].text()));
  }
}

template <typename T>
void integers_from(std::span<const std::byte> bytes, std::vector<std::int64_t>& integers) {
  for (std::size_t i = 0; i < integers.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof value, sizeof value);
    integers[i] = value;
  }
}

template <typename T>
void integers_to(const std::vector<std::int64_t>& integers, std::span<std::byte> bytes) {
  for (std::size_t i = 0; i < integers.size(); ++i) {
    const auto value = static_cast<T>(integers[i]);
    std::memcpy(bytes.data() + i * sizeof value, &value, sizeof value);
  }
}

}  // namespace

Interface read_interface(const ir::Graph& graph, std::int64_t gibibytes) {
  Interface interface;
  double bytes = 0;
  ir::walk(graph.body(), [&](const ir::Node& node) {
    for (const Type& type : node.results) {
      double size = static_cast<double>(size_of(type.dtype));
      for (const std::int64_t extent : type.shape.extents()) size *= static_cast<double>(extent);
      bytes += size;
    }
    if (node.is("state")) {
      add_once(interface.states, node);
    } else if (node.is("feeder")) {
      add_once(interface.feeders, node);
    } else if (node.is("state_write")) {
      interface.written[node.attributes.text("name")] = node.operands[0];
    } else if (node.is("receiver")) {
      interface.receivers[node.attributes.text("name")] = node.operands;
    }
  });
  constexpr double gibibyte = 1024.0 * 1024 * 1024;
  // The reference evaluation keeps doubles of every value beside it.
  if (3 * bytes > static_cast<double>(gibibytes) * gibibyte) {
    throw Error(
        fmt::format("the graph's values take about {:.3g} GiB, above the limit of {} GiB "
                    "(--memory)",
                    3 * bytes / gibibyte, gibibytes));
  }
  for (const auto& [name, value] : interface.written) {
    interface.states.emplace(name, value.type());
  }
  return interface;
}

Inputs random_inputs(const ir::Graph& graph, const Interface& interface, std::uint64_t seed) {
  const auto value = [ranges = input_ranges(graph), seed](const std::string& name, const Type& type,
                                                          std::int64_t iteration) {
    const auto range = ranges.find(name);
    return to_array(type, random_values(type, range == ranges.end() ? Range{} : range->second, seed,
                                        name, iteration));
  };
  Inputs inputs;
  for (const auto& [name, type] : interface.states) inputs.states[name] = value(name, type, 0);
  inputs.feed = value;
  return inputs;
}

State bind_inputs(runtime::Executable& executable, const Interface& interface,
                  const Inputs& inputs) {
  State state;
  for (const auto& [name, type] : interface.states) {
    state.add(name, type);
    to_bytes(inputs.states.at(name), state.bytes(name));
  }
  executable.bind(state);
  // A feeder that nothing depends on is not in the plan.
  for (const plan::Feeder& feeder : executable.plan().feeders) {
    executable.set_feeder(feeder.name,
                          [&inputs, feeder](std::int64_t iteration, std::span<std::byte> to) {
                            to_bytes(inputs.feed(feeder.name, feeder.type, iteration), to);
                          });
  }
  return state;
}

Outcome run_compiled(plan::Plan plan, const Interface& interface, const Inputs& inputs,
                     const runtime::RunOptions& options) {
  runtime::Executable executable(std::move(plan), options);
  const State state = bind_inputs(executable, interface, inputs);
  Outcome outcome;
  // Nor is a receiver in a loop that never runs.
  for (const plan::Receiver& receiver : executable.plan().receivers) {
    // Made here, as receivers call back on threads of their own.
    std::vector<Received>& calls = outcome.received[receiver.name];
    executable.set_receiver(receiver.name, [&calls](std::int64_t iteration,
                                                    std::span<const runtime::TensorView> tensors) {
      Received& call = calls.emplace_back();
      call.iteration = iteration;
      for (const runtime::TensorView& view : tensors) {
        call.tensors.push_back(from_bytes(view.type, view.bytes));
      }
    });
  }
  executable.run();
  for (const auto& [name, type] : interface.states) {
    outcome.states[name] = from_bytes(type, state.bytes(name));
  }
  return outcome;
}

Outcome run_reference(const ir::Graph& graph, const Inputs& inputs) {
  Outcome outcome;
  ops::Environment environment;
  environment.state = inputs.states;
  environment.feed = inputs.feed;
  environment.receive = [&](const std::string& name, std::int64_t iteration,
                            std::span<const ops::Array> tensors) {
    outcome.received[name].push_back({iteration, {tensors.begin(), tensors.end()}});
  };
  ops::evaluate(graph, environment);
  outcome.states = std::move(environment.state);
  return outcome;
}

ops::Array from_bytes(const Type& type, std::span<const std::byte> bytes) {
  ops::Array array(type);
  switch (type.dtype) {
    case DType::i32:
      integers_from<std::int32_t>(bytes, array.integers);
      return array;
    case DType::i64:
      integers_from<std::int64_t>(bytes, array.integers);
      return array;
    case DType::u8:
    case DType::boolean:
      integers_from<std::uint8_t>(bytes, array.integers);
      return array;
    default:
      break;
  }
  std::vector<double> values(array.re.size() + array.im.size());
  to_doubles(type.dtype, bytes.data(), type.elements(), values.data());
  return to_array(type, values);
}

void to_bytes(const ops::Array& array, std::span<std::byte> bytes) {
  switch (array.type.dtype) {
    case DType::i32:
      return integers_to<std::int32_t>(array.integers, bytes);
    case DType::i64:
      return integers_to<std::int64_t>(array.integers, bytes);
    case DType::u8:
    case DType::boolean:
      return integers_to<std::uint8_t>(array.integers, bytes);
    default:
      from_doubles(array.type.dtype, to_values(array).data(), array.elements(), bytes.data());
  }
}

}  // namespace weft::check
