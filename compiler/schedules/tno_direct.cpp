#include "compiler/schedules/tno_direct.h"

#include <algorithm>

#include "compiler/schedules/device_store.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/thread_indices.h"
#include "compiler/schedules/tno_tiles.h"

/// The Toeplitz operator on a GPU's matrix units. A warp has a channel: a strip of rows of its
/// matrix, for 8 columns, which are rows of the batch or shifted parts of them; the sums of all
/// rows are in registers. It passes over the strip's columns by tiles, from the diagonal on where
/// it is causal. A 16 by 16 fragment of the matrix is three registers of pairs t_e, t_(e-1) of
/// neighbouring coefficients, which depend on the distance from the diagonal only: the points of a
/// tile stay in registers while the pairs move along, each of which is loaded once a tile.
namespace weft::compiler {
namespace {

using ir::Node;
using loop::Ex;
using loop::Scalar;

constexpr std::int64_t fragment = TnoTiling::fragment;
constexpr std::int64_t columns = TnoTiling::columns;
/// Rows that go through shared memory together as results.
constexpr std::int64_t most_staged = 128;
/// Of a multiprocessor: neighbouring warps have different ones.
constexpr std::int64_t schedulers = 4;

class DirectTno {
 public:
  DirectTno(GroupEmitter& emitter, const TnoTiling& tiling)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        node_(*emitter.group().anchor),
        lines_(emitter, TnoExtents(node_).n, false),
        e_(lines_.extents()),
        type_(node_.operand_type(0).dtype),
        reverse_(!node_.is("tno")),
        tiling_(tiling),
        sequences_(emitter, lines_, sequence(node_), reverse_, tiling),
        lags_(emitter, lines_, tiling),
        staged_(std::min(tiling.rows, most_staged)),
        // A warp stores eight positions of four columns together, and loads 4 / width positions of
        // 8 channels: all in different banks.
        column_pitch_(staged_ + 4),
        channel_pitch_(columns * column_pitch_ + 2),
        width_(store_width()),
        rows_(emitter.builder(), e_.n, e_.d, width_) {
    memory_ = b_.kernel().shared("tiles", DType::i32,
                                 std::max(sequences_.words(), tiling.channels * channel_pitch_));
    sequences_.set_memory(memory_);
    const std::int64_t own = tiling.channels * columns * staged_ / tiling.threads();
    if (width_ > 1) registers_ = b_.kernel().local("own_results", DType::f32, own);
  }

  /// The operand that is multiplied: x, or the result's gradient.
  static std::size_t sequence(const Node& node) { return node.is("tno_gradients") ? 2 : 0; }

  void run() {
    const std::int64_t strips = tiling_.strips(e_);
    // Causal: long strips first. Neighbouring blocks share what they read of t, or a cache line.
    const Shape grid{strips, divide_up(e_.batch, tiling_.batch()), e_.groups,
                     divide_up(e_.d, tiling_.channels)};
    b_.phase(grid.elements(), tiling_.threads(), [&](Ex block, Ex thread) {
      const std::vector<Ex> at = a_.delinearize(block, grid);
      const Ex strip = e_.causal ? a_.sub(a_.integer(strips - 1), at[0]) : at[0];
      first_row_ = b_.let(a_.mul(strip, a_.integer(tiling_.rows * tiling_.shifts)));
      place_.thread = thread;
      place_.warp = b_.let(a_.floor_div(thread, warp));
      const std::int64_t four = schedulers * warp;
      place_.half = b_.let(a_.floor_mod(a_.floor_div(thread, four), 2));
      place_.number = b_.let(a_.add(a_.mul(a_.floor_div(thread, 2 * four), a_.integer(four)),
                                    a_.floor_mod(thread, four)));
      place_.batch = b_.let(a_.mul(at[1], a_.integer(tiling_.batch())));
      place_.group = b_.let(at[2]);
      place_.channel = b_.let(a_.mul(at[3], a_.integer(tiling_.channels)));
      MatrixUnit unit(b_, type_, b_.let(a_.floor_mod(thread, warp)));
      std::vector<MatrixUnit::Sums> sums;
      for (std::int64_t i = 0; i < tiling_.rows / fragment; ++i) sums.push_back(unit.zero());
      multiply(unit, sums);
      store(unit, sums);
    });
  }

 private:
  /// The diagonals' distance of column 0: what tile 0's first row and column are apart. Each tile
  /// is `points` further.
  Ex first_distance() {
    if (e_.causal) return a_.integer(tiling_.points - tiling_.rows);
    const std::int64_t last = (divide_up(e_.n, tiling_.points) - 1) * tiling_.points;
    return a_.sub(first_row_, a_.integer(last));
  }

