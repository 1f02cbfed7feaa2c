#pragma once

#include <cstdint>

#include "tests/ptx/machine/matrix.h"

namespace weft::ptx {

/// Sums of 16 rows and 8 columns as a warp holds them: four registers of f32, see fragment_sum().
using TileSums = Lanes* const*;

/// sums += A * B over k = 0 .. extent - 1 in this order, each step one fused multiply-add.
/// a[half][k][lane]: A's element of row lane / 4 + 8 half; b[parity][k][thread]: B's element of
/// column 2 thread + parity.
void multiply_tile(int extent, const float* a, const float* b, TileSums sums);

/// `count` elements of 16 bits (f16 or bf16) as f32, exactly.
void widen(Element element, int count, const std::uint16_t* from, float* to);

}  // namespace weft::ptx
