#include "compiler/schedules/row_passes.h"

#include <algorithm>

namespace weft::compiler {

using ir::Node;
using ir::Value;
using loop::Ex;

RowPasses::RowPasses(const Group& group) : group_(group) {
  const Shape& input = group.anchor->operand_type(0).shape;
  const std::size_t reduced = group.anchor->attributes.integers("axes").size();
  for (int axis = 0; axis < input.rank(); ++axis) {
    const bool kept = axis + static_cast<int>(reduced) < input.rank();
    (kept ? kept_shape_ : reduced_shape_).push_back(input[axis]);
  }
  for (const Node* node : group.members) members_.insert(node);
  for (const Node* anchor : group.anchors) heads_.insert(anchor);
  for (Value root : group.roots) heads_.insert(root.node);

  int last = 0;
  for (const Node* node : heads_) last = std::max(last, ready(node));
  passes_.resize(static_cast<std::size_t>(last) + 1);
  for (const Node* anchor : group.anchors) {
    passes_[static_cast<std::size_t>(ready(anchor)) - 1].anchors.push_back(anchor);
  }
  for (Value root : group.roots) {
    Pass& pass = passes_[static_cast<std::size_t>(ready(root.node))];
    (is_whole(root) ? pass.whole : pass.row_wise).push_back(root);
  }
  for (const Pass& pass : passes_) {
    const auto number = static_cast<int>(&pass - passes_.data());
    for (const Node* anchor : pass.anchors) note_uses(*anchor, number);
    for (Value root : pass.whole) note_uses(*root.node, number);
  }
}

bool RowPasses::is_anchor(const Node* node) const {
  return std::find(group_.anchors.begin(), group_.anchors.end(), node) != group_.anchors.end();
}

int RowPasses::ready(const Node* node) {
  if (members_.count(node) == 0) return 0;
  const auto found = ready_.find(node);
  if (found != ready_.end()) return found->second;
  int pass = 0;
  for (Value operand : node->operands) pass = std::max(pass, ready(operand.node));
  if (is_anchor(node)) ++pass;
  return ready_[node] = pass;
}

void RowPasses::note_uses(const Node& node, int pass) {
  for (Value operand : node.operands) {
    if (members_.count(operand.node) == 0) continue;
    if (heads_.count(operand.node) == 0) {
      note_uses(*operand.node, pass);
    } else if (!is_anchor(operand.node) && is_whole(operand) && ready(operand.node) < pass) {
      needed_[operand.node].insert(pass);
    }
  }
}

Ex RowPasses::position(loop::Arena& a, Ex row, Ex column) const {
  return a.add(a.mul(row, a.integer(group_.rows.columns)), column);
}

std::vector<Ex> RowPasses::index_in(loop::Arena& a, const Shape& shape, Ex row, Ex column) const {
  if (!(shape == group_.anchor->operand_type(0).shape)) {
    return a.delinearize(position(a, row, column), shape);
  }
  std::vector<Ex> index = a.delinearize(row, kept_shape_);
  const std::vector<Ex> inner = a.delinearize(column, reduced_shape_);
  index.insert(index.end(), inner.begin(), inner.end());
  return index;
}

}  // namespace weft::compiler
