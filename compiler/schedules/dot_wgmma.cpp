#include <algorithm>
#include <functional>
#include <string>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/group_product.h"

/// Products of f16 and bf16 on the matrix units of sm_90a whose operands are brought by the threads
/// that multiply, because they are computed on the way or do not lie in memory as tensor copies
/// want them. One product is under way while the threads ask for the tiles that come after.
namespace weft::compiler {
namespace {

using loop::Ex;
using loop::ExprKind;
using loop::Scalar;

constexpr std::int64_t most_stages = 5;
/// One that is read, one that the product before may still read, one that is filled.
constexpr std::int64_t least_stages = 3;

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
        results_(emitter, product, tiling_.parts),
        sums_(emitter, product, type, tiling_) {
    const auto loader = [&](const TiledOperand& operand, std::int64_t free) {
      return TileLoader(emitter, operand,
                        {.storage = type,
                         .free = free,
                         .depth = group_depth,
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
      sums_.enter(thread);
      sums_.clear();
      multiply(place);
      sums_.store(results_, place);
    });
    results_.add_up();
  }

 private:
  static bool copied(const TileLoader& loader) { return loader.copies(); }

  GroupTiling choose(GroupEmitter& emitter) const {
    std::int64_t held_rows = 0, held_columns = 0;  // operands that come through registers
    const auto held = [&](const TiledOperand& operand) {
      return TileLoader::route(emitter, operand, type_, TileOrder::as_stored).copies ? 0 : 1;
    };
    for (const TiledOperand& operand : product_.rows) held_rows += held(operand);
    for (const TiledOperand& operand : product_.columns) held_columns += held(operand);
    return choose_tiling(product_, false, [&](const GroupTiling& t) -> std::int64_t {
      const std::int64_t waiting =
          (held_rows * t.rows + held_columns * t.columns) * group_depth / t.threads();
      constexpr std::int64_t most_registers = 160;
      if (product_.products() * t.columns / 2 + waiting > most_registers) return 0;
      const std::int64_t resident = t.rows * t.columns <= 128 * 128 ? 2 : 1;
      const std::int64_t stages =
          (product_.shared_bytes / resident - 2048) / stage_bytes(product_, t);
      return stages < least_stages ? 0 : std::min(most_stages, stages);
    });
  }

  void multiply(const TileGrid::Place& place) {
    const std::int64_t total = divide_up(p_.depth(), group_depth);
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
          a_.mul(b_.let_within(a_.add(first, number), 0, total - 1), a_.integer(group_depth));
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
      const Ex stage = b_.let(a_.floor_mod(number, stages));
      sums_.multiply(tiles(rows_, stage), tiles(columns_, stage));
      sums_.wait(1);
      if (!all) if_there(next, [&] { finish(next); });
    });
    sums_.wait(0);
  }

  static std::vector<GroupTile> tiles(const std::vector<TileLoader>& loaders, Ex stage) {
    std::vector<GroupTile> found;
    for (const TileLoader& loader : loaders) {
      found.push_back({loader.buffer(), loader.stage(stage), loader.depth_inner()});
    }
    return found;
  }

  loop::Arena& a_;
  loop::Builder& b_;
  const DeviceProduct& product_;
  const Product& p_;
  DType type_;
  GroupTiling tiling_;
  TileGrid grid_;
  ProductParts results_;
  GroupSums sums_;
  std::vector<TileLoader> rows_, columns_;
  Ex thread_ = nullptr;
};

}  // namespace

bool suits_dot_wgmma(const DeviceProduct& product, const DeviceOptions& options) {
  const Product& p = product.p;
  const DType type = p.node->results[0].dtype;
  return options.target.capability == 90 && options.target.specific &&
         (type == DType::f16 || type == DType::bf16) && p.rows() >= group_rows &&
         p.columns() >= group_rows && p.depth() >= group_depth;
}

void schedule_dot_wgmma(GroupEmitter& emitter, const DeviceProduct& product, DType type) {
  WgmmaProduct(emitter, product, type).run();
}

}  // namespace weft::compiler
