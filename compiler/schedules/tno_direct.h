#pragma once

#include "compiler/schedules/schedule.h"

namespace weft::compiler {

/// Whether the Toeplitz operator is one product of matrices for each channel on a GPU: short
/// sequences of 16-bit types. Its gradients for the coefficients are convolutions at any length.
bool tno_is_direct(const ir::Node& node, const DeviceOptions& options);
void schedule_tno_direct(GroupEmitter& emitter, const DeviceOptions& options);

}  // namespace weft::compiler
