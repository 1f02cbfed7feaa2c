#include <algorithm>

#include "compiler/schedules/access.h"
#include "compiler/schedules/schedule.h"

namespace weft::compiler {
namespace {

using loop::Ex;
using loop::Role;

/// The shape whose index space the kernel's loops run over: among the outputs' shapes the one of
/// highest rank, for which the others' indices need no division.
Shape loop_shape(const Group& group) {
  Shape shape = group.outputs[0].shape();
  for (ir::Value output : group.outputs) {
    if (output.shape().rank() > shape.rank()) shape = output.shape();
  }
  return shape;
}

int widest_lanes(const Group& group, const HostTarget& target) {
  // The lanes of the narrowest register type would split the others: take those of f32.
  const bool wide = std::all_of(group.outputs.begin(), group.outputs.end(), [](ir::Value v) {
    return v.dtype() == DType::f64 || v.dtype() == DType::i64;
  });
  return target.vector_lanes(wide ? DType::f64 : DType::f32);
}

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

/// The loop shape with neighbouring axes merged where that changes no access: found by evaluating
/// the group once in a kernel that is thrown away.
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

/// One vector loop over the flattened index space.
void flat(GroupEmitter& emitter, const Shape& shape, int lanes) {
  const std::int64_t total = shape.elements();
  const std::int64_t chunk = std::min(total, block_elements);
  const std::int64_t grid = (total + chunk - 1) / chunk;
  loop::Arena& a = emitter.arena();
  emitter.builder().phase(grid, [&](Ex block) {
    for_chunk(emitter, block, total, chunk, [&](Ex first, std::int64_t extent) {
      const int width = static_cast<int>(std::min<std::int64_t>(lanes, extent));
      emitter.builder().loop(extent, Role::vector, width, [&](Ex i) {
        emitter.reset();
        const Ex position = a.add(first, i);
        emitter.store_outputs(a.delinearize(position, shape), shape);
      });
    });
  });
}

/// Rows in blocks, the last axis in vector lanes.
void rows(GroupEmitter& emitter, const Shape& shape, const Shape& merged, int lanes) {
  const std::int64_t inner = merged[merged.rank() - 1];
  const std::int64_t total = merged.elements() / inner;
  const std::int64_t chunk =
      std::clamp<std::int64_t>(block_elements / inner, 1, std::max<std::int64_t>(total, 1));
  const std::int64_t grid = (total + chunk - 1) / chunk;
  loop::Arena& a = emitter.arena();
  Shape outer = merged;
  outer.erase(merged.rank() - 1);
  emitter.builder().phase(grid, [&](Ex block) {
    for_chunk(emitter, block, total, chunk, [&](Ex first, std::int64_t extent) {
      emitter.builder().loop(extent, Role::serial, 1, [&](Ex r) {
        const std::vector<Ex> row = a.delinearize(a.add(first, r), outer);
        emitter.builder().loop(inner, Role::vector, lanes, [&](Ex i) {
          emitter.reset();
          std::vector<Ex> index = row;
          index.push_back(i);
          if (merged == shape) {
            emitter.store_outputs(index, shape);
          } else {
            emitter.store_outputs(a.delinearize(a.linearize(index, merged), shape), shape);
          }
        });
      });
    });
  });
}

}  // namespace

void schedule_elementwise(GroupEmitter& emitter, const HostTarget& target) {
  const Group& group = emitter.group();
  const Shape shape = loop_shape(group);
  if (shape.elements() == 0) {
    emitter.builder().phase(0, [](Ex) {});
    return;
  }
  const int lanes = widest_lanes(group, target);
  const Shape merged = collapse(group, shape);
  // Short rows would leave most lanes idle: run over the flattened space instead, at the price of
  // divisions in the index arithmetic.
  if (merged.rank() <= 1 || merged[merged.rank() - 1] < lanes / 2) {
    flat(emitter, shape, lanes);
  } else {
    rows(emitter, shape, merged, lanes);
  }
}

}  // namespace weft::compiler
