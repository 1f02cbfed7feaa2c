#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "compiler/schedules/matrix_unit.h"
#include "compiler/schedules/tno_lines.h"
#include "compiler/schedules/tno_tiling.h"

/// What passes through a block's shared memory while its warps multiply sequences by their
/// channels' Toeplitz matrices on matrix units (tno_direct.cpp).
namespace weft::compiler {

/// Where a block and a thread of it are.
struct TnoPlace {
  loop::Ex thread, warp;
  /// What comes through registers is waited for by one half of the warps while the other half
  /// multiplies: half 0 brings its part first. Each has warps of all four schedulers.
  loop::Ex half, number;           ///< of the thread, in its half
  loop::Ex batch, group, channel;  ///< the block's first row of the batch and channel
};

/// At least `size`, and `rest` modulo the 32 banks.
std::int64_t with_rest(std::int64_t size, std::int64_t rest);

/// The sequences: tiles of `points` positions of 8 columns. Memory has neighbouring channels side
/// by side, a fragment neighbouring positions of one channel: tiles come as they are (raw), by
/// asynchronous copies where memory has just what is multiplied, and are then transposed.
class TnoSequences {
 public:
  using Ex = loop::Ex;

  /// How a node's operand comes to shared memory.
  struct Route {
    bool copies = false;    ///< asynchronous
    bool together = false;  ///< eight channels are loaded as vectors
  };
  static Route route(GroupEmitter& emitter, std::size_t operand, bool reverse);

  TnoSequences(GroupEmitter& emitter, TnoLines& lines, std::size_t operand, bool reverse,
               const TnoTiling& tiling);

  /// 32-bit words for two tiles, raw and transposed.
  std::int64_t words() const { return 4 * tile_words_; }
  void set_memory(const loop::Buffer* memory) { memory_ = memory; }

  /// Whether fill() leaves the work to asynchronous copies: commit() makes a group of those since
  /// the last, wait() waits until at most so many groups are under way.
  bool copies() const { return route_.copies; }
  void commit();
  void wait(std::int64_t under_way);
  /// A tile's positions from `first` on (of column 0; others are shifted), some of which may not
  /// exist, to raw tile 0 or 1.
  void fill(MatrixUnit& unit, const TnoPlace& place, Ex tile, Ex first);
  /// A raw tile, which all threads see, to the transposed one of that number.
  void transpose(MatrixUnit& unit, const TnoPlace& place, Ex tile);
  /// Of the warp's channel, for each 16 positions of a transposed tile.
  std::vector<MatrixUnit::Columns> fragments(MatrixUnit& unit, const TnoPlace& place, Ex tile);

 private:
  /// Eight channels of a position.
  struct Piece {
    Ex half, position, column;
  };
  void for_pieces(const TnoPlace& place, const std::function<void(const Piece& piece)>& body);
  std::int64_t per_thread() const;
  /// Where a piece comes from, somewhere else where it is not `inside`.
  struct Source {
    Ex inside, row, position, piece;
  };
  Source source(const TnoPlace& place, Ex first, const Piece& piece);
  Ex value(Ex row, Ex channel, Ex position, Ex inside);
  Ex raw(Ex tile, Ex column, Ex position, Ex half);
  Ex transposed(Ex tile, Ex channel, Ex column, Ex run);

  loop::Arena& a_;
  loop::Builder& b_;
  TnoLines& lines_;
  const TnoExtents& e_;
  std::size_t operand_;
  bool reverse_;
  TnoTiling tiling_;
  Route route_;
  std::int64_t halves_;  ///< pieces of eight channels
  std::int64_t tile_words_;
  const loop::Buffer* memory_ = nullptr;
  const loop::Buffer* values_ = nullptr;  ///< of a piece on its way, in registers
  const loop::Buffer* quad_ = nullptr;    ///< four words
};

/// The coefficients, as pairs t_lag, t_(lag-1), of which a thread needs one for each 8 diagonals of
/// a tile of the matrix: blocks of `points` lags in a ring. A tile has `window()` of them.
class TnoLags {
 public:
  using Ex = loop::Ex;

  TnoLags(GroupEmitter& emitter, TnoLines& lines, const TnoTiling& tiling);

  std::int64_t window() const { return window_; }
  std::int64_t words() const { return tiling_.channels * pitch_; }

  /// Before the first tile: block 0 is in slot 0.
  void begin(MatrixUnit& unit, const TnoPlace& place);
  /// The block of lags from `first` on, which may not exist: loads the half's part of its
  /// coefficients, and stores it as block `number` of the first tile's window.
  void load(const TnoPlace& place, Ex first, std::int64_t number);
  void store(MatrixUnit& unit, const TnoPlace& place, std::int64_t number);
  /// The same for the block after the window.
  void bring_next(MatrixUnit& unit, const TnoPlace& place, Ex first);
  /// The next tile: the window's first block is the one after.
  void advance();
  /// Where the warp's lanes find the window's blocks, until it is advanced.
  void look();
  /// The pair of lag 8 `eighth` + lane / 4 - 2 (lane % 4) from the window's first lag on.
  Ex pair(std::int64_t eighth);

 private:
  /// Four lags of a channel.
  void for_piece(const TnoPlace& place, const std::function<void(Ex channel, Ex lags)>& body);
  Ex coefficient(const TnoPlace& place, Ex lag, Ex channel);
  void store(MatrixUnit& unit, const TnoPlace& place, std::int64_t held, Ex slot);
  Ex next_slot();

  loop::Arena& a_;
  loop::Builder& b_;
  TnoLines& lines_;
  const TnoExtents& e_;
  TnoTiling tiling_;
  std::int64_t window_;
  std::int64_t slot_;   ///< words of a block: with the lags before it, which lanes reach as well
  std::int64_t pitch_;  ///< words of a channel
  const loop::Buffer* memory_;
  const loop::Buffer* held_;  ///< registers between load() and store(), for each block
  const loop::Buffer* quad_;
  std::vector<loop::Accumulator*> slots_;  ///< where the lane finds the window's blocks
  loop::Accumulator* next_ = nullptr;      ///< the slot of the one after them
  std::vector<Ex> seen_;
  Ex lane_ = nullptr;
};

}  // namespace weft::compiler
