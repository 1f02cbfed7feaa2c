#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "tests/ptx/machine/matrix.h"

// Operands for tests of matrix instructions.

namespace weft::ptx {

/// A matrix of small integers, row-major: products and sums of them are exact in f32.
struct Integers {
  int rows = 0;
  int columns = 0;
  std::vector<int> values;

  Integers(int r, int c, unsigned seed) : rows(r), columns(c) {
    std::mt19937 random(seed);
    for (int i = 0; i < r * c; ++i) values.push_back(static_cast<int>(random() % 17) - 8);
  }
  int operator()(int row, int column) const {
    const int index = row * columns + column;
    return values[static_cast<std::size_t>(index)];
  }
};

/// The bits of a small integer (|value| < 256) as an element. tf32 gets low bits that do not count.
inline std::uint32_t element_bits(Element element, int value) {
  const auto single = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  switch (element) {
    case Element::tf32:
      return single | 0x1234;
    case Element::bf16:
      return single >> 16;
    case Element::f16:
      break;
  }
  if (value == 0) return 0;
  return (single >> 16 & 0x8000) | ((single >> 23 & 0xff) - 112) << 10 | (single >> 13 & 0x3ff);
}

inline int element_bytes(Element element) { return element == Element::tf32 ? 4 : 2; }

inline void store_element(std::vector<std::byte>& memory, std::size_t address, Element element,
                          int value) {
  const std::uint32_t bits = element_bits(element, value);
  std::memcpy(&memory.at(address), &bits, static_cast<std::size_t>(element_bytes(element)));
}

/// Registers as the machine passes them around.
template <class Pointer>
std::vector<Pointer> pointers(std::vector<Lanes>& registers) {
  std::vector<Pointer> all;
  for (Lanes& lanes : registers) all.push_back(&lanes);
  return all;
}

inline float as_float(const Lanes& lanes, int lane) {
  return std::bit_cast<float>(lanes[static_cast<std::size_t>(lane)]);
}

/// The same integer in each f32 of a register.
inline Lanes filled(float value) {
  Lanes lanes;
  lanes.fill(std::bit_cast<std::uint32_t>(value));
  return lanes;
}

}  // namespace weft::ptx
