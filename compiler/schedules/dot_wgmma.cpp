#include <algorithm>
#include <limits>
#include <optional>
#include <string>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/dot_device.h"
#include "compiler/schedules/matrix_unit.h"

/// Products of f16 and bf16 on the matrix units of sm_90a: four warps at a time multiply 64 rows by
/// up to 256 columns that are in shared memory, behind the threads' backs. Meanwhile the threads
/// ask for the tiles that come after; one product is under way while the next one's tiles arrive.
namespace weft::compiler {
namespace {

using loop::Accumulator;
using loop::Combine;
using loop::Ex;
using loop::ExprKind;
using loop::Scalar;

constexpr std::int64_t warp = 32;
constexpr std::int64_t group_threads = 128;
constexpr std::int64_t group_rows = 64;
/// Of the contracted axis: a row of 128 bytes, and of one instruction.
constexpr std::int64_t tile_depth = 64;
constexpr std::int64_t step_depth = 16;
constexpr std::int64_t most_stages = 5;
/// One that is read, one that the product before may still read, one that is filled.
constexpr std::int64_t least_stages = 3;

/// A block's part of the result, of each product.
struct Tiling {
  std::int64_t rows, columns;
  std::int64_t parts = 1;
  std::int64_t stages = 0;

  std::int64_t threads() const { return rows / group_rows * group_threads; }
};

/// Wide ones read least from the second-level cache, which is what bounds large products.
constexpr Tiling tilings[] = {{192, 256}, {128, 256}, {192, 128}, {128, 128},
                              {64, 256},  {64, 128},  {128, 64},  {64, 64}};

class WgmmaProduct {
 public:
  WgmmaProduct(GroupEmitter& emitter, const DeviceProduct& product, DType type)
      : a_(emitter.arena()),
        b_(emitter.builder()),
        product_(product),
        p_(product.p),
        type_(type),
        tiling_(choose(emitter)),
        grid_(tiling_.parts, p_.batches(), divide_up(p_.rows(), tiling_.rows),
              divide_up(p_.columns(), tiling_.columns)),
        results_(emitter, product, tiling_.parts) {
    const auto loader = [&](const TiledOperand& operand, std::int64_t free) {
      return TileLoader(emitter, operand,
                        {.storage = type,
                         .free = free,
                         .depth = tile_depth,
                         .stages = tiling_.stages,
                         .threads = tiling_.threads(),
                         .exchanged = true});
    };
    for (const TiledOperand& operand : product.rows) {
      rows_.push_back(loader(operand, tiling_.rows));
    }
    for (const TiledOperand& operand : product.columns) {
      columns_.push_back(loader(operand, tiling_.columns));
    }
  }

  void run() {
    b_.phase(grid_.blocks(), tiling_.threads(), [&](Ex block, Ex thread) {
      const TileGrid::Place place = grid_.place(b_, block);
      thread_ = thread;
      group_ = b_.let(a_.floor_div(thread, group_threads));
      unit_.emplace(b_, type_, b_.let(a_.floor_mod(thread, warp)));
      sums_.clear();
      for (std::int64_t i = 0; i < product_.products() * tiling_.columns / 2; ++i) {
        sums_.push_back(b_.declare(Scalar::f32, Combine::add, a_.constant(Scalar::f32, 0)));
      }
      multiply(place);
      store(place);
    });
    results_.add_up();
  }

 private:
  static bool copied(const TileLoader& loader) { return loader.copies(); }

  /// Clock cycles, as in dot_mma.cpp; what is read from shared memory takes no registers.
  double cycles(const Tiling& t) const {
    const auto real = [](std::int64_t x) { return static_cast<double>(x); };
    const double products = real(product_.products());
    const double multiply = products * real(t.rows * t.columns) / 2048;
    const double row_bytes = 2 * real(static_cast<std::int64_t>(product_.rows.size()) * t.rows);
    const double column_bytes =
        2 * real(static_cast<std::int64_t>(product_.columns.size()) * t.columns);
    // Each group of warps reads all columns.
    const double reads =
        products * (2 * real(t.rows) + 2 * real(t.columns * t.rows / group_rows)) / 128;
    const double fill = (row_bytes + column_bytes) / 32;
    const double step = std::max({multiply, reads, fill}) + 0.1 * fill;
    const std::int64_t steps = divide_up(divide_up(p_.depth(), tile_depth), t.parts) * tile_depth;
    const std::int64_t tiles =
        p_.batches() * divide_up(p_.rows(), t.rows) * divide_up(p_.columns(), t.columns);
    const double waves = real(divide_up(tiles * t.parts, product_.processors));
    const double ends = 2000 + products * real(t.rows * t.columns) / 16;
    double total = waves * (real(steps) * step + ends);
    if (t.parts > 1) {
      const double results = products * real(p_.batches() * p_.rows() * p_.columns());
      total += 4000 + real(2 * t.parts) * results * 4 / 1500;
    }
    return total;
  }

