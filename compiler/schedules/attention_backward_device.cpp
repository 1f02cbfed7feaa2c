#include <algorithm>

#include "compiler/schedules/attention_gradient.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/schedule.h"

/// Gradients of attention on a GPU's matrix units, in two phases: blocks of queries pass over tiles
/// of keys and values and have the queries' gradients in registers, then blocks of keys pass over
/// tiles of queries and have those of keys and values. Both compute the probabilities again, so
/// that no sum is shared between blocks and results do not depend on their order.
namespace weft::compiler {
namespace {

using loop::Ex;
using loop::Scalar;

constexpr std::int64_t warp = 32;

class AttentionBackward : AttentionGradient {
 public:
  AttentionBackward(GroupEmitter& emitter, const DeviceOptions& options)
      : AttentionGradient(emitter),
        width_(AttentionDevice::padded(x_.d)),
        result_width_(AttentionDevice::padded(x_.e)) {
    const std::int64_t widest = std::max(width_, result_width_);
    tile_ = widest <= 64 ? 64 : 32;
    // Tiles are shared by the warps of a block, but a few blocks do not fill a GPU.
    warps_ = x_.batches * divide_up(std::max(x_.n, x_.m), 128) >= options.processors ? 8 : 4;
    const auto bytes = [&] {
      const std::int64_t rows = 16 * warps_ + 2 * tile_;
      return device_.tile_bytes(rows, width_) + device_.tile_bytes(rows, result_width_);
    };
    if (bytes() > options.shared_bytes()) warps_ = 4;
    strip_ = 16 * warps_;
  }

  void run() {
    const std::int64_t threads = warps_ * warp;
    // Both phases have the same tiles: of the side that a block has, and of the one that passes.
    const AttentionMatrix queries = device_.matrix(0), keys = device_.matrix(1);
    const AttentionMatrix values = device_.matrix(2), gradient = device_.matrix(5);
    if (device_.wanted(0)) {
      TileLoader own = device_.loader("queries", queries, strip_, 1, threads);
      TileLoader own_gradient = device_.loader("gradient", gradient, strip_, 1, threads);
      TileLoader passing = device_.loader("keys", keys, tile_, 2, threads);
      TileLoader passing_values = device_.loader("values", values, tile_, 2, threads);
      phase(x_.n, [&](MatrixUnit& unit) {
        of_queries(unit, own, own_gradient, passing, passing_values);
      });
    }
    if (device_.wanted(1) || device_.wanted(2)) {
      TileLoader own = device_.loader("own_keys", keys, strip_, 1, threads);
      TileLoader own_values = device_.loader("own_values", values, strip_, 1, threads);
      TileLoader passing = device_.loader("passing_queries", queries, tile_, 2, threads);
      TileLoader passing_gradient = device_.loader("passing_gradient", gradient, tile_, 2, threads);
      phase(x_.m,
            [&](MatrixUnit& unit) { of_keys(unit, own, own_values, passing, passing_gradient); });
    }
  }

 private:
  void phase(std::int64_t rows, const std::function<void(MatrixUnit& unit)>& body) {
    const std::int64_t strips = divide_up(rows, strip_);
    b_.phase(x_.batches * strips, warps_ * warp, [&](Ex block, Ex thread) {
      const std::vector<Ex> at = a_.delinearize(block, {strips, x_.batches});
      batch_ = b_.let(at[1]);
      // Causal: last queries see most keys, first keys are seen by most queries.
      const bool backwards = rows == x_.n && x_.causal;
      const Ex strip = backwards ? a_.sub(a_.integer(strips - 1), at[0]) : at[0];
      first_ = b_.let(a_.mul(strip, a_.integer(strip_)));
      thread_ = thread;
      MatrixUnit unit(b_, device_.type(), b_.let(a_.floor_mod(thread, warp)));
      own_row_ = b_.let(a_.mul(a_.floor_div(thread, warp), a_.integer(16)));
      body(unit);
    });
  }