  /// Tiles on the diagonal: some fragments there are zero.
  std::int64_t diagonal_tiles() const {
    return e_.causal ? divide_up(tiling_.rows, tiling_.points) : 0;
  }

  /// All tiles in which some column has points.
  Ex tiles() {
    const std::int64_t further = (tiling_.shifts - 1) * tiling_.rows;
    if (e_.causal) {
      return b_.let(
          a_.floor_div(a_.add(first_row_, a_.integer(further + tiling_.rows + tiling_.points - 1)),
                       tiling_.points));
    }
    return a_.integer(divide_up(e_.n, tiling_.points) + divide_up(further, tiling_.points));
  }

  void multiply(MatrixUnit& unit, const std::vector<MatrixUnit::Sums>& sums) {
    const Ex distance = b_.let(first_distance());
    // Of column 0's points, and of the window's first lag.
    const Ex position = b_.let(a_.sub(first_row_, distance));
    const Ex lag = b_.let(a_.sub(distance, a_.integer(tiling_.points)));
    const auto of_tile = [&](Ex number) { return a_.mul(number, a_.integer(tiling_.points)); };
    const Ex count = tiles();
    const auto fill = [&](Ex tile, Ex stage) {
      sequences_.fill(unit, place_, stage, a_.sub(position, of_tile(tile)));
    };
    // Two tiles ahead.
    for (const std::int64_t i : {0, 1}) {
      const Ex number = a_.integer(i);
      b_.condition(a_.less(number, count), [&] { fill(number, number); });
      sequences_.commit();
    }
    lags_.begin(unit, place_);
    // Lags below zero are not looked at in causal strips.
    const std::int64_t below = e_.causal ? tiling_.rows / tiling_.points : 0;
    for (std::int64_t i = below; i < lags_.window(); ++i) {
      lags_.load(place_, a_.add(lag, of_tile(a_.integer(i))), i);
    }
    for (std::int64_t i = below; i < lags_.window(); ++i) lags_.store(unit, place_, i);
    sequences_.wait(1);
    b_.barrier();
    sequences_.transpose(unit, place_, a_.integer(0));

    const auto tile = [&](Ex number, std::int64_t first_diagonal) {
      const Ex own = b_.let(a_.floor_mod(number, 2));
      const Ex other = b_.let(a_.sub(a_.integer(1), own));
      const Ex after = a_.add(number, a_.integer(2));
      sequences_.wait(0);
      b_.barrier();
      const Ex has_next = b_.let(a_.less(a_.add(number, a_.integer(1)), count));
      const Ex has_after = b_.let(a_.less(after, count));
      if (sequences_.copies()) {
        b_.condition(has_after, [&] { fill(after, own); });
        sequences_.commit();
      }
      // What the next tiles need, by half of the warps.
      const auto bring = [&](std::int64_t half) {
        const Ex mine = a_.equal(place_.half, a_.integer(half));
        b_.condition(a_.logical_and(mine, has_next), [&] {
          const Ex block = a_.add(number, a_.integer(lags_.window()));
          lags_.bring_next(unit, place_, a_.add(lag, of_tile(block)));
        });
        if (sequences_.copies()) return;
        b_.condition(a_.logical_and(mine, has_after), [&] { fill(after, own); });
      };
      b_.condition(has_next, [&] { sequences_.transpose(unit, place_, other); });
      bring(0);
      add_tile(unit, sums, own, first_diagonal);
      bring(1);
      lags_.advance();
    };
    const std::int64_t on_diagonal = diagonal_tiles();
    for (std::int64_t i = 0; i < on_diagonal; ++i) {
      const std::int64_t least = tiling_.rows - (i + 1) * tiling_.points;
      tile(a_.integer(i), least / fragment);
    }
    const std::int64_t whole = -tiling_.points / fragment;
    b_.loop(a_.sub(count, a_.integer(on_diagonal)),
            [&](Ex i) { tile(a_.add(i, a_.integer(on_diagonal)), whole); });
  }

