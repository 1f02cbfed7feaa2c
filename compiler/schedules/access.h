#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "compiler/loop/expr.h"

namespace weft::compiler {

/// How far the position `e` moves (in elements) when each of `axes` moves by one; empty where `e`
/// is not affine in them.
std::optional<std::vector<std::int64_t>> strides_of(loop::Ex e, std::span<const loop::Ex> axes);

bool depends_on(loop::Ex e, loop::Ex variable);

/// Whether every load in `e` that depends on `axis` moves by one element with it.
bool contiguous_along(loop::Ex e, loop::Ex axis);

}  // namespace weft::compiler
