#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "compiler/fusion/region.h"

/// Which values are rebuilt by their readers instead of being stored.
namespace weft::compiler {

using ir::Node;
using ir::Pattern;
using ir::Region;
using ir::Value;

namespace {

/// Above this many operations an element, rebuilding costs a CPU more than the load it saves.
constexpr int cheap_operations = 8;
/// The same for values too large to stay in a cache until they are read again.
constexpr int moderate_operations = 32;
constexpr double uncached_bytes = 1 << 20;
/// What is read to rebuild such a value may be this much larger: a bias or a scale beside one of
/// its own size.
constexpr double rebuilding_slack = 1.125;

}  // namespace

void RegionFuser::number() {
  int position = 0;
  for (const Node* node : region_.nodes) info_[node].position = position++;
}

void RegionFuser::escape(const Region& region) {
  for (const Node* node : region.nodes) {
    for (Value v : node->operands) {
      if (here(*v.node) && needs_memory(*node, v)) info_[v.node].escape(v.index);
    }
    for (const Region* nested : node->regions) escape(*nested);
  }
  for (Value v : region.yields) {
    if (here(*v.node)) info_[v.node].escape(v.index);
  }
}

bool RegionFuser::needs_memory(const Node& user, Value v) const {
  return !is_immediate(*v.node) || !(pointwise(user) || is_anchor(user));
}

void RegionFuser::count_uses() {
  for (const Node* node : region_.nodes) {
    const bool kernel = pointwise(*node) || is_anchor(*node);
    for (std::size_t i = 0; i < node->operands.size(); ++i) {
      const Node* producer = node->operands[i].node;
      if (!here(*producer)) continue;
      if (kernel) {
        info_[producer].uses.push_back({node, i});
      } else {
        info_[producer].escape(node->operands[i].index);
      }
    }
    for (const Region* nested : node->regions) escape(*nested);
  }
  for (Value v : region_.yields) {
    if (here(*v.node)) info_[v.node].escape(v.index);
  }
}

bool RegionFuser::reader_accepts(const Info& info, const Use& use, const Node& node) const {
  const Node& user = *use.user;
  const bool movement_only = info.cost == 0;
  // Each element is read many times.
  if (user.op->pattern == Pattern::dot || user.op->pattern == Pattern::attention) {
    return movement_only;
  }
  if (user.op->pattern == Pattern::scatter) return use.operand != 1 || movement_only;
  if (user.is("gather") || user.is("dynamic_slice") || user.is("dynamic_update_slice")) {
    // Indices are read once for each element of the window.
    if (user.is("gather") ? use.operand == 1 : node.results[0].rank() == 0) {
      return info.cost <= 2;
    }
  }
  if (user.is("broadcast")) {
    // Along trailing axes the value is invariant in the inner loop; along leading ones it is
    // computed anew for each row.
    const Shape& from = node.results[0].shape;
    const Shape& to = user.results[0].shape;
    const int offset = to.rank() - from.rank();
    bool inner_kept = false;
    for (int axis = to.rank() - 1; axis >= 0 && !inner_kept; --axis) {
      const bool expanded = axis < offset || (from[axis - offset] == 1 && to[axis] != 1);
      if (!expanded && to[axis] != 1) inner_kept = true;
      if (expanded && to[axis] != 1 && !inner_kept) return info.cost <= 4 * cheap_operations;
    }
    if (from.elements() != to.elements()) return info.cost <= 2;
  }
  return true;
}

void RegionFuser::choose_virtual() {
  for (const Node* node : region_.nodes) {
    Info& info = info_[node];
    if (!pointwise(*node)) continue;
    info.cost = ops::row(*node).cost;
    if (node->op->pattern == Pattern::movement) info.cost = 0;
    std::unordered_set<const Node*> seen;
    for (Value v : node->operands) {
      const double bytes = static_cast<double>(
          std::min(v.type().bytes(),
                   node->results[0].elements() * static_cast<std::int64_t>(size_of(v.dtype()))));
      if (!seen.insert(v.node).second) continue;
      if (here(*v.node) && info_[v.node].is_virtual) {
        info.cost += info_[v.node].cost;
        info.leaf_bytes += info_[v.node].leaf_bytes;
      } else if (!is_immediate(*v.node)) {
        info.leaf_bytes += bytes;
      }
    }
    if (is_immediate(*node)) {
      info.is_virtual = !info.escapes || node->is("constant");
      // A constant that is yielded or received needs memory after all.
      if (info.escapes) info.is_virtual = false;
      continue;
    }
    if (!enabled_ || info.escapes || info.uses.empty() || node->is("keep")) continue;
    bool accepted = true;
    for (const Use& use : info.uses) {
      if (!reader_accepts(info, use, *node)) {
        accepted = false;
        fused_.refusals.push_back({node, use.user, "the reader would compute it more than once"});
        break;
      }
    }
    if (!accepted) continue;
    std::unordered_set<const Node*> readers;
    for (const Use& use : info.uses) readers.insert(use.user);
    const auto count = static_cast<double>(readers.size());
    if (readers.size() == 1) {
      info.is_virtual = true;
    } else {
      const auto bytes = static_cast<double>(node->results[0].bytes());
      const bool cheap =
          info.cost <= cheap_operations && info.leaf_bytes * count <= bytes * (count + 1);
      // Memory is slower than caches: what does not stay in them may take more to rebuild.
      const bool cheaper_than_memory = bytes >= uncached_bytes &&
                                       info.cost <= moderate_operations &&
                                       info.leaf_bytes <= bytes * rebuilding_slack;
      info.is_virtual = cheap || cheaper_than_memory;
      if (!info.is_virtual) refuse_recomputing(*node, readers.size());
    }
  }
}

void RegionFuser::refuse_recomputing(const Node& node, std::size_t readers) {
  const Info& info = info_[&node];
  const auto bytes = static_cast<double>(node.results[0].bytes());
  const auto count = static_cast<double>(readers);
  const std::string reason =
      info.cost > cheap_operations
          ? fmt::format("it has {} readers, and {} operations an element are too many to repeat",
                        readers, info.cost)
          : fmt::format(
                "its {} readers would read {:.0f} bytes to rebuild it; storing and "
                "loading it moves {:.0f}",
                readers, info.leaf_bytes * count, bytes * (count + 1));
  fused_.refusals.push_back({&node, nullptr, reason});
}

bool RegionFuser::is_better_stored(const Node& node) const {
  const Info& info = info_.at(&node);
  if (!info.is_virtual || node.op->pattern != Pattern::elementwise || is_immediate(node)) {
    return false;
  }
  // Read by one transform, as its prologue.
  if (info.uses.size() != 1) return false;
  const Node& transform = *info.uses[0].user;
  if (transform.op->pattern != Pattern::tno && transform.op->pattern != Pattern::fft) return false;
  std::vector<Read> leaves;
  std::set<std::pair<const Node*, Position>> seen;
  collect({const_cast<Node*>(&node), 0}, at_own_position, leaves, seen);
  // The last one that is made in this region: the others may be at hand where it is.
  const Node* source = nullptr;
  for (const Read& leaf : leaves) {
    if (!leaf.at.same()) {
      // A bias: small, and read in any case.
      if (leaf.value.type().bytes() * 8 > node.results[0].bytes()) return false;
      continue;
    }
    const Node& producer = *leaf.value.node;
    if (!here(producer) || !(is_anchor(producer) || pointwise(producer))) continue;
    if (source == nullptr || info_.at(&producer).position > info_.at(source).position) {
      source = &producer;
    }
  }
  if (source == nullptr || leaves.size() < 2 || source->results.size() != 1) return false;
  if (source->op->pattern == Pattern::scatter || info_.at(source).escapes ||
      node.results[0].bytes() > source->results[0].bytes()) {
    return false;
  }
  std::set<std::pair<const Node*, std::uint32_t>> at_hand;
  const auto note_reads = [&](const Node& reader) {
    for (const Read& read : reads(reader)) {
      if (read.at.same()) at_hand.insert({read.value.node, read.value.index});
    }
  };
  // What its kernel has read before,
  for (const Node* made = source; made != nullptr && pointwise(*made);) {
    note_reads(*made);
    const Node* before = nullptr;
    for (const Read& read : reads(*made)) {
      const Node* producer = read.value.node;
      if (read.at.same() && here(*producer) && !is_source(*producer) &&
          (before == nullptr || info_.at(producer).position > info_.at(before).position)) {
        before = producer;
      }
    }
    made = before;
  }
  // and reads for what else is made of it, which must all be pointwise and not wait for the
  // transform.
  std::vector<const Node*> readers;
  for (const Use& use : info_.at(source).uses) readers.push_back(use.user);
  while (!readers.empty()) {
    const Node* reader = readers.back();
    readers.pop_back();
    if (reader == &node) continue;
    if (reader->op->pattern != Pattern::elementwise ||
        reader->results[0].elements() != node.results[0].elements() ||
        info_.at(reader).position > info_.at(&transform).position) {
      return false;
    }
    if (!info_.at(reader).is_virtual) {
      note_reads(*reader);
      continue;
    }
    for (const Use& use : info_.at(reader).uses) readers.push_back(use.user);
  }
  return std::all_of(leaves.begin(), leaves.end(), [&](const Read& leaf) {
    return leaf.value.node == source || !leaf.at.same() ||
           at_hand.count({leaf.value.node, leaf.value.index}) != 0;
  });
}

void RegionFuser::move_to_producers() {
  for (const Node* node : region_.nodes) {
    if (is_better_stored(*node)) info_[node].is_virtual = false;
  }
}

}  // namespace weft::compiler
