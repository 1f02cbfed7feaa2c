#pragma once

#include "compiler/schedules/emitter.h"

namespace weft::compiler {

/// The accumulators of one reduction's result: two for a complex sum.
struct Reducer {
  loop::Accumulator* re = nullptr;
  loop::Accumulator* im = nullptr;
};

/// How a reduction (sum, max, min) combines its terms.
loop::Combine combine_of(const ir::Node& node);
/// What a reduction of nothing gives.
loop::Ex identity_of(loop::Arena& arena, loop::Combine combine, loop::Scalar type);

Reducer declare(GroupEmitter& emitter, const ir::Node& node);
void accumulate(GroupEmitter& emitter, const Reducer& reducer, const ops::Element& element);
ops::Element read(GroupEmitter& emitter, const Reducer& reducer);

/// The type in memory that holds a register's value exactly.
DType storage_of(loop::Scalar scalar);

}  // namespace weft::compiler
