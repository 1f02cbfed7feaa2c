#include <algorithm>

#include "compiler/schedules/across_threads.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/reduce.h"
#include "compiler/schedules/row_emitter.h"
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
      : a_(emitter.arena()),
        b_(emitter.builder()),
        group_(emitter.group()),
        rows_(group_.rows),
        row_(emitter) {
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
      b_.condition(a_.less(number, a_.integer(rows_.rows)), [&] {
        const Ex lane = b_.let(a_.floor_mod(thread, warp));
        one_row(b_.let_within(number, 0, rows_.rows - 1), lane);
      });
    });
  }

 private:
  /// What later passes need: in registers, of long rows in shared memory if it fits. Beyond that it
  /// is memory of the threads' own, which is cached like any other.
  void keep() {
    std::int64_t bytes = 0;
    std::vector<Value> roots;
    for (Value root : group_.roots) {
      if (row_.passes().needed().count(root.node) == 0) continue;
      roots.push_back(root);
      bytes +=
          rows_.columns * static_cast<std::int64_t>(size_of(storage_of(register_of(root.dtype()))));
    }
    shared_ = steps_ > most_unrolled && bytes <= most_shared_;
    for (Value root : roots) {
      const DType dtype = storage_of(register_of(root.dtype()));
      row_.keep(root, shared_ ? b_.kernel().shared("kept", dtype, rows_.columns)
                              : b_.kernel().local("kept", dtype, steps_ * width_));
    }
  }

  /// `body` for each column of this thread, a vector at a time; `place`: the column in what is
  /// kept, or its number among the thread's.
  void for_columns(Ex thread, const std::function<void(Ex column, Ex place)>& body) {
    const Role role = steps_ <= most_unrolled ? Role::unrolled : Role::serial;
    b_.loop(steps_, role, 1, [&](Ex step) {
      const Ex vector = a_.add(a_.mul(step, a_.integer(warps_ * warp)), thread);
      const auto lanes = [&] {
        const Ex first =
            b_.let_within(a_.mul(vector, a_.integer(width_)), 0, rows_.columns - width_);
        b_.loop(width_, Role::vector, static_cast<int>(width_), [&](Ex lane) {
          const Ex column = a_.add(first, lane);
          body(column, shared_ ? column : a_.add(a_.mul(step, a_.integer(width_)), lane));
        });
      };
      b_.condition(a_.less(vector, a_.integer(rows_.columns / width_)), lanes);
    });
  }

  void one_row(Ex row, Ex thread) {
    row_.emit(
        {row,
         [&](const std::function<void(Ex column, Ex place)>& body) { for_columns(thread, body); },
         [&](const Node& anchor, Ex own) {
           return across_threads(b_, combine_of(anchor), own, thread, warps_);
         },
         a_.equal(thread, a_.integer(0))});
  }

  loop::Arena& a_;
  loop::Builder& b_;
  const Group& group_;
  Rows rows_;
  RowEmitter row_;
  std::int64_t width_ = 1;        ///< columns of a vector
  std::int64_t warps_ = 1;        ///< of a row
  std::int64_t steps_ = 1;        ///< vectors of a thread
  std::int64_t most_shared_ = 0;  ///< bytes, for what is kept
  bool shared_ = false;           ///< what is kept is in shared memory, by columns
};

}  // namespace

void schedule_rows_device(GroupEmitter& emitter, const DeviceOptions& options) {
  RowDeviceKernel(emitter, options).run();
}

}  // namespace weft::compiler
