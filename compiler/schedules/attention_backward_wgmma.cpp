#include <algorithm>
#include <limits>

#include "compiler/schedules/attention_gradient.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/thread_indices.h"

/// The gradients of attention on the matrix units of sm_90a, in the two phases of
/// attention_backward_device.cpp. Four warps have 64 rows of their side in shared memory; their
/// sums, scores and the scores' gradients are registers. While one group's threads compute
/// probabilities, products of the others run.
namespace weft::compiler {
namespace {

using loop::Ex;
using Axis = AttentionGroups::Axis;

constexpr std::int64_t tile = AttentionGroups::tile;
constexpr std::int64_t step_depth = AttentionGroups::step_depth;
/// A tile that is read, one that products of the turn before may still read, and those that arrive.
constexpr std::int64_t most_stages = 4;
constexpr std::int64_t least_stages = 3;

/// Shared memory of a block: two matrices of its own rows, two of tiles that pass, and for each
/// query of two tiles what its probabilities are made of.
std::int64_t shared_bytes(const AttentionExtents& x, std::int64_t strip, std::int64_t stages) {
  return 2 * (x.d + x.e) * (strip + stages * tile) + 2 * 2 * tile * 4;
}

/// What does not fit in 1 KiB less than the whole may not: tiles lie at multiples of that.
std::int64_t most_bytes(const DeviceOptions& options) { return options.shared_bytes() - 1024; }

class AttentionBackwardWgmma : AttentionGradient {
 public:
  AttentionBackwardWgmma(GroupEmitter& emitter, const DeviceOptions& options)
      : AttentionGradient(emitter), group_products_(b_, device_.type()) {
    // One group's threads have more registers than they need, but a few blocks do not fill a GPU.
    const std::int64_t wide = 2 * AttentionGroups::rows;
    const bool many = x_.batches * divide_up(std::max(x_.n, x_.m), wide) >= options.processors;
    const std::int64_t groups = many ? 2 : 1;
    const std::int64_t strip = groups * AttentionGroups::rows;
    const bool fits = shared_bytes(x_, strip, most_stages) <= most_bytes(options);
    const std::int64_t stages = fits ? most_stages : least_stages;
    // Products of a turn may run until those of the next have been waited for.
    layout_ = {.strip = strip,
               .tile = tile,
               .threads = groups * AttentionGroups::threads,
               .turns = {stages, stages - 2, true},
               .exchanged = true};
  }

  void run() {
    AttentionGradient::run([&](Tiles& tiles) { of_queries(enter(), tiles); },
                           [&](Tiles& tiles) { of_keys(enter(), tiles); });
  }

 private:
  MatrixUnit enter() {
    own_group_ = b_.let(
        a_.mul(a_.floor_div(thread_, AttentionGroups::threads), a_.integer(AttentionGroups::rows)));
    first_row_ = b_.let(a_.add(first_, a_.mul(a_.floor_div(thread_, warp), a_.integer(16))));
    return {b_, device_.type(), b_.let(a_.floor_mod(thread_, warp))};
  }

  /// Scores of the tile, and the products that their gradients are made of, of which both are there
  /// in the end; as are all products before.
  void products_of_tile(const WarpSums& scores, const WarpSums& centred, const Tiles& tiles,
                        std::int64_t depth, std::int64_t second_depth, Ex stage) {
    group_products_.settle(scores);
    group_products_.settle(centred);
    group_products_.fence();
    group_products_.add(scores, tiles.own, layout_.strip, own_group_, tiles.passing, stage, depth);
    group_products_.add(centred, tiles.own_second, layout_.strip, own_group_, tiles.passing_second,
                        stage, second_depth);
    group_products_.commit();
    group_products_.wait(scores, 0);
    group_products_.wait(centred, 0);
  }

  /// The score of what is not seen, so that its probability is 0.
  double lowest() const {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    return x_.scale > 0 ? -infinity : infinity;
  }