  Tiling choose(GroupEmitter& emitter) const {
    std::int64_t held_rows = 0, held_columns = 0;  // operands that come through registers
    const auto held = [&](const TiledOperand& operand) {
      return TileLoader::route(emitter, operand, type_, TileOrder::as_stored).copies ? 0 : 1;
    };
    for (const TiledOperand& operand : product_.rows) held_rows += held(operand);
    for (const TiledOperand& operand : product_.columns) held_columns += held(operand);
    Tiling best{};
    double shortest = std::numeric_limits<double>::infinity();
    for (Tiling t : tilings) {
      const std::int64_t sums = product_.products() * t.columns / 2;
      const std::int64_t waiting =
          (held_rows * t.rows + held_columns * t.columns) * tile_depth / t.threads();
      constexpr std::int64_t most_registers = 160;
      if (sums > 128 || sums + waiting > most_registers) continue;
      const std::int64_t bytes = 2 * tile_depth *
                                 (static_cast<std::int64_t>(product_.rows.size()) * t.rows +
                                  static_cast<std::int64_t>(product_.columns.size()) * t.columns);
      const std::int64_t resident = t.rows * t.columns <= 128 * 128 ? 2 : 1;
      t.stages = std::min(most_stages, (product_.shared_bytes / resident - 2048) / bytes);
      if (t.stages < least_stages) continue;
      const std::int64_t steps = divide_up(p_.depth(), tile_depth);
      for (std::int64_t parts = 1; parts <= 64 && parts <= steps; parts *= 2) {
        t.parts = divide_up(steps, divide_up(steps, parts));
        const double time = cycles(t);
        if (time < shortest) {
          shortest = time;
          best = t;
        }
      }
    }
    return best;
  }

  void multiply(const TileGrid::Place& place) {
    const std::int64_t total = divide_up(p_.depth(), tile_depth);
    const std::int64_t per_part = divide_up(total, tiling_.parts);
    const std::int64_t stages = tiling_.stages;
    const std::int64_t ahead = stages - 2;
    const Ex first = b_.let(a_.mul(place.part, a_.integer(per_part)));
    const Ex count = total % per_part == 0
                         ? a_.integer(per_part)
                         : b_.let_within(a_.binary(loop::Binary::minimum, a_.integer(per_part),
                                                   a_.sub(a_.integer(total), first)),
                                         1, per_part);
    const Ex row = b_.let(a_.mul(place.row, a_.integer(tiling_.rows)));
    const Ex column = b_.let(a_.mul(place.column, a_.integer(tiling_.columns)));
    const auto start = [&](Ex number) {
      const Ex stage = b_.let(a_.floor_mod(number, stages));
      const Ex depth =
          a_.mul(b_.let_within(a_.add(first, number), 0, total - 1), a_.integer(tile_depth));
      for (TileLoader& loader : rows_) loader.start(stage, place.batch, row, depth, thread_);
      for (TileLoader& loader : columns_) loader.start(stage, place.batch, column, depth, thread_);
    };
    const auto finish = [&](Ex number) {
      const Ex stage = b_.let(a_.floor_mod(number, stages));
      for (TileLoader& loader : rows_) loader.finish(stage, thread_);
      for (TileLoader& loader : columns_) loader.finish(stage, thread_);
    };
    const bool any = std::any_of(rows_.begin(), rows_.end(), copied) ||
                     std::any_of(columns_.begin(), columns_.end(), copied);
    const bool all = std::all_of(rows_.begin(), rows_.end(), copied) &&
                     std::all_of(columns_.begin(), columns_.end(), copied);
    const auto commit = [&] {
      if (any) b_.call(loop::intrinsic("copy_commit"), {});
    };
    const auto if_there = [&](Ex number, const std::function<void()>& body) {
      const Ex condition = a_.less(number, count);
      if (condition->kind != ExprKind::constant) {
        b_.condition(condition, body);
      } else if (condition->integer != 0) {
        body();
      }
    };
    for (std::int64_t stage = 0; stage < ahead; ++stage) {
      const Ex number = a_.integer(stage);
      if_there(number, [&] {
        start(number);
        finish(number);
      });
      commit();
    }
    b_.loop(count, [&](Ex number) {
      if (any) b_.call(loop::intrinsic("copy_wait"), {a_.integer(Scalar::i32, ahead - 1)});
      b_.call(loop::intrinsic("fence_async_shared"), {});
      // Everybody's part of this stage is there. The product before the last has ended in all
      // warps, so that its stage may be filled.
      b_.barrier();
      const Ex next = a_.add(number, a_.integer(ahead));
      if_there(next, [&] { start(next); });
      commit();
      stage(b_.let(a_.floor_mod(number, stages)));
      wait(1);
      if (!all) if_there(next, [&] { finish(next); });
    });
    wait(0);
  }

  std::string name(const char* what) const { return what + std::to_string(tiling_.columns); }

  std::vector<Ex> sums_of(std::int64_t product) {
    std::vector<Ex> values;
    const std::int64_t count = tiling_.columns / 2;
    for (std::int64_t i = 0; i < count; ++i) {
      values.push_back(b_.read(sums_[static_cast<std::size_t>(product * count + i)]));
    }
    return values;
  }

