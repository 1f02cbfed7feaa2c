#include "compiler/schedules/reduction_space.h"

namespace weft::compiler {

using ir::Node;
using loop::Ex;
using ops::Element;

Reduction analyse_reduction(const Node& node) {
  Reduction r;
  r.node = &node;
  r.input = node.operand_type(0).shape;
  std::vector<bool> is_reduced(static_cast<std::size_t>(r.input.rank()), false);
  const bool index = node.is("argmax");
  if (index) {
    is_reduced[static_cast<std::size_t>(node.attributes.integer("axis"))] = true;
  } else {
    for (std::int64_t axis : node.attributes.integers("axes")) {
      is_reduced[static_cast<std::size_t>(axis)] = true;
    }
  }
  for (int axis = 0; axis < r.input.rank(); ++axis) {
    if (is_reduced[static_cast<std::size_t>(axis)]) {
      r.reduced.push_back(axis);
      r.reduced_shape.push_back(r.input[axis]);
    } else {
      r.kept.push_back(axis);
      r.kept_shape.push_back(r.input[axis]);
    }
  }
  r.type = register_of(index ? node.operand_type(0).dtype : node.results[0].dtype);
  r.complex = is_complex(node.results[0].dtype);
  return r;
}

std::vector<Ex> input_index(const Reduction& r, std::span<const Ex> kept,
                            std::span<const Ex> reduced) {
  std::vector<Ex> index(static_cast<std::size_t>(r.input.rank()));
  for (std::size_t i = 0; i < r.kept.size(); ++i) {
    index[static_cast<std::size_t>(r.kept[i])] = kept[i];
  }
  for (std::size_t i = 0; i < r.reduced.size(); ++i) {
    index[static_cast<std::size_t>(r.reduced[i])] = reduced[i];
  }
  return index;
}

Ex larger(loop::Arena& arena, Ex x, Ex y) {
  const Ex greater = arena.less(y, x);
  if (!loop::is_float(x->type)) return greater;
  const Ex x_alone =
      arena.logical_and(arena.binary(loop::Binary::not_equal, x, x), arena.equal(y, y));
  return arena.logical_or(greater, x_alone);
}

void finish_reduction(GroupEmitter& emitter, const Reduction& r, std::span<const Ex> kept,
                      const Element& value) {
  loop::Arena& a = emitter.arena();
  const Shape& shape = r.node->results[0].shape;
  emitter.reset();
  emitter.bind({const_cast<Node*>(r.node), 0}, value);
  std::vector<Ex> index(kept.begin(), kept.end());
  if (!(shape == r.kept_shape)) index = a.delinearize(a.linearize(kept, r.kept_shape), shape);
  emitter.store_outputs(index, shape);
}

}  // namespace weft::compiler
