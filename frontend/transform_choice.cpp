#include "transform_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>
#include <vector>

#include "compiler/codegen/cached.h"
#include "compiler/compile.h"
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

/// A program of that operation alone, from one state to another.
ir::Graph graph_of(const ir::Node& node) {
  ir::Graph graph;
  graph.name = "transform";
  ops::Builder b(graph, graph.body());
  const Type& type = node.operand_type(0);
  const ir::Value x =
      b.emit1("state", {},
              {{"name", std::string("x")},
               {"dtype", type.dtype},
               {"shape", std::vector<std::int64_t>(type.shape.begin(), type.shape.end())}});
  const ir::Value y = b.emit1(node.op->name, {x}, node.attributes);
  b.emit(ops::op("state_write"), {y}, {{"name", std::string("y")}});
  return graph;
}

std::string text_of(const ir::Node& node) {
  std::string text =
      fmt::format("{} {} to {} along axis {}", node.op->name, node.operand_type(0).text(),
                  node.results[0].text(), node.attributes.integer("axis"));
  return text;
}

}  // namespace

TransformChoice::TransformChoice(const Device& device, std::shared_ptr<KernelCache> cache)
    : device_(device), cache_(std::move(cache)) {
  const runtime::cuda::DeviceList gpus = runtime::cuda::find_devices();
  const auto index = static_cast<std::size_t>(device.index);
  conditions_ = fmt::format("device {}\ntarget {}\ngenerator {}\n",
                            index < gpus.devices.size() ? gpus.devices[index].name : "unknown",
                            device.gpu, compiler::codegen_version());
}

bool TransformChoice::prefers_library(const ir::Node& node) {
  const std::lock_guard lock(mutex_);
  const std::string subject = "transform " + text_of(node);
  const auto known = known_.find(subject);
  if (known != known_.end()) return known->second;
  if (cache_ != nullptr) {
    const std::optional<std::string> kept = cache_->disk().find(subject, conditions_);
    if (kept == "library" || kept == "own") return known_[subject] = *kept == "library";
  }
  const bool library = measure(node);
  if (cache_ != nullptr) {
    cache_->disk().store(subject, conditions_, library ? "library" : "own");
  }
  return known_[subject] = library;
}

bool TransformChoice::measure(const ir::Node& node) const {
  const double library = time(node, true);
  if (library == std::numeric_limits<double>::infinity()) return false;
  const double own = time(node, false);
  log("transforms", "{}: {:.2f} us by weft, {:.2f} us by the library", text_of(node), own * 1e6,
      library * 1e6);
  return library < own;
}

double TransformChoice::time(const ir::Node& node, bool library) const {
  try {
    compiler::CompileOptions options;
    options.gpu = device_.gpu;
    options.threads = 1;
    options.cache = cache_.get();
    options.library_transform = [library](const ir::Node&) { return library; };
    const LoadHook& hook = load_hook();
    options.keep_kernels = hook != nullptr;
    const compiler::Compilation compilation = compiler::compile(graph_of(node), options);
    if (hook) hook(compilation);
    State state;
    state.add("x", node.operand_type(0));
    state.add("y", node.results[0]);
    runtime::RunOptions run;
    run.device = device_.index;
    runtime::Executable executable(compilation.plan, run);
    executable.bind(state);
    const auto seconds = [&](std::int64_t executions) {
      const auto start = std::chrono::steady_clock::now();
      executable.run(0, executions);
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
      return passed.count();
    };
    seconds(1);  // builds graphs, copies the state
    const double once = std::max(seconds(1), 1e-9);
    const auto executions =
        static_cast<std::int64_t>(std::clamp(turn_seconds / once, 1.0, double{most_executions}));
    std::vector<double> times;
    for (int turn = 0; turn < turns; ++turn) {
      times.push_back(seconds(executions) / static_cast<double>(executions));
    }
    std::nth_element(times.begin(), times.begin() + turns / 2, times.end());
    return times[turns / 2];
  } catch (const Error& error) {
    log("transforms", "{}: {}: {}", text_of(node), library ? "by the library" : "by weft",
        error.what());
    return std::numeric_limits<double>::infinity();
  }
}

}  // namespace weft::detail
