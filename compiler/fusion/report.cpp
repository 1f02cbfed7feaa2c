#include "compiler/fusion/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <unordered_map>

#include "compiler/fusion/cost.h"
#include "compiler/fusion/refusals.h"

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Pattern;
using ir::Value;
using loop::Ex;

std::string value_name(Value v) {
  std::string name = node_name(*v.node);
  if (v.node->results.size() > 1) name += fmt::format("#{}", v.index);
  return name;
}

std::string immediate_text(const Node& node) {
  if (node.is("constant")) {
    const ir::AttributeValue& value = *node.attributes.find("value");
    if (const auto* integer = std::get_if<std::int64_t>(&value)) return fmt::format("{}", *integer);
    if (const auto* real = std::get_if<double>(&value)) return fmt::format("{}", *real);
  }
  return std::string(node.op->name);
}

/// Follows movement from an operand to the tensors that it reads, recording the index expressions.
class AccessPrinter final : public ops::Lowering {
 public:
  explicit AccessPrinter(const Group& group) {
    for (const Node* member : group.members) members_.insert(member);
  }

  loop::Arena& arena() override { return arena_; }

  /// "%x[i, k]", or "concat(%a[i], %b[i - 3])" where several tensors are read.
  std::string describe(Value v, const std::vector<std::string>& names, std::span<const Ex> index) {
    names_ = &names;
    reads_.clear();
    follow(v, index);
    if (reads_.size() == 1) return reads_[0];
    return fmt::format("{}({})", v.node->op->name, fmt::join(reads_, ", "));
  }

  std::vector<Ex> axes(const Shape& shape) {
    std::vector<Ex> out;
    for (int i = 0; i < shape.rank(); ++i) {
      out.push_back(arena_.variable(loop::Scalar::i64, 0, std::max<std::int64_t>(shape[i] - 1, 0)));
      variables_.push_back(out.back());
    }
    return out;
  }

  ops::Element operand(const Node& node, std::size_t operand, std::span<const Ex> index) override {
    follow(node.operands[operand], index);
    return dummy(node.operands[operand]);
  }
  ops::Element operand_if(const Node& node, std::size_t operand_index, std::span<const Ex> index,
                          Ex) override {
    return operand(node, operand_index, index);
  }

 private:
  ops::Element dummy(Value v) {
    const loop::Scalar type = loop::register_type(is_complex(v.dtype()) ? DType::f32 : v.dtype());
    const Ex re = arena_.variable(type);
    return {re, is_complex(v.dtype()) ? arena_.variable(type) : nullptr};
  }

  void follow(Value v, std::span<const Ex> index) {
    if (is_immediate(*v.node)) {
      reads_.push_back(immediate_text(*v.node));
      return;
    }
    const bool moved = members_.count(v.node) != 0 && v.node->op->pattern == Pattern::movement;
    if (moved) {
      ops::row(*v.node).lower.function(*this, *v.node, index);
      return;
    }
    std::vector<std::string> parts;
    for (Ex e : index) parts.push_back(text(e));
    reads_.push_back(parts.empty() ? value_name(v)
                                   : fmt::format("{}[{}]", value_name(v), fmt::join(parts, ", ")));
  }

  std::string text(Ex e) {
    for (std::size_t i = 0; i < variables_.size(); ++i) {
      if (variables_[i] == e) return i < names_->size() ? (*names_)[i] : "?";
    }
    std::string printed = loop::print(e);
    // Axes are printed by the loop language under names of its own: put ours in their place.
    for (std::size_t i = 0; i < variables_.size() && i < names_->size(); ++i) {
      const std::string own = loop::print(variables_[i]);
      std::string out;
      for (std::size_t at = 0; at < printed.size();) {
        const bool starts = printed.compare(at, own.size(), own) == 0;
        const auto is_word = [](char c) {
          return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
        };
        const bool whole =
            starts && (at == 0 || !is_word(printed[at - 1])) &&
            (at + own.size() == printed.size() || !is_word(printed[at + own.size()]));
        if (whole) {
          out += (*names_)[i];
          at += own.size();
        } else {
          out += printed[at++];
        }
      }
      printed = out;
    }
    return printed;
  }

  loop::Arena arena_;
  std::set<const Node*> members_;
  std::vector<Ex> variables_;
  const std::vector<std::string>* names_ = nullptr;
  std::vector<std::string> reads_;
};

const std::vector<std::string> axis_names = {"i", "j", "k", "l", "m", "n", "o", "p",
                                             "q", "r", "s", "t", "u", "v", "w", "x"};

