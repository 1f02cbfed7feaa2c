#pragma once

#include "compiler/compile.h"
#include "runtime/executable.h"
#include "runtime/roof.h"

namespace weft::detail {

/// The roof of this machine with so many threads: measured once, then known to the process, and to
/// other ones by the cache on disk, under the machine's name.
const runtime::Roof& roof_of(int threads);

/// Puts what the executable's kernels took, where it was profiled, into the reports of the
/// compilation that it was made of.
void add_times(compiler::Compilation& compilation, const runtime::Executable& executable);

}  // namespace weft::detail
