#pragma once

#include "compiler/ir/graph.h"

namespace weft::compiler {

/// Elementwise identities: neutral and absorbing operands, double negations, factors folded
/// together, casts there and back, conditions that are constant. What floats may not notice:
/// - the sign of a zero (x + 0 is x);
/// - one rounding less where f32 or f64 factors c1 and c2 become one, (x * c1) * c2 = x * (c1 *
/// c2);
///   c1 * c2 must be a normal number. Sums of constants are left alone: (x + 1e8) - 1e8 rounds on
///   purpose.
/// x * 0 and x - x are 0 for integers only: NaN and infinity go through. Division by a constant
/// becomes a product only where its reciprocal is exact, or where it meets another factor.
/// stop_gradient is removed: run this after differentiation. Returns whether anything changed.
bool algebra(ir::Graph& graph);

}  // namespace weft::compiler