  /// sums += values (packed row fragments, four registers each 16 columns) by the tile's columns.
  void add_across(const WarpSums& sums, const std::vector<MatrixUnit::Rows>& values,
                  const TileLoader& passing, Ex stage) {
    for (std::size_t s = 0; s < values.size(); ++s) {
      group_products_.add(sums, {values[s].begin(), values[s].end()}, passing, stage, Axis::across,
                          static_cast<std::int64_t>(s) * step_depth);
    }
  }

  void of_queries(MatrixUnit unit, Tiles& tiles) {
    AttentionProducts products(b_, unit);
    const WarpSums sums = products.zero(1, x_.d / 8);
    const Ex row = b_.let(a_.add(first_row_, unit.group()));
    const std::array<Statistics, 2> of = {statistics(row), statistics(a_.add(row, a_.integer(8)))};
    const Ex count = key_tiles(layout_.strip, tile);
    const bool ragged = x_.m % tile != 0;
    const auto seen = [&](Ex query, Ex key) { return mask_.visible(query, key, false, ragged); };
    pass(tiles, x_.m, a_.integer(0), count, [&](Ex first, Ex, Ex stage) {
      const WarpSums scores = products.zero(1, tile / 8), centred = products.zero(1, tile / 8);
      products_of_tile(scores, centred, tiles, x_.d, x_.e, stage);
      const Ex column = b_.let(a_.add(first, a_.mul(unit.thread(), a_.integer(2))));
      if (const Ex hidden = mask_.hides_keys(first_row_, first, tile)) {
        b_.condition(hidden, [&] { mask_.hide(scores, row, column, lowest(), seen); });
      }
      std::vector<MatrixUnit::Rows> gradients;
      for (std::size_t c = 0; c < scores[0].size(); c += 2) {
        std::array<std::array<Ex, 4>, 2> both{};
        for (std::size_t i = 0; i < 8; ++i) {
          both[i / 4][i % 4] = pair(b_.read(scores[0][c + i / 4][i % 4]),
                                    b_.read(centred[0][c + i / 4][i % 4]), of[i % 4 / 2])[1];
        }
        gradients.push_back(unit.rows_of(both[0], both[1]));
      }
      group_products_.fence();
      add_across(sums, gradients, tiles.passing, stage);
      group_products_.commit();
    });
    group_products_.wait(sums, 0);
    store(products, sums, first_row_, 0, x_.n, x_.d, x_.scale);
  }

