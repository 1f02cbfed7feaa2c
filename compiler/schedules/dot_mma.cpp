#include <algorithm>
#include <optional>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/dot_device.h"
#include "compiler/schedules/matrix_unit.h"
#include "compiler/schedules/thread_indices.h"

/// Matrix products on a GPU's matrix units: f16 and bf16 operands, or f32 rounded to tf32, with
/// sums in f32. A block's tile of the result is its warps' registers; tiles of both operands pass
/// through shared memory, several stages ahead.
namespace weft::compiler {
namespace {

using loop::Accumulator;
using loop::Combine;
using loop::Ex;
using loop::Role;
using loop::Scalar;

constexpr std::int64_t most_stages = 4;

/// A block's part of the result, of each product, and how its warps share it.
struct Tiling : BlockTiling {
  std::int64_t warps_down = 1, warps_across = 1;

  std::int64_t warps() const { return warps_down * warps_across; }
  std::int64_t warp_rows() const { return rows / warps_down; }
  std::int64_t warp_columns() const { return columns / warps_across; }
};

constexpr Tiling tilings[] = {
    {{128, 256}, 2, 4}, {{256, 128}, 4, 2}, {{128, 128}, 2, 2}, {{128, 128}, 2, 4},
    {{128, 64}, 2, 2},  {{64, 128}, 2, 2},  {{64, 64}, 2, 2},   {{128, 32}, 4, 1},
    {{32, 128}, 1, 4},  {{32, 64}, 1, 4},   {{64, 32}, 4, 1},   {{16, 64}, 1, 4},
    {{64, 16}, 4, 1},   {{32, 32}, 2, 2},
};

/// Registers that a thread has for sums: what is left of 255 is for fragments and addresses.
constexpr std::int64_t most_sums = 128;
/// The same where operands come through registers.
constexpr std::int64_t most_sums_and_held = 96;

class MmaProduct {
 public:
  MmaProduct(GroupEmitter& emitter, const DeviceProduct& product, DType type)
      : a_(emitter.arena()),
        b_(emitter.builder()),
        product_(product),
        p_(product.p),
        type_(type),
        copies_(all_copied(emitter)),
        tiling_(choose()),
        grid_(product, tiling_),
        results_(emitter, product, tiling_.parts),
        operands_(emitter, product, tiling_, [&](const TiledOperand& operand) {
          return TileShape{.storage = type,

                           .threads = tiling_.warps() * warp,
                           .padding_bytes = padding(operand, emitter)};
        }) {}

  void run() {
    b_.phase(grid_.blocks(), tiling_.warps() * warp, [&](Ex block, Ex thread) {
      const TileGrid::Place place = grid_.place(b_, block);
      thread_ = thread;
      const Ex number = b_.let(a_.floor_div(thread, warp));
      warp_row_ = b_.let(a_.floor_div(number, tiling_.warps_across));
      warp_column_ = b_.let(a_.floor_mod(number, tiling_.warps_across));
      unit_.emplace(b_, type_, b_.let(a_.floor_mod(thread, warp)));
      tile(place);
    });
    results_.add_up();
  }

 private:
  /// Where this warp reads an operand's tiles.
  struct Operand {
    FragmentSource source;
    Ex first;  ///< the warp's first element in a tile
  };

  bool all_copied(GroupEmitter& emitter) const {
    for (const auto* operands : {&product_.rows, &product_.columns}) {
      for (const TiledOperand& operand : *operands) {
        if (!TileLoader::route(emitter, operand, type_, TileOrder::as_stored).copies) return false;
      }
    }
    return true;
  }

  /// f32 across its rows is read by single elements: four rows of the tile and eight neighbours.
  std::int64_t padding(const TiledOperand& operand, GroupEmitter& emitter) const {
    const bool across =
        type_ == DType::f32 &&
        !TileLoader::route(emitter, operand, type_, TileOrder::as_stored).depth_inner;
    return across ? 32 : 16;
  }

  // ---- choosing ---------------------------------------------------------------------------------

  std::int64_t stage_bytes(const Tiling& t) const {
    const auto size = static_cast<std::int64_t>(size_of(type_));
    const auto bytes = [&](std::int64_t free) {
      // With the larger of both paddings.
      return std::max(free * (t.depth * size + 32), t.depth * (free * size + 32)) + 128;
    };
    return static_cast<std::int64_t>(product_.rows.size()) * bytes(t.rows) +
           static_cast<std::int64_t>(product_.columns.size()) * bytes(t.columns);
  }

