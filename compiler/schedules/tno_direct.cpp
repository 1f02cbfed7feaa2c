#include "compiler/schedules/tno_direct.h"

#include <algorithm>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/matrix_unit.h"
#include "compiler/schedules/thread_indices.h"
#include "compiler/schedules/tno_lines.h"

/// The Toeplitz operator on a GPU's matrix units. A warp has a channel: its matrix of lags, 16 by
/// 16 at a time, times 8 rows of the batch. A fragment of the matrix has pairs t_e, t_(e-1) of
/// neighbouring coefficients, which depend on the distance from the diagonal only: they are made
/// once, in shared memory, from where a thread loads one for every 8 diagonals. Its points of x are
/// pairs as well, which stay in registers. Blocks share the rows of the matrix where there would be
/// too few of them.
namespace weft::compiler {
namespace {

using ir::Node;
using loop::Ex;

constexpr std::int64_t tile = 16;  ///< rows and columns of a fragment of the matrix
constexpr std::int64_t columns = 8;
constexpr std::int64_t longest = 256;
/// Channels of a block: a sector of 16-bit elements.
constexpr std::int64_t most_channels = 16;
constexpr std::int64_t fewest_channels = 8;

/// At least `size`, and `rest` modulo the 32 banks.
std::int64_t with_rest(std::int64_t size, std::int64_t rest) {
  return size + ((rest - size) % warp + warp) % warp;
}

class DirectTno {
 public:
  DirectTno(GroupEmitter& emitter, std::int64_t processors)
      : a_(emitter.arena()),
        b_(emitter.builder()),
        node_(*emitter.group().anchor),
        e_(node_),
        lines_(emitter, e_.n, false),
        type_(node_.operand_type(0).dtype),
        reverse_(node_.is("tno_gradient_x")),
        blocks_(divide_up(e_.n, tile)),
        channels_(std::min(e_.d, e_.n > longest / 2 ? fewest_channels : most_channels)),
        threads_(warp * channels_),
        first_lag_(e_.causal ? -tile : -tile * blocks_),
        lags_(tile * blocks_ - first_lag_),
        lag_pitch_(with_rest(lags_, 4)),
        row_pitch_(with_rest(blocks_ * tile / 2, 4)),
        channel_pitch_(with_rest(columns * row_pitch_, 4)),
        stage_row_pitch_(tile + 4),
        stage_pitch_(with_rest(columns * stage_row_pitch_, warp / channels_)) {
    const std::int64_t alone =
        divide_up(e_.batch, columns) * e_.groups * divide_up(e_.d, channels_);
    const std::int64_t parts = std::clamp<std::int64_t>(processors / alone, 1, blocks_);
    part_ = divide_up(blocks_, parts);
  }

  void run() {
    loop::Kernel& kernel = b_.kernel();
    pairs_ = kernel.shared("lags", DType::i32, channels_ * lag_pitch_);
    points_ = kernel.shared("points", DType::i32, channels_ * channel_pitch_);
    stage_ = kernel.shared("results", DType::f32, 2 * channels_ * stage_pitch_);
    const std::int64_t strips = divide_up(e_.d, channels_);
    const Shape grid{divide_up(e_.batch, columns), e_.groups, divide_up(blocks_, part_), strips};
    b_.phase(grid.elements(), threads_, [&](Ex block, Ex thread) {
      const std::vector<Ex> at = a_.delinearize(block, grid);
      thread_ = thread;
      batch_ = b_.let(a_.mul(at[0], a_.integer(columns)));
      group_ = b_.let(at[1]);
      const Ex first = b_.let(a_.mul(at[2], a_.integer(part_)));
      channel_ = b_.let(a_.mul(at[3], a_.integer(channels_)));
      MatrixUnit unit(b_, type_, b_.let(a_.floor_mod(thread, warp)));
      fill_lags(unit);
      fill_points(unit);
      b_.barrier();
      multiply(unit, first);
    });
  }

 private:
  void for_numbers(std::int64_t total, const std::function<void(Ex number)>& body) {
    for_own_numbers(b_, thread_, threads_, total, body);
  }

  Ex own_channel(Ex number) { return at_most_last(b_, a_.add(channel_, number), e_.d); }
  /// The row of the batch, groups inside.
  Ex row(Ex batch) { return a_.add(a_.mul(batch, a_.integer(e_.groups)), group_); }

