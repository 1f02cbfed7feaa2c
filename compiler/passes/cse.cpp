#include "compiler/passes/cse.h"

#include <algorithm>
#include <array>
#include <bit>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Region;
using ir::Value;

bool is_shareable(const Node& node) {
  if (!node.regions.empty() || node.results.empty()) return false;
  if (node.op->pattern == ir::Pattern::control) return false;
  return !node.is("feeder");  // handed over once for each node and iteration
}

bool is_commutative(const Node& node) {
  static constexpr std::array<std::string_view, 12> ops = {
      "add",         "mul",        "minimum",     "maximum",     "equal",      "not_equal",
      "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"};
  return std::ranges::find(ops, node.op->name) != ops.end();
}

/// The operands, commutative ones in a canonical order.
std::vector<Value> operands_of(const Node& node) {
  std::vector<Value> operands = node.operands;
  if (is_commutative(node)) {
    std::ranges::sort(operands, {}, [](Value v) { return std::pair(v.node->id, v.index); });
  }
  return operands;
}

class Hash {
 public:
  void add(std::size_t value) { state_ = (state_ ^ value) * 0x9e3779b97f4a7c15U + (state_ >> 29); }
  void add(std::string_view text) { add(std::hash<std::string_view>()(text)); }
  void add(const ir::AttributeValue& value) {
    add(value.index());
    std::visit([this](const auto& held) { add_held(held); }, value);
  }
  std::size_t value() const { return state_; }

 private:
  void add_held(bool flag) { add(static_cast<std::size_t>(flag)); }
  void add_held(std::int64_t integer) { add(static_cast<std::size_t>(integer)); }
  void add_held(double real) { add(static_cast<std::size_t>(std::bit_cast<std::uint64_t>(real))); }
  void add_held(const std::string& text) { add(std::string_view(text)); }
  void add_held(DType dtype) { add(static_cast<std::size_t>(dtype)); }
  template <typename T>
  void add_held(const std::vector<T>& values) {
    add(values.size());
    for (const T value : values) add_held(value);
  }

  std::size_t state_ = 0x51ed270b;
};

std::size_t hash_of(const Node& node) {
  Hash hash;
  hash.add(node.op->name);
  for (const Value operand : operands_of(node)) {
    hash.add(operand.node->id);
    hash.add(operand.index);
  }
  // Attributes are equal in any order.
  std::size_t attributes = 0;
  for (const auto& [name, value] : node.attributes.entries()) {
    Hash entry;
    entry.add(std::string_view(name));
    entry.add(value);
    attributes += entry.value();
  }
  hash.add(attributes);
  return hash.value();
}

bool equal_nodes(const Node& a, const Node& b) {
  return a.op == b.op && a.results == b.results && operands_of(a) == operands_of(b) &&
         a.attributes == b.attributes;
}

class Elimination {
 public:
  void region(Region& region) {
    const std::size_t outer = entered_.size();
    for (Node* node : std::exchange(region.nodes, {})) {
      for (Value& operand : node->operands) operand = map_.get(operand);
      for (Region* nested : node->regions) this->region(*nested);
      if (!is_shareable(*node) || !merge(*node)) region.nodes.push_back(node);
    }
    for (Value& yielded : region.yields) yielded = map_.get(yielded);
    // What this region defines is not visible after it.
    for (; entered_.size() > outer; entered_.pop_back()) {
      std::vector<Node*>& bucket = table_[entered_.back()];
      bucket.pop_back();
    }
  }

  bool changed() const { return changed_; }

 private:
  /// Replaces the node by an earlier equal one, or enters it.
  bool merge(Node& node) {
    const std::size_t hash = hash_of(node);
    std::vector<Node*>& bucket = table_[hash];
    for (Node* earlier : bucket) {
      if (!equal_nodes(*earlier, node)) continue;
      if (earlier->name.empty()) earlier->name = node.name;
      for (std::uint32_t i = 0; i < node.results.size(); ++i) {
        map_.set(node.result(i), earlier->result(i));
      }
      changed_ = true;
      return true;
    }
    bucket.push_back(&node);
    entered_.push_back(hash);
    return false;
  }

  std::unordered_map<std::size_t, std::vector<Node*>> table_;
  std::vector<std::size_t> entered_;  ///< hashes in order of entry: the scopes' undo list
  ir::ValueMap map_;
  bool changed_ = false;
};

}  // namespace

bool common_subexpressions(ir::Graph& graph) {
  Elimination elimination;
  elimination.region(graph.body());
  return elimination.changed();
}

}  // namespace weft::compiler
