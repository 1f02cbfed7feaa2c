#pragma once

#include <cstddef>
#include <span>

#include "runtime/plan/transform.h"

namespace weft::loop::interpreter {

/// What a library's transform does, by its definition in double precision; `arguments`: the memory
/// of each of a kernel's arguments, long enough for it.
void run(const plan::Transform& transform, std::span<const std::span<std::byte>> arguments);

}  // namespace weft::loop::interpreter
