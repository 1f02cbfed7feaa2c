#include <algorithm>
#include <map>
#include <set>

#include "compiler/schedules/reduce.h"
#include "compiler/schedules/schedule.h"

/// Reductions over the same rows with everything between them: softmax, norms, their derivatives. A
/// row is passed over as often as reductions wait for each other; a value that a later pass needs
/// again is kept for the length of the row.
namespace weft::compiler {
namespace {

using ir::Node;
using ir::Value;
using loop::Ex;
using loop::Role;
using ops::Element;

class RowKernel {
 public:
  RowKernel(GroupEmitter& emitter, const HostTarget& target)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        group_(emitter.group()),
        rows_(group_.rows),
        lanes_(target.vector_lanes(DType::f32)) {
    const Shape& input = group_.anchor->operand_type(0).shape;
    const std::size_t reduced = group_.anchor->attributes.integers("axes").size();
    for (int axis = 0; axis < input.rank(); ++axis) {
      const bool kept = axis + static_cast<int>(reduced) < input.rank();
      (kept ? kept_shape_ : reduced_shape_).push_back(input[axis]);
    }
    for (const Node* node : group_.members) members_.insert(node);
    for (const Node* anchor : group_.anchors) heads_.insert(anchor);
    for (Value root : group_.roots) heads_.insert(root.node);
    columns_in_lanes_ = rows_.columns >= lanes_ / 2;
    plan_passes();
  }

  void run() {
    // Blocks of a size that is worth handing over, and enough of them to share out.
    std::int64_t chunk = std::max<std::int64_t>(1, block_elements / rows_.columns);
    chunk = std::min(chunk, (rows_.rows + 7) / 8);
    if (!columns_in_lanes_)
      chunk = std::max<std::int64_t>(chunk, std::min<std::int64_t>(rows_.rows, lanes_));
    make_buffers(chunk);
    b_.phase((rows_.rows + chunk - 1) / chunk, [&](Ex block) {
      for_chunk(emitter_, block, rows_.rows, chunk, [&](Ex first, std::int64_t extent) {
        const int width = static_cast<int>(std::min<std::int64_t>(lanes_, extent));
        b_.loop(extent, columns_in_lanes_ ? Role::serial : Role::vector,
                columns_in_lanes_ ? 1 : width, [&](Ex r) {
                  slot_stride_ = columns_in_lanes_ ? 1 : chunk;
                  one_row(a_.add(first, r), columns_in_lanes_ ? a_.integer(0) : r);
                });
      });
    });
  }

 private:
  /// What one pass over a row computes.
  struct Pass {
    std::vector<const Node*> anchors;
    std::vector<Value> whole;     ///< roots with a value for each element
    std::vector<Value> row_wise;  ///< roots with a value for each row, known before the pass
  };

  bool is_whole(Value root) const { return root.type().elements() == rows_.rows * rows_.columns; }
  bool is_anchor(const Node* node) const {
    return std::find(group_.anchors.begin(), group_.anchors.end(), node) != group_.anchors.end();
  }

  /// The first pass that may use the value.
  int ready(const Node* node) {
    if (members_.count(node) == 0) return 0;
    const auto found = ready_.find(node);
    if (found != ready_.end()) return found->second;
    int pass = 0;
    for (Value operand : node->operands) pass = std::max(pass, ready(operand.node));
    if (is_anchor(node)) ++pass;
    return ready_[node] = pass;
  }

  void plan_passes() {
    int last = 0;
    for (const Node* node : heads_) last = std::max(last, ready(node));
    passes_.resize(static_cast<std::size_t>(last) + 1);
    for (const Node* anchor : group_.anchors) {
      passes_[static_cast<std::size_t>(ready(anchor)) - 1].anchors.push_back(anchor);
    }
    for (Value root : group_.roots) {
      Pass& pass = passes_[static_cast<std::size_t>(ready(root.node))];
      (is_whole(root) ? pass.whole : pass.row_wise).push_back(root);
    }
    for (const Pass& pass : passes_) {
      const auto number = static_cast<int>(&pass - passes_.data());
      for (const Node* anchor : pass.anchors) note_uses(*anchor, number);
      for (Value root : pass.whole) note_uses(*root.node, number);
    }
  }

  /// Remembers which roots of earlier passes a pass needs.
  void note_uses(const Node& node, int pass) {
    for (Value operand : node.operands) {
      if (members_.count(operand.node) == 0) continue;
      if (heads_.count(operand.node) == 0) {
        note_uses(*operand.node, pass);
      } else if (!is_anchor(operand.node) && is_whole(operand) && ready(operand.node) < pass) {
        needed_[operand.node].insert(pass);
      }
    }
  }

  void make_buffers(std::int64_t chunk) {
    for (Value root : group_.roots) {
      if (needed_.count(root.node) == 0) continue;
      // An f32 output can be read back; a 16-bit one would have been rounded.
      if (emitter_.is_output(root) && root.dtype() == DType::f32) continue;
      const std::int64_t slots = rows_.columns * (columns_in_lanes_ ? 1 : chunk);
      kept_[root.node] = b_.kernel().local("row", storage_of(register_of(root.dtype())), slots);
    }
  }

