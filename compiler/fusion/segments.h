#pragma once

#include "compiler/fusion/fuse.h"

namespace weft::compiler {

/// Merges items of a region whose kernels do not depend on each other into segmented ones, which
/// run as one launch: small kernels, for which a launch costs about as much as their work, and the
/// updates at the end of a step (clipping, optimisers) over all parameters. Order stays one that
/// dependences allow.
void merge_segments(FusedRegion& region);

}  // namespace weft::compiler
