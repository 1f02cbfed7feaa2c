#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "compiler/loop/expr.h"
#include "runtime/plan/tensor_map.h"

namespace weft::loop {

/// How tensor copies of a GPU see an argument of a kernel: boxes at coordinates, of which what lies
/// outside of the extents is zeros. Axes are innermost first. In shared memory a box is dense, its
/// innermost axis along memory.
struct TensorView {
  const Buffer* buffer = nullptr;     ///< an argument
  std::int64_t offset = 0;            ///< of coordinates 0, elements
  std::vector<std::int64_t> extents;  ///< 1 to 5 axes
  std::vector<std::int64_t> strides;  ///< elements from one to the next; the first is 1
  std::vector<std::int64_t> box;      ///< elements along each axis
  /// Of each eight rows of 128 bytes, piece p of 16 bytes of row r lies at piece p ^ r, as group
  /// products read them. The box's innermost axis is such a row then.
  bool exchanged = false;

  std::int64_t box_bytes() const;  ///< of a whole box, wherever it lies
};

/// Why no GPU takes the view, or nothing where it does.
std::optional<std::string> refusal(const TensorView& view);
/// The same for the runtime.
plan::TensorMap tensor_map(const TensorView& view);

}  // namespace weft::loop
