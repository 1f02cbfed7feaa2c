#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "compiler/schedules/attention_strips.h"

namespace weft::compiler {

/// What the gradients of attention on a GPU's matrix units have in common, whichever instructions
/// multiply: a phase for queries and one for keys and values, gradients of scores, and how sums are
/// stored.
class AttentionGradient : protected AttentionStrips {
 protected:
  /// How blocks are made, of either side.
  struct Layout {
    std::int64_t strip = 0;  ///< rows of a block
    std::int64_t tile = 0;   ///< rows that pass together
    std::int64_t threads = 0;
    TilePipeline::Depth turns = {};
    bool exchanged = false;  ///< as in TileShape
  };
  /// Of a block's side, whose products are scores and what the scores' gradients are made of, and
  /// of the side that passes.
  struct Tiles {
    TileLoader own, own_second, passing, passing_second;
  };

  using AttentionStrips::AttentionStrips;

  /// Phases for those sides whose gradients are wanted.
  void run(const std::function<void(Tiles& tiles)>& of_queries,
           const std::function<void(Tiles& tiles)>& of_keys);
  /// Passes over tiles [begin, end) of the other side's `rows` rows: `body(first row, number,
  /// stage)`.
  void pass(Tiles& tiles, std::int64_t rows, Ex begin, Ex end,
            const std::function<void(Ex first, Ex number, Ex stage)>& body);

  /// Probability and the score's gradient but for the scale, from the sums of both products.
  /// `visible`: null where it is known.
  std::array<Ex, 2> pair(Ex score, Ex centred, const Statistics& of, Ex visible = nullptr);
  /// A warp's rows from `first_row` on of a result of `rows` by `columns`.
  void store(AttentionProducts& products, const WarpSums& sums, Ex first_row, std::uint32_t result,
             std::int64_t rows, std::int64_t columns, double factor);

  Layout layout_ = {};  ///< to be set before run()

 private:
  Ex exp2(Ex x) { return b_.call(loop::intrinsic("fast_exp2"), {b_.let(x)})[0]; }
};

}  // namespace weft::compiler
