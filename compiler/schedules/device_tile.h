#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "compiler/schedules/emitter.h"

/// Tiles of operands on their way to the shared memory of a GPU's block.
namespace weft::compiler {

/// Whether `e` is known to be a multiple of `n`.
bool is_multiple(loop::Ex e, std::int64_t n);

/// Whether the neighbours along `lane`, a variable in [0, width), may be accessed together: every
/// load in `e` that moves by one element with it starts at a multiple of the access.
bool lanes_are_aligned(loop::Arena& a, loop::Ex e, loop::Ex lane, std::int64_t width);

/// A matrix operand: element (free, depth) of a batch; depth is the axis that is contracted.
struct TiledOperand {
  std::string name;
  std::int64_t batches = 1;
  std::int64_t free = 1;
  std::int64_t depth = 1;
  /// The element, from any emitter of the group.
  std::function<loop::Ex(GroupEmitter& emitter, loop::Ex batch, loop::Ex free, loop::Ex depth)>
      value;
};

/// How a tile lies in shared memory.
enum class TileOrder : std::uint8_t {
  as_stored,   ///< the axis that is contiguous in memory is contiguous in the tile
  free_inner,  ///< neighbours along the free axis
  depth_inner
};

struct TileShape {
  DType storage;  ///< of the elements in shared memory
  std::int64_t free = 0;
  std::int64_t depth = 0;
  std::int64_t stages = 1;   ///< tiles that are there at once
  std::int64_t threads = 0;  ///< that fill one, all of a block
  TileOrder order = TileOrder::as_stored;
  std::int64_t padding_bytes = 16;  ///< between rows, so that neighbours are in different banks
  /// In place of padding: blocks of rows of 128 bytes (16-bit elements, 64 to a row), in which the
  /// pieces of 16 bytes of row r are exchanged by exclusive or with r modulo 8.
  bool exchanged = false;
};

/// Fills tiles: what lies in memory as it is wanted goes by asynchronous copies of up to 16 bytes,
/// the rest (other types, values that are computed, single elements) through registers, which
/// start() fills and finish() empties, so that loads are under way in between. Past the end of the
/// contracted axis elements are zero, past the end of the free one they are some of the operand's.
class TileLoader {
 public:
  /// Where an operand's tiles come from.
  struct Route {
    bool depth_inner = true;  ///< neighbouring elements of a chunk are along the contracted axis
    bool copies = false;      ///< asynchronous
    std::int64_t width = 1;   ///< elements of a chunk
  };
  static Route route(GroupEmitter& emitter, const TiledOperand& operand, DType storage,
                     TileOrder order);

  TileLoader(GroupEmitter& emitter, TiledOperand operand, const TileShape& shape);

  bool copies() const { return route_.copies; }
  bool depth_inner() const { return depth_inner_; }  ///< in shared memory
  const loop::Buffer* buffer() const { return buffer_; }
  std::int64_t pitch() const { return pitch_; }
  std::int64_t stage_elements() const { return stage_elements_; }
  /// The first element of a stage.
  loop::Ex stage(loop::Ex number) const;
  /// Element (free, depth) of a tile, from its first on.
  loop::Ex within(loop::Ex free, loop::Ex depth) const;
  std::int64_t within(std::int64_t free, std::int64_t depth) const {
    return depth_inner_ ? free * pitch_ + depth : depth * pitch_ + free;
  }

  /// `free` and `depth`: the tile's first, multiples of its extents. All threads call it.
  void start(loop::Ex stage, loop::Ex batch, loop::Ex free, loop::Ex depth, loop::Ex thread);
  void finish(loop::Ex stage, loop::Ex thread);

 private:
  struct Chunk {
    std::int64_t number;  ///< of the thread
    loop::Ex outer;       ///< in the tile, of the axis that chunks do not lie along
    loop::Ex inner;       ///< the chunk's number along the other
  };
  void for_chunks(loop::Ex thread, const std::function<void(const Chunk& chunk)>& body);
  std::int64_t per_thread() const;

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  TiledOperand operand_;
  TileShape shape_;
  Route route_;
  bool depth_inner_;
  std::int64_t pitch_ = 0;
  std::int64_t stage_elements_ = 0;
  const loop::Buffer* buffer_ = nullptr;
  const loop::Buffer* held_ = nullptr;  ///< registers between start() and finish()
};

}  // namespace weft::compiler
