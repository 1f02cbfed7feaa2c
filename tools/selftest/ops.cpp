// Every op of the table, by itself with its gradients and in a loop, against reference evaluation;
// and random graphs of them.
#include <fmt/format.h>

#include "compiler/ir/graph.h"
#include "runtime/cuda/devices.h"
#include "tools/check/bounds.h"
#include "tools/check/differences.h"
#include "tools/check/op_uses.h"
#include "tools/check/random_graph.h"
#include "tools/selftest/cases.h"

namespace weft::selftest {
namespace {

constexpr std::int64_t gibibytes = 4;  ///< that a graph's values may take

bool has(const ir::Graph& graph, ir::Pattern pattern) {
  bool found = false;
  ir::walk(graph.body(), [&](const ir::Node& node) { found |= node.op->pattern == pattern; });
  return found;
}

/// All ways in which the device may run it.
std::vector<check::Mode> modes(const ir::Graph& graph, const Target& target) {
  std::vector<check::Mode> all(2);
  all[1].fuse = false;
  if (!target.gpu.empty() && has(graph, ir::Pattern::tno)) {
    all[0].tno_by_products = true;
    all.emplace_back().tno_by_products = false;
  }
  if (!target.gpu.empty() && has(graph, ir::Pattern::fft) &&
      runtime::cuda::fourier_library_absent().empty()) {
    all.emplace_back().library_transforms = true;
  }
  for (check::Mode& mode : all) {
    mode.gpu = target.gpu;
    mode.device = target.index;
  }
  return all;
}

std::vector<std::string> differences(const ir::Graph& graph, const check::Inputs& inputs,
                                     const Target& target) {
  const check::Interface interface = check::read_interface(graph, gibibytes);
  const std::vector<check::Bounded> expected = check::bound(graph, interface, inputs);
  std::vector<std::string> lines;
  for (const check::Mode& mode : modes(graph, target)) {
    check::Comparison found = check::differences(graph, interface, inputs, expected, mode);
    for (std::string& line : found.mismatches) lines.push_back(std::move(line));
  }
  return lines;
}

std::vector<std::string> differences(const check::OpUses& uses, const Target& target) {
  return differences(uses.graph, uses.inputs, target);
}

}  // namespace

std::vector<std::string> differences(const ir::Graph& graph, const Target& target) {
  const check::Interface interface = check::read_interface(graph, gibibytes);
  return differences(graph, check::random_inputs(graph, interface, 0), target);
}

void add_op_cases(std::vector<Case>& cases, const Target& target) {
  for (const std::string& name : check::generated_ops()) {
    cases.push_back({"op/" + name, [name, target] {
                       return differences(check::uses_alone(ops::op(name), 1), target);
                     }});
    cases.push_back({"op/" + name + "/loop", [name, target] {
                       return differences(check::uses_in_loops(ops::op(name), 2), target);
                     }});
  }
}

void add_random_cases(std::vector<Case>& cases, const Target& target, const Selection& selection) {
  for (std::int64_t i = 0; i < selection.seeds; ++i) {
    const std::uint64_t seed = selection.first_seed + static_cast<std::uint64_t>(i);
    cases.push_back({fmt::format("random/{}", seed),
                     [seed, target] { return differences(check::random_graph(seed), target); }});
  }
}

}  // namespace weft::selftest