  void of_keys(MatrixUnit unit, Tiles& tiles) {
    statistics_ = b_.kernel().shared("statistics", DType::f32, 2 * 2 * tile);
    AttentionProducts products(b_, unit);
    const bool keys_wanted = device_.wanted(1), values_wanted = device_.wanted(2);
    WarpSums key_sums, value_sums;
    if (keys_wanted) key_sums = products.zero(1, x_.d / 8);
    if (values_wanted) value_sums = products.zero(1, x_.e / 8);
    const Ex row = b_.let(a_.add(first_row_, unit.group()));
    const std::int64_t most = divide_up(x_.n, tile);
    const Ex begin = first_query_tile(tile);
    const bool ragged = x_.n % tile != 0;
    const auto seen = [&](Ex key, Ex query) { return mask_.visible(query, key, ragged, false); };
    // What a tile's queries have is asked for a turn ahead, and put where all threads read it.
    const Ex own_query = b_.let(a_.floor_mod(thread_, tile));
    const auto place = [&](Ex number, std::int64_t which, Ex query) {
      const Ex slot = a_.mul(a_.floor_mod(number, 2), a_.integer(2 * tile));
      return a_.add(slot, a_.add(a_.integer(which * tile), query));
    };
    const auto put = [&](Ex number, const Statistics& of) {
      b_.condition(a_.less(thread_, a_.integer(tile)), [&] {
        b_.store(statistics_, place(number, 0, own_query), of.normaliser);
        b_.store(statistics_, place(number, 1, own_query), of.delta);
      });
    };
    put(begin, statistics(a_.add(a_.mul(begin, a_.integer(tile)), own_query)));
    pass(tiles, x_.n, begin, a_.integer(most), [&](Ex first, Ex number, Ex stage) {
      const Ex next = b_.let(a_.add(number, a_.integer(1)));
      const Statistics ahead = statistics(a_.add(a_.mul(next, a_.integer(tile)), own_query));
      const WarpSums scores = products.zero(1, tile / 8), centred = products.zero(1, tile / 8);
      products_of_tile(scores, centred, tiles, x_.d, x_.e, stage);
      const Ex own_column = b_.let(a_.mul(unit.thread(), a_.integer(2)));
      const Ex column = b_.let(a_.add(first, own_column));
      const Ex last_row = a_.add(first_row_, a_.integer(15));
      if (const Ex hidden = mask_.hides_queries(first, tile, last_row)) {
        b_.condition(hidden, [&] { mask_.hide(scores, row, column, lowest(), seen); });
      }
      const Ex normalisers = b_.let(place(number, 0, own_column));
      std::vector<MatrixUnit::Rows> probabilities, gradients;
      for (std::size_t c = 0; c < scores[0].size(); c += 2) {
        std::array<std::array<Ex, 4>, 2> p{}, g{};
        for (std::size_t half = 0; half < 2; ++half) {
          std::array<Statistics, 2> of{};
          for (std::size_t i = 0; i < 2; ++i) {
            const Ex at =
                a_.add(normalisers, a_.integer(static_cast<std::int64_t>(8 * (c + half) + i)));
            of[i] = {b_.let(a_.load(statistics_, at)),
                     b_.let(a_.load(statistics_, a_.add(at, a_.integer(tile))))};
          }
          for (std::size_t i = 0; i < 4; ++i) {
            const std::array<Ex, 2> both =
                pair(b_.read(scores[0][c + half][i]), b_.read(centred[0][c + half][i]), of[i % 2]);
            p[half][i] = both[0];
            g[half][i] = both[1];
          }
        }
        if (values_wanted) probabilities.push_back(unit.rows_of(p[0], p[1]));
        if (keys_wanted) gradients.push_back(unit.rows_of(g[0], g[1]));
      }
      group_products_.fence();
      if (values_wanted) {
        add_across(value_sums, probabilities, tiles.passing_second, stage);
        group_products_.commit();
      }
      if (keys_wanted) {
        add_across(key_sums, gradients, tiles.passing, stage);
        group_products_.commit();
      }
      // Probabilities need no registers any more; the gradients' product goes on.
      if (values_wanted && keys_wanted) group_products_.wait(value_sums, 1);
      put(next, ahead);
    });
    if (values_wanted) group_products_.wait(value_sums, 0);
    if (keys_wanted) group_products_.wait(key_sums, 0);
    if (keys_wanted) store(products, key_sums, first_row_, 1, x_.m, x_.d, x_.scale);
    if (values_wanted) store(products, value_sums, first_row_, 2, x_.m, x_.e, 1);
  }

  AttentionGroups group_products_;
  const loop::Buffer* statistics_ = nullptr;  ///< [2 tiles][normaliser, delta][query]
  Ex own_group_ = nullptr;                    ///< the group's first row in the block
  Ex first_row_ = nullptr;                    ///< the warp's first row of all
};

}  // namespace

bool suits_attention_backward_wgmma(const AttentionExtents& extents, const DeviceOptions& options) {
  // What is not seen has a score that the scale makes lowest.
  return suits_attention_wgmma(extents, options) && extents.m >= AttentionGroups::rows &&
         extents.scale != 0;
}

void schedule_attention_backward_wgmma(GroupEmitter& emitter, const DeviceOptions& options) {
  AttentionBackwardWgmma(emitter, options).run();
}

}  // namespace weft::compiler
