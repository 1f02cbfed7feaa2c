#include <algorithm>
#include <functional>
#include <optional>

#include "compiler/schedules/copied_operand.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/group_product.h"
#include "compiler/schedules/thread_indices.h"

/// Products of f16 and bf16 on the matrix units of sm_90a whose operands come by tensor copies. A
/// thread of its own asks for tiles, as far ahead as there are stages; groups of four warps
/// multiply them. Two mbarriers a stage are all that they have to do with each other: one says that
/// the stage's tiles are there, one that all warps are done with them. Where the result has more
/// tiles than there are multiprocessors a block has several in turn, and the operands of the next
/// are on their way while one is stored.
namespace weft::compiler {
namespace {

using loop::Ex;
using loop::Scalar;

constexpr std::int64_t group_warps = group_threads / warp;
constexpr std::int64_t most_stages = 6;
/// One that is read, one that the product before may still read, one that is filled.
constexpr std::int64_t least_stages = 3;
/// For mbarriers, and so that the first tile is at a multiple of its alignment.
constexpr std::int64_t reserved_bytes = 2048;

/// Registers of a thread after groups have given and taken; all of a multiprocessor's, for one
/// block of so many groups that multiply and one that copies.
struct RegisterShare {
  std::int64_t copying, multiplying;
};
std::optional<RegisterShare> register_share(std::int64_t groups) {
  if (groups == 2) return RegisterShare{40, 232};
  if (groups == 3) return RegisterShare{32, 160};
  return std::nullopt;  // as many as a thread can have
}

GroupTiling choose(const DeviceProduct& product) {
  return choose_tiling(product, true, [&](const GroupTiling& t) -> std::int64_t {
    const std::int64_t stages = (product.shared_bytes - reserved_bytes) / stage_bytes(product, t);
    return stages < least_stages ? 0 : std::min(most_stages, stages);
  });
}

class CopiedProduct {
 public:
  CopiedProduct(GroupEmitter& emitter, const DeviceProduct& product, DType type,
                const GroupTiling& tiling, const std::vector<OperandView>& rows,
                const std::vector<OperandView>& columns)
      : a_(emitter.arena()),
        b_(emitter.builder()),
        tiling_(tiling),
        grid_(product, tiling_),
        results_(emitter, product, tiling_.parts),
        sums_(emitter, product, type, tiling_),
        steps_(product, tiling_) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      rows_.emplace_back(emitter, product.rows[i], rows[i], type, tiling_.rows, tiling_.stages);
    }
    for (std::size_t i = 0; i < columns.size(); ++i) {
      columns_.emplace_back(emitter, product.columns[i], columns[i], type, tiling_.columns,
                            tiling_.stages);
    }
    barriers_ = b_.kernel().shared("barriers", DType::i64, 2 * tiling_.stages);
    // Stages are counted through all tiles of a block: each must have as many.
    blocks_ = steps_.even() ? std::min(grid_.blocks(), product.processors) : grid_.blocks();
  }

  void run() {
    const std::int64_t multiplying = tiling_.threads();
    b_.phase(blocks_, multiplying + group_threads, [&](Ex block, Ex thread) {
      prepare(thread);
      const auto registers = register_share(tiling_.groups());
      b_.condition(a_.less_equal(a_.integer(multiplying), thread), [&] {
        if (registers) set_registers("registers_lower", registers->copying);
        b_.condition(a_.equal(thread, a_.integer(multiplying)), [&] { copy(block); });
      });
      b_.condition(a_.less(thread, a_.integer(multiplying)), [&] {
        if (registers) set_registers("registers_raise", registers->multiplying);
        multiply(block, b_.let_within(thread, 0, multiplying - 1));
      });
    });
    results_.add_up();
  }

 private:
  /// A stage of the ring: its number, and in which of two turns it is there.
  struct Stage {
    Ex number, turn;
  };

  void set_registers(const char* name, std::int64_t count) {
    b_.call(loop::intrinsic(name), {a_.integer(Scalar::i32, count)});
  }

  loop::Address filled(Ex stage) const { return {barriers_, stage}; }
  loop::Address emptied(Ex stage) const {
    return {barriers_, a_.add(stage, a_.integer(tiling_.stages))};
  }

  void prepare(Ex thread) {
    b_.condition(a_.equal(thread, a_.integer(0)), [&] {
      for (std::int64_t stage = 0; stage < tiling_.stages; ++stage) {
        b_.call(loop::intrinsic("mbarrier_initialise"), {a_.integer(Scalar::i32, 1)},
                {filled(a_.integer(stage))});
        b_.call(loop::intrinsic("mbarrier_initialise"),
                {a_.integer(Scalar::i32, tiling_.groups() * group_warps)},
                {emptied(a_.integer(stage))});
      }
      b_.call(loop::intrinsic("mbarrier_fence"), {});
    });
    b_.barrier();
  }

  /// The `number`th of the stages that a block has one after the other.
  Stage stage_of(Ex number) {
    const Ex stage = b_.let(a_.floor_mod(number, tiling_.stages));
    const Ex turn = a_.floor_mod(a_.floor_div(number, tiling_.stages), 2);
    return {stage, b_.let(a_.cast(turn, Scalar::i32))};
  }