  /// The fragments from diagonal `first` of the tile on, in fragments; before it they are zero.
  void add_tile(MatrixUnit& unit, const std::vector<MatrixUnit::Sums>& sums, Ex stage,
                std::int64_t first) {
    const std::vector<MatrixUnit::Columns> points = sequences_.fragments(unit, place_, stage);
    const auto rows = static_cast<std::int64_t>(sums.size());
    const auto depth = static_cast<std::int64_t>(points.size());
    lags_.look();
    const std::int64_t least = 1 - depth;
    // In units of eight lags from the window's first on, which is `points` before the diagonal.
    const auto pair = [&](std::int64_t further) { return lags_.pair(2 * depth + further); };
    const bool causal = e_.causal && first >= least;
    const Ex none = a_.integer(Scalar::i32, 0);
    Ex above = nullptr;
    for (std::int64_t diagonal = std::max(first, least); diagonal < rows; ++diagonal) {
      const Ex below = above != nullptr ? above : causal ? none : pair(2 * diagonal - 1);
      const Ex middle = pair(2 * diagonal);
      above = pair(2 * diagonal + 1);
      for (std::int64_t k = std::max<std::int64_t>(0, -diagonal);
           k < std::min(depth, rows - diagonal); ++k) {
        unit.multiply(sums[static_cast<std::size_t>(diagonal + k)], {middle, above, below, middle},
                      points[static_cast<std::size_t>(k)]);
      }
    }
  }

  // ---- results ----------------------------------------------------------------------------------

  std::int64_t store_width() {
    return aligned_columns(
        emitter_, e_.d,
        [&](GroupEmitter& probe, Ex column) {
          loop::Arena& a = probe.arena();
          TnoLines lines(probe, e_.n, false);
          const Ex row = a.variable(Scalar::i64, 0, e_.batch * e_.groups - 1);
          const Ex position = a.variable(Scalar::i64, 0, e_.n - 1);
          probe.bind({const_cast<Node*>(&node_), 0}, {a.variable(Scalar::f32), nullptr});
          return output_accesses(probe, lines.index(e_.x_leading, row, position, column),
                                 node_.results[0].shape);
        },
        columns);
  }

  Ex staged(Ex channel, Ex column, Ex row) {
    return a_.add(a_.mul(channel, a_.integer(channel_pitch_)),
                  a_.add(a_.mul(column, a_.integer(column_pitch_)), row));
  }

  /// Through shared memory: a warp has a channel, memory wants neighbouring channels.
  void store(MatrixUnit& unit, const std::vector<MatrixUnit::Sums>& sums) {
    for (std::int64_t first = 0; first < tiling_.rows; first += staged_) {
      b_.barrier();
      for (std::int64_t row = 0; row < staged_; row += fragment) {
        const MatrixUnit::Sums& own = sums[static_cast<std::size_t>((first + row) / fragment)];
        for (std::int64_t n = 0; n < 4; ++n) {
          const Ex column = a_.add(a_.mul(unit.thread(), a_.integer(2)), a_.integer(n % 2));
          const Ex at = a_.add(unit.group(), a_.integer(row + n / 2 * (fragment / 2)));
          b_.store(memory_, staged(place_.warp, column, at),
                   a_.bits(b_.read(own[static_cast<std::size_t>(n)]), Scalar::i32));
        }
      }
      b_.barrier();
      write(first);
    }
  }

  /// A thread's results at a position: so many channels from `channel` on.
  struct Results {
    Ex batch, position, channel;
    std::vector<Ex> values;
  };

