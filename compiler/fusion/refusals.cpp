#include "compiler/fusion/refusals.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "compiler/fusion/report.h"

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Region;
using ir::Value;

std::string quoted_name(const Node& node) {
  return node.attributes.has("name") ? fmt::format(" \"{}\"", node.attributes.text("name")) : "";
}

class Separations {
 public:
  Separations(const FusedGraph& fused, bool fuse) : fused_(fused), fuse_(fuse) {
    for (const Group& group : fused.groups) {
      for (const Value output : group.outputs) stored_by_[output.node] = &group;
    }
    for (const Refusal& refusal : fused.refusals) refusals_[refusal.producer].push_back(&refusal);
    if (fused.body.region != nullptr) find_other_uses(*fused.body.region);
  }

  std::vector<Separation> run() const {
    std::vector<Separation> all;
    for (const Group& group : fused_.groups) {
      const std::unordered_set<const Node*> members(group.members.begin(), group.members.end());
      for (const Node* consumer : group.members) {
        std::unordered_set<const Node*> seen;
        for (const Value operand : consumer->operands) {
          const auto stored = stored_by_.find(operand.node);
          if (stored == stored_by_.end() || members.contains(operand.node)) continue;
          if (!seen.insert(operand.node).second) continue;
          Separation entry{operand.node, consumer, stored->second, &group, {}};
          entry.reason = reason(entry, members);
          all.push_back(std::move(entry));
        }
      }
    }
    return all;
  }

 private:
  /// What reads a value but is no kernel: it needs the value in memory.
  void find_other_uses(const Region& region) {
    for (const Node* node : region.nodes) {
      if (!ops::is_pointwise(*node) && !is_anchor(*node)) {
        for (const Value operand : node->operands) {
          other_uses_.try_emplace(operand.node, std::string(node->op->name) + quoted_name(*node));
        }
      }
      for (const Region* nested : node->regions) find_other_uses(*nested);
    }
    for (const Value yielded : region.yields) {
      other_uses_.try_emplace(yielded.node, "a loop's next iteration");
    }
  }

  std::string reason(const Separation& entry,
                     const std::unordered_set<const Node*>& consumers) const {
    if (!fuse_) return "fusion is off: every op is a kernel of its own";
    const Node& producer = *entry.producer;
    if (producer.parent != entry.consumer->parent) {
      return "the one is inside of a loop, the other outside";
    }
    const Refusal* general = nullptr;
    if (const auto found = refusals_.find(&producer); found != refusals_.end()) {
      // First what was said of these two, then of the node that the consumer is computed for.
      for (const Refusal* refusal : found->second) {
        if (refusal->consumer == entry.consumer) return refusal->reason;
      }
      for (const Refusal* refusal : found->second) {
        if (refusal->consumer != nullptr && consumers.contains(refusal->consumer)) {
          return refusal->reason;
        }
      }
      general = found->second.front();
    }
    if (is_anchor(producer) && entry.consumer_group->anchor != nullptr) return "each has an anchor";
    if (producer.is("keep")) return "keep() asks that the value be stored";
    if (const auto use = other_uses_.find(&producer); use != other_uses_.end()) {
      return fmt::format("the value has to be in memory for {}", use->second);
    }
    if (general == nullptr) return {};
    if (general->consumer == nullptr) return general->reason;
    return fmt::format("the value is stored already, for {}: {}", node_name(*general->consumer),
                       general->reason);
  }

  const FusedGraph& fused_;
  bool fuse_;
  std::unordered_map<const Node*, const Group*> stored_by_;
  std::unordered_map<const Node*, std::vector<const Refusal*>> refusals_;
  std::unordered_map<const Node*, std::string> other_uses_;
};

}  // namespace

std::vector<Separation> separations(const FusedGraph& fused, bool fuse) {
  return Separations(fused, fuse).run();
}

}  // namespace weft::compiler
