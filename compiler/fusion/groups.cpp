#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "compiler/fusion/order.h"
#include "compiler/fusion/region.h"
#include "compiler/fusion/segments.h"

/// Kernels as groups, in their order of execution.
namespace weft::compiler {

using ir::Node;
using ir::Pattern;
using ir::Value;

void RegionFuser::gather_members(Value value,
                                 std::set<std::pair<int, const Node*>>& members) const {
  const Node& node = *value.node;
  if (!here(node)) return;
  const Info& info = info_.at(&node);
  if (!info.is_virtual) return;
  if (!members.insert({info.position, &node}).second) return;
  for (Value operand : node.operands) gather_members(operand, members);
}

Group& RegionFuser::make_group(int index) {
  Vertex& v = vertex(index);
  Group& group = fused_.groups.emplace_back();
  const auto earlier = [&](const Node* a, const Node* b) {
    return info_[a].position < info_[b].position;
  };
  group.anchors = v.anchors;
  std::sort(group.anchors.begin(), group.anchors.end(), earlier);
  std::vector<const Node*> own = group.anchors;
  own.insert(own.end(), v.roots.begin(), v.roots.end());
  if (v.operand_sum != nullptr) {
    group.operand_sum = v.operand_sum;
    std::erase(group.anchors, v.operand_sum);
  }
  if (!group.anchors.empty()) group.anchor = group.anchors[0];
  std::set<std::pair<int, const Node*>> members;
  std::sort(v.roots.begin(), v.roots.end(), earlier);
  bool whole_rows = group.anchors.size() > 1;
  for (const Node* root : v.roots) {
    group.roots.push_back({const_cast<Node*>(root), 0});
    whole_rows = whole_rows || root->results[0].elements() != v.rows.rows;
  }
  if (v.rows && whole_rows) group.rows = v.rows;
  std::map<std::pair<const Node*, std::uint32_t>, std::size_t> inputs;
  for (const Node* node : own) {
    members.insert({info_[node].position, node});
    for (Value operand : node->operands) gather_members(operand, members);
    for (const Read& read : reads(*node)) {
      const Node* producer = read.value.node;
      if (here(*producer) && info_[producer].vertex == index) continue;
      const auto [found, added] =
          inputs.insert({{producer, read.value.index}, group.inputs.size()});
      if (added) {
        group.inputs.push_back(read.value);
        group.identity.push_back(true);
      }
      // A row is passed over several times: its inputs must stay as they are until the last. An
      // anchor's further results are written at times of their own.
      const bool one_pass = !group.rows && (!group.anchor || group.anchor->results.size() == 1);
      const bool same = read.at.same() && one_pass && read.value.type().elements() == v.elements;
      if (!same) group.identity[found->second] = false;
    }
  }
  for (const auto& member : members) group.members.push_back(member.second);
  for (const Node* node : own) {
    for (std::uint32_t result = 0; result < node->results.size(); ++result) {
      bool stored = info_[node].escaping.contains(result);
      for (const Use& use : info_[node].uses) {
        if (use.user->operands[use.operand].index != result) continue;
        stored = stored || needed_elsewhere(*use.user, index);
      }
      if (stored) group.outputs.push_back({const_cast<Node*>(node), result});
    }
  }
  name_group(group, index);
  return group;
}

bool RegionFuser::needed_elsewhere(const Node& user, int index) const {
  const Info& info = info_.at(&user);
  if (!info.is_virtual) return info.vertex >= 0 && info.vertex != index;
  return std::any_of(info.uses.begin(), info.uses.end(),
                     [&](const Use& use) { return needed_elsewhere(*use.user, index); });
}

void RegionFuser::name_group(Group& group, int) {
  std::string base = "elw";
  if (group.anchor != nullptr) {
    switch (group.anchor->op->pattern) {
      case Pattern::dot:
        base = "dot";
        break;
      case Pattern::fft:
        base = "fft";
        break;
      case Pattern::tno:
        base = "tno";
        break;
      case Pattern::attention:
        base = "attention";
        break;
      case Pattern::scan:
        base = "cumulative";
        break;
      case Pattern::scatter:
        base = "scatter";
        break;
      default:
        base = "reduce";
        break;
    }
    const bool elementwise =
        std::any_of(group.members.begin(), group.members.end(), [&](const Node* node) {
          return node != group.anchor && node->op->pattern != Pattern::movement &&
                 !is_immediate(*node);
        });
    if (elementwise) base += "_elw";
  }
  group.kind = base;
  group.name = fmt::format("{}.{}", base, fused_.groups.size() - 1);
}

FusedRegion RegionFuser::build() {
  FusedRegion out;
  out.region = &region_;
  std::vector<std::pair<int, Item>> items;
  for (const Node* node : region_.nodes) {
    Info& info = info_[node];
    if (info.vertex < 0) continue;
    Vertex& v = vertex(info.vertex);
    Item item;
    if (v.other != nullptr) {
      item.node = v.other;
      for (const Read& read : reads(*node)) item.reads.push_back(read.value);
      for (std::uint32_t r = 0; r < node->results.size(); ++r) {
        item.writes.push_back({const_cast<Node*>(node), r});
      }
      if (!node->regions.empty()) {
        RegionFuser nested(fused_, *node->regions[0], enabled_, together_);
        item.body = std::make_unique<FusedRegion>(nested.run());
      }
    } else {
      // A group is made when its first node is met.
      if (v.merged_away || built_.count(info.vertex) != 0) continue;
      built_.insert(info.vertex);
      Group& group = make_group(info.vertex);
      if (group.outputs.empty()) {
        fused_.groups.pop_back();
        continue;
      }
      item.groups.push_back(&group);
      item.reads = group.inputs;
      item.writes = group.outputs;
    }
    items.emplace_back(info.position, std::move(item));
  }
  for (auto& entry : items) out.items.push_back(std::move(entry.second));
  order_items(out);
  if (enabled_) merge_segments(out);
  return out;
}

}  // namespace weft::compiler
