#include "compiler/schedules/attention_strips.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/thread_indices.h"

/// Attention on the matrix units of sm_90a: four warps have 64 queries, whose products with a tile
/// of keys and with the values of the tile before run behind the threads' backs while these compute
/// the softmax.
namespace weft::compiler {
namespace {

using loop::Accumulator;
using loop::Combine;
using loop::Ex;
using loop::Scalar;

constexpr std::int64_t groups = 2;  ///< of four warps
constexpr std::int64_t threads = AttentionGroups::threads * groups;
constexpr std::int64_t strip = AttentionGroups::rows * groups;  ///< queries of a block
constexpr std::int64_t tile = AttentionGroups::tile;            ///< keys that pass together
constexpr std::int64_t step_depth = AttentionGroups::step_depth;
/// Keys of one tile and values of the one before are read while two more arrive.
constexpr std::int64_t stages = 4;

using Axis = AttentionGroups::Axis;

class AttentionWgmma : AttentionStrips {
 public:
  explicit AttentionWgmma(GroupEmitter& emitter)
      : AttentionStrips(emitter),
        group_products_(b_, device_.type()),
        queries_(device_.loader("queries", device_.matrix(0), strip, 1, threads)),
        keys_(device_.loader("keys", device_.matrix(1), tile, stages, threads, true)),
        values_(device_.loader("values", device_.matrix(2), tile, stages, threads, true)) {}

  void run() {
    phase(x_.n, strip, threads, true, [&] {
      MatrixUnit unit(b_, device_.type(), b_.let(a_.floor_mod(thread_, warp)));
      block_of(unit);
    });
  }

 private:
  void block_of(MatrixUnit& unit) {
    AttentionProducts products(b_, unit);
    const Ex own_row = b_.let(a_.mul(a_.floor_div(thread_, warp), a_.integer(16)));
    const Ex first_row = b_.let(a_.add(first_, own_row));
    const WarpSums results = products.zero(1, x_.e / 8);
    AttentionSoftmax softmax(emitter_, x_, unit, first_row, 1);
    const Ex count = key_tiles(strip, tile);
    const Ex zero = a_.integer(0);
    // Products of a turn may run until those of the next have been waited for.
    TilePipeline pipeline = passing(keys_, values_, x_.m, tile, {stages, stages - 2, true});
    pipeline.keep(queries_, batch_, first_);
    pipeline.fill(zero, count);

    // Queries stay in registers.
    const FragmentSource source = unit.row_source(queries_.buffer(), queries_.pitch(), true);
    std::vector<MatrixUnit::Rows> rows;
    // The probabilities of a tile wait for its values' product, packed.
    std::vector<Accumulator*> waiting;
    for (std::int64_t i = 0; i < tile / step_depth * 4; ++i) {
      waiting.push_back(b_.declare(Scalar::i32, Combine::add, a_.integer(Scalar::i32, 0)));
    }
    const auto multiply = [&](Ex number, bool first) {
      const WarpSums scores = products.zero(1, tile / 8);
      group_products_.fence();
      const Ex stage = pipeline.stage(number);
      for (std::size_t s = 0; s < rows.size(); ++s) {
        group_products_.add(scores, {rows[s].begin(), rows[s].end()}, keys_, stage, Axis::along,
                            static_cast<std::int64_t>(s) * step_depth);
      }
      group_products_.commit();
      if (!first) add_values(results, waiting, number);
      // The scores are there; the values' product goes on.
      group_products_.wait(scores, first ? 0 : 1);
      softmax.mask(scores, b_.let(a_.mul(number, a_.integer(tile))));
      RowFactors factors;
      const WarpValues probabilities = softmax.exponentiate(scores, factors);
      if (!first) {
        group_products_.wait(results, 0);
        softmax.rescale(results, factors);
      }
      for (std::size_t s = 0; 4 * s < waiting.size(); ++s) {
        const MatrixUnit::Rows packed =
            unit.rows_of(probabilities[0][2 * s], probabilities[0][2 * s + 1]);
        for (std::size_t i = 0; i < 4; ++i) b_.assign(waiting[4 * s + i], packed[i]);
      }
    };
    const auto pass = [&](Ex number, bool first) {
      pipeline.arrive();
      if (first) {
        const Ex place = b_.let(queries_.within(own_row, zero));
        for (std::int64_t depth = 0; depth < x_.d; depth += step_depth) {
          rows.push_back(unit.rows(source, place, 0, a_.integer(depth)));
        }
      }
      pipeline.compute(number, [&] { multiply(number, first); });
    };
    pass(zero, true);
    b_.loop(b_.let_within(a_.sub(count, a_.integer(1)), 0, count->maximum - 1),
            [&](Ex i) { pass(b_.let(a_.add(i, a_.integer(1))), false); });
    group_products_.fence();
    add_values(results, waiting, count);
    group_products_.wait(results, 0);

    const RowFactors reciprocals = softmax.finish(batch_);
    store(products, results, first_row, 0, x_.n, x_.e,
          [&](Ex value, std::size_t r, std::size_t half) {
            return a_.mul(value, reciprocals[r][half]);
          });
  }

  /// The values of the tile before `number`.
  void add_values(const WarpSums& results, const std::vector<Accumulator*>& waiting, Ex number) {
    const Ex before = a_.sub(number, a_.integer(1));
    const Ex stage =
        b_.let(a_.floor_mod(b_.let_within(before, 0, divide_up(x_.m, tile) - 1), stages));
    for (std::int64_t key = 0; key < tile; key += step_depth) {
      std::vector<Ex> rows;
      for (std::int64_t i = 0; i < 4; ++i) {
        rows.push_back(b_.read(waiting[static_cast<std::size_t>(key / step_depth * 4 + i)]));
      }
      group_products_.add(results, rows, values_, stage, Axis::across, key);
    }
    group_products_.commit();
  }

  AttentionGroups group_products_;
  TileLoader queries_, keys_, values_;
};

}  // namespace

bool suits_attention_wgmma(const AttentionExtents& extents, const DeviceOptions& options) {
  const auto suits = [](std::int64_t columns) { return columns == 64 || columns == 128; };
  return options.target.capability == 90 && options.target.specific && suits(extents.d) &&
         suits(extents.e) && extents.n >= 64;
}

void schedule_attention_wgmma(GroupEmitter& emitter, const DeviceOptions&) {
  AttentionWgmma(emitter).run();
}

}  // namespace weft::compiler
