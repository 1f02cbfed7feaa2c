#include "compiler/schedules/group_product.h"

#include <algorithm>
#include <array>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/thread_indices.h"

namespace weft::compiler {

using loop::Combine;
using loop::Ex;
using loop::Scalar;

namespace {

/// Of the contracted axis, of one instruction.
constexpr std::int64_t step_depth = 16;

/// Wide ones read least from the second-level cache, which is what bounds large products.
constexpr std::array<std::pair<std::int64_t, std::int64_t>, 8> extents = {
    {{192, 256}, {128, 256}, {192, 128}, {128, 128}, {64, 256}, {64, 128}, {128, 64}, {64, 64}}};

std::int64_t size(const std::vector<TiledOperand>& operands) {
  return static_cast<std::int64_t>(operands.size());
}

/// Clock cycles, as in dot_mma.cpp; what is read from shared memory takes no registers.
double cycles(const DeviceProduct& product, const GroupTiling& t, bool copied) {
  const auto real = [](std::int64_t x) { return static_cast<double>(x); };
  const double products = real(product.products());
  const double multiply = products * real(t.rows * t.columns) / 2048;
  const double row_bytes = 2 * real(size(product.rows) * t.rows);
  const double column_bytes = 2 * real(size(product.columns) * t.columns);
  // Each group of warps reads all columns; each of its instructions, the rows.
  const double reads =
      products *
      (2 * real(t.rows * t.columns / t.width) + 2 * real(t.columns * t.rows / group_rows)) / 128;
  const double fill = (row_bytes + column_bytes) / 32;
  const ProductSteps parts(product, t);
  const double steps = real(parts.of_each * group_depth);
  const double blocks = waves(product, t);
  const double start = 2000;
  const double store = products * real(t.rows * t.columns) / 16;
  double total = 0;
  if (copied && parts.even()) {
    // A block has its tiles in turn: what the next one needs comes while one is stored.
    const double busy = blocks * steps * std::max(multiply, reads) + (blocks - 1) * store;
    total = start + std::max(busy, blocks * steps * fill) + store;
  } else {
    // Threads that copy take turns with those that multiply.
    const double step = std::max({multiply, reads, fill}) + (copied ? 0 : 0.1 * fill);
    total = blocks * (start + steps * step + store);
  }
  return total + part_cycles(product, t);
}

}  // namespace

std::int64_t stage_bytes(const DeviceProduct& product, const GroupTiling& tiling) {
  return 2 * group_depth *
         (size(product.rows) * tiling.rows + size(product.columns) * tiling.columns);
}

GroupTiling choose_tiling(const DeviceProduct& product, bool copied,
                          const std::function<std::int64_t(const GroupTiling&)>& stages) {
  FastestTiling<GroupTiling> fastest;
  for (const auto& [rows, columns] : extents) {
    // A thread has 255 registers at most.
    if (product.products() * columns / 2 > 128) continue;
    GroupTiling t{{.rows = rows, .columns = columns, .depth = group_depth}, columns};
    // With a fourth group, which copies, threads start with 128 registers: all of an instruction's
    // must be among them, also where threads get more later.
    if (copied && t.groups() == 3) t.width = std::min<std::int64_t>(columns, 128);
    t.stages = stages(t);
    if (t.stages == 0) continue;
    fastest.consider(product, t, 1,
                     [&](const GroupTiling& tiling) { return cycles(product, tiling, copied); });
  }
  return fastest.best();
}

GroupSums::GroupSums(GroupEmitter& emitter, const DeviceProduct& product, DType type,
                     const GroupTiling& tiling)
    : a_(emitter.arena()), b_(emitter.builder()), product_(product), type_(type), tiling_(tiling) {}

void GroupSums::enter(Ex thread) {
  thread_ = thread;
  group_ = b_.let(a_.floor_div(thread, group_threads));
  lane_ = b_.let(a_.floor_mod(thread, warp));
  unit_.emplace(b_, type_, lane_);
}

void GroupSums::clear() {
  sums_.clear();
  for (std::int64_t i = 0; i < product_.products() * tiling_.columns / 2; ++i) {
    sums_.push_back(b_.declare(Scalar::f32, Combine::add, a_.constant(Scalar::f32, 0)));
  }
}

std::vector<Ex> GroupSums::read(std::int64_t instruction) {
  std::vector<Ex> values;
  const std::int64_t count = tiling_.width / 2;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(b_.read(sums_[static_cast<std::size_t>(instruction * count + i)]));
  }
  return values;
}

