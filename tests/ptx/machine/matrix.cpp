#include "tests/ptx/machine/matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>

#include "tests/ptx/machine/fragments.h"
#include "tests/ptx/machine/tile_product.h"

namespace weft::ptx {

void mma(Element element, int k, std::span<const Lanes* const> a, std::span<const Lanes* const> b,
         std::span<const Lanes* const> c, std::span<Lanes* const> d) {
  const int each = packed(element);
  const bool fits = each == 1 ? k == 4 || k == 8 : k == 8 || k == 16;
  if (!fits) throw std::invalid_argument(fmt::format("mma: there is no shape m16n8k{}", k));
  const auto registers = static_cast<std::size_t>(16 * k / 32 / each);
  if (a.size() != registers || b.size() != registers / 2 || c.size() != 4 || d.size() != 4) {
    throw std::invalid_argument(
        fmt::format("mma: m16n8k{} has {}, {}, 4 and 4 registers, not {}, {}, {} and {}", k,
                    registers, registers / 2, a.size(), b.size(), c.size(), d.size()));
  }

  // The elements of a register: [element][lane].
  const auto unpack = [&](const Lanes& from, float(*to)[32]) {
    if (each == 1) {
      for (int lane = 0; lane < 32; ++lane) {
        to[0][lane] = std::bit_cast<float>(from[static_cast<std::size_t>(lane)] & 0xffffe000U);
      }
      return;
    }
    std::uint16_t halves[2][32];
    for (int lane = 0; lane < 32; ++lane) {
      const std::uint32_t bits = from[static_cast<std::size_t>(lane)];
      halves[0][lane] = static_cast<std::uint16_t>(bits);
      halves[1][lane] = static_cast<std::uint16_t>(bits >> 16);
    }
    widen(element, 64, halves[0], to[0]);
  };

  float values[2][32];
  float rows[2 * 16 * 32];
  for (int index = 0; index < static_cast<int>(registers) * each; ++index) {
    if (index % each == 0) unpack(*a[static_cast<std::size_t>(index / each)], values);
    for (int lane = 0; lane < 32; ++lane) {
      const auto [row, column] = fragment_a(element, lane, index);
      const float value = values[index % each][lane];
      float* to = rows + ((row / 8) * k + column) * 32 + row % 8 * 4;
      for (int thread = 0; thread < 4; ++thread) to[thread] = value;
    }
  }
  float columns[2 * 16 * 4];
  for (int index = 0; index < static_cast<int>(registers) / 2 * each; ++index) {
    if (index % each == 0) unpack(*b[static_cast<std::size_t>(index / each)], values);
    for (int lane = 0; lane < 32; ++lane) {
      const auto [row, column] = fragment_b(element, lane, index);
      columns[((column & 1) * k + row) * 4 + column / 2] = values[index % each][lane];
    }
  }
  Lanes sums[4];
  Lanes* to[4];
  for (std::size_t index = 0; index < 4; ++index) {
    sums[index] = *c[index];
    to[index] = &sums[index];
  }
  multiply_tile(k, rows, columns, to);
  for (std::size_t index = 0; index < 4; ++index) *d[index] = sums[index];
}

void ldmatrix(int matrices, bool transposed, std::span<const std::byte> shared,
              const Lanes& addresses, std::span<Lanes* const> d) {
  if ((matrices != 1 && matrices != 2 && matrices != 4) ||
      d.size() != static_cast<std::size_t>(matrices)) {
    throw std::invalid_argument(
        fmt::format("ldmatrix: {} matrices into {} registers", matrices, d.size()));
  }
  std::uint16_t loaded[4][8][8];
  for (int row = 0; row < 8 * matrices; ++row) {
    const std::uint32_t address = addresses[static_cast<std::size_t>(row)];
    if (address % 16 != 0) {
      throw std::invalid_argument(
          fmt::format("ldmatrix: lane {}: address {:#x} is no multiple of 16", row, address));
    }
    if (address + std::uint64_t{16} > shared.size()) {
      throw std::out_of_range(
          fmt::format("ldmatrix: lane {}: address {:#x} is outside of {} bytes of shared memory",
                      row, address, shared.size()));
    }
    std::memcpy(loaded[row / 8][row % 8], shared.data() + address, 16);
  }
  for (int matrix = 0; matrix < matrices; ++matrix) {
    Lanes& to = *d[static_cast<std::size_t>(matrix)];
    for (int lane = 0; lane < 32; ++lane) {
      std::uint32_t halves[2];
      for (int half = 0; half < 2; ++half) {
        auto [row, column] = fragment_loaded(lane, half);
        if (transposed) std::swap(row, column);
        halves[half] = loaded[matrix][row][column];
      }
      to[static_cast<std::size_t>(lane)] = halves[0] | halves[1] << 16;
    }
  }
}

}  // namespace weft::ptx
