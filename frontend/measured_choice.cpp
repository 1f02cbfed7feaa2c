#include "measured_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "compiler/codegen/cached.h"
#include "compiler/compile.h"
#include "compiler/ir/text.h"
#include "load_hook.h"
#include "ops/build.h"
#include "runtime/cuda/devices.h"
#include "runtime/executable.h"
#include "runtime/plan/error.h"
#include "trace.h"

namespace weft::detail {
namespace {

constexpr int turns = 5;
/// Of one turn: enough to measure, few enough to be worth it.
constexpr double turn_seconds = 2e-3;
constexpr std::int64_t most_executions = 256;
/// In one graph: launching it takes the host as long as a small operation takes the device.
constexpr int repetitions = 8;
/// So many times slower than the other in one execution, a way is not measured any further.
constexpr double hopeless = 4;

/// A program of that operation alone, from states to states.
ir::Graph graph_of(const ir::Node& node) {
  ir::Graph graph;
  graph.name = "choice";
  ops::Builder b(graph, graph.body());
  std::vector<ir::Value> operands;
  for (std::size_t i = 0; i < node.operands.size(); ++i) {
    const Type& type = node.operand_type(i);
    operands.push_back(
        b.emit1("state", {},
                {{"name", fmt::format("x{}", i)},
                 {"dtype", type.dtype},
                 {"shape", std::vector<std::int64_t>(type.shape.begin(), type.shape.end())}}));
  }
  ir::Node* copy = b.emit(ops::op(node.op->name), operands, node.attributes);
  for (std::size_t i = 0; i < node.results.size(); ++i) {
    b.emit(ops::op("state_write"), {copy->result(i)}, {{"name", fmt::format("y{}", i)}});
  }
  return graph;
}

/// Numbers, as zeros take a device less power and are sooner multiplied.
void fill(State& state, const std::string& name) {
  const Type& type = state.type(name);
  const std::int64_t elements = std::min(type.elements(), std::int64_t{4096});
  const std::int64_t values = elements * (is_complex(type.dtype) ? 2 : 1);
  std::minstd_rand random;
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<double> drawn(static_cast<std::size_t>(values));
  for (double& value : drawn) value = uniform(random);
  const std::span<std::byte> to = state.bytes(name);
  from_doubles(type.dtype, drawn.data(), elements, to.data());
  const auto period = static_cast<std::size_t>(elements) * size_of(type.dtype);
  for (std::size_t i = period; i < to.size(); ++i) to[i] = to[i - period];
}

State state_of(const ir::Node& node) {
  State state;
  for (std::size_t i = 0; i < node.operands.size(); ++i) {
    const std::string name = fmt::format("x{}", i);
    state.add(name, node.operand_type(i));
    fill(state, name);
  }
  for (std::size_t i = 0; i < node.results.size(); ++i) {
    state.add(fmt::format("y{}", i), node.results[i]);
  }
  return state;
}

std::string text_of(const ir::Node& node) {
  std::vector<std::string> operands;
  for (std::size_t i = 0; i < node.operands.size(); ++i) {
    operands.push_back(node.operand_type(i).text());
  }
  std::vector<std::string> results;
  for (const Type& type : node.results) results.push_back(type.text());
  std::string text = fmt::format("{} {} to {}", node.op->name, fmt::join(operands, ", "),
                                 fmt::join(results, ", "));
  if (node.attributes.has("axis")) {
    text += fmt::format(" along axis {}", node.attributes.integer("axis"));
  }
  return text;
}

}  // namespace

MeasuredChoice::MeasuredChoice(const Device& device, std::shared_ptr<KernelCache> cache)
    : device_(device), cache_(std::move(cache)) {
  const runtime::cuda::DeviceList gpus = runtime::cuda::find_devices();
  const auto index = static_cast<std::size_t>(device.index);
  conditions_ = fmt::format("device {}\ntarget {}\ngenerator {}\n",
                            index < gpus.devices.size() ? gpus.devices[index].name : "unknown",
                            device.gpu, compiler::codegen_version());
}

void MeasuredChoice::answer(compiler::CompileOptions& options, const Device& device,
                            const std::shared_ptr<KernelCache>& cache) {
  if (device.gpu.empty()) return;
  const auto choice = std::make_shared<MeasuredChoice>(device, cache);
  if (!options.library_transform) {
    options.library_transform = [choice](const ir::Node& node) {
      return choice->prefers_library(node);
    };
  }
  if (!options.tno_by_products) {
    options.tno_by_products = [choice](const ir::Node& node) {
      return choice->prefers_products(node);
    };
  }
}

bool MeasuredChoice::prefers_library(const ir::Node& node) {
  return prefers_first(node, {&compiler::CompileOptions::library_transform, "library", "own"});
}

bool MeasuredChoice::prefers_products(const ir::Node& node) {
  return prefers_first(node,
                       {&compiler::CompileOptions::tno_by_products, "products", "transforms"});
}

bool MeasuredChoice::prefers_first(const ir::Node& node, const Ways& ways) {
  const std::lock_guard lock(mutex_);
  const std::string subject =
      fmt::format("{} or {}\n{}", ways.first, ways.second, ir::print(graph_of(node)));
  const auto known = known_.find(subject);
  if (known != known_.end()) return known->second;
  if (cache_ != nullptr) {
    const std::optional<std::string> kept = cache_->disk().find(subject, conditions_);
    if (kept == ways.first || kept == ways.second) return known_[subject] = *kept == ways.first;
  }
  const bool first = measure(node, ways);
  if (cache_ != nullptr) {
    cache_->disk().store(subject, conditions_, first ? ways.first : ways.second);
  }
  return known_[subject] = first;
}

bool MeasuredChoice::measure(const ir::Node& node, const Ways& ways) const {
  const double second = time(node, ways, false, std::numeric_limits<double>::infinity());
  const double first = time(node, ways, true, second);
  log("choices", "{}: {:.2f} us by {}, {:.2f} us by {}", text_of(node), second * 1e6, ways.second,
      first * 1e6, ways.first);
  return first < second;
}

double MeasuredChoice::time(const ir::Node& node, const Ways& ways, bool first,
                            double other) const {
  try {
    compiler::CompileOptions options;
    options.gpu = device_.gpu;
    options.threads = 1;
    options.cache = cache_.get();
    options.*ways.option = [first](const ir::Node&) { return first; };
    const LoadHook& hook = load_hook();
    options.keep_kernels = hook != nullptr;
    const compiler::Compilation compilation = compiler::compile(graph_of(node), options);
    if (hook) hook(compilation);
    const State state = state_of(node);
    runtime::RunOptions run;
    run.device = device_.index;
    plan::Plan plan = compilation.plan;
    for (int i = 1; i < repetitions; ++i) {
      plan.steps.insert(plan.steps.end(), compilation.plan.steps.begin(),
                        compilation.plan.steps.end());
    }
    runtime::Executable executable(std::move(plan), run);
    executable.bind(state);
    const auto seconds = [&](std::int64_t executions) {
      const auto start = std::chrono::steady_clock::now();
      executable.run(0, executions);
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
      return passed.count() / (repetitions * static_cast<double>(executions));
    };
    seconds(1);  // builds graphs, copies the state
    const double once = std::max(seconds(1), 1e-9);
    if (once > hopeless * other) return once;
    const auto executions = static_cast<std::int64_t>(
        std::clamp(turn_seconds / (repetitions * once), 1.0, double{most_executions}));
    std::vector<double> times;
    for (int turn = 0; turn < turns; ++turn) {
      times.push_back(seconds(executions));
    }
    std::nth_element(times.begin(), times.begin() + turns / 2, times.end());
    return times[turns / 2];
  } catch (const Error& error) {
    log("choices", "{}: by {}: {}", text_of(node), first ? ways.first : ways.second, error.what());
    return std::numeric_limits<double>::infinity();
  }
}

}  // namespace weft::detail
