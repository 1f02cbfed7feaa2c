#pragma once

#include <cstdint>

#include "compiler/schedules/tno_lines.h"

namespace weft::compiler {

/// How the gradient of the Toeplitz operator for its coefficients, by matrix units
/// (tno_direct_gradient.cpp says which products these are), is laid on a GPU's blocks and their
/// shared memory; and what it takes. The order of sums depends on the shapes alone.
struct TnoGradientLayout {
  /// Channels of a block: half a sector of 16-bit elements, whose other half is the neighbouring
  /// block's. Whole sectors would leave no memory for the next rows of the batch.
  static constexpr std::int64_t channels = 8;
  static constexpr std::int64_t rows = 16;              ///< of a product
  static constexpr std::int64_t columns = 8;            ///< and positions in a half of its steps
  static constexpr std::int64_t lags = rows * columns;  ///< of a product's sums
  static constexpr std::int64_t half = lags / 2;        ///< between the halves of the steps
  static constexpr std::int64_t classes = half / columns;
  /// Fragments of the shifted operand that stay in registers while those of the other pass.
  static constexpr std::int64_t kept_fragments = 8;
  static constexpr std::int64_t margin = 4;  ///< words before position 0

  std::int64_t fragments;        ///< of 128 positions, and of as many lags
  std::int64_t warps;            ///< of a channel
  std::int64_t row_parts = 1;    ///< of the batch
  std::int64_t chunk = 1;        ///< rows of the batch in a part
  std::int64_t class_parts = 1;  ///< of the classes
  std::int64_t together = 1;     ///< rows of the batch in a stage
  std::int64_t stages = 0;       ///< 2: one is brought while another is multiplied
  // Words of a row of the batch and a channel: pairs of neighbours of the one operand, then of the
  // other those that begin at even positions and at odd ones.
  std::int64_t even_at;
  std::int64_t odd_at;
  std::int64_t pitch;

  TnoGradientLayout(const TnoExtents& e, std::int64_t shared_bytes);

  /// Whether a block has registers and shared memory for it.
  bool fits() const;
  std::int64_t stage_words() const { return together * channels * pitch; }
  std::int64_t parts() const { return row_parts * class_parts; }
  std::int64_t threads() const;
  std::int64_t warp_classes() const { return classes / class_parts / warps; }
  /// Classes that a warp multiplies in a stage.
  std::int64_t turns() const { return together * warp_classes(); }
  std::int64_t lags_padded() const { return lags * fragments; }

  /// Of an H100 (docs/kernels.md) for all of it, and for the convolution that gives the same;
  /// `both`: for what it takes longer than the gradient for x alone.
  double cycles(const TnoExtents& e) const;
  static double cycles_of_transforms(const TnoExtents& e, bool both);

 private:
  void choose_parts(const TnoExtents& e);
  void choose_stages(std::int64_t shared_bytes);
};

}  // namespace weft::compiler
