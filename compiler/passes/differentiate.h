#pragma once

#include <span>
#include <vector>

#include "ops/build.h"

namespace weft::compiler {

/// Reverse-mode differentiation as a graph transformation: emits, at the builder's region, the
/// gradients of `y` with respect to `xs` and returns one value for each x, of its type; a null
/// Value where y does not depend on that x (or x is an integer). `seed` is the gradient of y, of
/// y's type (null: ones). Gradients of complex values are dL/dRe + i dL/dIm.
///
/// Only nodes between xs and y are visited; their gradients get their locations. An x that depends
/// on another x is passed through, as the chain rule says. y, its operands and xs may be values of
/// enclosing regions. Arguments of a region are constants unless they are in xs: gradients do not
/// flow into earlier iterations of a loop that is being built. `scan` is differentiated through its
/// body: the carried values of each step are appended to the forward scan's stacked results.
///
/// Throws Error where y is complex or an integer, where the seed's type differs, where a gradient
/// reaches a node without derivative (its reason and the user's line are named), and where it
/// reaches a loop's result: differentiation across a loop's boundary is not built.
std::vector<ir::Value> gradients(ops::Builder& builder, ir::Value y, std::span<const ir::Value> xs,
                                 ir::Value seed = {});

}  // namespace weft::compiler
