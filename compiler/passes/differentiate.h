#pragma once

#include <span>
#include <vector>

#include "ops/build.h"

namespace weft::compiler {

/// Emits, at the builder's region, the gradients of `y` with respect to `xs`. `seed` is the gradient
/// of y (null: ones). A null Value in the result: y does not depend on that x. `sources` stop the
/// walk. Values outside the builder's region that depend on an x through a loop's result throw
/// Error: differentiation across a loop's boundary is not built.
std::vector<ir::Value> gradients(ops::Builder& builder, ir::Value y, std::span<const ir::Value> xs,
                                 ir::Value seed = {});

}  // namespace weft::compiler
