#include <algorithm>

#include "compiler/schedules/index_space.h"
#include "compiler/schedules/schedule.h"

namespace weft::compiler {
namespace {

using loop::Ex;
using loop::Role;

int widest_lanes(const Group& group, const HostTarget& target) {
  // The lanes of the narrowest register type would split the others: take those of f32.
  const bool wide = std::all_of(group.outputs.begin(), group.outputs.end(), [](ir::Value v) {
    return v.dtype() == DType::f64 || v.dtype() == DType::i64;
  });
  return target.vector_lanes(wide ? DType::f64 : DType::f32);
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
