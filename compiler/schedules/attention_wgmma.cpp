#include <optional>
#include <string>

#include "compiler/schedules/attention_device.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/schedule.h"

/// Attention on the matrix units of sm_90a: four warps have 64 queries, whose products with a tile
/// of keys and with the values of the tile before run behind the threads' backs while these compute
/// the softmax.
namespace weft::compiler {
namespace {

using loop::Accumulator;
using loop::Combine;
using loop::Ex;
using loop::Scalar;

constexpr std::int64_t warp = 32;
constexpr std::int64_t groups = 2;  ///< of four warps
constexpr std::int64_t threads = AttentionGroups::threads * groups;
constexpr std::int64_t strip = AttentionGroups::rows * groups;  ///< queries of a block
constexpr std::int64_t tile = AttentionGroups::tile;            ///< keys that pass together
constexpr std::int64_t step_depth = AttentionGroups::step_depth;
/// Keys of one tile and values of the one before are read while two more arrive.
constexpr std::int64_t stages = 4;
constexpr std::int64_t ahead = stages - 2;

using Axis = AttentionGroups::Axis;

class AttentionWgmma {
 public:
  explicit AttentionWgmma(GroupEmitter& emitter)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        x_(*emitter.group().anchor),
        device_(emitter, x_),
        group_products_(b_, device_.type()),
        queries_(device_.loader("queries", device_.matrix(0), strip, 1, threads)),
        keys_(device_.loader("keys", device_.matrix(1), tile, stages, threads, true)),
        values_(device_.loader("values", device_.matrix(2), tile, stages, threads, true)) {}

  void run() {
    const std::int64_t strips = divide_up(x_.n, strip);
    b_.phase(x_.batches * strips, threads, [&](Ex block, Ex thread) {
      // Causal: strips that see most keys first.
      const std::vector<Ex> at = a_.delinearize(block, {strips, x_.batches});
      batch_ = b_.let(at[1]);
      first_ = b_.let(a_.mul(a_.sub(a_.integer(strips - 1), at[0]), a_.integer(strip)));
      thread_ = thread;
      MatrixUnit unit(b_, device_.type(), b_.let(a_.floor_mod(thread, warp)));
      block_of(unit);
    });
  }

 private:
  void call(const char* name) { b_.call(loop::intrinsic(name), {}); }

  void block_of(MatrixUnit& unit) {
    AttentionProducts products(b_, unit);
    const Ex own_row = b_.let(a_.mul(a_.floor_div(thread_, warp), a_.integer(16)));
    const Ex first_row = b_.let(a_.add(first_, own_row));
    const WarpSums results = products.zero(1, x_.e / 8);
    AttentionSoftmax softmax(emitter_, x_, unit, first_row, 1);
    const std::int64_t most = divide_up(x_.m, tile);
    Ex count = a_.integer(most);
    if (x_.causal) {
      const Ex last = a_.add(first_, a_.integer(strip + x_.offset() + tile - 1));
      count =
          b_.let_within(a_.binary(loop::Binary::minimum, count, a_.floor_div(last, tile)), 1, most);
    }
    const Ex zero = a_.integer(0);
    const auto start = [&](Ex number) {
      const Ex stage = b_.let(a_.floor_mod(number, stages));
      const Ex key = a_.mul(b_.let_within(number, 0, most - 1), a_.integer(tile));
      keys_.start(stage, batch_, key, zero, thread_);
      values_.start(stage, batch_, key, zero, thread_);
    };
    const auto finish = [&](Ex number) {
      const Ex stage = b_.let(a_.floor_mod(number, stages));
      keys_.finish(stage, thread_);
      values_.finish(stage, thread_);
    };
    const bool copied = keys_.copies() && values_.copies();
    queries_.start(zero, batch_, first_, zero, thread_);
    queries_.finish(zero, thread_);
    for (std::int64_t i = 0; i < ahead; ++i) {
      const Ex number = a_.integer(i);
      b_.condition(a_.less(number, count), [&] {
        start(number);
        finish(number);
      });
      call("copy_commit");
    }

    // Queries stay in registers.
    const FragmentSource source = unit.row_source(queries_.buffer(), queries_.pitch(), true);
    std::vector<MatrixUnit::Rows> rows;
    // The probabilities of a tile wait for its values' product, packed.
    std::vector<Accumulator*> waiting;
    for (std::int64_t i = 0; i < tile / step_depth * 4; ++i) {
      waiting.push_back(b_.declare(Scalar::i32, Combine::add, a_.integer(Scalar::i32, 0)));
    }
    const auto pass = [&](Ex number, bool first) {
      b_.call(loop::intrinsic("copy_wait"), {a_.integer(Scalar::i32, ahead - 1)});
      call("fence_async_shared");
      // This tile is there, and products of the tile before the last have ended in all warps.
      b_.barrier();
      if (first) {
        const Ex place = b_.let(queries_.within(own_row, zero));
        for (std::int64_t depth = 0; depth < x_.d; depth += step_depth) {
          rows.push_back(unit.rows(source, place, 0, a_.integer(depth)));
        }
      }
      const Ex next = a_.add(number, a_.integer(ahead));
      b_.condition(a_.less(next, count), [&] { start(next); });
      call("copy_commit");

      const WarpSums scores = products.zero(1, tile / 8);
      group_products_.fence();
      const Ex stage = b_.let(a_.floor_mod(number, stages));
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
      if (!copied) b_.condition(a_.less(next, count), [&] { finish(next); });
    };
    pass(zero, true);
    b_.loop(b_.let_within(a_.sub(count, a_.integer(1)), 0, most - 1),
            [&](Ex i) { pass(b_.let(a_.add(i, a_.integer(1))), false); });
    group_products_.fence();
    add_values(results, waiting, count);
    group_products_.wait(results, 0);

    const RowFactors reciprocals = softmax.finish(batch_);
    RowStore row_store(b_, x_.n, x_.e, device_.store_width(0));
    products.store(
        results, first_row, row_store,
        [&](Ex value, std::size_t r, std::size_t half) {
          return a_.mul(value, reciprocals[r][half]);
        },
        [&](Ex row, Ex column, const std::vector<Ex>& value) {
          device_.store_result(0, batch_, row, column, value[0]);
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

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  AttentionExtents x_;
  AttentionDevice device_;
  AttentionGroups group_products_;
  TileLoader queries_, keys_, values_;
  Ex batch_ = nullptr, first_ = nullptr, thread_ = nullptr;
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
