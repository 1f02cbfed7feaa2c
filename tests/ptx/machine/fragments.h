#pragma once

#include "tests/ptx/machine/matrix.h"

// Where the elements of a matrix are among the registers of a warp: the PTX ISA's figures of
// fragments, "Matrix Fragments for mma.m16n8k4 / .m16n8k8 / .m16n8k16" and "Register Fragments" of
// wgmma. The index of an element is the one of those sections: a0, a1, ... low bits of the first
// register first, so a register holds elements 2 r and 2 r + 1, of tf32 element r alone.

namespace weft::ptx {

struct Position {
  int row = 0;
  int column = 0;
  bool operator==(const Position&) const = default;
};

/// Elements in a register.
constexpr int packed(Element element) { return element == Element::tf32 ? 1 : 2; }

/// The element of A (16 rows, k columns) that is a[index] of a lane. The same for wgmma's A in
/// registers, whose warp w holds rows 16 w to 16 w + 15.
constexpr Position fragment_a(Element element, int lane, int index) {
  const int group = lane / 4;
  const int thread = lane % 4;
  if (element == Element::tf32) return {group + 8 * (index & 1), thread + 4 * (index >> 1)};
  return {group + 8 * (index >> 1 & 1), 2 * thread + (index & 1) + 8 * (index >> 2)};
}

/// The element of B (k rows, 8 columns) that is b[index] of a lane.
constexpr Position fragment_b(Element element, int lane, int index) {
  const int group = lane / 4;
  const int thread = lane % 4;
  if (element == Element::tf32) return {thread + 4 * index, group};
  return {2 * thread + (index & 1) + 8 * (index >> 1), group};
}

/// The element of C and D (16 rows, any number of columns) that register `index` of a lane holds.
constexpr Position fragment_sum(int lane, int index) {
  return {lane / 4 + 8 * (index >> 1 & 1), 8 * (index >> 2) + 2 * (lane % 4) + (index & 1)};
}

/// The element of an 8 x 8 matrix that is in the low (0) or high (1) half of a lane's register
/// after ldmatrix without .trans; with .trans, row and column change places.
constexpr Position fragment_loaded(int lane, int half) { return {lane / 4, 2 * (lane % 4) + half}; }

}  // namespace weft::ptx