  /// For each tile of the block: where it is, the steps that it has, the number of its first stage.
  void for_tiles(
      Ex block, const std::function<void(const TileGrid::Place& place,
                                         const ProductSteps::Range& steps, Ex first_stage)>& body) {
    const std::int64_t tiles = grid_.blocks();
    const auto one = [&](Ex tile, Ex first_stage) {
      const TileGrid::Place place = grid_.place(b_, tile);
      body(place, steps_.of_part(b_, place.part), first_stage);
    };
    if (blocks_ == tiles) return one(block, a_.integer(0));
    const Ex count = b_.let_within(
        a_.add(a_.floor_div(a_.sub(a_.integer(tiles - 1), block), blocks_), a_.integer(1)),
        tiles / blocks_, divide_up(tiles, blocks_));
    b_.loop(count, [&](Ex turn) {
      const Ex tile = a_.add(a_.mul(turn, a_.integer(blocks_)), block);
      one(b_.let_within(tile, 0, tiles - 1), b_.let(a_.mul(turn, a_.integer(steps_.of_each))));
    });
  }

  /// What the thread does that asks for tiles.
  void copy(Ex block) {
    std::int64_t bytes = 0;
    for (const TileCopies& copies : rows_) bytes += copies.bytes();
    for (const TileCopies& copies : columns_) bytes += copies.bytes();
    for_tiles(
        block, [&](const TileGrid::Place& place, const ProductSteps::Range& steps, Ex first_stage) {
          const Ex row = b_.let(a_.mul(place.row, a_.integer(tiling_.rows)));
          const Ex column = b_.let(a_.mul(place.column, a_.integer(tiling_.columns)));
          b_.loop(steps.count, [&](Ex step) {
            const Stage stage = stage_of(a_.add(first_stage, step));
            // In the first turn this is of a phase before the first, which counts as complete.
            b_.call(loop::intrinsic("mbarrier_wait"),
                    {a_.sub(a_.integer(Scalar::i32, 1), stage.turn)}, {emptied(stage.number)});
            b_.call(loop::intrinsic("mbarrier_arrive_expect"), {a_.integer(Scalar::i32, bytes)},
                    {filled(stage.number)});
            const Ex depth = steps_.element(b_, steps, step);
            for (TileCopies& copies : rows_) {
              copies.start(stage.number, place.batch, row, depth, filled(stage.number));
            }
            for (TileCopies& copies : columns_) {
              copies.start(stage.number, place.batch, column, depth, filled(stage.number));
            }
          });
        });
  }

  /// What a group does that multiplies.
  void multiply(Ex block, Ex thread) {
    sums_.enter(thread);
    const Ex first_lane = b_.let(a_.equal(sums_.lane(), a_.integer(0)));
    const auto release = [&](Ex number, Ex condition) {
      const Ex stage = b_.let(a_.floor_mod(number, tiling_.stages));
      b_.condition(condition,
                   [&] { b_.call(loop::intrinsic("mbarrier_arrive"), {}, {emptied(stage)}); });
    };
    for_tiles(
        block, [&](const TileGrid::Place& place, const ProductSteps::Range& steps, Ex first_stage) {
          sums_.clear();
          b_.loop(steps.count, [&](Ex step) {
            const Ex number = a_.add(first_stage, step);
            const Stage stage = stage_of(number);
            b_.call(loop::intrinsic("mbarrier_wait"), {stage.turn}, {filled(stage.number)});
            sums_.multiply(group_tiles(rows_, stage.number), group_tiles(columns_, stage.number));
            sums_.wait(1);
            // The product before has ended in this warp.
            const Ex before = b_.let_within(
                a_.binary(loop::Binary::maximum, a_.sub(number, a_.integer(1)), a_.integer(0)), 0,
                std::max<std::int64_t>(number->maximum - 1, 0));
            release(before, a_.logical_and(first_lane, a_.less(a_.integer(0), step)));
          });
          sums_.wait(0);
          release(a_.add(first_stage, a_.sub(steps.count, a_.integer(1))), first_lane);
          sums_.store(results_, place);
        });
  }

  loop::Arena& a_;
  loop::Builder& b_;
  GroupTiling tiling_;
  TileGrid grid_;
  ProductParts results_;
  GroupSums sums_;
  ProductSteps steps_;
  std::vector<TileCopies> rows_, columns_;
  const loop::Buffer* barriers_ = nullptr;
  std::int64_t blocks_ = 0;  ///< as many as there are multiprocessors, or tiles
};

}  // namespace

bool schedule_dot_wgmma_copies(GroupEmitter& emitter, const DeviceProduct& product, DType type) {
  std::vector<OperandView> rows, columns;
  for (const bool of_columns : {false, true}) {
    for (const TiledOperand& operand : of_columns ? product.columns : product.rows) {
      const auto view = view_of(emitter, operand, product.p, of_columns, type);
      if (!view) return false;
      (of_columns ? columns : rows).push_back(*view);
    }
  }
  const GroupTiling tiling = choose(product);
  if (tiling.rows == 0) return false;
  CopiedProduct(emitter, product, type, tiling, rows, columns).run();
  return true;
}

}  // namespace weft::compiler
