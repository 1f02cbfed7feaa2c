#include <algorithm>
#include <optional>
#include <utility>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/dot_device.h"
#include "compiler/schedules/thread_indices.h"

/// Matrix products on a GPU in exact f32 or f64: a block computes a tile of the result from tiles
/// of both operands in shared memory, which are filled some stages ahead, each thread a rectangle
/// of it in registers. Operands are read once a block, so what is fused before the product is
/// evaluated there.
namespace weft::compiler {
namespace {

using loop::Accumulator;
using loop::Combine;
using loop::Ex;
using loop::Role;
using loop::Scalar;

constexpr std::int64_t threads = 256;
/// Threads along rows and along columns. A warp is 4 by 8 of them: it reads 4 and 8 pieces of the
/// operands in a step, whole lines of shared memory.
constexpr std::int64_t side = 16;
constexpr std::int64_t warp_rows = 4;
constexpr std::int64_t warp_columns = 8;
/// Neighbours that a thread reads and stores together.
constexpr std::int64_t piece = 4;
constexpr std::int64_t tile_depth = 16;

constexpr std::int64_t stages = 3;

/// Rows and columns (of each product) of a thread.
constexpr std::pair<std::int64_t, std::int64_t> thread_extents[] = {{8, 8}, {8, 4}, {4, 8}, {4, 4},
                                                                    {2, 4}, {4, 2}, {2, 2}};
constexpr std::int64_t most_sums = 64;

class SimtProduct {
 public:
  SimtProduct(GroupEmitter& emitter, const DeviceProduct& product)
      : a_(emitter.arena()),
        b_(emitter.builder()),
        product_(product),
        p_(product.p),
        scalar_(register_of(p_.node->results[0].dtype)),
        tiling_(choose()),
        own_rows_(tiling_.rows / side),
        own_columns_(tiling_.columns / side),
        grid_(product, tiling_),
        results_(emitter, product, tiling_.parts) {
    if (p_.depth() == 0) return;
    operands_.emplace(emitter, product, tiling_, [&](const TiledOperand&) {
      return TileShape{.storage = scalar_ == Scalar::f64 ? DType::f64 : DType::f32,

                       .threads = threads,
                       .order = TileOrder::free_inner};
    });
  }

  void run() {
    b_.phase(grid_.blocks(), threads, [&](Ex block, Ex thread) {
      const TileGrid::Place place = grid_.place(b_, block);
      thread_ = thread;
      const Ex number = a_.floor_div(thread, warp);
      const Ex lane = a_.floor_mod(thread, warp);
      const auto own = [&](Ex outer, std::int64_t count, Ex inner) {
        return b_.let(a_.add(a_.mul(outer, a_.integer(count)), inner));
      };
      constexpr std::int64_t across = side / warp_columns;
      thread_row_ = own(a_.floor_div(number, across), warp_rows, a_.floor_div(lane, warp_columns));
      thread_column_ =
          own(a_.floor_mod(number, across), warp_columns, a_.floor_mod(lane, warp_columns));
      tile(place);
    });
    results_.add_up();
  }

 private:
  /// Clock cycles, as for matrix units (dot_mma.cpp).
  double cycles(const BlockTiling& t) const {
    const auto real = [](std::int64_t x) { return static_cast<double>(x); };
    const double size = scalar_ == Scalar::f64 ? 8 : 4;
    const double rate = scalar_ == Scalar::f64 ? 64 : 128;
    const double products = real(product_.products());
    const std::int64_t row_operands = static_cast<std::int64_t>(product_.rows.size());
    const std::int64_t column_operands = static_cast<std::int64_t>(product_.columns.size());
    const double multiply = products * real(t.rows * t.columns) / rate;
    const double pieces =
        real((row_operands * warp_rows * t.rows + column_operands * warp_columns * t.columns) /
             side) *
        size * (real(threads) / real(warp)) / 128;
    const double fill = real(row_operands * t.rows + column_operands * t.columns) * size / 32;
    const double step = std::max({multiply, pieces, fill}) + 0.2 * multiply + 4;
    const std::int64_t steps = ProductSteps(product_, t).of_each * tile_depth;
    return waves(product_, t) * (real(steps) * step + 1500) + part_cycles(product_, t);
  }

  BlockTiling choose() const {
    FastestTiling<BlockTiling> fastest;
    for (const auto& [rows, columns] : thread_extents) {
      const std::int64_t words = scalar_ == Scalar::f64 ? 2 : 1;
      if (product_.products() * rows * columns * words > most_sums) continue;
      const BlockTiling tiling{
          .rows = side * rows, .columns = side * columns, .depth = tile_depth, .stages = stages};
      fastest.consider(product_, tiling, 4, [&](const BlockTiling& t) { return cycles(t); });
    }
    return fastest.best();
  }

  std::size_t sum_index(std::int64_t product, std::int64_t row, std::int64_t column) const {
    return static_cast<std::size_t>((product * own_rows_ + row) * own_columns_ + column);
  }

  /// The i-th of a thread's `count` rows or columns in the tile.
  Ex own_index(Ex thread, std::int64_t count, std::int64_t i) {
    return in_pieces(a_, thread, side, std::min(piece, count), i);
  }