/// The operands of a dot at their own indices: result axes as for the other nodes, then the
/// contracted ones.
std::vector<std::vector<std::string>> dot_indices(const Node& node) {
  const auto get = [&](const char* name) {
    return node.attributes.has(name) ? node.attributes.integers(name) : std::vector<std::int64_t>{};
  };
  const auto lhs_batch = get("lhs_batch");
  const auto rhs_batch = get("rhs_batch");
  const auto lhs_contract = get("lhs_contract");
  const auto rhs_contract = get("rhs_contract");
  std::vector<std::string> lhs(static_cast<std::size_t>(node.operand_type(0).rank()));
  std::vector<std::string> rhs(static_cast<std::size_t>(node.operand_type(1).rank()));
  std::size_t next = 0;
  for (std::size_t i = 0; i < lhs_batch.size(); ++i, ++next) {
    lhs[static_cast<std::size_t>(lhs_batch[i])] = axis_names[next];
    rhs[static_cast<std::size_t>(rhs_batch[i])] = axis_names[next];
  }
  std::size_t contracted = static_cast<std::size_t>(node.results[0].rank());
  for (std::size_t i = 0; i < lhs_contract.size(); ++i, ++contracted) {
    lhs[static_cast<std::size_t>(lhs_contract[i])] = axis_names[contracted];
    rhs[static_cast<std::size_t>(rhs_contract[i])] = axis_names[contracted];
  }
  for (std::string& name : lhs) {
    if (name.empty()) name = axis_names[next++];
  }
  for (std::string& name : rhs) {
    if (name.empty()) name = axis_names[next++];
  }
  return {lhs, rhs};
}

std::string line(const Group& group, const Node& node) {
  std::vector<std::string> operands;
  if (node.is("dot")) {
    const auto indices = dot_indices(node);
    for (std::size_t i = 0; i < 2; ++i) {
      AccessPrinter printer(group);
      const std::vector<Ex> axes = printer.axes(node.operand_type(i).shape);
      operands.push_back(printer.describe(node.operands[i], indices[i], axes));
    }
  } else {
    for (std::size_t i = 0; i < node.operands.size(); ++i) {
      AccessPrinter printer(group);
      const std::vector<Ex> axes = printer.axes(node.operand_type(i).shape);
      operands.push_back(printer.describe(node.operands[i], axis_names, axes));
    }
  }
  return fmt::format("{} = {} {} : {}", value_name({const_cast<Node*>(&node), 0}), node.op->name,
                     fmt::join(operands, ", "), node.results[0].text());
}

std::string si(std::int64_t value) {
  const char* units[] = {"", "K", "M", "G", "T"};
  auto v = static_cast<double>(value);
  int unit = 0;
  while (v >= 1000 && unit < 4) {
    v /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{}", value) : fmt::format("{:.3g}{}", v, units[unit]);
}

class Printer {
 public:
  std::string run(const FusedGraph& fused, const std::string& name) {
    out_ = fmt::format("graph @{} {{\n", name);
    region(fused.body, 1);
    return out_ + "}\n";
  }

 private:
  void put(int depth, const std::string& text) {
    out_.append(static_cast<std::size_t>(depth) * 2, ' ');
    out_ += text;
    out_ += '\n';
  }

  void kernel(const Group& group, int depth) {
    const KernelReport r = report(group);
    put(depth, fmt::format("kernel @{}{} {{  // reads {}B, writes {}B, {} operations", r.name,
                           r.anchor.empty() ? "" : " anchor " + r.anchor, si(r.bytes_read),
                           si(r.bytes_written), si(r.operations)));
    for (const std::string& text : r.lines) put(depth + 1, text);
    put(depth, fmt::format("}} -> {}", fmt::join(r.outputs, ", ")));
  }

  void kernels(const Item& item, int depth) {
    if (item.groups.size() == 1) return kernel(*item.groups[0], depth);
    put(depth, fmt::format("segmented {{  // {} kernels, one launch", item.groups.size()));
    for (const Group* group : item.groups) kernel(*group, depth + 1);
    put(depth, "}");
  }

  void region(const FusedRegion& region, int depth) {
    for (const Node* node : region.region->nodes) {
      if (!is_source(*node)) continue;
      const std::string name = node->attributes.has("name") ? node->attributes.text("name") : "";
      put(depth, fmt::format("{} = {} \"{}\" : {}", value_name({const_cast<Node*>(node), 0}),
                             node->op->name, name, node->results[0].text()));
    }
    for (const Item& item : region.items) {
      if (!item.groups.empty()) {
        kernels(item, depth);
        continue;
      }
      const Node& node = *item.node;
      std::vector<std::string> operands;
      for (Value v : node.operands) operands.push_back(value_name(v));
      const std::string name =
          node.attributes.has("name") ? fmt::format(" \"{}\"", node.attributes.text("name")) : "";
      if (node.is("loop")) {
        loop(item, depth);
      } else if (node.results.empty()) {
        put(depth, fmt::format("{}{} {}", node.op->name, name, fmt::join(operands, ", ")));
      } else {
        put(depth,
            fmt::format("{} = {}{} {} : {}", value_name({const_cast<Node*>(&node), 0}),
                        node.op->name, name, fmt::join(operands, ", "), node.results[0].text()));
      }
    }
  }

  void loop(const Item& item, int depth) {
    const Node& node = *item.node;
    const ir::Region& body = *node.regions[0];
    std::vector<std::string> results;
    std::vector<std::string> carried;
    for (std::uint32_t k = 0; k < node.results.size(); ++k) {
      results.push_back(value_name({const_cast<Node*>(&node), k}));
      carried.push_back(fmt::format("{} = {}", value_name(body.arguments[k + 1]->result()),
                                    value_name(node.operands[k])));
    }
    put(depth,
        fmt::format("{}{}loop {} ({}) {{", fmt::join(results, ", "), results.empty() ? "" : " = ",
                    node.attributes.integer("count"), fmt::join(carried, ", ")));
    region(*item.body, depth + 1);
    std::vector<std::string> yields;
    for (Value v : body.yields) yields.push_back(value_name(v));
    put(depth + 1, fmt::format("yield {}", fmt::join(yields, ", ")));
    put(depth, "}");
  }

  std::string out_;
};

}  // namespace

