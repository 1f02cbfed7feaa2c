#pragma once

#include "compiler/schedules/schedule.h"

namespace weft::compiler {

/// Whether the Toeplitz operator, or its gradient for x (also that part of tno_gradients), may be
/// one product of matrices for each channel on a GPU: 16-bit types.
bool tno_may_be_direct(const ir::Node& node, const DeviceOptions& options);
/// Whether it may, and is counted to be faster so than by transforms.
bool tno_is_direct(const ir::Node& node, const DeviceOptions& options);
/// The phase for tno, tno_gradient_x, and that part of tno_gradients.
void emit_tno_direct(GroupEmitter& emitter, const DeviceOptions& options);

}  // namespace weft::compiler
