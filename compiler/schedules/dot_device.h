#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "compiler/schedules/device_store.h"
#include "compiler/schedules/device_tile.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/dot_product.h"
#include "compiler/schedules/matrix_unit.h"
#include "compiler/schedules/schedule.h"
#include "compiler/schedules/tile_pipeline.h"

/// What the schedules of matrix products on a GPU share.
namespace weft::compiler {

/// A product, or two that share an operand, as a GPU's blocks compute them: rows are the left
/// operand's free axes, columns the right one's.
struct DeviceProduct {
  DeviceProduct(GroupEmitter& emitter, const DeviceOptions& options);
  DeviceProduct(const DeviceProduct&) = delete;
  DeviceProduct& operator=(const DeviceProduct&) = delete;
  ~DeviceProduct() = default;

  Product p;
  std::vector<const ir::Node*> nodes;  ///< the products
  const ir::Node* operand_sum = nullptr;
  std::vector<TiledOperand> rows, columns;  ///< one, or one for each product
  std::int64_t shared_bytes;                ///< that a block may have
  std::int64_t processors;

  std::int64_t products() const { return static_cast<std::int64_t>(nodes.size()); }
};

/// What a block computes of each product, and in which steps.
struct BlockTiling {
  std::int64_t rows = 0, columns = 0;
  std::int64_t depth = 0;   ///< of the operands' tiles
  std::int64_t stages = 0;  ///< tiles of each operand that are in shared memory
  std::int64_t parts = 1;   ///< of the contracted axis
};

/// Blocks in an order in which neighbours in time share operands: (part, batch, row tile, column
/// tile) of a block.
struct TileGrid {
  TileGrid(const DeviceProduct& product, const BlockTiling& tiling);
  std::int64_t blocks() const { return grid.elements(); }
  struct Place {
    loop::Ex part, batch, row, column;
  };
  Place place(loop::Builder& b, loop::Ex block) const;

  Shape grid;
  std::int64_t together;  ///< row tiles
};

/// How the contracted axis is cut where results are few: each part is a block's, and a second phase
/// adds them up in order.
class ProductParts {
 public:
  using Ex = loop::Ex;

  /// Makes the workspace where there is more than one.
  ProductParts(GroupEmitter& emitter, const DeviceProduct& product, std::int64_t parts);

  /// Results of a row: elements [column, column + values.size() / products) of each product, the
  /// products one after the other. Those past the columns' end are left out.
  void store(Ex part, Ex batch, Ex row, Ex column, const std::vector<Ex>& values);
  /// A warp's sums on matrix units: `sums(product, row, column)` of fragments. `row` and `column`:
  /// the lane's first of the result, MatrixUnit::group() and neighbours_column() from the warp's.
  void store(MatrixUnit& unit, const TileGrid::Place& place, Ex row, Ex column,
             std::int64_t row_fragments, std::int64_t column_fragments,
             const std::function<MatrixUnit::Sums(std::int64_t product, std::int64_t row,
                                                  std::int64_t column)>& sums);
  /// The sum of the right operand, of a column.
  void store_sum(Ex part, Ex column, Ex value);
  /// The second phase.
  void add_up();

 private:
  void store_results(Ex batch, Ex row, Ex column, const std::vector<Ex>& values);
  Ex position(Ex part, std::int64_t product, Ex batch, Ex row, Ex column);

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const DeviceProduct& product_;
  std::int64_t parts_;
  std::int64_t part_elements_;
  std::int64_t width_;  ///< neighbouring columns that the outputs allow together
  RowStore rows_;
  const loop::Buffer* workspace_ = nullptr;
};

/// The contracted axis in steps of a tile's depth, and its parts in these.
struct ProductSteps {
  /// A part's: all have as many, but for the last.
  struct Range {
    loop::Ex first, count;
  };

  ProductSteps(const DeviceProduct& product, const BlockTiling& tiling);
  Range of_part(loop::Builder& b, loop::Ex part) const;
  /// The first element of a part's `number`th step.
  loop::Ex element(loop::Builder& b, const Range& range, loop::Ex number) const;
  bool even() const { return total % of_each == 0; }

  std::int64_t depth;
  std::int64_t total, of_each;
};

/// Blocks that the busiest multiprocessor has one after the other.
double waves(const DeviceProduct& product, const BlockTiling& tiling);
/// Clock cycles that cutting the contracted axis costs: parts are written, read and added up.
double part_cycles(const DeviceProduct& product, const BlockTiling& tiling);

/// Finds the tiling of fewest clock cycles, as counted, of the slowest multiprocessor.
template <typename Tiling>
class FastestTiling {
 public:
  /// With the contracted axis in one part, and in more of at least `least_steps` steps each.
  template <typename Cycles>
  void consider(const DeviceProduct& product, Tiling tiling, std::int64_t least_steps,
                const Cycles& cycles) {
    constexpr std::int64_t most_parts = 64;
    tiling.parts = 1;
    const std::int64_t steps = ProductSteps(product, tiling).total;
    for (std::int64_t parts = 1; parts <= most_parts; parts *= 2) {
      if (parts > 1 && least_steps * parts > steps) break;
      if (steps > 0) tiling.parts = divide_up(steps, divide_up(steps, parts));
      const double time = cycles(tiling);
      if (time < shortest_) {
        shortest_ = time;
        best_ = tiling;
      }
    }
  }
  /// Of no rows where none was considered.
  const Tiling& best() const { return best_; }

 private:
  Tiling best_{};
  double shortest_ = std::numeric_limits<double>::infinity();
};

/// Tiles of a block's operands that its threads bring.
class OperandTiles {
 public:
  using Ex = loop::Ex;

  /// `shape`: how an operand's tiles lie and who fills them; the tiling's numbers are put in.
  OperandTiles(GroupEmitter& emitter, const DeviceProduct& product, const BlockTiling& tiling,
               const std::function<TileShape(const TiledOperand&)>& shape);

  /// `body(stage)` for each step of a place's part; `turns` as for a TilePipeline.
  void for_steps(const TilePipeline::Depth& turns, const TileGrid::Place& place, Ex thread,
                 const std::function<void(Ex stage)>& body);

  /// One, or one for each product.
  const std::vector<TileLoader>& rows() const { return rows_; }
  const std::vector<TileLoader>& columns() const { return columns_; }

 private:
  loop::Builder& b_;
  BlockTiling tiling_;
  ProductSteps steps_;
  std::vector<TileLoader> rows_, columns_;
};

// The schedules, one in each file of their names.
void schedule_dot_mma(GroupEmitter& emitter, const DeviceProduct& product, DType type);
void schedule_dot_wgmma(GroupEmitter& emitter, const DeviceProduct& product, DType type);
/// False where tensor copies cannot read the operands; then nothing has been done.
bool schedule_dot_wgmma_copies(GroupEmitter& emitter, const DeviceProduct& product, DType type);
bool suits_dot_wgmma(const DeviceProduct& product, const DeviceOptions& options);
void schedule_dot_simt(GroupEmitter& emitter, const DeviceProduct& product);

}  // namespace weft::compiler
