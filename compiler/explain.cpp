#include "compiler/explain.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <deque>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "compiler/ir/text.h"
#include "ops/op.h"

namespace weft::compiler {
namespace {

using Kernels = std::set<std::string>;

std::string node_text(const NodeReport& node) {
  return node.location.empty() ? fmt::format("{} ({})", node.name, node.op)
                               : fmt::format("{} ({}, {})", node.name, node.op, node.location);
}

std::string line(const FusionRefusal& refusal) {
  return fmt::format("{} of @{} for {}: {}", node_text(refusal.producer), refusal.producer_kernel,
                     node_text(refusal.consumer), refusal.reason);
}

std::string line(const SiblingRefusal& refusal) {
  return fmt::format("{} and {} both read {}: {}", node_text(refusal.first),
                     node_text(refusal.second), refusal.shared, refusal.reason);
}

Kernels kernels_of(const Compilation& compilation, const std::string& name) {
  Kernels found;
  for (const KernelReport& kernel : compilation.kernels) {
    const bool here = std::any_of(kernel.nodes.begin(), kernel.nodes.end(),
                                  [&](const NodeReport& node) { return node.name == name; });
    if (here) found.insert(kernel.name);
  }
  if (!found.empty()) return found;
  // Names end where the text goes on with " = " or a number of results.
  for (const char* end : {" = ", "#", ", "}) {
    const std::string text = " " + name + end;
    if (compilation.fused.find(text) == std::string::npos &&
        compilation.simplified.find(text) == std::string::npos) {
      continue;
    }
    throw Error(
        fmt::format("{} is in no kernel: it is a state, an argument, a constant, a feeder "
                    "or a loop, and its value is there before a kernel reads it",
                    name));
  }
  throw Error(fmt::format(
      "there is no {} after simplification; `weft dump --stage fused` lists what there is", name));
}

std::string list(const Kernels& kernels) { return fmt::format("@{}", fmt::join(kernels, ", @")); }

/// The refusals on a shortest way through the kernels.
std::vector<const FusionRefusal*> way(const Compilation& compilation, const Kernels& from,
                                      const Kernels& to) {
  std::map<std::string, std::vector<const FusionRefusal*>> next;
  for (const FusionRefusal& refusal : compilation.refusals) {
    next[refusal.producer_kernel].push_back(&refusal);
  }
  std::map<std::string, const FusionRefusal*> reached_by;
  std::deque<std::string> waiting(from.begin(), from.end());
  for (const std::string& kernel : from) reached_by[kernel] = nullptr;
  while (!waiting.empty()) {
    const std::string kernel = waiting.front();
    waiting.pop_front();
    if (to.contains(kernel)) {
      std::vector<const FusionRefusal*> steps;
      for (const FusionRefusal* step = reached_by[kernel]; step != nullptr;
           step = reached_by[step->producer_kernel]) {
        steps.push_back(step);
      }
      std::reverse(steps.begin(), steps.end());
      return steps;
    }
    for (const FusionRefusal* step : next[kernel]) {
      if (reached_by.try_emplace(step->consumer_kernel, step).second) {
        waiting.push_back(step->consumer_kernel);
      }
    }
  }
  return {};
}

}  // namespace

std::string explain(const Compilation& compilation) {
  std::map<std::string, std::vector<const FusionRefusal*>> by_kernel;
  for (const FusionRefusal& refusal : compilation.refusals) {
    by_kernel[refusal.consumer_kernel].push_back(&refusal);
  }
  std::string text;
  for (const KernelReport& kernel : compilation.kernels) {
    const auto found = by_kernel.find(kernel.name);
    if (found == by_kernel.end()) continue;
    text += fmt::format("kernel @{} loads\n", kernel.name);
    for (const FusionRefusal* refusal : found->second) text += "  " + line(*refusal) + '\n';
  }
  for (const SiblingRefusal& refusal : compilation.sibling_refusals) {
    text += fmt::format("kernels @{} and @{} are not one\n  {}\n", refusal.first_kernel,
                        refusal.second_kernel, line(refusal));
  }
  return text.empty() ? "nothing was refused\n" : text;
}

std::string explain(const Compilation& compilation, const std::string& a, const std::string& b) {
  const Kernels of_a = kernels_of(compilation, a);
  const Kernels of_b = kernels_of(compilation, b);
  std::string text = fmt::format("{} is in {}\n{} is in {}\n", a, list(of_a), b, list(of_b));
  Kernels common;
  std::set_intersection(of_a.begin(), of_a.end(), of_b.begin(), of_b.end(),
                        std::inserter(common, common.end()));
  if (!common.empty()) text += fmt::format("both are computed in {}\n", list(common));
  bool adjacent = false;
  for (const FusionRefusal& refusal : compilation.refusals) {
    const std::string& from = refusal.producer.name;
    const std::string& to = refusal.consumer.name;
    if ((from != a || to != b) && (from != b || to != a)) continue;
    text += fmt::format("@{} loads {}\n", refusal.consumer_kernel, line(refusal));
    adjacent = true;
  }
  for (const SiblingRefusal& refusal : compilation.sibling_refusals) {
    const std::string& first = refusal.first.name;
    const std::string& second = refusal.second.name;
    if ((first != a || second != b) && (first != b || second != a)) continue;
    text += line(refusal) + '\n';
    adjacent = true;
  }
  if (adjacent || !common.empty()) return text;
  std::vector<const FusionRefusal*> steps = way(compilation, of_a, of_b);
  if (steps.empty()) steps = way(compilation, of_b, of_a);
  if (steps.empty()) {
    return text +
           "neither needs the other: kernels that do not depend on each other are one only "
           "where they read a tensor at the same positions\n";
  }
  text += "they are not neighbours; between them:\n";
  for (const FusionRefusal* step : steps) {
    text += fmt::format("  @{} loads {}\n", step->consumer_kernel, line(*step));
  }
  return text;
}

}  // namespace weft::compiler
