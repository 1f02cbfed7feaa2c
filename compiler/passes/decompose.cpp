#include "compiler/passes/decompose.h"

#include <fmt/format.h>

#include <utility>

#include "ops/build.h"

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Region;
using ir::Value;

class Decomposition {
 public:
  Decomposition(ir::Graph& graph, const std::function<bool(const Node&)>& has_schedule)
      : graph_(graph), has_schedule_(has_schedule) {}

  /// One walk over the region: composites that a decomposition emits are left to the next.
  bool region(Region& region) {
    bool changed = false;
    ops::Builder builder(graph_, region);
    for (Node* node : std::exchange(region.nodes, {})) {
      for (Value& operand : node->operands) operand = map_.get(operand);
      for (Region* nested : node->regions) changed |= this->region(*nested);
      const ops::Op& row = ops::row(*node);
      if (!row.decompose || (has_schedule_ && has_schedule_(*node))) {
        region.nodes.push_back(node);
        continue;
      }
      changed = true;
      builder.set_location(node->location);
      const std::vector<Value> values = row.decompose.function(builder, *node);
      for (std::uint32_t i = 0; i < node->results.size(); ++i) {
        if (i >= values.size() || values[i].type() != node->results[i]) {
          throw Error(fmt::format("decompose: {} gives another type than {}", describe(*node),
                                  node->results[i].text()),
                      node->location);
        }
        if (values[i].node->name.empty()) values[i].node->name = node->name;
        map_.set(node->result(i), values[i]);
      }
    }
    for (Value& yielded : region.yields) yielded = map_.get(yielded);
    return changed;
  }

 private:
  ir::Graph& graph_;
  const std::function<bool(const Node&)>& has_schedule_;
  ir::ValueMap map_;
};

}  // namespace

bool decompose(ir::Graph& graph, const std::function<bool(const Node&)>& has_schedule) {
  Decomposition decomposition(graph, has_schedule);
  bool changed = false;
  while (decomposition.region(graph.body())) changed = true;
  return changed;
}

}  // namespace weft::compiler
