#pragma once

#include <cstdint>
#include <vector>

#include "runtime/plan/type.h"

namespace weft::plan {

/// How bulk copies of a GPU see an argument of a kernel: boxes of it at coordinates; what of a box
/// lies outside of the extents is zeros. Axes are innermost first.
struct TensorMap {
  std::uint32_t argument = 0;  ///< of the kernel
  std::int64_t offset = 0;     ///< in its memory, bytes, a multiple of 16
  DType dtype = DType::f32;
  std::vector<std::int64_t> extents;  ///< elements, 1 to 5 axes
  /// Bytes from one to the next along each axis but the innermost; multiples of 16.
  std::vector<std::int64_t> strides;
  std::vector<std::int64_t> box;  ///< elements along each axis, at most 256
  /// Pieces of 16 bytes of rows of 128 bytes are exchanged (CU_TENSOR_MAP_SWIZZLE_128B).
  bool exchanged = false;

  bool operator==(const TensorMap&) const = default;
};

}  // namespace weft::plan