  std::vector<Ex> whole_index(Ex row, Ex column) {
    std::vector<Ex> index = a_.delinearize(row, kept_shape_);
    const std::vector<Ex> inner = a_.delinearize(column, reduced_shape_);
    index.insert(index.end(), inner.begin(), inner.end());
    return index;
  }
  Ex position(Ex row, Ex column) { return a_.add(a_.mul(row, a_.integer(rows_.columns)), column); }
  std::vector<Ex> index_in(const Shape& shape, Ex row, Ex column) {
    const Shape& base = group_.anchor->operand_type(0).shape;
    return shape == base ? whole_index(row, column) : a_.delinearize(position(row, column), shape);
  }

  Element kept(Value root, Ex row, Ex column, Ex slot) {
    const auto found = kept_.find(root.node);
    if (found == kept_.end()) {
      return {a_.load(emitter_.output_buffer(root), position(row, column)), nullptr};
    }
    return {a_.load(found->second, a_.add(a_.mul(column, a_.integer(slot_stride_)), slot)),
            nullptr};
  }

  void bind_row_values() {
    for (const auto& [value, element] : row_values_) {
      emitter_.bind({const_cast<Node*>(value), 0}, element);
    }
  }

  void one_row(Ex row, Ex slot) {
    row_values_.clear();
    for (std::size_t p = 0; p < passes_.size(); ++p) {
      const Pass& pass = passes_[p];
      for (Value root : pass.row_wise) row_wise(root, row);
      if (pass.whole.empty() && pass.anchors.empty()) continue;
      std::vector<Reducer> reducers;
      for (const Node* anchor : pass.anchors) reducers.push_back(declare(emitter_, *anchor));
      const int width = static_cast<int>(
          std::clamp<std::int64_t>(rows_.columns / lanes_ * lanes_,
                                   std::min<std::int64_t>(lanes_, rows_.columns), 2L * lanes_));
      b_.loop(rows_.columns, columns_in_lanes_ ? Role::vector : Role::serial,
              columns_in_lanes_ ? width : 1, [&](Ex column) {
                emitter_.reset();
                bind_row_values();
                for (const auto& [node, users] : needed_) {
                  if (users.count(static_cast<int>(p)) == 0) continue;
                  const Value root{const_cast<Node*>(node), 0};
                  emitter_.bind(root, kept(root, row, column, slot));
                }
                for (Value root : pass.whole) whole(root, row, column, slot);
                for (std::size_t i = 0; i < reducers.size(); ++i) {
                  const Value operand = pass.anchors[i]->operands[0];
                  accumulate(emitter_, reducers[i],
                             emitter_.value(operand, index_in(operand.shape(), row, column)));
                }
              });
      for (std::size_t i = 0; i < reducers.size(); ++i) {
        const Value result{const_cast<Node*>(pass.anchors[i]), 0};
        const Element element{b_.let(read(emitter_, reducers[i]).re), nullptr};
        row_values_[result.node] = element;
        if (emitter_.is_output(result)) emitter_.store(result, row, element);
      }
    }
  }

  void row_wise(Value root, Ex row) {
    emitter_.reset();
    bind_row_values();
    const Element element{b_.let(emitter_.value(root, a_.delinearize(row, root.shape())).re),
                          nullptr};
    row_values_[root.node] = element;
    if (emitter_.is_output(root)) emitter_.store(root, row, element);
  }

  void whole(Value root, Ex row, Ex column, Ex slot) {
    const Element element{b_.let(emitter_.value(root, index_in(root.shape(), row, column)).re),
                          nullptr};
    emitter_.bind(root, element);
    if (emitter_.is_output(root)) emitter_.store(root, position(row, column), element);
    const auto found = kept_.find(root.node);
    if (found == kept_.end()) return;
    b_.store(found->second, a_.add(a_.mul(column, a_.integer(slot_stride_)), slot), element.re);
  }

  struct ByNumber {
    bool operator()(const Node* a, const Node* b) const { return a->id < b->id; }
  };

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const Group& group_;
  Rows rows_;
  int lanes_;
  Shape kept_shape_, reduced_shape_;
  bool columns_in_lanes_ = true;
  std::int64_t slot_stride_ = 1;
  std::set<const Node*> members_;
  std::set<const Node*, ByNumber> heads_;  ///< anchors and roots
  std::map<const Node*, int> ready_;
  std::vector<Pass> passes_;
  /// Roots that later passes need, with these.
  std::map<const Node*, std::set<int>, ByNumber> needed_;
  std::map<const Node*, const loop::Buffer*> kept_;
  std::map<const Node*, Element, ByNumber> row_values_;
};

}  // namespace

void schedule_rows(GroupEmitter& emitter, const HostTarget& target) {
  RowKernel(emitter, target).run();
}

}  // namespace weft::compiler