  /// Clock cycles that a product takes with a tiling: a multiprocessor's blocks one after the
  /// other, each bound by its slowest part.
  double cycles(const Tiling& t) const {
    const auto real = [](std::int64_t x) { return static_cast<double>(x); };
    const double products = real(product_.products());
    const double size = static_cast<double>(size_of(type_));
    const double steps = real(ProductSteps(product_, t).of_each * t.depth);
    // In a step of the contracted axis: multiply-adds, bytes out of shared memory, bytes into it.
    const double rate = 2048 / size;
    const double multiply = products * real(t.rows * t.columns) / rate;
    const double row_bytes = real(static_cast<std::int64_t>(product_.rows.size()) * t.rows) * size;
    const double column_bytes =
        real(static_cast<std::int64_t>(product_.columns.size()) * t.columns) * size;
    const double fragments =
        (row_bytes * real(t.warps_across) + column_bytes * real(t.warps_down)) / 128;
    const double fill = (row_bytes + column_bytes) / 32;
    const double step = std::max({multiply, fragments, fill}) + 0.1 * (multiply + fragments);
    const double ends = 1500 + products * real(t.rows * t.columns) / 16;
    const double blocks = waves(product_, t);
    // Few warps do not fill the units: their products wait for each other.
    const double resident = std::min(blocks, 2.0);
    const double idle = std::max(1.0, 8 / (real(t.warps()) * resident));
    return blocks * (steps * step * idle + ends) + part_cycles(product_, t);
  }

  Tiling choose() const {
    const auto size = static_cast<std::int64_t>(size_of(type_));
    // A stage of 128 bytes along the contracted axis; half where it waits in registers.
    std::int64_t depth = (copies_ ? 128 : 64) / size;
    const std::int64_t least = 32 / size;
    while (depth > least && depth / 2 >= p_.depth()) depth /= 2;
    FastestTiling<Tiling> fastest;
    for (Tiling t : tilings) {
      t.depth = depth;
      const std::int64_t sums = product_.products() * t.rows * t.columns / (t.warps() * warp);
      if (sums > (copies_ ? most_sums : most_sums_and_held)) continue;
      if (!copies_) {
        const std::int64_t held = (static_cast<std::int64_t>(product_.rows.size()) * t.rows +
                                   static_cast<std::int64_t>(product_.columns.size()) * t.columns) *
                                  t.depth / (t.warps() * warp);
        if (sums + held > most_sums) continue;
      }
      const std::int64_t bytes = stage_bytes(t);
      // Two blocks a multiprocessor where registers allow that.
      const std::int64_t resident = sums * t.warps() * warp <= 16384 ? 2 : 1;
      const std::int64_t room = product_.shared_bytes / resident - 1024;
      t.stages = std::min(most_stages, room / bytes);
      if (t.stages < 2) continue;
      if (!copies_) t.stages = 2;
      fastest.consider(product_, t, 1, [&](const Tiling& tiling) { return cycles(tiling); });
    }
    Tiling best = fastest.best();
    best.stages = std::clamp<std::int64_t>(divide_up(divide_up(p_.depth(), depth), best.parts), 2,
                                           best.stages);
    return best;
  }

  // ---- computing --------------------------------------------------------------------------------

  std::int64_t row_fragments() const { return tiling_.warp_rows() / 16; }
  std::int64_t column_fragments() const { return tiling_.warp_columns() / 8; }
  std::size_t sum_index(std::int64_t product, std::int64_t row, std::int64_t column) const {
    return static_cast<std::size_t>((product * row_fragments() + row) * column_fragments() +
                                    column);
  }

  void tile(const TileGrid::Place& place) {
    for (std::int64_t i = 0; i < product_.products() * row_fragments() * column_fragments(); ++i) {
      sums_.push_back(unit_->zero());
    }
    const bool summed = product_.operand_sum != nullptr;
    if (summed) {
      for (std::int64_t i = 0; i < column_fragments(); ++i) {
        column_sums_.push_back(b_.declare(Scalar::f32, Combine::add, a_.constant(Scalar::f32, 0)));
      }
      const Ex zero = a_.integer(0);
      sums_here_ = b_.let(a_.logical_and(a_.equal(place.row, zero), a_.equal(warp_row_, zero)));
    }
    const auto own = [&](const TileLoader& loader, const FragmentSource& source, Ex number,
                         std::int64_t extent) {
      const Ex first = a_.mul(number, a_.integer(extent));
      return Operand{source, b_.let(loader.within(first, a_.integer(0)))};
    };
    for (const TileLoader& loader : operands_.rows()) {
      rows_.push_back(own(loader,
                          unit_->row_source(loader.buffer(), loader.pitch(), loader.depth_inner()),
                          warp_row_, tiling_.warp_rows()));
    }
    for (const TileLoader& loader : operands_.columns()) {
      columns_.push_back(
          own(loader, unit_->column_source(loader.buffer(), loader.pitch(), loader.depth_inner()),
              warp_column_, tiling_.warp_columns()));
    }
    operands_.for_steps({.stages = tiling_.stages, .ahead = tiling_.stages - 1}, place, thread_,
                        [&](Ex number) { stage(number); });
    store(place);
  }

