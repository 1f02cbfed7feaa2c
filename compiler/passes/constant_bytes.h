#pragma once

#include <string>

#include "compiler/ir/graph.h"

namespace weft::compiler {

/// The bytes of a constant_data node's tensor, rounded to its type.
std::string constant_bytes(const ir::Node& node);

}  // namespace weft::compiler
