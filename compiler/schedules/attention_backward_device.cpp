#include <algorithm>

#include "compiler/schedules/attention_gradient.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/thread_indices.h"

/// Gradients of attention on a GPU's matrix units, in two phases: blocks of queries pass over tiles
/// of keys and values and have the queries' gradients in registers, then blocks of keys pass over
/// tiles of queries and have those of keys and values. Both compute the probabilities again, so
/// that no sum is shared between blocks and results do not depend on their order.
namespace weft::compiler {
namespace {

using loop::Ex;

class AttentionBackward : AttentionGradient {
 public:
  AttentionBackward(GroupEmitter& emitter, const DeviceOptions& options)
      : AttentionGradient(emitter),
        width_(AttentionDevice::padded(x_.d)),
        result_width_(AttentionDevice::padded(x_.e)) {
    const std::int64_t widest = std::max(width_, result_width_);
    const std::int64_t tile = widest <= 64 ? 64 : 32;
    // Tiles are shared by the warps of a block, but a few blocks do not fill a GPU.
    std::int64_t warps =
        x_.batches * divide_up(std::max(x_.n, x_.m), 128) >= options.processors ? 8 : 4;
    const std::int64_t rows = 16 * warps + 2 * tile;
    const std::int64_t bytes =
        device_.tile_bytes(rows, width_) + device_.tile_bytes(rows, result_width_);
    if (bytes > options.shared_bytes()) warps = 4;
    layout_ = {.strip = 16 * warps,
               .tile = tile,
               .threads = warps * warp,
               .turns = {.stages = 2, .ahead = 1}};
  }

  void run() {
    AttentionGradient::run([&](Tiles& tiles) { of_queries(enter(), tiles); },
                           [&](Tiles& tiles) { of_keys(enter(), tiles); });
  }

 private:
  MatrixUnit enter() {
    MatrixUnit unit(b_, device_.type(), b_.let(a_.floor_mod(thread_, warp)));
    own_row_ = b_.let(a_.mul(a_.floor_div(thread_, warp), a_.integer(16)));
    return unit;
  }

  void of_queries(MatrixUnit unit, Tiles& tiles) {
    const TileLoader &own = tiles.own, &own_gradient = tiles.own_second;
    const TileLoader &keys = tiles.passing, &values = tiles.passing_second;
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
    const Ex count = key_tiles(layout_.strip, layout_.tile);
    const bool ragged = x_.m % layout_.tile != 0;
    pass(tiles, x_.m, a_.integer(0), count, [&](Ex first, Ex, Ex stage) {
      const Ex first_key = b_.let(keys.stage(stage));
      const WarpSums scores = products.zero(1, layout_.tile / 8);
      products.add(scores, query_source, first_query, key_source, first_key, width_);
      const WarpSums centred = products.zero(1, layout_.tile / 8);
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
                         mask_.visible(query, key, false, ragged))[1];
        }
        gradients[0].push_back(four);
      }
      products.add(sums, gradients, across, first_key);
    });
    store(products, sums, b_.let(a_.add(first_, own_row_)), 0, x_.n, x_.d, x_.scale);
  }

  void of_keys(MatrixUnit unit, Tiles& tiles) {
    const TileLoader &own = tiles.own, &own_values = tiles.own_second;
    const TileLoader &queries = tiles.passing, &gradient = tiles.passing_second;
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
    const Ex end = a_.integer(divide_up(x_.n, layout_.tile));
    const bool ragged = x_.n % layout_.tile != 0;
    pass(tiles, x_.n, first_query_tile(layout_.tile), end, [&](Ex first, Ex, Ex stage) {
      const Ex first_query = b_.let(queries.stage(stage));
      const Ex first_gradient = b_.let(gradient.stage(stage));
      const WarpSums scores = products.zero(1, layout_.tile / 8);
      products.add(scores, key_source, first_key, query_source, first_query, width_);
      const WarpSums centred = products.zero(1, layout_.tile / 8);
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
          const std::array<Ex, 2> both = pair(b_.read(scores[0][c][i]), b_.read(centred[0][c][i]),
                                              of[i % 2], mask_.visible(query, key, ragged, false));
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
  Ex own_row_ = nullptr;               ///< the warp's first in the block
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
