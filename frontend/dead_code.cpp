#include <algorithm>

#include "trace.h"

namespace weft::detail {

namespace {

using ir::Node;
using ir::Region;

bool has_effect(const Node& node) {
  return node.is("state_write") || node.is("receiver") || node.is("keep");
}

/// Operands and results of a loop or scan by what they are: `carried` first, in both.
std::size_t carried_count(const Node& node) {
  return node.is("scan") ? static_cast<std::size_t>(node.attributes.integer("carried"))
                         : node.operands.size();
}

class Liveness {
 public:
  explicit Liveness(ir::Graph& graph)
      : nodes_(graph.node_count()), values_(graph.node_count()), arguments_(graph.node_count()) {
    collect(graph.body());
    while (!work_.empty()) {
      const Value value = work_.back();
      work_.pop_back();
      visit(value);
    }
  }

  void trim(Region& region) {
    std::erase_if(region.nodes, [this](const Node* node) { return !nodes_[node->id]; });
    for (Node* node : region.nodes) {
      for (Value& operand : node->operands) operand = moved(operand);
      if (node->is("loop") || node->is("scan")) trim_carried(*node);
      for (Region* nested : node->regions) trim(*nested);
    }
    for (Value& yielded : region.yields) yielded = moved(yielded);
  }

 private:
  struct Argument {
    Node* owner = nullptr;
    std::size_t position = 0;
  };

  void collect(Region& region) {
    for (std::size_t i = 0; i < region.arguments.size(); ++i) {
      arguments_[region.arguments[i]->id] = {region.owner, i};
    }
    for (Node* node : region.nodes) {
      if (has_effect(*node)) mark_node(*node);
      for (Region* nested : node->regions) collect(*nested);
    }
  }

  void mark_node(Node& node) {
    if (nodes_[node.id]) return;
    nodes_[node.id] = true;
    // The body that it is in must run; what a loop carries is marked value by value.
    if (node.parent != nullptr && node.parent->owner != nullptr) mark_node(*node.parent->owner);
    if (node.regions.empty()) {
      for (const Value operand : node.operands) mark(operand);
    }
  }

  void mark(Value value) {
    std::vector<bool>& marks = values_[value.node->id];
    if (marks.empty()) marks.resize(std::max<std::size_t>(value.node->results.size(), 1));
    if (marks[value.index]) return;
    marks[value.index] = true;
    work_.push_back(value);
  }

  bool marked(Value value) const {
    const std::vector<bool>& marks = values_[value.node->id];
    return !marks.empty() && marks[value.index];
  }

  void mark_carried(Node& node, std::size_t index) {
    mark(node.regions[0]->yields[index]);
    mark(node.operands[index]);
  }

  void visit(Value value) {
    Node& node = *value.node;
    if (const Argument& argument = arguments_[node.id]; argument.owner != nullptr) {
      mark_node(*argument.owner);
      if (argument.position == 0) return;
      const std::size_t operand = argument.position - 1;
      if (operand < carried_count(*argument.owner)) return mark_carried(*argument.owner, operand);
      return mark(argument.owner->operands[operand]);
    }
    mark_node(node);
    if (node.regions.empty()) return;
    if (value.index < carried_count(node)) return mark_carried(node, value.index);
    mark(node.regions[0]->yields[value.index]);
  }

  /// Where a value is after results of its node were dropped.
  Value moved(Value value) const {
    const auto found = positions_.find(value.node);
    return found == positions_.end() ? value : Value{value.node, found->second[value.index]};
  }

  void trim_carried(Node& node) {
    Region& body = *node.regions[0];
    const std::size_t carried = carried_count(node);
    const auto needed = [&](std::size_t i) {
      const auto index = static_cast<std::uint32_t>(i);
      const bool result = i < node.results.size() && marked({&node, index});
      return result || (i < carried && marked({body.arguments[i + 1], 0}));
    };
    std::vector<std::uint32_t> positions(node.results.size());
    std::vector<Type> results;
    std::vector<Value> yields;
    std::vector<Value> operands;
    std::vector<Node*> arguments = {body.arguments[0]};
    for (std::size_t i = 0; i < node.results.size(); ++i) {
      positions[i] = static_cast<std::uint32_t>(results.size());
      if (!needed(i)) continue;
      results.push_back(node.results[i]);
      yields.push_back(body.yields[i]);
      if (i >= carried) continue;
      operands.push_back(node.operands[i]);
      arguments.push_back(body.arguments[i + 1]);
    }
    const std::size_t kept = operands.size();
    for (std::size_t i = carried; i < node.operands.size(); ++i) {
      if (!marked({body.arguments[i + 1], 0})) continue;
      operands.push_back(node.operands[i]);
      arguments.push_back(body.arguments[i + 1]);
    }
    if (results.size() != node.results.size()) positions_.emplace(&node, std::move(positions));
    if (node.is("scan")) node.attributes.set("carried", static_cast<std::int64_t>(kept));
    node.results = std::move(results);
    node.operands = std::move(operands);
    body.yields = std::move(yields);
    body.arguments = std::move(arguments);
  }

  std::vector<bool> nodes_;
  std::vector<std::vector<bool>> values_;
  std::vector<Argument> arguments_;
  std::vector<Value> work_;
  std::unordered_map<const Node*, std::vector<std::uint32_t>> positions_;
};

}  // namespace

void remove_dead(ir::Graph& graph) {
  Liveness liveness(graph);
  liveness.trim(graph.body());
}

}  // namespace weft::detail
