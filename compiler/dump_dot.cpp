#include "compiler/dump_dot.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <map>
#include <set>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "compiler/dump_units.h"
#include "compiler/ir/text.h"
#include "ops/op.h"

namespace weft::compiler {
namespace {

/// A string of the dot language; \l after each line aligns it left.
std::string dot_string(std::string_view text, bool left = false) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (c == '\n') {
      quoted += left ? "\\l" : "\\n";
    } else if (static_cast<unsigned char>(c) >= 0x20) {
      quoted += c;
    }
  }
  return quoted += '"';
}

/// One colour a family, dark text readable on all of them.
std::string_view colour(ir::Pattern pattern) {
  switch (pattern) {
    case ir::Pattern::elementwise:
    case ir::Pattern::random:
      return "#e8f0fe";
    case ir::Pattern::movement:
      return "#f1f3f4";
    case ir::Pattern::reduction:
    case ir::Pattern::scan:
    case ir::Pattern::scatter:
      return "#fef7e0";
    case ir::Pattern::dot:
    case ir::Pattern::attention:
    case ir::Pattern::tree:
      return "#fce8e6";
    case ir::Pattern::fft:
    case ir::Pattern::tno:
      return "#f3e8fd";
    case ir::Pattern::composite:
      return "#e4f7fb";
    case ir::Pattern::transfer:
    case ir::Pattern::control:
      return "#e6f4ea";
  }
  return "#ffffff";
}

/// Long attributes (constants' data) would fill the picture.
constexpr std::size_t longest_label = 48;

std::string attribute_text(const ir::AttributeValue& value) {
  return std::visit(
      [](const auto& item) -> std::string {
        using T = std::decay_t<decltype(item)>;
        if constexpr (std::is_same_v<T, DType>) {
          return std::string(name(item));
        } else if constexpr (std::is_same_v<T, std::string>) {
          return ir::quote(item);
        } else if constexpr (std::is_same_v<T, bool>) {
          return item ? "true" : "false";
        } else if constexpr (std::is_same_v<T, double>) {
          return ir::real_text(item);
        } else if constexpr (std::is_same_v<T, std::int64_t>) {
          return fmt::format("{}", item);
        } else {
          std::string text = "[";
          for (std::size_t i = 0; i < item.size() && text.size() <= longest_label; ++i) {
            text += fmt::format("{}{}", i ? ", " : "", item[i]);
          }
          return text + ']';
        }
      },
      value);
}

class GraphDot {
 public:
  explicit GraphDot(const ir::Graph& graph) : names_(graph) {
    put("digraph {} {{\n  node [shape=box, style=filled, fontname=\"monospace\", fontsize=10];\n",
        dot_string(graph.name));
    region(graph.body(), 1);
    put("{}}}\n", edges_);
  }
  std::string take() { return std::move(text_); }

 private:
  template <typename... Arguments>
  void put(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Arguments>(arguments)...);
  }

  void node(const ir::Node& node, int indent) {
    std::string label = fmt::format("{} = {}", names_(node), node.op->name);
    for (const auto& [key, value] : node.attributes.entries()) {
      std::string text = attribute_text(value);
      if (text.size() > longest_label) text = text.substr(0, longest_label) + "...";
      label += fmt::format("\n{} = {}", key, text);
    }
    for (const Type& type : node.results) label += '\n' + type.text();
    put("{:{}}n{} [label={}, fillcolor=\"{}\"];\n", "", 2 * indent, node.id, dot_string(label),
        colour(node.op->pattern));
  }

  void edge(ir::Value from, std::uint32_t to, std::string_view style) {
    edges_ += fmt::format("  n{} -> n{}{};\n", from.node->id, to, style);
  }

  void region(const ir::Region& region, int indent) {
    for (const ir::Node* argument : region.arguments) node(*argument, indent);
    for (const ir::Node* child : region.nodes) {
      node(*child, indent);
      for (const ir::Value operand : child->operands) edge(operand, child->id, "");
      for (const ir::Region* body : child->regions) {
        put("{:{}}subgraph cluster_{} {{\n{:{}}label={};\n", "", 2 * indent, clusters_++, "",
            2 * indent + 2, dot_string(fmt::format("{} {}", child->op->name, names_(*child))));
        this->region(*body, indent + 1);
        put("{:{}}}}\n", "", 2 * indent);
        for (const ir::Value yielded : body->yields) edge(yielded, child->id, " [style=dashed]");
      }
    }
  }

  ir::Names names_;
  std::string text_;
  std::string edges_;
  int clusters_ = 0;
};

/// The launches of a compilation as boxes.
class KernelsDot {
 public:
  explicit KernelsDot(const Compilation& compilation) : compilation_(compilation) {
    boxes(compilation.plan.steps);
    for (std::size_t box = 0; box < boxes_.size(); ++box) {
      for (const std::uint32_t k : boxes_[box]) {
        for (const std::string& output : kernel(k).outputs) producers_[output] = box;
      }
    }
  }

