#include <algorithm>
#include <map>

#include "compiler/schedules/reduce.h"
#include "compiler/schedules/row_passes.h"
#include "compiler/schedules/schedule.h"

/// Reductions over the same rows with everything between them: softmax, norms, their derivatives.
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
        passes_(group_),
        lanes_(target.vector_lanes(DType::f32)),
        columns_in_lanes_(rows_.columns >= lanes_ / 2) {}

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
  void make_buffers(std::int64_t chunk) {
    for (Value root : group_.roots) {
      if (passes_.needed().count(root.node) == 0) continue;
      // An f32 output can be read back; a 16-bit one would have been rounded.
      if (emitter_.is_output(root) && root.dtype() == DType::f32) continue;
      const std::int64_t slots = rows_.columns * (columns_in_lanes_ ? 1 : chunk);
      kept_[root.node] = b_.kernel().local("row", storage_of(register_of(root.dtype())), slots);
    }
  }

  Ex position(Ex row, Ex column) { return passes_.position(a_, row, column); }
  std::vector<Ex> index_in(const Shape& shape, Ex row, Ex column) {
    return passes_.index_in(a_, shape, row, column);
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
    for (std::size_t p = 0; p < passes_.passes().size(); ++p) {
      const RowPasses::Pass& pass = passes_.passes()[p];
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
                for (const auto& [node, users] : passes_.needed()) {
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

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const Group& group_;
  Rows rows_;
  RowPasses passes_;
  int lanes_;
  bool columns_in_lanes_;
  std::int64_t slot_stride_ = 1;
  std::map<const Node*, const loop::Buffer*> kept_;
  std::map<const Node*, Element, RowPasses::ByNumber> row_values_;
};

}  // namespace

void schedule_rows(GroupEmitter& emitter, const HostTarget& target) {
  RowKernel(emitter, target).run();
}

}  // namespace weft::compiler
