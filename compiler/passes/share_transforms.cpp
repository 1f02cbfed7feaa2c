#include "compiler/passes/share_transforms.h"

#include <algorithm>
#include <unordered_set>
#include <utility>
#include <vector>

#include "ops/build.h"

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Region;
using ir::Value;

using Nodes = std::unordered_set<const Node*>;

/// Whether the node or one inside of its regions uses a result of one of `producers`.
bool uses(const Node& node, const Nodes& producers) {
  const auto is_one = [&](Value value) { return producers.contains(value.node); };
  if (std::ranges::any_of(node.operands, is_one)) return true;
  bool found = false;
  for (const Region* nested : node.regions) {
    found = found || std::ranges::any_of(nested->yields, is_one);
    ir::walk(*nested, [&](const Node& inner) {
      // Yields of regions further in are seen with their owners.
      found = found || uses(inner, producers);
    });
  }
  return found;
}

class Sharing {
 public:
  explicit Sharing(ir::Graph& graph) : graph_(graph) {}

  void region(Region& region) {
    for (Node* node : region.nodes) {
      for (Region* nested : node->regions) this->region(*nested);
    }
    const std::vector<Node*> nodes = region.nodes;
    for (Node* node : nodes) {
      if (node->is("tno_gradients")) share(region, *node);
    }
  }

  bool changed() const { return changed_; }

 private:
  void share(Region& region, Node& gradients) {
    const auto matches = [&](const Node* node) {
      return node->is("tno") && node->operands[0] == gradients.operands[0] &&
             node->operands[1] == gradients.operands[1] && node->attributes == gradients.attributes;
    };
    const auto found = std::ranges::find_if(region.nodes, matches);
    if (found == region.nodes.end()) return;
    Node& forward = **found;
    Nodes after = {&forward};
    for (const Node* node : region.nodes) {
      if (uses(*node, after)) after.insert(node);
      if (node != &gradients && ops::is_pointwise(*node) &&
          std::ranges::find(node->operands, gradients.result(0)) != node->operands.end()) {
        return;
      }
    }
    if (after.contains(&gradients)) return;
    // The new node stands where the gradients did; what needs the operator comes after it.
    std::vector<Node*> delayed;
    bool placed = false;
    ir::ValueMap map;
    for (Node* node : std::exchange(region.nodes, {})) {
      if (node == &gradients) {
        ops::Builder builder(graph_, region);
        builder.set_location(forward.location);
        Node* all =
            builder.emit(ops::op("tno_with_gradients"), gradients.operands, gradients.attributes);
        all->name = forward.name;
        map.set(forward.result(0), all->result(0));
        map.set(gradients.result(0), all->result(1));
        map.set(gradients.result(1), all->result(2));
        region.nodes.insert(region.nodes.end(), delayed.begin(), delayed.end());
        delayed.clear();
        placed = true;
      } else if (node == &forward) {
        continue;
      } else if (!placed && after.contains(node)) {
        delayed.push_back(node);
      } else {
        region.nodes.push_back(node);
      }
    }
    ir::replace_uses(graph_.body(), map);
    changed_ = true;
  }

  ir::Graph& graph_;
  bool changed_ = false;
};

}  // namespace

bool share_transforms(ir::Graph& graph) {
  Sharing sharing(graph);
  sharing.region(graph.body());
  return sharing.changed();
}

}  // namespace weft::compiler