  /// t_lag, where lags are distances from the diagonal; zero for what t does not have.
  Ex coefficient(Ex lag, Ex channel) {
    const std::int64_t least = e_.causal ? 0 : 1 - e_.n;
    const Ex number = a_.sub(lag, a_.integer(least));
    const Ex inside =
        a_.logical_and(a_.less_equal(a_.integer(least), lag), a_.less(lag, a_.integer(e_.n)));
    const Ex place = b_.let_within(a_.select(inside, number, a_.integer(0)), 0, e_.lags() - 1);
    return b_.let(lines_.coefficient(group_, place, channel, inside));
  }

  void fill_lags(MatrixUnit& unit) {
    for_numbers(channels_ * lags_, [&](Ex number) {
      const Ex own = a_.floor_mod(number, channels_);
      const Ex channel = own_channel(own);
      const Ex entry = a_.floor_div(number, channels_);
      const Ex lag = a_.add(entry, a_.integer(first_lag_));
      const Ex low = coefficient(lag, channel);
      const Ex high = coefficient(a_.sub(lag, a_.integer(1)), channel);
      b_.store(pairs_, a_.add(a_.mul(own, a_.integer(lag_pitch_)), entry), unit.pack(low, high));
    });
  }

  void fill_points(MatrixUnit& unit) {
    const std::int64_t pairs = blocks_ * tile / 2;
    for_numbers(channels_ * pairs * columns, [&](Ex number) {
      const Ex own = a_.floor_mod(number, channels_);
      const Ex rest = a_.floor_div(number, channels_);
      const Ex pair = a_.floor_mod(rest, pairs);
      const Ex column = a_.floor_div(rest, pairs);
      const Ex line = row(at_most_last(b_, a_.add(batch_, column), e_.batch));
      const TnoLines::Sequence sequence{line, own_channel(own), reverse_};
      const auto point = [&](std::int64_t half) {
        const Ex j = a_.add(a_.mul(pair, a_.integer(2)), a_.integer(half));
        const Ex inside = j->maximum < e_.n ? nullptr : a_.less(j, a_.integer(e_.n));
        const Ex place =
            inside == nullptr ? j : b_.let_within(a_.select(inside, j, a_.integer(0)), 0, e_.n - 1);
        return b_.let(lines_.read_sequence(0, sequence).read(place, inside).re);
      };
      const Ex low = point(0);
      const Ex high = point(1);
      const Ex at = a_.add(a_.mul(own, a_.integer(channel_pitch_)),
                           a_.add(a_.mul(column, a_.integer(row_pitch_)), pair));
      b_.store(points_, at, unit.pack(low, high));
    });
  }

  /// The blocks of rows from `first` on that are this block's.
  void multiply(MatrixUnit& unit, Ex first) {
    const Ex channel = b_.let(a_.floor_div(thread_, warp));
    // Points: rows 2 (lane % 4), and 8 further, of each 16; column lane / 4.
    const Ex first_point =
        b_.let(a_.add(a_.mul(channel, a_.integer(channel_pitch_)),
                      a_.add(a_.mul(unit.group(), a_.integer(row_pitch_)), unit.thread())));
    std::vector<MatrixUnit::Columns> points;
    for (std::int64_t k = 0; k < blocks_; ++k) {
      const auto word = [&](std::int64_t half) {
        const std::int64_t pair = (k * tile + half * tile / 2) / 2;
        return b_.let(a_.load(points_, a_.add(first_point, a_.integer(pair))));
      };
      points.push_back({word(0), word(1)});
    }
    const Ex first_lag = b_.let(a_.add(a_.mul(channel, a_.integer(lag_pitch_)),
                                       a_.sub(unit.group(), a_.mul(unit.thread(), a_.integer(2)))));
    const Ex rest = a_.sub(a_.integer(blocks_), first);
    b_.loop(a_.binary(loop::Binary::minimum, a_.integer(part_), rest), [&](Ex number) {
      const Ex i = b_.let_within(a_.add(first, number), 0, blocks_ - 1);
      const MatrixUnit::Sums sums = unit.zero();
      for (std::int64_t k = 0; k < blocks_; ++k) {
        // Pairs of the lags lane / 4 - 2 (lane % 4) from that of the fragment's corner on.
        const Ex corner = a_.mul(a_.sub(i, a_.integer(k)), a_.integer(tile));
        const auto pair = [&](std::int64_t further) {
          const Ex at = a_.add(a_.add(first_lag, corner), a_.integer(further - first_lag_));
          return b_.let(a_.load(pairs_, b_.let_within(at, 0, channels_ * lag_pitch_ - 1)));
        };
        const auto product = [&] {
          const Ex middle = pair(0);
          unit.multiply(sums, {middle, pair(tile / 2), pair(-tile / 2), middle},
                        points[static_cast<std::size_t>(k)]);
        };
        if (e_.causal && k > 0) {
          b_.condition(a_.less_equal(a_.integer(k), i), product);
        } else {
          product();
        }
      }
      keep(unit, sums, channel, i);
      b_.barrier();
      write(i);
    });
  }

