#pragma once

#include <functional>

#include "compiler/compile.h"

namespace weft::detail {

/// Sees what was compiled, with its kernels in the loop language, before it is loaded: tests
/// without a GPU have kernels interpreted in place of one. Not while programs are compiled.
using LoadHook = std::function<void(const compiler::Compilation& compilation)>;
LoadHook& load_hook();

}  // namespace weft::detail
