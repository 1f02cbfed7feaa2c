#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "compiler/schedules/dot_device.h"
#include "compiler/schedules/matrix_unit.h"

/// Products of f16 and bf16 by groups of four warps of sm_90a, whose operands are tiles in shared
/// memory: what is the same however the tiles get there.
namespace weft::compiler {

/// Threads of a group, and the rows of a result that it has.
inline constexpr std::int64_t group_threads = 128;
inline constexpr std::int64_t group_rows = 64;
/// Of the contracted axis: a tile's, which is a row of 128 bytes.
inline constexpr std::int64_t group_depth = 64;

struct GroupTiling : BlockTiling {
  std::int64_t width = 0;  ///< columns of an instruction

  std::int64_t groups() const { return rows / group_rows; }
  std::int64_t threads() const { return groups() * group_threads; }
};

/// The tiling that is expected to take the fewest cycles of the slowest multiprocessor, as counted
/// (docs/kernels.md); of no rows where none fits. `stages`: how many fit; 0 where a tiling is out
/// of the question. `copied`: a group of its own asks for tiles, those of a block's next part of
/// the result while it stores one.
GroupTiling choose_tiling(const DeviceProduct& product, bool copied,
                          const std::function<std::int64_t(const GroupTiling& tiling)>& stages);
/// Bytes of one stage, of all operands.
std::int64_t stage_bytes(const DeviceProduct& product, const GroupTiling& tiling);

/// A tile in shared memory: neighbours along the contracted axis in rows of 128 bytes, one row
/// after the other, or blocks of 64 by 64 with neighbours along the free axis in such rows. Pieces
/// are exchanged (TileShape::exchanged).
struct GroupTile {
  const loop::Buffer* buffer = nullptr;
  loop::Ex first = nullptr;
  bool depth_inner = true;
};

/// Of operands that a block has in stages.
template <typename Tiles>
std::vector<GroupTile> group_tiles(const std::vector<Tiles>& operands, loop::Ex stage) {
  std::vector<GroupTile> found;
  for (const Tiles& tiles : operands) {
    found.push_back({tiles.buffer(), tiles.stage(stage), tiles.depth_inner()});
  }
  return found;
}

/// The sums of a block's groups, in their registers, and where these are in the result.
class GroupSums {
 public:
  using Ex = loop::Ex;

  GroupSums(GroupEmitter& emitter, const DeviceProduct& product, DType type,
            const GroupTiling& tiling);

  /// `thread`: in [0, tiling.threads()), here and in all that follows.
  void enter(Ex thread);
  Ex lane() const { return lane_; }
  /// Zeros, from here to the end of the enclosing block of statements.
  void clear();
  /// Starts the products of one stage: a tile of rows and of columns, or one for each product.
  void multiply(std::span<const GroupTile> rows, std::span<const GroupTile> columns);
  /// Until at most so many multiply() are under way.
  void wait(std::int64_t under_way);
  void store(ProductParts& results, const TileGrid::Place& place);

 private:
  std::string name(const char* what) const { return what + std::to_string(tiling_.width); }
  // The sums of an instruction, by its number among those of all products.
  std::int64_t instructions() const {
    return product_.products() * tiling_.columns / tiling_.width;
  }
  std::vector<Ex> read(std::int64_t instruction);
  void assign(std::int64_t instruction, const std::vector<Ex>& values);

  loop::Arena& a_;
  loop::Builder& b_;
  const DeviceProduct& product_;
  DType type_;
  GroupTiling tiling_;
  std::optional<MatrixUnit> unit_;
  Ex thread_ = nullptr, group_ = nullptr, lane_ = nullptr;
  std::vector<loop::Accumulator*> sums_;
};

}  // namespace weft::compiler