  Ex stage_at(Ex i, Ex channel, Ex column, Ex position) {
    const Ex start = a_.mul(a_.add(a_.mul(a_.floor_mod(i, 2), a_.integer(channels_)), channel),
                            a_.integer(stage_pitch_));
    return a_.add(start, a_.add(a_.mul(column, a_.integer(stage_row_pitch_)), position));
  }

  void keep(MatrixUnit& unit, const MatrixUnit::Sums& sums, Ex channel, Ex i) {
    for (std::int64_t n = 0; n < 4; ++n) {
      const Ex column = a_.add(a_.mul(unit.thread(), a_.integer(2)), a_.integer(n % 2));
      const Ex position = a_.add(unit.group(), a_.integer(n / 2 * (tile / 2)));
      b_.store(stage_, stage_at(i, channel, column, position),
               b_.read(sums[static_cast<std::size_t>(n)]));
    }
  }

  /// Sixteen rows of the result; neighbouring threads have neighbouring channels.
  void write(Ex i) {
    for_numbers(channels_ * tile * columns, [&](Ex number) {
      const Ex own = a_.floor_mod(number, channels_);
      const Ex rest = a_.floor_div(number, channels_);
      const Ex position = a_.floor_mod(rest, tile);
      const Ex column = a_.floor_div(rest, tile);
      const Ex value = b_.let(a_.load(stage_, stage_at(i, own, column, position)));
      const Ex batch = a_.add(batch_, column);
      const Ex channel = a_.add(channel_, own);
      const Ex element = a_.add(position, a_.mul(i, a_.integer(tile)));
      const Ex inside = a_.logical_and(
          a_.logical_and(a_.less(batch, a_.integer(e_.batch)), a_.less(channel, a_.integer(e_.d))),
          a_.less(element, a_.integer(e_.n)));
      const auto within = [&](Ex index, std::int64_t extent) {
        return b_.let_within(index, 0, extent - 1);
      };
      b_.condition(inside, [&] {
        lines_.write_element({row(within(batch, e_.batch)), within(channel, e_.d), reverse_},
                             within(element, e_.n), value);
      });
    });
  }

  loop::Arena& a_;
  loop::Builder& b_;
  const Node& node_;
  TnoExtents e_;
  TnoLines lines_;
  DType type_;
  bool reverse_;
  std::int64_t blocks_;  ///< of 16 positions
  std::int64_t part_;    ///< of these, a block's
  std::int64_t channels_;
  std::int64_t threads_;
  std::int64_t first_lag_;  ///< the least that is in shared memory
  std::int64_t lags_;
  // Distances in shared memory, by which a warp's accesses are in banks of their own.
  std::int64_t lag_pitch_;
  std::int64_t row_pitch_;
  std::int64_t channel_pitch_;
  std::int64_t stage_row_pitch_;
  std::int64_t stage_pitch_;
  Ex thread_ = nullptr;
  Ex batch_ = nullptr;
  Ex group_ = nullptr;
  Ex channel_ = nullptr;
  const loop::Buffer* pairs_ = nullptr;   ///< [channel][lag]
  const loop::Buffer* points_ = nullptr;  ///< [channel][row of the batch][pair]
  const loop::Buffer* stage_ = nullptr;   ///< two of [channel][row of the batch][position]
};

}  // namespace

bool tno_is_direct(const Node& node, const DeviceOptions& options) {
  if (!node.is("tno") && !node.is("tno_gradient_x")) return false;
  const DType type = node.operand_type(0).dtype;
  const TnoExtents e(node);
  constexpr std::int64_t least_shared = 99 * 1024;
  return (type == DType::f16 || type == DType::bf16) && e.n <= longest && e.d >= fewest_channels &&
         options.shared_bytes() >= least_shared;
}

void schedule_tno_direct(GroupEmitter& emitter, const DeviceOptions& options) {
  DirectTno(emitter, options.processors).run();
}

}  // namespace weft::compiler
