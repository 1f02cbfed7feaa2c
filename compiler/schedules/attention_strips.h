#pragma once

#include <cstdint>
#include <functional>

#include "compiler/schedules/attention_device.h"
#include "compiler/schedules/tile_pipeline.h"

namespace weft::compiler {

/// What attention and its gradients on a GPU have in common, whatever multiplies: a block has a
/// strip of rows of one side, queries or keys, and tiles of the other side's rows that see them
/// pass.
class AttentionStrips {
 protected:
  using Ex = loop::Ex;

  explicit AttentionStrips(GroupEmitter& emitter);

  /// A launch for the strips of `rows` rows; `body` emits what a thread of batch_, first_ and
  /// thread_ does. `backwards`: the last strips begin first, as those of queries that see most keys
  /// should.
  void phase(std::int64_t rows, std::int64_t strip, std::int64_t threads, bool backwards,
             const std::function<void()>& body);
  /// Tiles of the other side's `rows` rows, `tile` in a turn, of two matrices.
  TilePipeline passing(TileLoader& first, TileLoader& second, std::int64_t rows, std::int64_t tile,
                       const TilePipeline::Depth& turns);

  /// Tiles of keys that a strip of queries sees.
  Ex key_tiles(std::int64_t strip, std::int64_t tile);
  /// The first tile of queries that sees a key of the strip.
  Ex first_query_tile(std::int64_t tile);

  /// What the gradients of a query's scores are made of.
  struct Statistics {
    Ex normaliser;  ///< log2 of the softmax's denominator
    Ex delta;
  };
  Statistics statistics(Ex query);

  /// A warp's rows from `first_row` on of a result of `rows` by `columns`; each value through
  /// `finish`.
  void store(AttentionProducts& products, const WarpSums& sums, Ex first_row, std::uint32_t result,
             std::int64_t rows, std::int64_t columns,
             const std::function<Ex(Ex value, std::size_t fragment, std::size_t half)>& finish);

  Ex real(double value) { return a_.constant(loop::Scalar::f32, value); }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  AttentionExtents x_;
  AttentionDevice device_;
  AttentionMask mask_;
  Ex batch_ = nullptr, first_ = nullptr;  ///< the block's batch, and the first row of its strip
  Ex thread_ = nullptr;
};

}  // namespace weft::compiler