  void tile(const TileGrid::Place& place) {
    sums_.clear();
    for (std::int64_t i = 0; i < product_.products() * own_rows_ * own_columns_; ++i) {
      sums_.push_back(b_.declare(scalar_, Combine::add, a_.constant(scalar_, 0)));
    }
    column_sum_ = nullptr;
    if (product_.operand_sum != nullptr) {
      column_sum_ = b_.declare(scalar_, Combine::add, a_.constant(scalar_, 0));
      sums_here_ = b_.let(a_.logical_and(a_.equal(place.row, a_.integer(0)),
                                         a_.less(thread_, a_.integer(tiling_.columns))));
    }
    if (operands_) {
      operands_->for_steps({.stages = stages, .ahead = stages - 1}, place, thread_,
                           [&](Ex number) { stage(number); });
    }
    store(place);
  }

  /// A thread's rows or columns of a step.
  std::vector<Ex> own_values(const TileLoader& loader, Ex stage, Ex step, Ex thread,
                             std::int64_t count) {
    std::vector<Ex> values;
    const Ex first = a_.add(loader.stage(stage), a_.mul(step, a_.integer(loader.pitch())));
    for (std::int64_t i = 0; i < count; ++i) {
      values.push_back(
          b_.let(a_.load(loader.buffer(), a_.add(first, own_index(thread, count, i)))));
    }
    return values;
  }

  void stage(Ex number) {
    // Two products' operands ahead of their use do not fit in the registers of two blocks.
    const std::int64_t together = product_.products() > 1 ? tile_depth / 2 : tile_depth;
    const auto step_of = [&](Ex step) {
      std::vector<std::vector<Ex>> rows, columns;
      for (const TileLoader& loader : operands_->rows()) {
        rows.push_back(own_values(loader, number, step, thread_row_, own_rows_));
      }
      for (const TileLoader& loader : operands_->columns()) {
        columns.push_back(own_values(loader, number, step, thread_column_, own_columns_));
      }
      for (std::int64_t q = 0; q < product_.products(); ++q) {
        const std::vector<Ex>& x = rows[rows.size() > 1 ? static_cast<std::size_t>(q) : 0];
        const std::vector<Ex>& y = columns[columns.size() > 1 ? static_cast<std::size_t>(q) : 0];
        for (std::int64_t i = 0; i < own_rows_; ++i) {
          for (std::int64_t j = 0; j < own_columns_; ++j) {
            Accumulator* sum = sums_[sum_index(q, i, j)];
            b_.assign(sum, a_.fma(x[static_cast<std::size_t>(i)], y[static_cast<std::size_t>(j)],
                                  b_.read(sum)));
          }
        }
      }
    };
    if (together == tile_depth) {
      b_.loop(tile_depth, Role::unrolled, 1, step_of);
    } else {
      b_.loop(a_.integer(tile_depth / together), [&](Ex half) {
        const Ex first = a_.mul(half, a_.integer(together));
        b_.loop(together, Role::unrolled, 1, [&](Ex step) { step_of(a_.add(first, step)); });
      });
    }
    if (column_sum_ == nullptr) return;
    const TileLoader& loader = operands_->columns()[0];
    b_.condition(sums_here_, [&] {
      const Ex own = b_.let_within(thread_, 0, tiling_.columns - 1);
      b_.loop(tile_depth, Role::unrolled, 1, [&](Ex step) {
        b_.accumulate(column_sum_, a_.load(loader.buffer(),
                                           a_.add(loader.stage(number), loader.within(own, step))));
      });
    });
  }

  void store(const TileGrid::Place& place) {
    const Ex row = b_.let(a_.mul(place.row, a_.integer(tiling_.rows)));
    const Ex column = b_.let(a_.mul(place.column, a_.integer(tiling_.columns)));
    const std::int64_t length = std::min(piece, own_columns_);
    for (std::int64_t i = 0; i < own_rows_; ++i) {
      for (std::int64_t j = 0; j < own_columns_; j += length) {
        std::vector<Ex> values;
        for (std::int64_t q = 0; q < product_.products(); ++q) {
          for (std::int64_t k = 0; k < length; ++k) {
            values.push_back(b_.read(sums_[sum_index(q, i, j + k)]));
          }
        }
        results_.store(place.part, place.batch, a_.add(row, own_index(thread_row_, own_rows_, i)),
                       a_.add(column, own_index(thread_column_, own_columns_, j)), values);
      }
    }
    if (column_sum_ == nullptr) return;
    const Ex at = a_.add(column, thread_);
    const Ex total = b_.read(column_sum_);
    b_.condition(a_.logical_and(sums_here_, a_.less(at, a_.integer(p_.columns()))), [&] {
      results_.store_sum(place.part, b_.let_within(at, 0, p_.columns() - 1), total);
    });
  }

  loop::Arena& a_;
  loop::Builder& b_;
  const DeviceProduct& product_;
  const Product& p_;
  Scalar scalar_;
  BlockTiling tiling_;
  std::int64_t own_rows_, own_columns_;  ///< of a thread
  TileGrid grid_;
  ProductParts results_;
  std::optional<OperandTiles> operands_;  ///< none where nothing is contracted
  Ex thread_ = nullptr;
  Ex thread_row_ = nullptr, thread_column_ = nullptr;
  Ex sums_here_ = nullptr;
  std::vector<Accumulator*> sums_;
  Accumulator* column_sum_ = nullptr;
};

}  // namespace

void schedule_dot_simt(GroupEmitter& emitter, const DeviceProduct& product) {
  SimtProduct(emitter, product).run();
}

}  // namespace weft::compiler
