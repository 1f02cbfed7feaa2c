#pragma once

#include <cstdint>

#include "compiler/codegen/codegen.h"
#include "compiler/loop/kernel.h"

namespace weft::compiler {

/// Kernels whose speed is the machine's, and nothing but that: what other kernels are compared
/// with. Each has one phase; block i works on elements [i * roof_block, (i + 1) * roof_block) of
/// its arguments, which are of f32 and may have any number of blocks.
constexpr std::int64_t roof_block = 4096;
enum class RoofKernel : std::uint8_t {
  read,         ///< arguments: out (an element a block), x; the sum of x
  copy,         ///< arguments: out, x
  triad,        ///< arguments: out, x, y; out = x + 3 y
  multiply_add  ///< arguments: out, x (an element for all); nothing but fused multiply-adds
};
/// Floating-point operations of a block of multiply_add, an fma being two.
std::int64_t roof_operations(const HostTarget& target);
void build_roof_kernel(RoofKernel which, const HostTarget& target, loop::Kernel& kernel);

}  // namespace weft::compiler
