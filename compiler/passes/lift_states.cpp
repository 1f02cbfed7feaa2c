#include "compiler/passes/lift_states.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Region;

class Lifting {
 public:
  explicit Lifting(Region& top) : top_(top) {}

  bool run() {
    const std::vector<Node*> before = top_.nodes;
    take(top_);
    top_.nodes.insert(top_.nodes.begin(), states_.begin(), states_.end());
    ir::replace_uses(top_, map_);
    return lifted_ || top_.nodes != before;
  }

 private:
  void take(Region& region) {
    for (Node* node : std::exchange(region.nodes, {})) {
      for (Region* nested : node->regions) take(*nested);
      if (!node->is("state")) {
        region.nodes.push_back(node);
        continue;
      }
      lifted_ = lifted_ || &region != &top_;
      const auto [first, added] = known_.try_emplace(node->attributes.text("name"), node);
      if (added) {
        node->parent = &top_;
        states_.push_back(node);
        continue;
      }
      // The verifier has seen to it that one name has one type.
      if (first->second->name.empty()) first->second->name = node->name;
      map_.set(node->result(), first->second->result());
    }
  }

  Region& top_;
  std::vector<Node*> states_;
  std::map<std::string, Node*> known_;
  ir::ValueMap map_;
  bool lifted_ = false;
};

}  // namespace

bool lift_states(ir::Graph& graph) { return Lifting(graph.body()).run(); }

}  // namespace weft::compiler
