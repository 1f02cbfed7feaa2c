#pragma once

#include <vector>

#include "compiler/loop/intrinsic.h"

/// Parts of the table of rows.
namespace weft::loop {

/// Tensor copies, the mbarriers that they report to, and registers that warps hand to each other.
std::vector<Intrinsic> tensor_copy_rows();

}  // namespace weft::loop
