#include <algorithm>

#include "compiler/schedules/reduce.h"
#include "compiler/schedules/row_emitter.h"
#include "compiler/schedules/schedule.h"

/// Reductions over the same rows with everything between them: softmax, norms, their derivatives.
namespace weft::compiler {
namespace {

using ir::Node;
using ir::Value;
using loop::Ex;
using loop::Role;

class RowKernel {
 public:
  RowKernel(GroupEmitter& emitter, const HostTarget& target)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        group_(emitter.group()),
        rows_(group_.rows),
        row_(emitter),
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
      if (row_.passes().needed().count(root.node) == 0) continue;
      // An f32 output can be read back; a 16-bit one would have been rounded.
      if (emitter_.is_output(root) && root.dtype() == DType::f32) continue;
      const std::int64_t slots = rows_.columns * (columns_in_lanes_ ? 1 : chunk);
      row_.keep(root, b_.kernel().local("row", storage_of(register_of(root.dtype())), slots));
    }
  }

  void one_row(Ex row, Ex slot) {
    const int width = static_cast<int>(
        std::clamp<std::int64_t>(rows_.columns / lanes_ * lanes_,
                                 std::min<std::int64_t>(lanes_, rows_.columns), 2L * lanes_));
    const auto for_columns = [&](const std::function<void(Ex column, Ex place)>& body) {
      b_.loop(rows_.columns, columns_in_lanes_ ? Role::vector : Role::serial,
              columns_in_lanes_ ? width : 1, [&](Ex column) {
                body(column, a_.add(a_.mul(column, a_.integer(slot_stride_)), slot));
              });
    };
    row_.emit({row, for_columns, [&](const Node&, Ex own) { return b_.let(own); }});
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const Group& group_;
  Rows rows_;
  RowEmitter row_;
  int lanes_;
  bool columns_in_lanes_;
  std::int64_t slot_stride_ = 1;
};

}  // namespace

void schedule_rows(GroupEmitter& emitter, const HostTarget& target) {
  RowKernel(emitter, target).run();
}

}  // namespace weft::compiler
