#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "compiler/schedules/device_tile.h"

namespace weft::compiler {

/// Tiles that pass through the stages of a block's shared memory, one of each operand a turn, asked
/// for some turns before their own.
class TilePipeline {
 public:
  using Ex = loop::Ex;

  struct Depth {
    std::int64_t stages;  ///< tiles of an operand that shared memory holds
    /// Turns from asking for a tile to its own: at most stages - 1, and one less where products of
    /// a turn may read its tile until those of the next have been waited for.
    std::int64_t ahead;
    bool group_products = false;  ///< read the tiles, not the threads
  };

  /// `start(number, stage)` asks for the `number`th tile of each of `operands`, which must outlive
  /// this.
  TilePipeline(loop::Builder& builder, std::vector<TileLoader*> operands, const Depth& depth,
               Ex thread, std::function<void(Ex number, Ex stage)> start);

  /// A tile that is there from the first turn on, at (`free`, 0). Before fill().
  void keep(TileLoader& tile, Ex batch, Ex free);
  /// Asks for the first of the tiles [begin, end).
  void fill(Ex begin, Ex end);
  /// The beginning of a turn: its tiles are there, and nobody reads the stage that is filled next.
  void arrive();
  /// The rest of it: `body` computes while the tile that is `ahead` comes.
  void compute(Ex number, const std::function<void()>& body);
  /// fill() and all turns.
  void run(Ex begin, Ex end, const std::function<void(Ex number)>& body);
  /// Until no copy is under way: at a block's end, where there may have been no turn.
  void drain();

  /// Of the tile of this number.
  Ex stage(Ex number);

 private:
  void finish(Ex number);
  void commit();
  void wait(std::int64_t under_way);

  loop::Builder& b_;
  loop::Arena& a_;
  std::vector<TileLoader*> operands_;
  Depth depth_;
  Ex thread_;
  std::function<void(Ex number, Ex stage)> start_;
  bool any_copied_, all_copied_;
  Ex end_ = nullptr;
};

}  // namespace weft::compiler