void GroupSums::assign(std::int64_t instruction, const std::vector<Ex>& values) {
  const std::int64_t count = tiling_.width / 2;
  for (std::int64_t i = 0; i < count; ++i) {
    b_.assign(sums_[static_cast<std::size_t>(instruction * count + i)],
              values[static_cast<std::size_t>(i)]);
  }
}

void GroupSums::multiply(std::span<const GroupTile> rows, std::span<const GroupTile> columns) {
  const auto tile_of = [](std::span<const GroupTile> tiles, std::int64_t product) -> GroupTile {
    return tiles[tiles.size() > 1 ? static_cast<std::size_t>(product) : 0];
  };
  // Multiples of what an instruction reads: the exchange of pieces is the instruction's.
  const auto place = [&](const GroupTile& tile, std::int64_t depth) {
    return a_.add(tile.first, a_.integer(tile.depth_inner ? depth : depth * group_depth));
  };
  b_.call(loop::intrinsic("group_product_fence"), {});
  for (std::int64_t depth = 0; depth < group_depth; depth += step_depth) {
    for (std::int64_t i = 0; i < instructions(); ++i) {
      const std::int64_t columns_before = i * tiling_.width % tiling_.columns;
      const std::int64_t product = i * tiling_.width / tiling_.columns;
      const GroupTile row = tile_of(rows, product);
      const GroupTile column = tile_of(columns, product);
      const loop::Intrinsic& instruction =
          loop::intrinsic(name("group_product.n") + (type_ == DType::f16 ? ".f16" : ".bf16") +
                          (row.depth_inner ? ".k" : ".m") + (column.depth_inner ? "k" : "n"));
      // Either way 64 rows, or columns, by 64 steps are one block.
      const Ex own = a_.mul(group_, a_.integer(group_rows * group_depth));
      const Ex before = a_.integer(columns_before * group_depth);
      std::vector<Ex> operands = {a_.boolean(true)};
      const std::vector<Ex> sums = read(i);
      operands.insert(operands.end(), sums.begin(), sums.end());
      assign(i, b_.call(instruction, operands,
                        {{row.buffer, a_.add(place(row, depth), own)},
                         {column.buffer, a_.add(place(column, depth), before)}}));
    }
  }
  b_.call(loop::intrinsic("group_product_commit"), {});
}

void GroupSums::wait(std::int64_t under_way) {
  const loop::Intrinsic& instruction = loop::intrinsic(name("group_product_wait.n"));
  for (std::int64_t i = 0; i < instructions(); ++i) {
    std::vector<Ex> operands = {a_.integer(Scalar::i32, under_way)};
    const std::vector<Ex> sums = read(i);
    operands.insert(operands.end(), sums.begin(), sums.end());
    assign(i, b_.call(instruction, operands));
  }
}

void GroupSums::store(ProductParts& results, const TileGrid::Place& place) {
  const Ex own_warp = a_.floor_div(thread_, warp);
  const Ex row = b_.let(
      a_.add(a_.add(a_.mul(place.row, a_.integer(tiling_.rows)), a_.mul(own_warp, a_.integer(16))),
             unit_->group()));
  const Ex column =
      b_.let(a_.add(a_.mul(place.column, a_.integer(tiling_.columns)), unit_->neighbours_column()));
  const std::int64_t count = tiling_.columns / 2;
  results.store(*unit_, place, row, column, 1, tiling_.columns / 8,
                [&](std::int64_t q, std::int64_t, std::int64_t c) {
                  MatrixUnit::Sums sums{};
                  std::copy_n(sums_.begin() + (q * count + 4 * c), sums.size(), sums.begin());
                  return sums;
                });
}

}  // namespace weft::compiler
