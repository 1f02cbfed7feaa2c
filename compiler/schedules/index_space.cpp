#include "compiler/schedules/index_space.h"

#include <algorithm>
#include <span>

#include "compiler/schedules/access.h"
#include "compiler/schedules/emitter.h"

namespace weft::compiler {

using loop::Ex;

namespace {

/// Whether two neighbouring axes may run as one: every load moves over both as over one long axis,
/// and nothing else depends on either.
bool collapsible(Ex e, std::span<const Ex> axes, std::size_t outer, std::int64_t inner_extent) {
  if (e == nullptr) return true;
  if (e->kind == loop::ExprKind::variable) return e != axes[outer] && e != axes[outer + 1];
  if (e->kind == loop::ExprKind::load) {
    const auto strides = strides_of(e->arguments[0], axes.subspan(outer, 2));
    if (!strides || (*strides)[0] != (*strides)[1] * inner_extent) return false;
    return collapsible(e->arguments[1], axes, outer, inner_extent);
  }
  for (Ex argument : e->arguments) {
    if (!collapsible(argument, axes, outer, inner_extent)) return false;
  }
  return true;
}

}  // namespace

Shape loop_shape(const Group& group) {
  Shape shape = group.outputs[0].shape();
  for (ir::Value output : group.outputs) {
    if (output.shape().rank() > shape.rank()) shape = output.shape();
  }
  return shape;
}

Shape collapse(const Group& group, const Shape& shape) {
  loop::Kernel scratch;
  GroupEmitter emitter(scratch, group);
  loop::Arena& a = emitter.arena();
  std::vector<Ex> axes;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    axes.push_back(a.variable(loop::Scalar::i64, 0, std::max<std::int64_t>(shape[axis] - 1, 0)));
  }
  std::vector<Ex> values;
  for (ir::Value output : group.outputs) {
    std::vector<Ex> own = axes;
    if (!(output.shape() == shape)) own = a.delinearize(a.linearize(axes, shape), output.shape());
    const ops::Element element = emitter.value(output, own);
    values.push_back(element.re);
    if (element.im != nullptr) values.push_back(element.im);
  }
  Shape merged;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const bool join =
        axis > 0 && std::all_of(values.begin(), values.end(), [&](Ex e) {
          return collapsible(e, axes, static_cast<std::size_t>(axis) - 1, shape[axis]);
        });
    if (join) {
      merged[merged.rank() - 1] *= shape[axis];
    } else {
      merged.push_back(shape[axis]);
    }
  }
  return merged;
}

}  // namespace weft::compiler