  void assign(std::int64_t product, const std::vector<Ex>& values) {
    const std::int64_t count = tiling_.columns / 2;
    for (std::int64_t i = 0; i < count; ++i) {
      b_.assign(sums_[static_cast<std::size_t>(product * count + i)],
                values[static_cast<std::size_t>(i)]);
    }
  }

  void wait(std::int64_t groups) {
    const loop::Intrinsic& row = loop::intrinsic(name("group_product_wait.n"));
    for (std::int64_t q = 0; q < product_.products(); ++q) {
      std::vector<Ex> operands = {a_.integer(Scalar::i32, groups)};
      const std::vector<Ex> sums = sums_of(q);
      operands.insert(operands.end(), sums.begin(), sums.end());
      assign(q, b_.call(row, operands));
    }
  }

  /// Element (free, depth) of a tile, where both are multiples of what an instruction reads: the
  /// exchange of pieces is the instruction's.
  static std::int64_t place_of(const TileLoader& loader, std::int64_t depth) {
    return loader.depth_inner() ? depth : depth * tile_depth;
  }

  void stage(Ex number) {
    b_.call(loop::intrinsic("group_product_fence"), {});
    for (std::int64_t depth = 0; depth < tile_depth; depth += step_depth) {
      for (std::int64_t q = 0; q < product_.products(); ++q) {
        const TileLoader& rows = rows_[rows_.size() > 1 ? static_cast<std::size_t>(q) : 0];
        const TileLoader& columns = columns_[columns_.size() > 1 ? static_cast<std::size_t>(q) : 0];
        const loop::Intrinsic& row = loop::intrinsic(
            name("group_product.n") + (type_ == DType::f16 ? ".f16" : ".bf16") +
            (rows.depth_inner() ? ".k" : ".m") + (columns.depth_inner() ? "k" : "n"));
        // Either way a group's 64 rows by 64 steps are one block.
        const Ex own = a_.mul(group_, a_.integer(group_rows * tile_depth));
        const Ex row_place =
            a_.add(a_.add(rows.stage(number), own), a_.integer(place_of(rows, depth)));
        const Ex column_place = a_.add(columns.stage(number), a_.integer(place_of(columns, depth)));
        std::vector<Ex> operands = {a_.boolean(true)};
        const std::vector<Ex> sums = sums_of(q);
        operands.insert(operands.end(), sums.begin(), sums.end());
        assign(q, b_.call(row, operands,
                          {{rows.buffer(), row_place}, {columns.buffer(), column_place}}));
      }
    }
    b_.call(loop::intrinsic("group_product_commit"), {});
  }

  void store(const TileGrid::Place& place) {
    const Ex own_warp = a_.floor_div(thread_, warp);
    const Ex row = b_.let(a_.add(
        a_.add(a_.mul(place.row, a_.integer(tiling_.rows)), a_.mul(own_warp, a_.integer(16))),
        unit_->group()));
    const Ex column = b_.let(
        a_.add(a_.mul(place.column, a_.integer(tiling_.columns)), unit_->neighbours_column()));
    const std::int64_t count = tiling_.columns / 2;
    for (std::int64_t c = 0; c < tiling_.columns / 8; c += 2) {
      for (std::int64_t half = 0; half < 2; ++half) {
        std::vector<Ex> values;
        for (std::int64_t q = 0; q < product_.products(); ++q) {
          const auto pair = [&](std::int64_t fragment) {
            const auto at = static_cast<std::size_t>(q * count + 4 * fragment + 2 * half);
            return std::array<Ex, 2>{b_.read(sums_[at]), b_.read(sums_[at + 1])};
          };
          const std::array<Ex, 4> four = unit_->neighbours(pair(c), pair(c + 1));
          values.insert(values.end(), four.begin(), four.end());
        }
        results_.store(place.part, place.batch, a_.add(row, a_.integer(8 * half)),
                       a_.add(column, a_.integer(8 * c)), values);
      }
    }
  }

  loop::Arena& a_;
  loop::Builder& b_;
  const DeviceProduct& product_;
  const Product& p_;
  DType type_;
  Tiling tiling_;
  TileGrid grid_;
  ProductParts results_;
  std::vector<TileLoader> rows_, columns_;
  std::optional<MatrixUnit> unit_;
  Ex thread_ = nullptr, group_ = nullptr;
  std::vector<Accumulator*> sums_;
};

}  // namespace

bool suits_dot_wgmma(const DeviceProduct& product, const DeviceOptions& options) {
  const Product& p = product.p;
  const DType type = p.node->results[0].dtype;
  return options.target.capability == 90 && options.target.specific &&
         (type == DType::f16 || type == DType::bf16) && p.rows() >= group_rows &&
         p.columns() >= group_rows && p.depth() >= tile_depth;
}

void schedule_dot_wgmma(GroupEmitter& emitter, const DeviceProduct& product, DType type) {
  WgmmaProduct(emitter, product, type).run();
}

}  // namespace weft::compiler