  /// Rows from `first` on of the strip, which are in shared memory.
  void write(std::int64_t first) {
    const std::int64_t pieces = tiling_.channels / width_;
    const std::int64_t total = pieces * columns * staged_;
    const auto results = [&](Ex number) {
      const Ex own = a_.mul(a_.floor_mod(number, pieces), a_.integer(width_));
      const Ex rest = a_.floor_div(number, pieces);
      const Ex row = a_.floor_mod(rest, staged_);
      const Ex column = a_.floor_div(rest, staged_);
      const Ex shift = a_.mul(a_.floor_mod(column, tiling_.shifts), a_.integer(tiling_.rows));
      Results all{a_.add(place_.batch, a_.floor_div(column, tiling_.shifts)),
                  a_.add(first_row_, a_.add(shift, a_.add(row, a_.integer(first)))),
                  a_.add(place_.channel, own),
                  {}};
      for (std::int64_t j = 0; j < width_; ++j) {
        const Ex at = staged(a_.add(own, a_.integer(j)), column, row);
        all.values.push_back(b_.let(a_.bits(a_.load(memory_, at), Scalar::f32)));
      }
      return all;
    };
    const auto line = [&](Ex batch) {
      return a_.add(a_.mul(batch, a_.integer(e_.groups)), place_.group);
    };
    // Blocks all of whose results exist, and the others.
    const auto end = [&](Ex start, std::int64_t own, std::int64_t extent) {
      return a_.less_equal(a_.add(start, a_.integer(own)), a_.integer(extent));
    };
    const Ex whole =
        b_.let(a_.logical_and(a_.logical_and(end(place_.batch, tiling_.batch(), e_.batch),
                                             end(place_.channel, tiling_.channels, e_.d)),
                              end(first_row_, tiling_.rows * tiling_.shifts, e_.n)));
    const bool together = width_ > 1 && total % tiling_.threads() == 0;
    const auto one = [&](Ex number) {
      const Results own = results(number);
      if_below(b_, own.batch, e_.batch, [&](Ex batch) {
        rows_.store(own.position, own.channel, own.values,
                    [&](Ex at, Ex channel, const std::vector<Ex>& values) {
                      lines_.write_element({line(batch), channel, reverse_}, at, values[0]);
                    });
      });
    };
    const auto all = [&] {
      std::vector<Results> own;
      for (std::int64_t i = 0; i < total; i += tiling_.threads()) {
        own.push_back(results(a_.add(place_.thread, a_.integer(i))));
      }
      for (std::size_t i = 0; i < own.size(); ++i) {
        for (std::int64_t j = 0; j < width_; ++j) {
          b_.store(registers_, a_.integer(static_cast<std::int64_t>(i) * width_ + j),
                   own[i].values[static_cast<std::size_t>(j)]);
        }
        own[i].batch = b_.let_within(own[i].batch, 0, e_.batch - 1);
        own[i].position = b_.let_within(own[i].position, 0, e_.n - 1);
        // A multiple of the width, which its bounds must not hide.
        own[i].channel = a_.mul(
            b_.let_within(a_.floor_div(own[i].channel, width_), 0, divide_up(e_.d, width_) - 1),
            a_.integer(width_));
      }
      b_.loop(width_, loop::Role::vector, static_cast<int>(width_), [&](Ex lane) {
        std::vector<TnoLines::Element> elements;
        for (std::size_t i = 0; i < own.size(); ++i) {
          const Ex at = a_.add(a_.integer(static_cast<std::int64_t>(i) * width_), lane);
          elements.push_back({{line(own[i].batch), a_.add(own[i].channel, lane), reverse_},
                              own[i].position,
                              b_.let(a_.load(registers_, at))});
        }
        lines_.write_elements(elements);
      });
    };
    if (together) b_.condition(whole, all);
    b_.condition(together ? a_.logical_not(whole) : a_.boolean(true), [&] {
      for (std::int64_t i = 0; i < total; i += tiling_.threads()) {
        if_below(b_, a_.add(place_.thread, a_.integer(i)), total, one);
      }
    });
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const Node& node_;
  TnoLines lines_;
  const TnoExtents& e_;
  DType type_;
  bool reverse_;
  TnoTiling tiling_;
  TnoSequences sequences_;
  TnoLags lags_;
  std::int64_t staged_;  ///< rows that go together
  std::int64_t column_pitch_, channel_pitch_;
  std::int64_t width_;  ///< channels that are stored together
  RowStore rows_;
  const loop::Buffer* memory_ = nullptr;  ///< tiles, then [channel][column][row]
  const loop::Buffer* registers_ = nullptr;
  Ex first_row_ = nullptr;
  TnoPlace place_;
};

}  // namespace

bool tno_may_be_direct(const Node& node, const DeviceOptions& options) {
  if (node.is("tno_gradient_t")) return false;
  const DType type = node.operand_type(0).dtype;
  constexpr std::int64_t least_shared = 99 * 1024;
  constexpr std::int64_t fewest_channels = 8;
  return (type == DType::f16 || type == DType::bf16) && TnoExtents(node).d >= fewest_channels &&
         options.shared_bytes() >= least_shared;
}

bool tno_is_direct(const Node& node, const DeviceOptions& options) {
  if (!tno_may_be_direct(node, options)) return false;
  const TnoExtents e(node);
  const auto bytes = static_cast<std::int64_t>(size_of(node.operand_type(0).dtype));
  return tno_cycles(e, tno_tiling(e, options.processors, true), options.processors) <
         tno_transform_cycles(e, bytes, options.processors);
}

void emit_tno_direct(GroupEmitter& emitter, const DeviceOptions& options) {
  const Node& node = *emitter.group().anchor;
  const bool copies =
      TnoSequences::route(emitter, DirectTno::sequence(node), !node.is("tno")).copies;
  DirectTno(emitter, tno_tiling(TnoExtents(node), options.processors, copies)).run();
}

}  // namespace weft::compiler
