#include "compiler/passes/hoist.h"

#include <algorithm>
#include <unordered_set>
#include <utility>
#include <vector>

#include "ops/op.h"

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Region;
using ir::Value;

constexpr std::int64_t anchor_bytes = std::int64_t{1} << 20;
constexpr std::int64_t elementwise_bytes = std::int64_t{64} << 10;
constexpr int costly = 8;  ///< operations an element: exp and the like, not sums and products

std::int64_t steps_of(const Node& node) {
  return node.attributes.integer(node.is("scan") ? "length" : "count");
}

/// May stand outside of the loop if its operands do.
bool is_movable(const Node& node) {
  if (!node.regions.empty() || node.is("keep")) return false;
  if (node.op->pattern == ir::Pattern::transfer) {
    return node.is("state") || node.is("scalar") || node.is("constant_data");
  }
  return node.op->pattern != ir::Pattern::control && !node.results.empty();
}

/// Worth being stored once instead of being computed in every step.
bool is_worthwhile(const Node& node) {
  if (node.operands.empty()) return false;
  std::int64_t stored = 0;
  for (const Type& type : node.results) stored += type.bytes();
  if (node.op->pattern == ir::Pattern::transfer) return false;
  const ops::Op& row = ops::row(node);
  if (ops::is_pointwise(node)) return row.cost >= costly && stored <= elementwise_bytes;
  std::int64_t read = 0;
  for (const Value operand : node.operands) read += operand.type().bytes();
  return stored <= std::max(read, anchor_bytes);
}

class Hoisting {
 public:
  void region(Region& region) {
    for (Node* node : std::exchange(region.nodes, {})) {
      for (Value& operand : node->operands) operand = map_.get(operand);
      for (Region* nested : node->regions) {
        forward_unchanged(*node);
        // Inner bodies first: what leaves them may go on outwards.
        this->region(*nested);
        if (steps_of(*node) >= 2) hoist(*nested, region);
      }
      region.nodes.push_back(node);
    }
    for (Value& yielded : region.yields) yielded = map_.get(yielded);
  }

  bool changed() const { return changed_; }

 private:
  /// A carried value that is handed on unchanged is its start, in the body and after the loop. Not
  /// what a state is between iterations: its memory is part of the loop's meaning.
  void forward_unchanged(Node& node) {
    const Region& body = *node.regions[0];
    std::unordered_set<const Node*> states;
    for (const Node* inner : body.nodes) {
      if (inner->is("state_carry")) states.insert(inner->operands[0].node);
    }
    const std::size_t carried = node.is("scan")
                                    ? static_cast<std::size_t>(node.attributes.integer("carried"))
                                    : node.operands.size();
    for (std::uint32_t i = 0; i < carried; ++i) {
      const Value argument = body.arguments[i + 1]->result();
      if (body.yields[i] != argument || states.contains(argument.node)) continue;
      changed_ = true;
      map_.set(argument, node.operands[i]);
      map_.set(node.result(i), node.operands[i]);
    }
  }

  /// Moves what is worthwhile from `body` to the end of `outer`, where its owner will stand.
  void hoist(Region& body, Region& outer) {
    std::unordered_set<const Node*> inside(body.arguments.begin(), body.arguments.end());
    std::unordered_set<const Node*> invariant;
    for (const Node* node : body.nodes) {
      const bool fixed = std::ranges::all_of(node->operands, [&](Value operand) {
        return !inside.contains(operand.node) || invariant.contains(operand.node);
      });
      inside.insert(node);
      if (fixed && is_movable(*node)) invariant.insert(node);
    }
    // From the end: a node moves for its own sake or because a node that reads it moves.
    std::unordered_set<const Node*> moving;
    for (auto node = body.nodes.rbegin(); node != body.nodes.rend(); ++node) {
      if (!invariant.contains(*node)) continue;
      if (!moving.contains(*node) && !is_worthwhile(**node)) continue;
      moving.insert(*node);
      for (const Value operand : (*node)->operands) {
        if (invariant.contains(operand.node)) moving.insert(operand.node);
      }
    }
    if (moving.empty()) return;
    changed_ = true;
    for (Node* node : std::exchange(body.nodes, {})) {
      Region& home = moving.contains(node) ? outer : body;
      node->parent = &home;
      home.nodes.push_back(node);
    }
  }

  ir::ValueMap map_;
  bool changed_ = false;
};

}  // namespace

bool hoist_invariants(ir::Graph& graph) {
  Hoisting hoisting;
  hoisting.region(graph.body());
  return hoisting.changed();
}

}  // namespace weft::compiler