  void stage(Ex number) {
    const auto firsts = [&](const std::vector<Operand>& operands,
                            const std::vector<TileLoader>& loaders) {
      std::vector<Ex> found;
      for (std::size_t i = 0; i < operands.size(); ++i) {
        found.push_back(b_.let(a_.add(loaders[i].stage(number), operands[i].first)));
      }
      return found;
    };
    const std::vector<Ex> row_firsts = firsts(rows_, operands_.rows());
    const std::vector<Ex> column_firsts = firsts(columns_, operands_.columns());
    b_.loop(tiling_.depth / unit_->depth(), Role::unrolled, 1, [&](Ex step) {
      const Ex depth = a_.mul(step, a_.integer(unit_->depth()));
      std::vector<MatrixUnit::Rows> rows;
      for (std::size_t i = 0; i < rows_.size(); ++i) {
        for (std::int64_t r = 0; r < row_fragments(); ++r) {
          rows.push_back(
              unit_->rounded(unit_->rows(rows_[i].source, row_firsts[i], 16 * r, depth)));
        }
      }
      for (std::size_t i = 0; i < columns_.size(); ++i) {
        for (std::int64_t c = 0; c < column_fragments(); c += 2) {
          const auto both = unit_->columns(columns_[i].source, column_firsts[i], 8 * c, depth);
          if (!column_sums_.empty()) add_columns(c, both);
          const std::array<MatrixUnit::Columns, 2> columns = {unit_->rounded(both[0]),
                                                              unit_->rounded(both[1])};
          for (std::int64_t q = 0; q < product_.products(); ++q) {
            // The product that this operand belongs to, or all where it is shared.
            if (columns_.size() > 1 && q != static_cast<std::int64_t>(i)) continue;
            const std::int64_t first = rows_.size() > 1 ? q * row_fragments() : 0;
            for (std::int64_t r = 0; r < row_fragments(); ++r) {
              for (std::int64_t half = 0; half < 2; ++half) {
                unit_->multiply(sums_[sum_index(q, r, c + half)],
                                rows[static_cast<std::size_t>(first + r)],
                                columns[static_cast<std::size_t>(half)]);
              }
            }
          }
        }
      }
    });
  }

  /// The right operand's sums over the contracted axis, of the columns from fragment `first` on.
  void add_columns(std::int64_t first, const std::array<MatrixUnit::Columns, 2>& columns) {
    b_.condition(sums_here_, [&] {
      for (std::size_t half = 0; half < 2; ++half) {
        Accumulator* sum = column_sums_[static_cast<std::size_t>(first) + half];
        for (const Ex word : columns[half]) b_.accumulate(sum, a_.bits(word, Scalar::f32));
      }
    });
  }

  void store(const TileGrid::Place& place) {
    const Ex row = b_.let(a_.add(a_.add(a_.mul(place.row, a_.integer(tiling_.rows)),
                                        a_.mul(warp_row_, a_.integer(tiling_.warp_rows()))),
                                 unit_->group()));
    const Ex column = b_.let(a_.add(a_.mul(place.column, a_.integer(tiling_.columns)),
                                    a_.mul(warp_column_, a_.integer(tiling_.warp_columns()))));
    const Ex own_column = b_.let(a_.add(column, unit_->neighbours_column()));
    results_.store(
        *unit_, place, row, own_column, row_fragments(), column_fragments(),
        [&](std::int64_t q, std::int64_t r, std::int64_t c) { return sums_[sum_index(q, r, c)]; });
    for (std::size_t c = 0; c < column_sums_.size(); ++c) {
      const Ex total = unit_->over_columns(b_.read(column_sums_[c]), Combine::add);
      const Ex at =
          a_.add(a_.add(column, a_.integer(8 * static_cast<std::int64_t>(c))), unit_->group());
      const Ex first = a_.equal(unit_->thread(), a_.integer(0));
      b_.condition(
          a_.logical_and(a_.logical_and(sums_here_, first), a_.less(at, a_.integer(p_.columns()))),
          [&] { results_.store_sum(place.part, b_.let_within(at, 0, p_.columns() - 1), total); });
    }
  }

  loop::Arena& a_;
  loop::Builder& b_;
  const DeviceProduct& product_;
  const Product& p_;
  DType type_;
  bool copies_;  ///< no operand passes through registers
  Tiling tiling_;
  TileGrid grid_;
  ProductParts results_;
  OperandTiles operands_;
  std::vector<Operand> rows_, columns_;
  std::optional<MatrixUnit> unit_;
  Ex thread_ = nullptr;
  Ex warp_row_ = nullptr, warp_column_ = nullptr;
  Ex sums_here_ = nullptr;
  std::vector<MatrixUnit::Sums> sums_;
  std::vector<Accumulator*> column_sums_;
};

}  // namespace

void schedule_dot_mma(GroupEmitter& emitter, const DeviceProduct& product, DType type) {
  MmaProduct(emitter, product, type).run();
}

}  // namespace weft::compiler
