#include <algorithm>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/group_product.h"

/// Products of f16 and bf16 on the matrix units of sm_90a whose operands are brought by the threads
/// that multiply, because they are computed on the way or do not lie in memory as tensor copies
/// want them. One product is under way while the threads ask for the tiles that come after.
namespace weft::compiler {
namespace {

using loop::Ex;

constexpr std::int64_t most_stages = 5;
/// One that is read, one that the product before may still read, one that is filled.
constexpr std::int64_t least_stages = 3;

class WgmmaProduct {
 public:
  WgmmaProduct(GroupEmitter& emitter, const DeviceProduct& product, DType type)
      : a_(emitter.arena()),
        b_(emitter.builder()),
        product_(product),
        type_(type),
        tiling_(choose(emitter)),
        grid_(product, tiling_),
        results_(emitter, product, tiling_.parts),
        sums_(emitter, product, type, tiling_),
        operands_(emitter, product, tiling_, [&](const TiledOperand&) {
          return TileShape{.storage = type,

                           .threads = tiling_.threads(),
                           .exchanged = true};
        }) {}

  void run() {
    b_.phase(grid_.blocks(), tiling_.threads(), [&](Ex block, Ex thread) {
      const TileGrid::Place place = grid_.place(b_, block);
      sums_.enter(thread);
      sums_.clear();
      // The product before the last has ended in all warps where a stage is filled again.
      const TilePipeline::Depth turns{
          .stages = tiling_.stages, .ahead = tiling_.stages - 2, .group_products = true};
      operands_.for_steps(turns, place, thread, [&](Ex stage) {
        sums_.multiply(group_tiles(operands_.rows(), stage),
                       group_tiles(operands_.columns(), stage));
        sums_.wait(1);
      });
      sums_.wait(0);
      sums_.store(results_, place);
    });
    results_.add_up();
  }

 private:
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

  loop::Arena& a_;
  loop::Builder& b_;
  const DeviceProduct& product_;
  DType type_;
  GroupTiling tiling_;
  TileGrid grid_;
  ProductParts results_;
  GroupSums sums_;
  OperandTiles operands_;
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