  std::string text() const {
    std::string text = fmt::format(
        "digraph {} {{\n  node [shape=box, style=filled, fontname=\"monospace\", fontsize=10];\n  "
        "edge [fontname=\"monospace\", fontsize=9];\n",
        dot_string(compilation_.plan.name));
    std::string edges;
    for (std::size_t box = 0; box < boxes_.size(); ++box) {
      const std::vector<std::uint32_t>& kernels = boxes_[box];
      std::string label;
      if (kernels.size() > 1) label += fmt::format("{} kernels in one launch\n", kernels.size());
      // Alike ones follow each other: the first few show what they do.
      const std::size_t shown = kernels.size() <= most_whole ? kernels.size() : 1;
      for (std::size_t i = 0; i < shown; ++i) add_whole(label, kernels[i]);
      for (std::size_t i = shown; i < kernels.size() && i < most_lines; ++i) {
        add_line(label, kernels[i]);
      }
      if (kernels.size() > most_lines) {
        label += fmt::format("and {} more\n", kernels.size() - most_lines);
      }
      text += fmt::format("  k{} [label={}, fillcolor=\"{}\"];\n", box, dot_string(label, true),
                          colour_of(kernel(kernels[0])));
      add_edges(edges, box);
    }
    return text + edges + "}\n";
  }

 private:
  static constexpr std::size_t most_whole = 2;   ///< kernels of a launch that are written out
  static constexpr std::size_t most_lines = 12;  ///< that are named
  static constexpr std::size_t most_sources = 6;

  const KernelReport& kernel(std::uint32_t number) const { return compilation_.kernels[number]; }

  void boxes(const std::vector<plan::Step>& steps) {
    for (const plan::Step& step : steps) {
      if (step.kind == plan::StepKind::launch) boxes_.push_back({step.index});
      if (step.kind == plan::StepKind::loop) boxes(step.body);
      if (step.kind != plan::StepKind::together) continue;
      std::vector<std::uint32_t>& box = boxes_.emplace_back();
      for (const plan::Step& part : step.body) box.push_back(part.index);
    }
  }

  static std::string_view colour_of(const KernelReport& kernel) {
    const auto is = [&](std::string_view kind) { return kernel.kind.starts_with(kind); };
    if (is("dot") || is("attention") || is("tree")) return colour(ir::Pattern::dot);
    if (is("fft") || is("tno")) return colour(ir::Pattern::fft);
    if (is("elw")) return colour(ir::Pattern::elementwise);
    return colour(ir::Pattern::reduction);
  }

  std::string source(const std::string& value) const {
    const auto state = compilation_.states.find(value);
    return state == compilation_.states.end() ? value : value + ' ' + state->second;
  }

  std::vector<std::string> sources(const KernelReport& kernel) const {
    std::vector<std::string> names;
    for (const std::string& input : kernel.inputs) {
      if (!producers_.contains(input)) names.push_back(source(input));
    }
    return names;
  }

  void add_whole(std::string& label, std::uint32_t number) const {
    const KernelReport& k = kernel(number);
    label += k.name + '\n';
    for (const std::string& line : k.lines) label += line + '\n';
    const std::vector<std::string> from = sources(k);
    for (std::size_t i = 0; i < from.size() && i < most_sources; ++i) {
      label += "from " + from[i] + '\n';
    }
    if (from.size() > most_sources) {
      label += fmt::format("and from {} more\n", from.size() - most_sources);
    }
    label += fmt::format("{} read, {} written, {} operations\n", bytes_text(k.bytes_read),
                         bytes_text(k.bytes_written), count_text(k.operations));
  }

  void add_line(std::string& label, std::uint32_t number) const {
    const KernelReport& k = kernel(number);
    std::vector<std::string> from = sources(k);
    if (from.size() > 1) from.resize(1);
    label += fmt::format("{} -> {}{}{}\n", k.name, fmt::join(k.outputs, ", "),
                         from.empty() ? "" : ", from ", fmt::join(from, ""));
  }

  /// One edge from each launch that it reads from, with what it reads.
  void add_edges(std::string& edges, std::size_t box) const {
    std::map<std::size_t, std::set<std::string>> read;
    for (const std::uint32_t k : boxes_[box]) {
      for (const std::string& input : kernel(k).inputs) {
        const auto producer = producers_.find(input);
        if (producer != producers_.end() && producer->second != box) {
          read[producer->second].insert(input);
        }
      }
    }
    for (const auto& [from, values] : read) {
      const std::string label = values.size() <= 3 ? fmt::format("{}", fmt::join(values, "\n"))
                                                   : fmt::format("{} values", values.size());
      edges += fmt::format("  k{} -> k{} [label={}];\n", from, box, dot_string(label));
    }
  }

  const Compilation& compilation_;
  std::vector<std::vector<std::uint32_t>> boxes_;  ///< kernels' numbers
  std::map<std::string, std::size_t> producers_;   ///< of values: their box
};

}  // namespace

std::string graph_dot(const ir::Graph& graph) { return GraphDot(graph).take(); }

std::string kernels_dot(const Compilation& compilation) { return KernelsDot(compilation).text(); }

}  // namespace weft::compiler
