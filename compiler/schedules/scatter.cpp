#include <algorithm>
#include <functional>

#include "compiler/schedules/schedule.h"

namespace weft::compiler {

using ir::Node;
using loop::Ex;
using loop::Role;

/// scatter_add(x, indices, updates){axis}: first x is copied, then updates are added in the order
/// of the indices. Blocks own disjoint columns and outer positions, so the order of additions is
/// fixed.
void schedule_scatter(GroupEmitter& emitter, const HostTarget& target) {
  const Node& node = *emitter.group().anchor;
  const Type& type = node.results[0];
  const Shape& index_shape = node.operand_type(1).shape;
  const int axis = static_cast<int>(node.attributes.integer("axis"));
  loop::Arena& a = emitter.arena();
  loop::Builder& b = emitter.builder();
  const ir::Value result{const_cast<Node*>(&node), 0};
  const std::int64_t total = type.elements();
  if (total == 0) {
    b.phase(0, [](Ex) {});
    return;
  }
  const int lanes = target.vector_lanes(type.dtype == DType::c64 ? DType::f32 : type.dtype);
  const std::int64_t count = index_shape.elements();
  // Sums of 16-bit values are f32: they take shape in memory of the kernel's own.
  const bool narrow = (type.dtype == DType::f16 || type.dtype == DType::bf16) && count > 0;
  const loop::Buffer* buffer =
      narrow ? emitter.workspace(DType::f32, total) : emitter.output_buffer(result);
  const std::int64_t chunk = std::min(total, block_elements);
  const auto every_element = [&](const std::function<void(Ex position)>& body) {
    b.phase((total + chunk - 1) / chunk, [&](Ex block) {
      for_chunk(emitter, block, total, chunk, [&](Ex first, std::int64_t extent) {
        b.loop(extent, Role::vector, lanes, [&](Ex i) { body(a.add(first, i)); });
      });
    });
  };
  every_element([&](Ex position) {
    emitter.reset();
    const ops::Element element =
        emitter.value(node.operands[0], a.delinearize(position, type.shape));
    if (narrow) {
      b.store(buffer, position, element.re);
    } else {
      emitter.store(result, position, element);
    }
  });
  if (count == 0) return;
  Shape outer;
  Shape inner;
  for (int i = 0; i < axis; ++i) outer.push_back(type.shape[i]);
  for (int i = axis + 1; i < type.rank(); ++i) inner.push_back(type.shape[i]);
  const std::int64_t columns = inner.elements();
  const std::int64_t strip = std::min<std::int64_t>(columns, 4L * lanes);
  const std::int64_t strips = (columns + strip - 1) / strip;
  const bool complex = is_complex(type.dtype);
  b.phase(outer.elements() * strips, [&](Ex block) {
    const std::vector<Ex> at = a.delinearize(block, Shape{outer.elements(), strips});
    const std::vector<Ex> outside = a.delinearize(at[0], outer);
    b.loop(count, Role::serial, 1, [&](Ex j) {
      emitter.reset();
      const std::vector<Ex> where = a.delinearize(j, index_shape);
      const Ex raw = a.cast(emitter.value(node.operands[1], where).re, loop::Scalar::i64);
      const Ex clamped =
          a.binary(loop::Binary::minimum, a.binary(loop::Binary::maximum, raw, a.integer(0)),
                   a.integer(type.shape[axis] - 1));
      const Ex row = b.let(clamped);
      for_chunk(emitter, at[1], columns, strip, [&](Ex first, std::int64_t extent) {
        const int width = static_cast<int>(std::min<std::int64_t>(extent, 4L * lanes));
        b.loop(extent, Role::vector, width, [&](Ex c) {
          emitter.reset();
          const std::vector<Ex> inside = a.delinearize(a.add(first, c), inner);
          std::vector<Ex> from = outside;
          from.insert(from.end(), where.begin(), where.end());
          from.insert(from.end(), inside.begin(), inside.end());
          std::vector<Ex> to = outside;
          to.push_back(row);
          to.insert(to.end(), inside.begin(), inside.end());
          const Ex position = a.linearize(to, type.shape);
          const ops::Element update = emitter.value(node.operands[2], from);
          if (!complex) {
            b.store(buffer, position, a.add(a.load(buffer, position), update.re));
            return;
          }
          const Ex re = a.mul(position, a.integer(2));
          const Ex im = a.add(re, a.integer(1));
          b.store(buffer, re, a.add(a.load(buffer, re), update.re));
          b.store(buffer, im, a.add(a.load(buffer, im), update.im));
        });
      });
    });
  });
  if (!narrow) return;
  every_element(
      [&](Ex position) { emitter.store(result, position, {a.load(buffer, position), nullptr}); });
}

}  // namespace weft::compiler
