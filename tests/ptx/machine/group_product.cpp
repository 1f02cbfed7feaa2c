#include <fmt/format.h>

#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "tests/ptx/machine/fragments.h"
#include "tests/ptx/machine/matrix.h"
#include "tests/ptx/machine/matrix_descriptor.h"
#include "tests/ptx/machine/tile_product.h"

namespace weft::ptx {

namespace {

constexpr int kRows = 64;
constexpr int kWarps = 4;
/// Of the innermost axis of a chunk of 16 bytes, the largest.
constexpr int kChunk = 8;
constexpr int kMaximumDepth = 16;
constexpr int kMaximumColumns = 256;

int depth(Element element) { return element == Element::tf32 ? 8 : 16; }

void check(const GroupProduct& what, std::size_t sums) {
  if (what.columns < 8 || what.columns > kMaximumColumns || what.columns % 8 != 0) {
    throw std::invalid_argument(
        fmt::format("wgmma: there is no shape m64n{}k{}", what.columns, depth(what.element)));
  }
  if (what.element == Element::tf32 && (what.a_transposed || what.b_transposed)) {
    throw std::invalid_argument("wgmma: only operands of f16 and bf16 may be transposed");
  }
  if (std::abs(what.scale_a) != 1 || std::abs(what.scale_b) != 1) {
    throw std::invalid_argument(
        fmt::format("wgmma: scales {} and {}, not 1 or -1", what.scale_a, what.scale_b));
  }
  const auto expected = static_cast<std::size_t>(kWarps * what.columns / 2);
  if (sums != expected) {
    throw std::invalid_argument(fmt::format("wgmma: {} registers of sums, not {}", sums, expected));
  }
}

/// Reads an operand of `extent` rows (of A) or columns (of B) in chunks of 16 bytes. place(mn, k)
/// says where in `to` an element belongs; elements of a chunk lie from its first one as those of
/// chunk 0.
template <class Place>
void read_operand(char name, const GroupProduct& what, bool mn_major, int extent,
                  std::span<const std::byte> shared, std::uint64_t bits, float* to,
                  const Place& place) {
  const MatrixDescriptor descriptor = decode_descriptor(bits);
  const int bytes = what.element == Element::tf32 ? 4 : 2;
  const int chunk = 16 / bytes;
  const int inner = mn_major ? extent : depth(what.element);
  const int outer = mn_major ? depth(what.element) : extent;
  std::array<int, kChunk> steps{};
  for (int e = 0; e < chunk; ++e) {
    steps[static_cast<std::size_t>(e)] = mn_major ? place(e, 0) : place(0, e);
  }
  std::uint16_t halves[kMaximumColumns * kMaximumDepth];
  for (int i = 0; i < outer; ++i) {
    for (int j = 0; j < inner; j += chunk) {
      const int mn = mn_major ? j : i;
      const int k = mn_major ? i : j;
      const std::uint32_t address = element_address(descriptor, bytes, mn_major, mn, k);
      if (address + std::uint64_t{16} > shared.size()) {
        throw std::out_of_range(fmt::format(
            "wgmma: descriptor {:#018x} of {}: the element of {} {}, k {} is at {:#x}, outside of "
            "{} bytes of shared memory",
            bits, name, name == 'A' ? "row" : "column", mn, k, address, shared.size()));
      }
      const int first = place(mn, k);
      if (bytes == 4) {
        std::array<std::uint32_t, 4> values{};
        std::memcpy(values.data(), shared.data() + address, 16);
        for (std::size_t e = 0; e < 4; ++e) {
          to[first + steps[e]] = std::bit_cast<float>(values[e] & 0xffffe000U);
        }
      } else {
        std::array<std::uint16_t, kChunk> values{};
        std::memcpy(values.data(), shared.data() + address, 16);
        for (std::size_t e = 0; e < kChunk; ++e) halves[first + steps[e]] = values[e];
      }
    }
  }
  if (bytes == 2) widen(what.element, inner * outer, halves, to);
}

/// A's elements of each warp as multiply_tile() wants them: from [warp][half][k][row of 8], each
/// four times; negated where the scales say so.
void spread_rows(const GroupProduct& what, const float* from, float* to) {
  const float scale = static_cast<float>(what.scale_a * what.scale_b);
  for (int i = 0; i < kRows * depth(what.element); ++i) {
    const float value = from[i] * scale;
    for (int thread = 0; thread < 4; ++thread) to[4 * i + thread] = value;
  }
}

int row_place(int extent, int row, int k) {
  return ((row / 16 * 2 + row / 8 % 2) * extent + k) * 8 + row % 8;
}

void multiply(const GroupProduct& what, std::span<const std::byte> shared, const float* a,
              std::uint64_t descriptor_b, std::span<Lanes* const> sums) {
  const int extent = depth(what.element);
  float rows[kRows * kMaximumDepth * 4];
  spread_rows(what, a, rows);
  // [group of eight columns][parity][k][thread]: column 8 group + 2 thread + parity.
  float columns[kMaximumColumns * kMaximumDepth];
  read_operand(
      'B', what, what.b_transposed, what.columns, shared, descriptor_b, columns,
      [extent](int n, int k) { return ((n / 8 * 2 + n % 2) * extent + k) * 4 + n / 2 % 4; });
  const auto registers = static_cast<std::size_t>(what.columns / 2);
  for (std::size_t warp = 0; warp < kWarps; ++warp) {
    const float* of_warp = rows + static_cast<std::ptrdiff_t>(warp) * 16 * extent * 4;
    for (std::size_t group = 0; group < registers / 4; ++group) {
      Lanes* const* to = &sums[warp * registers + group * 4];
      if (!what.scale_d) {
        for (int index = 0; index < 4; ++index) to[index]->fill(0);
      }
      multiply_tile(extent, of_warp, columns + static_cast<std::ptrdiff_t>(group) * 8 * extent, to);
    }
  }
}

}  // namespace

void group_product(const GroupProduct& what, std::span<const std::byte> shared,
                   std::uint64_t descriptor_a, std::uint64_t descriptor_b,
                   std::span<Lanes* const> sums) {
  check(what, sums.size());
  const int extent = depth(what.element);
  float a[kRows * kMaximumDepth];
  read_operand('A', what, what.a_transposed, kRows, shared, descriptor_a, a,
               [extent](int row, int k) { return row_place(extent, row, k); });
  multiply(what, shared, a, descriptor_b, sums);
}

void group_product_registers(const GroupProduct& what, std::span<const std::byte> shared,
                             std::span<const Lanes* const> a, std::uint64_t descriptor_b,
                             std::span<Lanes* const> sums) {
  check(what, sums.size());
  if (what.a_transposed || a.size() != kWarps * 4) {
    throw std::invalid_argument("wgmma: A in registers is 4 registers of 4 warps, not transposed");
  }
  const int extent = depth(what.element);
  const int each = packed(what.element);
  float rows[kRows * kMaximumDepth];
  for (int warp = 0; warp < kWarps; ++warp) {
    for (int index = 0; index < 4 * each; ++index) {
      const int held = 4 * warp + index / each;
      const Lanes& from = *a[static_cast<std::size_t>(held)];
      for (int lane = 0; lane < 32; ++lane) {
        const auto [row, k] = fragment_a(what.element, lane, index);
        const std::uint32_t bits = from[static_cast<std::size_t>(lane)];
        float& to = rows[row_place(extent, 16 * warp + row, k)];
        if (each == 1) {
          to = std::bit_cast<float>(bits & 0xffffe000U);
        } else {
          const auto half = static_cast<std::uint16_t>(bits >> 16 * (index % 2));
          widen(what.element, 1, &half, &to);
        }
      }
    }
  }
  multiply(what, shared, rows, descriptor_b, sums);
}

}  // namespace weft::ptx
