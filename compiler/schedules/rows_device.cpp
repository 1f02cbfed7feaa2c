#include <algorithm>
#include <map>

#include "compiler/schedules/across_threads.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/reduce.h"
#include "compiler/schedules/row_passes.h"
#include "compiler/schedules/schedule.h"
#include "compiler/schedules/thread_indices.h"

/// Reductions over the same rows with everything between them, on a GPU: a row is a warp's, or a
/// block's where it is long. Each thread has vectors of neighbours, a row's threads together whole
/// lines; what a later pass needs stays in registers.
namespace weft::compiler {
namespace {

using ir::Node;
using ir::Value;
using loop::Ex;
using loop::Role;
using ops::Element;

constexpr std::int64_t most_warps = 32;
/// Warps of a block whose rows are a warp's each.
constexpr std::int64_t rows_a_block = 8;
/// Vectors that a thread should have: enough loads in flight, few enough registers.
constexpr std::int64_t vectors_a_thread = 4;
/// The loop over a thread's vectors is unrolled up to here: kept values are registers then.
constexpr std::int64_t most_unrolled = 8;
/// Shared memory that is left to reductions.
constexpr std::int64_t reductions_bytes = 4096;

class RowDeviceKernel {
 public:
  RowDeviceKernel(GroupEmitter& emitter, const DeviceOptions& options)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        group_(emitter.group()),
        rows_(group_.rows),
        passes_(group_) {
    for (width_ = 4; rows_.columns % width_ != 0;) width_ /= 2;
    warps_ = std::clamp<std::int64_t>(divide_up(rows_.columns, width_ * warp * vectors_a_thread), 1,
                                      most_warps);
    steps_ = divide_up(rows_.columns, width_ * warp * warps_);
    most_shared_ = options.shared_bytes() - reductions_bytes;
  }

  void run() {
    keep();
    if (warps_ > 1) {
      b_.phase(rows_.rows, warps_ * warp, [&](Ex block, Ex thread) { one_row(block, thread); });
      return;
    }
    const std::int64_t together = std::min(rows_a_block, rows_.rows);
    b_.phase(divide_up(rows_.rows, together), together * warp, [&](Ex block, Ex thread) {
      const Ex number = a_.add(a_.mul(block, a_.integer(together)), a_.floor_div(thread, warp));
      const auto body = [&] {
        one_row(b_.let_within(number, 0, rows_.rows - 1), b_.let(a_.floor_mod(thread, warp)));
      };
      if (rows_.rows % together == 0) {
        body();
      } else {
        b_.condition(a_.less(number, a_.integer(rows_.rows)), body);
      }
    });
  }

 private:
  /// What later passes need: in registers, of long rows in shared memory if it fits. Beyond that it
  /// is memory of the threads' own, which is cached like any other.
  void keep() {
    std::int64_t bytes = 0;
    std::vector<Value> roots;
    for (Value root : group_.roots) {
      if (passes_.needed().count(root.node) == 0) continue;
      roots.push_back(root);
      bytes +=
          rows_.columns * static_cast<std::int64_t>(size_of(storage_of(register_of(root.dtype()))));
    }
    shared_ = steps_ > most_unrolled && bytes <= most_shared_;
    for (Value root : roots) {
      const DType dtype = storage_of(register_of(root.dtype()));
      kept_[root.node] = shared_ ? b_.kernel().shared("kept", dtype, rows_.columns)
                                 : b_.kernel().local("kept", dtype, steps_ * width_);
    }
  }

  /// `body` for each column of this thread, a vector at a time; `slot`: the column's number among
  /// the thread's.
  void for_columns(Ex thread, const std::function<void(Ex column, Ex slot)>& body) {
    const Role role = steps_ <= most_unrolled ? Role::unrolled : Role::serial;
    b_.loop(steps_, role, 1, [&](Ex step) {
      const Ex vector = a_.add(a_.mul(step, a_.integer(warps_ * warp)), thread);
      const auto lanes = [&] {
        const Ex first =
            b_.let_within(a_.mul(vector, a_.integer(width_)), 0, rows_.columns - width_);
        b_.loop(width_, Role::vector, static_cast<int>(width_), [&](Ex lane) {
          body(a_.add(first, lane), a_.add(a_.mul(step, a_.integer(width_)), lane));
        });
      };
      if (rows_.columns % (width_ * warps_ * warp) == 0) {
        lanes();
      } else {
        b_.condition(a_.less(vector, a_.integer(rows_.columns / width_)), lanes);
      }
    });
  }