std::string node_name(const Node& node) {
  return node.name.empty() ? fmt::format("%{}", node.id) : fmt::format("%{}", node.name);
}

namespace {

NodeReport node_report(const Node& node) {
  return {node_name(node), std::string(node.op->name), node.location.text()};
}

}  // namespace

std::vector<FusionRefusal> report_refusals(const FusedGraph& fused, bool fuse) {
  std::vector<FusionRefusal> all;
  for (const Separation& entry : separations(fused, fuse)) {
    all.push_back({node_report(*entry.producer), node_report(*entry.consumer),
                   entry.producer_group->name, entry.consumer_group->name, entry.reason});
  }
  return all;
}

std::vector<SiblingRefusal> report_sibling_refusals(const FusedGraph& fused) {
  // Heads are in one kernel each.
  std::map<const Node*, const Group*> kernels;
  for (const Group& group : fused.groups) {
    for (const Node* anchor : group.anchors) kernels[anchor] = &group;
    if (group.operand_sum != nullptr) kernels[group.operand_sum] = &group;
    for (const Value root : group.roots) kernels[root.node] = &group;
  }
  std::vector<SiblingRefusal> all;
  for (const Siblings& entry : fused.sibling_refusals) {
    const auto first = kernels.find(entry.first);
    const auto second = kernels.find(entry.second);
    if (first == kernels.end() || second == kernels.end()) continue;
    // Merged after all, over another tensor that both read.
    if (first->second == second->second) continue;
    all.push_back({node_report(*entry.first), node_report(*entry.second), value_name(entry.shared),
                   first->second->name, second->second->name, entry.reason});
  }
  return all;
}

std::map<std::string, std::string> state_names(const ir::Graph& graph) {
  std::map<std::string, std::string> names;
  const std::function<void(const ir::Region&)> collect = [&](const ir::Region& region) {
    for (const Node* node : region.nodes) {
      if (node->is("state")) names[node_name(*node)] = node->attributes.text("name");
      if (node->is("state_carry")) {
        names[value_name(node->operands[0])] = node->attributes.text("name");
      }
      for (const ir::Region* body : node->regions) collect(*body);
    }
  };
  collect(graph.body());
  return names;
}

KernelReport report(const Group& group) {
  KernelReport r;
  r.name = group.name;
  r.kind = group.kind;
  if (group.anchor != nullptr) r.anchor = value_name({const_cast<Node*>(group.anchor), 0});
  std::set<std::string> places;
  for (const Node* node : group.members) {
    if (!is_immediate(*node)) r.nodes.push_back(node_report(*node));
    if (node->op->pattern != Pattern::movement && !is_immediate(*node)) {
      r.lines.push_back(line(group, *node));
    }
    const std::string place = node->location.text();
    if (!place.empty() && places.insert(place).second) r.locations.push_back(place);
  }
  // A kernel of movement alone: its outputs are copies.
  if (r.lines.empty()) {
    for (const Node* node : group.members) r.lines.push_back(line(group, *node));
  }
  for (Value v : group.inputs) r.inputs.push_back(value_name(v));
  for (Value v : group.outputs) r.outputs.push_back(value_name(v));
  const Cost cost = cost_of(group);
  r.bytes_read = cost.bytes_read;
  r.bytes_written = cost.bytes_written;
  r.operations = cost.operations;
  return r;
}

std::string print_fused(const FusedGraph& fused, const std::string& name) {
  return Printer().run(fused, name);
}

}  // namespace weft::compiler
