#include "compiler/schedules/dot_product.h"
#include "compiler/schedules/schedule.h"

namespace weft::compiler {

void schedule_dot(GroupEmitter& emitter, const HostTarget& target) {
  Product p = analyse_product(*emitter.group().anchor);
  const Type& type = p.node->results[0];
  if (type.elements() == 0) {
    emitter.builder().phase(0, [](loop::Ex) {});
    return;
  }
  if (is_complex(type.dtype)) {
    schedule_dot_inner(emitter, p, target);
    return;
  }
  const std::vector<const ir::Node*>& products = emitter.group().anchors;
  if (products.size() > 1) {
    p.swapped = !(products[0]->operands[0] == products[1]->operands[0]);
    schedule_dot_tiled(emitter, p, target);
    return;
  }
  const int lanes = target.vector_lanes(type.dtype);
  // Transposing a column costs as much as multiplying it by about six rows.
  constexpr std::int64_t few = 6;
  if (p.rows() > few && p.columns() <= few) p.swapped = true;
  if (p.rows() <= few && p.depth() >= lanes) {
    const OperandLayout columns = operand_layout(emitter.group(), p, true);
    if (columns.depth_contiguous && !columns.free_contiguous) {
      schedule_dot_few_rows(emitter, p, target);
      return;
    }
  }
  p.swapped = false;
  // A few multiply-adds a result are fewer operations than storing it takes.
  constexpr std::int64_t longest_outer = 4;
  if (p.depth() >= 1 && p.depth() <= longest_outer && p.columns() >= lanes / 2) {
    schedule_dot_outer(emitter, p, target);
    return;
  }
  if (p.columns() < lanes / 2 && p.rows() > p.columns()) p.swapped = true;
  if (p.columns() < lanes / 2 && p.depth() >= lanes) {
    schedule_dot_inner(emitter, p, target);
    return;
  }
  schedule_dot_tiled(emitter, p, target);
}

}  // namespace weft::compiler
