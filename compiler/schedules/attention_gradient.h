#pragma once

#include <array>
#include <cstdint>

#include "compiler/schedules/attention_device.h"

namespace weft::compiler {

/// What the gradients of attention on a GPU's matrix units have in common, whichever instructions
/// multiply: scores of what sees each other, their gradients, and how sums are stored.
class AttentionGradient {
 protected:
  using Ex = loop::Ex;

  explicit AttentionGradient(GroupEmitter& emitter);

  /// What scores and their gradients are made of.
  struct Statistics {
    Ex normaliser;  ///< log2 of the softmax's denominator
    Ex delta;
  };

  Ex real(double value) { return a_.constant(loop::Scalar::f32, value); }
  Statistics statistics(Ex query);
  /// Probability and the score's gradient but for the scale, from the sums of both products.
  /// `visible`: null where it is known.
  std::array<Ex, 2> pair(Ex score, Ex centred, const Statistics& of, Ex visible = nullptr);
  /// Whether a query sees a key; null where all do. `ragged`: some of the tile may not be there.
  Ex visible(Ex query, Ex key, bool ragged_queries, bool ragged_keys);
  /// Tiles of keys that a block of `strip` queries from first_ on sees.
  Ex key_tiles(std::int64_t strip, std::int64_t tile);
  /// The first tile of queries that sees a key of the block's.
  Ex first_query_tile(std::int64_t tile);
  /// A warp's rows from `first_row` on of a result of `rows` by `columns`.
  void store(AttentionProducts& products, const WarpSums& sums, Ex first_row, std::uint32_t result,
             std::int64_t rows, std::int64_t columns, double factor);

  loop::Arena& a_;
  loop::Builder& b_;
  AttentionExtents x_;
  AttentionDevice device_;
  Ex batch_ = nullptr, first_ = nullptr;  ///< the block's batch, and its first row

 private:
  Ex exp2(Ex x) { return b_.call(loop::intrinsic("fast_exp2"), {b_.let(x)})[0]; }
};

}  // namespace weft::compiler
