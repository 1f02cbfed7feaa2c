#pragma once

#include <span>
#include <vector>

#include "compiler/schedules/emitter.h"

/// What the schedules of reductions share, on any target.
namespace weft::compiler {

/// A reduction's axes.
struct Reduction {
  const ir::Node* node;
  Shape input;
  std::vector<int> kept;     ///< input axes that remain
  std::vector<int> reduced;  ///< input axes that are summed over
  Shape kept_shape;
  Shape reduced_shape;
  loop::Scalar type;
  bool complex;
};

/// Of a sum, max or min, or an argmax.
Reduction analyse_reduction(const ir::Node& node);

/// The operand's index of one term of one result.
std::vector<loop::Ex> input_index(const Reduction& reduction, std::span<const loop::Ex> kept,
                                  std::span<const loop::Ex> reduced);

/// Whether x comes before y as a maximum: NaN counts as largest. An element that is no larger than
/// the best so far stays behind it, so of equals the first is found.
loop::Ex larger(loop::Arena& arena, loop::Ex x, loop::Ex y);

/// Stores the group's outputs for one result; its index without kept axes of extent 1.
void finish_reduction(GroupEmitter& emitter, const Reduction& reduction,
                      std::span<const loop::Ex> kept, const ops::Element& value);

}  // namespace weft::compiler
