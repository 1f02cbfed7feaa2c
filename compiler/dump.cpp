#include "compiler/dump.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "compiler/dump_dot.h"
#include "compiler/dump_units.h"
#include "compiler/explain.h"
#include "compiler/ir/text.h"
#include "ops/op.h"

namespace weft::compiler {

namespace {

using Json = nlohmann::ordered_json;

Json region_json(const ir::Region& region, const ir::Names& names);

Json node_json(const ir::Node& node, const ir::Names& names) {
  Json json;
  json["op"] = std::string(node.op->name);
  json["results"] = Json::array();
  for (std::uint32_t i = 0; i < node.results.size(); ++i) {
    const std::string result = names({const_cast<ir::Node*>(&node), i});
    json["results"].push_back({{"name", result}, {"type", node.results[i].text()}});
  }
  json["operands"] = Json::array();
  for (const ir::Value operand : node.operands) json["operands"].push_back(names(operand));
  json["attributes"] = Json::object();
  for (const auto& [key, value] : node.attributes.entries()) {
    std::visit(
        [&, name = key](const auto& item) {
          if constexpr (std::is_same_v<std::decay_t<decltype(item)>, DType>) {
            json["attributes"][name] = std::string(weft::name(item));
          } else {
            json["attributes"][name] = item;
          }
        },
        value);
  }
  if (!node.regions.empty()) {
    json["regions"] = Json::array();
    for (const ir::Region* body : node.regions) {
      json["regions"].push_back(region_json(*body, names));
    }
  }
  if (const std::string at = node.location.text(); !at.empty()) json["at"] = at;
  return json;
}

Json region_json(const ir::Region& region, const ir::Names& names) {
  Json json;
  json["arguments"] = Json::array();
  for (const ir::Node* argument : region.arguments) {
    json["arguments"].push_back(
        {{"name", names(*argument)}, {"type", argument->results.at(0).text()}});
  }
  json["nodes"] = Json::array();
  for (const ir::Node* node : region.nodes) json["nodes"].push_back(node_json(*node, names));
  json["yields"] = Json::array();
  for (const ir::Value yielded : region.yields) json["yields"].push_back(names(yielded));
  return json;
}

std::string joined(const std::vector<std::string>& items) {
  return fmt::format("{}", fmt::join(items, ", "));
}

/// JSON wants UTF-8; names of files and tensors may be anything.
std::string json_text(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

std::string graph_json(const ir::Graph& graph) {
  Json json;
  json["graph"] = graph.name;
  json["nodes"] = region_json(graph.body(), ir::Names(graph))["nodes"];
  return json_text(json);
}

/// Of one launch.
double billions_a_second(std::int64_t amount, const KernelReport& kernel) {
  if (kernel.seconds <= 0) return 0;
  return 1e-9 * static_cast<double>(amount) * static_cast<double>(kernel.launches) / kernel.seconds;
}

std::string time_text(const KernelReport& kernel) {
  const std::int64_t moved = kernel.bytes_read + kernel.bytes_written;
  return fmt::format(
      "{:.2f} us a launch, {} launches, {:.2f} GB/s, {:.2f} GFLOP/s, {:.0f} % of the roof",
      1e6 * kernel.seconds / static_cast<double>(kernel.launches), kernel.launches,
      billions_a_second(moved, kernel), billions_a_second(kernel.operations, kernel),
      100 * kernel.roof_share);
}

/// After a run with profiling: the kernels by time; "" otherwise.
std::string times_table(const Compilation& compilation) {
  std::vector<const KernelReport*> kernels;
  double total = 0;
  std::size_t width = 6;
  for (const KernelReport& kernel : compilation.kernels) {
    if (kernel.launches == 0) continue;
    kernels.push_back(&kernel);
    total += kernel.seconds;
    width = std::max(width, kernel.name.size());
  }
  if (kernels.empty()) return {};
  // Of equals the first in order of execution stays first.
  std::sort(kernels.begin(), kernels.end(), [](const auto* a, const auto* b) {
    return a->seconds != b->seconds ? a->seconds > b->seconds : a < b;
  });
  std::string text =
      fmt::format("{:<{}} {:>9} {:>11} {:>7} {:>11} {:>9} {:>9} {:>9} {:>6}\n", "kernel", width,
                  "launches", "time, ms", "time", "bytes", "ops", "GB/s", "GFLOP/s", "roof");
  double least = 0;
  for (const KernelReport* kernel : kernels) {
    const std::int64_t moved = kernel->bytes_read + kernel->bytes_written;
    text +=
        fmt::format("{:<{}} {:>9} {:>11.3f} {:>5.1f} % {:>11} {:>9} {:>9.2f} {:>9.2f} {:>4.0f} %\n",
                    kernel->name, width, kernel->launches, 1e3 * kernel->seconds,
                    total > 0 ? 100 * kernel->seconds / total : 0, bytes_text(moved),
                    count_text(kernel->operations), billions_a_second(moved, *kernel),
                    billions_a_second(kernel->operations, *kernel), 100 * kernel->roof_share);
    least += kernel->roof_share * kernel->seconds;
  }
  return text + fmt::format(
                    "{:.3f} ms in kernels, {:.0f} % of the roof; bytes and operations are of "
                    "one launch\n\n",
                    1e3 * total, total > 0 ? 100 * least / total : 0);
}

std::string kernels_text(const Compilation& compilation) {
  std::string text;
  const auto put = [&](std::string_view key, const std::string& value) {
    if (!value.empty()) text += fmt::format("  {:<8} {}\n", key, value);
  };
  std::int64_t moved = 0;
  std::int64_t operations = 0;
  for (const KernelReport& kernel : compilation.kernels) {
    text += fmt::format("kernel @{}\n", kernel.name);
    put("anchor", kernel.anchor);
    std::vector<std::string> inputs;
    for (const std::string& input : kernel.inputs) {
      const auto state = compilation.states.find(input);
      inputs.push_back(state == compilation.states.end() ? input : input + ' ' + state->second);
    }
    put("reads", joined(inputs));
    put("writes", joined(kernel.outputs));
    for (const std::string& line : kernel.lines) text += "    " + line + '\n';
    put("cost",
        fmt::format("{} read, {} written, {} operations, {} blocks", bytes_text(kernel.bytes_read),
                    bytes_text(kernel.bytes_written), count_text(kernel.operations), kernel.grid));
    if (kernel.launches > 0) put("time", time_text(kernel));
    put("from", joined(kernel.locations));
    text += '\n';
    moved += kernel.bytes_read + kernel.bytes_written;
    operations += kernel.operations;
  }
  text += times_table(compilation);
  return text +
         fmt::format("{} kernels; {} moved, {} operations, each run once; arena {}, {} live\n",
                     compilation.kernels.size(), bytes_text(moved), count_text(operations),
                     bytes_text(compilation.plan.arena_bytes),
                     bytes_text(compilation.plan.live_bytes));
}

Json node_json(const NodeReport& node) {
  return {{"name", node.name}, {"op", node.op}, {"at", node.location}};
}

std::string kernels_json(const Compilation& compilation) {
  Json json;
  json["plan"] = {{"name", compilation.plan.name},
                  {"target", compilation.plan.target},
                  {"arena_bytes", compilation.plan.arena_bytes},
                  {"live_bytes", compilation.plan.live_bytes}};
  json["states"] = compilation.states;
  json["kernels"] = Json::array();
  for (const KernelReport& kernel : compilation.kernels) {
    json["kernels"].push_back({{"name", kernel.name},
                               {"kind", kernel.kind},
                               {"anchor", kernel.anchor},
                               {"inputs", kernel.inputs},
                               {"outputs", kernel.outputs},
                               {"nodes", kernel.lines},
                               {"at", kernel.locations},
                               {"grid", kernel.grid},
                               {"bytes_read", kernel.bytes_read},
                               {"bytes_written", kernel.bytes_written},
                               {"operations", kernel.operations}});
    if (kernel.launches == 0) continue;
    json["kernels"].back()["launches"] = kernel.launches;
    json["kernels"].back()["seconds"] = kernel.seconds;
    json["kernels"].back()["roof_share"] = kernel.roof_share;
  }
  json["refusals"] = Json::array();
  for (const FusionRefusal& refusal : compilation.refusals) {
    json["refusals"].push_back({{"producer", node_json(refusal.producer)},
                                {"consumer", node_json(refusal.consumer)},
                                {"producer_kernel", refusal.producer_kernel},
                                {"consumer_kernel", refusal.consumer_kernel},
                                {"reason", refusal.reason}});
  }
  json["sibling_refusals"] = Json::array();
  for (const SiblingRefusal& refusal : compilation.sibling_refusals) {
    json["sibling_refusals"].push_back({{"first", node_json(refusal.first)},
                                        {"second", node_json(refusal.second)},
                                        {"shared", refusal.shared},
                                        {"first_kernel", refusal.first_kernel},
                                        {"second_kernel", refusal.second_kernel},
                                        {"reason", refusal.reason}});
  }
  json["passes"] = Json::array();
  for (const PassTime& time : compilation.passes) {
    json["passes"].push_back({{"pass", time.pass}, {"seconds", time.seconds}});
  }
  return json_text(json);
}

std::string loops_text(const Compilation& compilation) {
  std::string text;
  for (const KernelReport& kernel : compilation.kernels) text += kernel.loops + '\n';
  return text;
}

std::string assembly_text(const Compilation& compilation) {
  std::string text;
  for (const KernelReport& kernel : compilation.kernels) {
    text += fmt::format("# kernel @{}\n{}\n", kernel.name, kernel.assembly);
  }
  return text;
}

std::string text_of(const Compilation& compilation, std::string_view stage) {
  if (stage == "simplified") return compilation.simplified;
  if (stage == "fused") return compilation.fused;
  if (stage == "kernels") return kernels_text(compilation);
  if (stage == "refusals") return explain(compilation);
  if (stage == "loops") return loops_text(compilation);
  if (stage == "assembly") return assembly_text(compilation);
  throw Error(
      fmt::format("dump: no stage \"{}\"; there are traced, simplified, fused, kernels, refusals, "
                  "loops and assembly",
                  stage));
}

}  // namespace

std::optional<DumpFormat> parse_dump_format(std::string_view name) {
  if (name == "text") return DumpFormat::text;
  if (name == "dot") return DumpFormat::dot;
  if (name == "json") return DumpFormat::json;
  return std::nullopt;
}

std::string dump(const ir::Graph& graph, DumpFormat format) {
  switch (format) {
    case DumpFormat::text:
      return ir::print(graph);
    case DumpFormat::dot:
      return graph_dot(graph);
    case DumpFormat::json:
      return graph_json(graph);
  }
  return {};
}

std::string dump(const Compilation& compilation, std::string_view stage, DumpFormat format) {
  if (format == DumpFormat::text) return text_of(compilation, stage);
  if (stage == "simplified") {
    return dump(ir::parse(compilation.simplified, ops::table(), "<simplified>"), format);
  }
  if (stage == "fused" || stage == "kernels") {
    return format == DumpFormat::dot ? kernels_dot(compilation) : kernels_json(compilation);
  }
  text_of(compilation, stage);  // where there is no such stage, that is what is wrong
  throw Error(fmt::format("dump: stage \"{}\" has a text form only", stage));
}

bool needs_assembly(std::string_view stage) { return stage == "loops" || stage == "assembly"; }

}  // namespace weft::compiler
