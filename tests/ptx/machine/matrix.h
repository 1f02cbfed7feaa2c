#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

// What the matrix instructions of a warp and of a warp group mean, on plain arrays.
//
// Products are exact and sums are taken in f32, one fused multiply-add after the other in the order
// of k, beginning with the accumulator. The PTX ISA leaves order and rounding open ("the
// accumulation order, rounding and handling of subnormal inputs are unspecified"): hardware adds
// the products of several k at once in a wider fixed-point sum and truncates. Results agree to
// within the rounding of a sum of k + 1 terms, and to the bit where every partial sum can be
// represented.

namespace weft::ptx {

/// One 32-bit register of the 32 threads of a warp.
using Lanes = std::array<std::uint32_t, 32>;

/// The type of A's and B's elements; accumulators are f32. Of a tf32 element, which fills 32 bits,
/// the low 13 bits are ignored.
enum class Element { f16, bf16, tf32 };

/// d = a * b + c, of the shape m16n8k(k): k is 8 or 16 for f16 and bf16, 4 or 8 for tf32. `a` has
/// k / 4 (tf32: k / 2) registers, `b` half as many, `c` and `d` four; `d` may be any of the others.
/// Throws std::invalid_argument of another shape or number of registers.
void mma(Element element, int k, std::span<const Lanes* const> a, std::span<const Lanes* const> b,
         std::span<const Lanes* const> c, std::span<Lanes* const> d);

/// Loads 1, 2 or 4 matrices of 8 x 8 elements of 16 bits, one into each register of `d`. Lanes
/// 8 i to 8 i + 7 hold the addresses (offsets into `shared`) of the eight rows of matrix i.
/// Throws std::invalid_argument of an address that is no multiple of 16, std::out_of_range of one
/// outside of `shared`.
void ldmatrix(int matrices, bool transposed, std::span<const std::byte> shared,
              const Lanes& addresses, std::span<Lanes* const> d);

/// A wgmma of shape m64n(columns)k16, for tf32 k8. Transposed operands lie in shared memory with
/// the axis of rows (of A) or columns (of B) innermost (only f16 and bf16); scales are 1 or -1.
struct GroupProduct {
  Element element = Element::f16;
  int columns = 8;
  bool a_transposed = false;
  bool b_transposed = false;
  /// False: the sums' old values are not read.
  bool scale_d = true;
  int scale_a = 1;
  int scale_b = 1;
};

/// sums = scale_a * A * scale_b * B (+ sums). `sums` are [warp of 4][register of columns / 2], A
/// and B lie in `shared` as their descriptors say. Throws std::invalid_argument, std::out_of_range.
void group_product(const GroupProduct& what, std::span<const std::byte> shared,
                   std::uint64_t descriptor_a, std::uint64_t descriptor_b,
                   std::span<Lanes* const> sums);

/// The same with A in registers, [warp of 4][register of 4].
void group_product_registers(const GroupProduct& what, std::span<const std::byte> shared,
                             std::span<const Lanes* const> a, std::uint64_t descriptor_b,
                             std::span<Lanes* const> sums);

}  // namespace weft::ptx