  /// Passes over tiles [begin, count) of the other side: `body(first row, stage)`.
  void passing(TileLoader& own, TileLoader& own_second, TileLoader& tiles, TileLoader& second,
               std::int64_t rows, Ex begin, Ex count,
               const std::function<void(Ex first, Ex stage)>& body) {
    const Ex zero = a_.integer(0);
    const std::int64_t most = divide_up(rows, tile_);
    const auto start = [&](Ex number) {
      const Ex stage = b_.let(a_.floor_mod(number, 2));
      const Ex row = a_.mul(b_.let_within(number, 0, most - 1), a_.integer(tile_));
      tiles.start(stage, batch_, row, zero, thread_);
      second.start(stage, batch_, row, zero, thread_);
    };
    const auto finish = [&](Ex number) {
      const Ex stage = b_.let(a_.floor_mod(number, 2));
      tiles.finish(stage, thread_);
      second.finish(stage, thread_);
    };
    for (TileLoader* loader : {&own, &own_second}) {
      loader->start(zero, batch_, first_, zero, thread_);
      loader->finish(zero, thread_);
    }
    b_.condition(a_.less(begin, count), [&] {
      start(begin);
      finish(begin);
    });
    b_.call(loop::intrinsic("copy_commit"), {});
    b_.loop(b_.let_within(a_.sub(count, begin), 0, most), [&](Ex i) {
      const Ex number = b_.let_within(a_.add(begin, i), 0, most - 1);
      b_.call(loop::intrinsic("copy_wait"), {a_.integer(Scalar::i32, 0)});
      b_.barrier();
      const Ex next = a_.add(number, a_.integer(1));
      b_.condition(a_.less(next, count), [&] { start(next); });
      b_.call(loop::intrinsic("copy_commit"), {});
      body(b_.let(a_.mul(number, a_.integer(tile_))), b_.let(a_.floor_mod(number, 2)));
      if (!tiles.copies() || !second.copies()) {
        b_.condition(a_.less(next, count), [&] { finish(next); });
      }
    });
    // Nothing may be under way when the block ends.
    b_.call(loop::intrinsic("copy_wait"), {a_.integer(Scalar::i32, 0)});
  }

  void of_queries(MatrixUnit& unit, TileLoader& own, TileLoader& own_gradient, TileLoader& keys,
                  TileLoader& values) {
    AttentionProducts products(b_, unit);
    const FragmentSource query_source = unit.row_source(own.buffer(), own.pitch(), true);
    const FragmentSource gradient_source =
        unit.row_source(own_gradient.buffer(), own_gradient.pitch(), true);
    const FragmentSource key_source = unit.column_source(keys.buffer(), keys.pitch(), true);
    const FragmentSource value_source = unit.column_source(values.buffer(), values.pitch(), true);
    // For the last product keys are the contracted axis.
    const FragmentSource across = unit.across_source(keys.buffer(), keys.pitch());
    const Ex first_query = b_.let(own.within(own_row_, a_.integer(0)));
    const Ex first_gradient = b_.let(own_gradient.within(own_row_, a_.integer(0)));
    const WarpSums sums = products.zero(1, width_ / 8);
    const Ex row = b_.let(a_.add(a_.add(first_, own_row_), unit.group()));
    std::array<Statistics, 2> of{};
    for (std::size_t half = 0; half < 2; ++half) {
      of[half] = statistics(a_.add(row, a_.integer(static_cast<std::int64_t>(8 * half))));
    }
    const Ex count = key_tiles(strip_, tile_);
    passing(own, own_gradient, keys, values, x_.m, a_.integer(0), count, [&](Ex first, Ex stage) {
      const Ex first_key = b_.let(keys.stage(stage));
      const WarpSums scores = products.zero(1, tile_ / 8);
      products.add(scores, query_source, first_query, key_source, first_key, width_);
      const WarpSums centred = products.zero(1, tile_ / 8);
      products.add(centred, gradient_source, first_gradient, value_source,
                   b_.let(values.stage(stage)), result_width_);
      const Ex column = b_.let(a_.add(first, a_.mul(unit.thread(), a_.integer(2))));
      WarpValues gradients(1);
      for (std::size_t c = 0; c < scores[0].size(); ++c) {
        std::array<Ex, 4> four{};
        for (std::size_t i = 0; i < 4; ++i) {
          const Ex query = a_.add(row, a_.integer(static_cast<std::int64_t>(8 * (i / 2))));
          const Ex key = a_.add(column, a_.integer(static_cast<std::int64_t>(8 * c + i % 2)));
          four[i] = pair(b_.read(scores[0][c][i]), b_.read(centred[0][c][i]), of[i / 2],
                         visible(query, key, false, x_.m % tile_ != 0))[1];
        }
        gradients[0].push_back(four);
      }
      products.add(sums, gradients, across, first_key);
    });
    store(products, sums, b_.let(a_.add(first_, own_row_)), 0, x_.n, x_.d, x_.scale);
  }

