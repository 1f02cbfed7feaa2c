#pragma once

#include "compiler/loop/kernel.h"

namespace weft::compiler {

/// Replaces calls of the target's library by arithmetic, for targets that have none.
void expand_library_calls(loop::Kernel& kernel);

}  // namespace weft::compiler
