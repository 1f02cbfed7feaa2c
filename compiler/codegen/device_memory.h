#pragma once

/// The address spaces of NVPTX. Included by compiler/codegen/*.cpp only.
namespace weft::compiler {

inline constexpr unsigned global_memory = 1;
inline constexpr unsigned shared_memory = 3;

}  // namespace weft::compiler