  void of_keys(MatrixUnit& unit, TileLoader& own, TileLoader& own_values, TileLoader& queries,
               TileLoader& gradient) {
    AttentionProducts products(b_, unit);
    const FragmentSource key_source = unit.row_source(own.buffer(), own.pitch(), true);
    const FragmentSource value_source =
        unit.row_source(own_values.buffer(), own_values.pitch(), true);
    const FragmentSource query_source = unit.column_source(queries.buffer(), queries.pitch(), true);
    const FragmentSource gradient_source =
        unit.column_source(gradient.buffer(), gradient.pitch(), true);
    // For the last products queries are the contracted axis.
    const FragmentSource query_across = unit.across_source(queries.buffer(), queries.pitch());
    const FragmentSource gradient_across = unit.across_source(gradient.buffer(), gradient.pitch());
    const Ex first_key = b_.let(own.within(own_row_, a_.integer(0)));
    const Ex first_value = b_.let(own_values.within(own_row_, a_.integer(0)));
    const bool keys_wanted = device_.wanted(1), values_wanted = device_.wanted(2);
    WarpSums key_sums, value_sums;
    if (keys_wanted) key_sums = products.zero(1, width_ / 8);
    if (values_wanted) value_sums = products.zero(1, result_width_ / 8);
    const Ex row = b_.let(a_.add(a_.add(first_, own_row_), unit.group()));
    const std::int64_t most = divide_up(x_.n, tile_);
    const Ex begin = first_query_tile(tile_);
    const bool ragged = x_.n % tile_ != 0;
    passing(
        own, own_values, queries, gradient, x_.n, begin, a_.integer(most), [&](Ex first, Ex stage) {
          const Ex first_query = b_.let(queries.stage(stage));
          const Ex first_gradient = b_.let(gradient.stage(stage));
          const WarpSums scores = products.zero(1, tile_ / 8);
          products.add(scores, key_source, first_key, query_source, first_query, width_);
          const WarpSums centred = products.zero(1, tile_ / 8);
          products.add(centred, value_source, first_value, gradient_source, first_gradient,
                       result_width_);
          const Ex column = b_.let(a_.add(first, a_.mul(unit.thread(), a_.integer(2))));
          WarpValues probabilities(1), gradients(1);
          for (std::size_t c = 0; c < scores[0].size(); ++c) {
            std::array<Ex, 4> p{}, g{};
            std::array<Statistics, 2> of{};
            for (std::size_t i = 0; i < 2; ++i) {
              of[i] = statistics(a_.add(column, a_.integer(static_cast<std::int64_t>(8 * c + i))));
            }
            for (std::size_t i = 0; i < 4; ++i) {
              const Ex key = a_.add(row, a_.integer(static_cast<std::int64_t>(8 * (i / 2))));
              const Ex query = a_.add(column, a_.integer(static_cast<std::int64_t>(8 * c + i % 2)));
              const std::array<Ex, 2> both =
                  pair(b_.read(scores[0][c][i]), b_.read(centred[0][c][i]), of[i % 2],
                       visible(query, key, ragged, false));
              p[i] = both[0];
              g[i] = both[1];
            }
            probabilities[0].push_back(p);
            gradients[0].push_back(g);
          }
          if (values_wanted) {
            products.add(value_sums, probabilities, gradient_across, first_gradient);
          }
          if (keys_wanted) products.add(key_sums, gradients, query_across, first_query);
        });
    if (keys_wanted)
      store(products, key_sums, b_.let(a_.add(first_, own_row_)), 1, x_.m, x_.d, x_.scale);
    if (values_wanted)
      store(products, value_sums, b_.let(a_.add(first_, own_row_)), 2, x_.m, x_.e, 1);
  }

  std::int64_t width_, result_width_;  ///< of a row of keys and of values, padded
  std::int64_t warps_ = 4;
  std::int64_t strip_ = 0;  ///< rows of a block
  std::int64_t tile_ = 0;   ///< rows that pass together
  Ex thread_ = nullptr;
  Ex own_row_ = nullptr;  ///< the warp's first in the block
};

}  // namespace

void schedule_attention_backward_device(GroupEmitter& emitter, const DeviceOptions& options) {
  const bool f32 = emitter.group().anchor->operand_type(0).dtype == DType::f32;
  if (f32 && !options.tf32) {
    schedule_attention_exact_device(emitter, options);
  } else if (!f32 &&
             suits_attention_backward_wgmma(AttentionExtents(*emitter.group().anchor), options)) {
    schedule_attention_backward_wgmma(emitter, options);
  } else {
    AttentionBackward(emitter, options).run();
  }
}

}  // namespace weft::compiler
