#include "compiler/passes/dead_code.h"

#include <unordered_map>
#include <utility>
#include <vector>

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Region;
using ir::Value;

bool is_observable(const Node& node) {
  return node.is("receiver") || node.is("state_write") || node.is("state_carry") || node.is("keep");
}

/// Results and arguments of a loop or scan by slot: carried values first; then a scan's xs have
/// arguments and its ys results.
std::size_t carried_count(const Node& node) {
  return node.is("scan") ? static_cast<std::size_t>(node.attributes.integer("carried"))
                         : node.operands.size();
}

class DeadCode {
 public:
  explicit DeadCode(ir::Graph& graph) : graph_(graph) {
    live_.resize(graph.node_count());
    index(graph.body());
    for (const Value yielded : graph.body().yields) need(yielded);
    while (!pending_.empty()) {
      const Value value = pending_.back();
      pending_.pop_back();
      propagate(value);
    }
  }

  bool sweep() {
    sweep(graph_.body());
    return changed_;
  }

 private:
  /// Notes where arguments stand, and needs what is observable.
  void index(const Region& region) {
    for (std::size_t i = 0; i < region.arguments.size(); ++i) {
      position_[region.arguments[i]] = i;
    }
    for (Node* node : region.nodes) {
      for (const Region* nested : node->regions) index(*nested);
      if (is_observable(*node)) need_node(*node);
    }
  }

  std::vector<bool>& flags(const Node& node) {
    std::vector<bool>& flags = live_[node.id];
    // One flag for each result, and a last one for the node itself.
    if (flags.empty()) flags.resize(node.results.size() + 1);
    return flags;
  }
  bool is_live(const Node& node) { return !live_[node.id].empty() && live_[node.id].back(); }
  bool is_live(Value value) {
    const std::vector<bool>& flags = live_[value.node->id];
    return !flags.empty() && flags[value.index];
  }

  void need(Value value) {
    std::vector<bool>& live = flags(*value.node);
    if (live[value.index]) return;
    live[value.index] = true;
    pending_.push_back(value);
  }

  /// The node runs, and so do the loops around it.
  void need_node(Node& node) {
    std::vector<bool>& live = flags(node);
    if (live.back()) return;
    live.back() = true;
    if (node.parent != nullptr && node.parent->owner != nullptr) need_node(*node.parent->owner);
    if (node.regions.empty()) {
      for (const Value operand : node.operands) need(operand);
    }
  }

  void propagate(Value value) {
    Node& node = *value.node;
    if (node.is("argument")) return need_argument(node);
    need_node(node);
    if (node.regions.empty()) return;
    need(node.regions[0]->yields[value.index]);
    if (value.index < carried_count(node)) need_carried(node, value.index);
  }

  void need_argument(const Node& argument) {
    Node& owner = *argument.parent->owner;
    const std::size_t position = position_.at(&argument);
    need_node(owner);
    if (position == 0) return;  // the index
    if (position <= carried_count(owner)) {
      need_carried(owner, static_cast<std::uint32_t>(position - 1));
    } else {
      need(owner.operands[position - 1]);
    }
  }

  /// A carried value is needed whole: its start, its argument and what each step yields.
  void need_carried(Node& owner, std::uint32_t slot) {
    need(owner.result(slot));
    need(owner.operands[slot]);
    need(owner.regions[0]->arguments[slot + 1]->result());
  }

  void sweep(Region& region);
  Node* without_dead_slots(Node& node);

  ir::Graph& graph_;
  std::vector<std::vector<bool>> live_;  ///< by node id; see flags()
  std::unordered_map<const Node*, std::size_t> position_;
  std::vector<Value> pending_;
  ir::ValueMap map_;
  bool changed_ = false;
};

/// A copy of the node that shares its body, with the slots that are needed; the node itself where
/// all are.
Node* DeadCode::without_dead_slots(Node& node) {
  Region& body = *node.regions[0];
  const std::size_t carried = carried_count(node);
  std::vector<Value> operands;
  std::vector<Node*> arguments{body.arguments[0]};
  std::vector<Value> yields;
  std::vector<Type> results;
  std::vector<std::uint32_t> kept;
  std::int64_t kept_carried = 0;
  for (std::size_t i = 0; i < node.operands.size(); ++i) {
    const bool live = i < carried ? is_live(node.result(static_cast<std::uint32_t>(i)))
                                  : is_live(body.arguments[i + 1]->result());
    if (!live) continue;
    operands.push_back(node.operands[i]);
    arguments.push_back(body.arguments[i + 1]);
    kept_carried += i < carried ? 1 : 0;
  }
  for (std::uint32_t i = 0; i < node.results.size(); ++i) {
    if (!is_live(node.result(i))) continue;
    yields.push_back(body.yields[i]);
    results.push_back(node.results[i]);
    kept.push_back(i);
  }
  if (operands.size() == node.operands.size() && results.size() == node.results.size()) {
    return &node;
  }
  changed_ = true;
  // A new node: a result that keeps its node but not its place could not be mapped.
  Node* copy = graph_.new_node(node.op);
  copy->operands = std::move(operands);
  copy->results = std::move(results);
  copy->attributes = node.attributes;
  if (node.is("scan")) copy->attributes.set("carried", kept_carried);
  copy->regions = {&body};
  copy->parent = node.parent;
  copy->location = node.location;
  copy->name = node.name;
  body.owner = copy;
  body.arguments = std::move(arguments);
  body.yields = std::move(yields);
  for (std::uint32_t i = 0; i < kept.size(); ++i) map_.set(node.result(kept[i]), copy->result(i));
  return copy;
}

void DeadCode::sweep(Region& region) {
  for (Node* node : std::exchange(region.nodes, {})) {
    if (!is_live(*node)) {
      changed_ = true;
      continue;
    }
    for (Value& operand : node->operands) operand = map_.get(operand);
    if (!node->regions.empty()) {
      node = without_dead_slots(*node);
      for (Region* nested : node->regions) sweep(*nested);
    }
    region.nodes.push_back(node);
  }
  for (Value& yielded : region.yields) yielded = map_.get(yielded);
}

}  // namespace

bool dead_code(ir::Graph& graph) { return DeadCode(graph).sweep(); }

}  // namespace weft::compiler
