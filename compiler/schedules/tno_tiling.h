#pragma once

#include <cstdint>

#include "compiler/schedules/tno_lines.h"

namespace weft::compiler {

/// How the Toeplitz operator as a product of matrices is laid on a GPU's blocks (tno_direct.cpp).
struct TnoTiling {
  static constexpr std::int64_t fragment = 16;  ///< rows and columns of a fragment of the matrix
  static constexpr std::int64_t columns = 8;    ///< sequences that a fragment is multiplied with

  std::int64_t rows = 64;      ///< of the matrix, which a block has for each column: 16, ... 256
  std::int64_t points = 64;    ///< columns of the matrix that pass together: 32 or 64
  std::int64_t channels = 16;  ///< 8 or 16, a warp each
  /// Strips of rows beside each other for which a fragment is used: where the batch does not fill
  /// the columns, shifted parts of its sequences do. Column c has row c / shifts of the batch.
  std::int64_t shifts = 1;

  std::int64_t threads() const { return 32 * channels; }
  std::int64_t batch() const { return columns / shifts; }  ///< rows of the batch that a block has
  /// Strips of all columns together, into which the rows are cut.
  std::int64_t strips(const TnoExtents& e) const;
  /// Tiles of `points` positions that a strip passes over.
  std::int64_t tiles(const TnoExtents& e, std::int64_t strip) const;
};

/// Cycles of a multiprocessor that the operator, or its gradient for x, is expected to take: as
/// products, and by transforms. What is counted stands in docs/kernels.md.
double tno_cycles(const TnoExtents& e, const TnoTiling& tiling, std::int64_t processors);
double tno_transform_cycles(const TnoExtents& e, std::int64_t element_bytes,
                            std::int64_t processors);

/// The tiling that is expected to take the least time. `copies`: sequences come by asynchronous
/// copies, so that threads have registers for the largest one.
TnoTiling tno_tiling(const TnoExtents& e, std::int64_t processors, bool copies);

}  // namespace weft::compiler
