#pragma once

#include <cstdint>
#include <vector>

#include "compiler/schedules/device_store.h"
#include "compiler/schedules/device_tile.h"
#include "compiler/schedules/dot_product.h"
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

/// Blocks in an order in which neighbours in time share operands: (part, batch, row tile, column
/// tile) of a block.
struct TileGrid {
  TileGrid(std::int64_t parts, std::int64_t batches, std::int64_t row_tiles,
           std::int64_t column_tiles);
  std::int64_t blocks() const { return grid.elements(); }
  struct Place {
    loop::Ex part, batch, row, column;
  };
  Place place(loop::Builder& b, loop::Ex block) const;

  Shape grid;
  std::int64_t together;  ///< row tiles
};

/// The contracted axis in steps of a tile's depth, and its parts in these.
struct ProductSteps {
  /// A part's: all have as many, but for the last.
  struct Range {
    loop::Ex first, count;
  };

  ProductSteps(const DeviceProduct& product, std::int64_t depth, std::int64_t parts);
  Range of_part(loop::Builder& b, loop::Ex part) const;
  /// The first element of a part's `number`th step.
  loop::Ex element(loop::Builder& b, const Range& range, loop::Ex number) const;
  bool even() const { return total % of_each == 0; }

  std::int64_t depth;
  std::int64_t total, of_each;
};

/// Tiles of a block's operands that its threads bring.
class OperandTiles {
 public:
  using Ex = loop::Ex;

  /// `shape`: how an operand's tiles lie and who fills them; their extents are put in.
  OperandTiles(GroupEmitter& emitter, const DeviceProduct& product, std::int64_t rows,
               std::int64_t columns, const std::function<TileShape(const TiledOperand&)>& shape);

  /// `body(stage)` for each step of a place's part; `turns` as for a TilePipeline.
  void for_steps(const ProductSteps& steps, const TilePipeline::Depth& turns,
                 const TileGrid::Place& place, Ex thread,
                 const std::function<void(Ex stage)>& body);

  /// One, or one for each product.
  const std::vector<TileLoader>& rows() const { return rows_; }
  const std::vector<TileLoader>& columns() const { return columns_; }

 private:
  loop::Builder& b_;
  std::int64_t row_extent_, column_extent_;
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