  void bind_row_values() {
    for (const auto& [node, element] : row_values_) {
      emitter_.bind({const_cast<Node*>(node), 0}, element);
    }
  }

  void one_row(Ex row, Ex thread) {
    row_values_.clear();
    const Ex first = a_.equal(thread, a_.integer(0));
    for (std::size_t p = 0; p < passes_.passes().size(); ++p) {
      const RowPasses::Pass& pass = passes_.passes()[p];
      for (Value root : pass.row_wise) row_wise(root, row, first);
      if (pass.whole.empty() && pass.anchors.empty()) continue;
      std::vector<Reducer> reducers;
      for (const Node* anchor : pass.anchors) reducers.push_back(declare(emitter_, *anchor));
      for_columns(thread, [&](Ex column, Ex slot) {
        emitter_.reset();
        bind_row_values();
        for (const auto& [node, users] : passes_.needed()) {
          if (users.count(static_cast<int>(p)) == 0) continue;
          emitter_.bind({const_cast<Node*>(node), 0},
                        {a_.load(kept_.at(node), shared_ ? column : slot), nullptr});
        }
        for (Value root : pass.whole) whole(root, row, column, slot);
        for (std::size_t i = 0; i < reducers.size(); ++i) {
          const Value operand = pass.anchors[i]->operands[0];
          accumulate(emitter_, reducers[i],
                     emitter_.value(operand, passes_.index_in(a_, operand.shape(), row, column)));
        }
      });
      for (std::size_t i = 0; i < reducers.size(); ++i) {
        const Value result{const_cast<Node*>(pass.anchors[i]), 0};
        const Ex own = read(emitter_, reducers[i]).re;
        const Element element{across_threads(b_, combine_of(*pass.anchors[i]), own, thread, warps_),
                              nullptr};
        row_values_[result.node] = element;
        if (emitter_.is_output(result)) emitter_.store(result, row, element, first);
      }
    }
  }

  void row_wise(Value root, Ex row, Ex first) {
    emitter_.reset();
    bind_row_values();
    const Element element{b_.let(emitter_.value(root, a_.delinearize(row, root.shape())).re),
                          nullptr};
    row_values_[root.node] = element;
    if (emitter_.is_output(root)) emitter_.store(root, row, element, first);
  }

  void whole(Value root, Ex row, Ex column, Ex slot) {
    const Element element{
        b_.let(emitter_.value(root, passes_.index_in(a_, root.shape(), row, column)).re), nullptr};
    emitter_.bind(root, element);
    if (emitter_.is_output(root)) emitter_.store(root, passes_.position(a_, row, column), element);
    if (const auto found = kept_.find(root.node); found != kept_.end()) {
      b_.store(found->second, shared_ ? column : slot, element.re);
    }
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const Group& group_;
  Rows rows_;
  RowPasses passes_;
  std::int64_t width_ = 1;        ///< columns of a vector
  std::int64_t warps_ = 1;        ///< of a row
  std::int64_t steps_ = 1;        ///< vectors of a thread
  std::int64_t most_shared_ = 0;  ///< bytes, for what is kept
  bool shared_ = false;           ///< what is kept is in shared memory, by columns
  std::map<const Node*, const loop::Buffer*> kept_;
  std::map<const Node*, Element, RowPasses::ByNumber> row_values_;
};

}  // namespace

void schedule_rows_device(GroupEmitter& emitter, const DeviceOptions& options) {
  RowDeviceKernel(emitter, options).run();
}

}  // namespace weft::compiler
