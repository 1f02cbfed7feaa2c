#include <algorithm>

#include "compiler/schedules/schedule.h"

namespace weft::compiler {

using ir::Node;
using loop::Ex;
using loop::Role;

/// Running sums along one axis: serial along it, the other axes in blocks and, where the last axis
/// is not the summed one, in vector lanes.
void schedule_cumulative(GroupEmitter& emitter, const HostTarget& target) {
  const Node& node = *emitter.group().anchor;
  const Type& type = node.results[0];
  const int axis = static_cast<int>(node.attributes.integer("axis"));
  const bool exclusive = node.attributes.flag("exclusive");
  const bool reverse = node.attributes.flag("reverse");
  const std::int64_t length = type.shape[axis];
  loop::Arena& a = emitter.arena();
  loop::Builder& b = emitter.builder();
  if (type.elements() == 0) {
    b.phase(0, [](Ex) {});
    return;
  }
  Shape others = type.shape;
  others.erase(axis);
  const int lanes = target.vector_lanes(DType::f32);
  const bool vector = axis != type.rank() - 1 && others[others.rank() - 1] >= lanes / 2;
  const std::int64_t inner = vector ? others[others.rank() - 1] : 1;
  Shape outer = others;
  if (vector) outer.erase(others.rank() - 1);
  const std::int64_t units = outer.elements();
  const std::int64_t chunk = std::clamp<std::int64_t>(
      block_elements / std::max<std::int64_t>(length * inner, 1), 1, units);
  const loop::Scalar scalar = register_of(type.dtype);
  const bool complex = is_complex(type.dtype);

  const auto line = [&](std::vector<Ex> rest) {
    const Ex zero = a.constant(scalar, 0);
    loop::Accumulator* re = b.declare(scalar, loop::Combine::add, zero);
    loop::Accumulator* im = complex ? b.declare(scalar, loop::Combine::add, zero) : nullptr;
    b.loop(length, Role::serial, 1, [&](Ex step) {
      const Ex i = reverse ? a.sub(a.integer(length - 1), step) : step;
      std::vector<Ex> index = rest;
      index.insert(index.begin() + axis, i);
      emitter.reset();
      ops::Element term = emitter.value(node.operands[0], index);
      term.re = b.let(term.re);
      if (complex) term.im = b.let(term.im);
      ops::Element before{b.read(re), complex ? b.read(im) : nullptr};
      b.accumulate(re, term.re);
      if (complex) b.accumulate(im, term.im);
      ops::Element after{b.read(re), complex ? b.read(im) : nullptr};
      emitter.bind({const_cast<Node*>(&node), 0}, exclusive ? before : after);
      emitter.store_outputs(index, type.shape);
    });
  };

  b.phase((units + chunk - 1) / chunk, [&](Ex block) {
    for_chunk(emitter, block, units, chunk, [&](Ex first, std::int64_t extent) {
      b.loop(extent, Role::serial, 1, [&](Ex u) {
        const std::vector<Ex> unit = a.delinearize(a.add(first, u), outer);
        if (!vector) {
          line(unit);
          return;
        }
        b.loop(inner, Role::vector, lanes, [&](Ex i) {
          std::vector<Ex> rest = unit;
          rest.push_back(i);
          line(rest);
        });
      });
    });
  });
}

}  // namespace weft::compiler
