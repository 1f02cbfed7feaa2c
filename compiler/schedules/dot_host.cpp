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
  const int lanes = target.vector_lanes(type.dtype);
  if (p.columns() < lanes / 2 && p.rows() > p.columns()) p.swapped = true;
  if (p.columns() < lanes / 2 && p.depth() >= lanes) {
    schedule_dot_inner(emitter, p, target);
    return;
  }
  schedule_dot_tiled(emitter, p, target);
}

}  // namespace weft::compiler
