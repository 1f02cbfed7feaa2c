#pragma once

#include "compiler/schedules/schedule.h"

namespace weft::compiler {

/// Whether the gradient of the Toeplitz operator for its coefficients (all of tno_gradient_t, a
/// half of tno_gradients) may be a sum of products on a GPU's matrix units: 16-bit types, sequences
/// that fit a block's shared memory.
bool tno_gradient_t_may_be_direct(const ir::Node& node, const DeviceOptions& options);
/// Whether it may, and is counted to take less so than by transforms.
bool tno_gradient_t_is_direct(const ir::Node& node, const DeviceOptions& options);

/// Adds the phases that compute it, which depend on none before. The order of each sum depends on
/// the shapes only.
void emit_tno_direct_gradient(GroupEmitter& emitter, const DeviceOptions& options);

}  // namespace weft::compiler
