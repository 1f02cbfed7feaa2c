#include "compiler/schedules/tno_direct_gradient.h"

#include <algorithm>
#include <array>
#include <vector>

#include "compiler/schedules/device_tile.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/matrix_unit.h"
#include "compiler/schedules/thread_indices.h"
#include "compiler/schedules/tno_gradient_layout.h"
#include "compiler/schedules/tno_lines.h"

/// The gradient of the Toeplitz operator for its coefficients, sum g_i x_(i-k) over the positions i
/// and the batch, on a GPU's matrix units. A product has 8 positions of g, from i + 8 m on in row
/// m, and as many of x, from j - n on in column n: its sums are those of 128 different lags, i - j
/// + 8 m + n, so nothing is computed twice and a warp has all lags of a channel in registers. 16
/// steps of the contracted axis are 8 positions from i and j on, and 8 from i + 64 and j + 64 on:
/// then rows of g that are 64 positions apart are one register, and products along a sequence share
/// half of what they read.
///
/// Of positions i and j that are equal modulo 64 (a class of 8) all pairs with i - j >= 0 are
/// multiplied, i - j a multiple of 128. Classes of all rows of the batch follow each other in the
/// same sums. Where t looks both ways its other half is the same with x and g exchanged.
namespace weft::compiler {
namespace {

using ir::Node;
using loop::Ex;
using loop::Role;
using loop::Scalar;
using Layout = TnoGradientLayout;

constexpr std::int64_t channels = Layout::channels;
constexpr std::int64_t columns = Layout::columns;
constexpr std::int64_t lags = Layout::lags;
constexpr std::int64_t half = Layout::half;
constexpr std::int64_t kept_fragments = Layout::kept_fragments;
constexpr std::int64_t most_computed = 4;  ///< channels that a thread computes x or g of at once
constexpr std::int64_t add_threads = 512;
constexpr std::int64_t add_lags = 8;  ///< of a thread

class DirectTnoGradient {
 public:
  DirectTnoGradient(GroupEmitter& emitter, const DeviceOptions& options)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        node_(*emitter.group().anchor),
        e_(node_),
        lines_(emitter, e_.n, false),
        type_(node_.operand_type(0).dtype),
        gradient_(node_.is("tno_gradients") ? 2 : 1),
        layout_(e_, options.shared_bytes()),
        strips_(divide_up(e_.d, channels)),
        directions_(e_.causal ? 1 : 2),
        width_(std::min(width_of(0), width_of(gradient_))) {}

  void run() {
    loop::Kernel& kernel = b_.kernel();
    words_ = kernel.shared("pairs", DType::i32, layout_.stages * layout_.stage_words());
    constexpr std::int64_t points = 3;  // that a thread reads at once, of `width_` channels
    held_ = kernel.local("points", DType::f32, points * width_);
    two_ = kernel.local("lags", DType::f32, 2);
    if (layout_.parts() > 1) {
      workspace_ = emitter_.workspace(DType::f32, directions_ * layout_.parts() * part_elements());
    }
    for (std::int64_t direction = 0; direction < directions_; ++direction) multiply(direction);
    if (layout_.parts() > 1) add_up();
  }

 private:
  /// Channels that a thread may read together. What is computed on the way wants registers for
  /// each of them.
  std::int64_t width_of(std::size_t operand) {
    for (std::int64_t width = channels; width > 1; width /= 2) {
      if (e_.d % width != 0) continue;
      loop::Kernel scratch;
      GroupEmitter probe(scratch, emitter_.group());
      loop::Arena& a = probe.arena();
      const auto axis = [&](std::int64_t extent) { return a.variable(Scalar::i64, 0, extent - 1); };
      std::vector<Ex> index = a.delinearize(axis(e_.batch * e_.groups), e_.x_leading);
      index.push_back(axis(e_.n));
      const Ex lane = axis(width);
      index.push_back(a.add(a.mul(axis(e_.d / width), a.integer(width)), lane));
      const Ex element = probe.value(node_.operands[operand], index).re;
      computed_ = computed_ || element->kind != loop::ExprKind::load;
      if (computed_ && width > most_computed) continue;
      if (lanes_are_aligned(a, element, lane, width)) return width;
    }
    return 1;
  }

  void for_numbers(std::int64_t total, const std::function<void(Ex number)>& body) {
    for_own_numbers(b_, thread_, layout_.threads(), total, body);
  }

  Ex scaled(Ex index, std::int64_t by) { return a_.mul(index, a_.integer(by)); }
  Ex plus(Ex index, std::int64_t further) { return a_.add(index, a_.integer(further)); }

  // ---- sums of products ---------------------------------------------------------------------

  /// Lags of 0 and more from x to g, or from g to x.
  void multiply(std::int64_t direction) {
    const Shape grid{layout_.row_parts, layout_.class_parts, e_.groups, strips_};
    b_.phase(grid.elements(), layout_.threads(), [&](Ex block, Ex thread) {
      const std::vector<Ex> at = a_.delinearize(block, grid);
      thread_ = thread;
      group_ = b_.let(at[2]);
      strip_ = b_.let(at[3]);
      first_row_ = b_.let(scaled(at[0], layout_.chunk));
      straight_ = direction == 0 ? gradient_ : 0;
      shifted_ = direction == 0 ? 0 : gradient_;
      const Ex number = a_.floor_div(thread, warp);
      channel_ = b_.let(a_.floor_div(number, layout_.warps));
      const Ex turn = b_.let(a_.floor_mod(number, layout_.warps));
      const std::int64_t block_classes = layout_.warp_classes() * layout_.warps;
      first_class_ =
          b_.let(a_.add(scaled(at[1], block_classes), scaled(turn, layout_.warp_classes())));
      MatrixUnit unit(b_, type_, b_.let(a_.floor_mod(thread, warp)));
      unit_ = &unit;
      clear_margins();
      sums_.clear();
      for (std::int64_t s = 0; s < layout_.fragments; ++s) sums_.push_back(unit.zero());
      for_stages();
      add_warps(turn);
      const Ex part = a_.add(scaled(at[0], layout_.class_parts), at[1]);
      finish(direction, part, turn);
    });
  }

  void for_stages() {
    // Points that are read for a stage while the one before is multiplied.
    const std::int64_t turns = layout_.turns();
    const std::int64_t pieces = divide_up(points_of_stage(), turns * layout_.threads());
    const Ex rows_here = a_.binary(loop::Binary::minimum, a_.integer(layout_.chunk),
                                   a_.sub(a_.integer(e_.batch), first_row_));
    Ex count = a_.floor_div(plus(rows_here, layout_.together - 1), layout_.together);
    count = b_.let_within(count, 1, layout_.chunk / layout_.together);
    const auto words_of = [&](Ex stage) {
      return scaled(a_.floor_mod(stage, layout_.stages), layout_.stage_words());
    };
    if (layout_.stages == 2) fill(a_.integer(0), a_.integer(0));
    b_.loop(count, [&](Ex stage) {
      if (layout_.stages == 1) fill(a_.integer(0), stage);
      b_.barrier();
      const Ex from = b_.let(words_of(stage));
      b_.loop(turns, Role::serial, 1, [&](Ex turn) {
        if (layout_.stages == 2) {
          b_.condition(a_.less(plus(stage, 1), count), [&] {
            const std::int64_t most = layout_.chunk / layout_.together - 1;
            const Ex next = b_.let_within(plus(stage, 1), 1, most);
            const Ex to = b_.let(words_of(next));
            for (std::int64_t i = 0; i < pieces; ++i) {
              const Ex piece = plus(scaled(turn, pieces), i);
              if_below(b_, a_.add(scaled(piece, layout_.threads()), thread_), points_of_stage(),
                       [&](Ex number) { bring(to, next, number); });
            }
          });
        }
        const Ex row = a_.floor_div(turn, layout_.warp_classes());
        const Ex own = a_.add(first_class_, a_.floor_mod(turn, layout_.warp_classes()));
        const Ex start = a_.add(scaled(row, channels), channel_);
        multiply_class(b_.let(a_.add(from, scaled(start, layout_.pitch))), own);
      });
      if (layout_.stages == 1) b_.barrier();
    });
  }

  /// All pairs of fragments of a class, from `start` in shared memory on.
  void multiply_class(Ex start, Ex own) {
    const Ex begin = a_.add(start, scaled(own, columns / 2));
    const Ex straight = b_.let(a_.add(begin, unit_->lane()));
    // Pairs from position 2 (lane % 4) - lane / 4 on.
    const Ex parity = a_.floor_mod(unit_->group(), 2);
    const Ex lane = a_.sub(unit_->thread(), a_.floor_div(unit_->group(), 2));
    const std::int64_t base = layout_.even_at + Layout::margin;
    const Ex shifted = b_.let(
        a_.add(a_.add(begin, scaled(parity, layout_.odd_at - layout_.even_at)), plus(lane, base)));
    const auto word = [&](Ex from, std::int64_t further) {
      const Ex at = plus(from, further);
      return b_.let(a_.load(words_, b_.let_within(at, 0, words_->elements - 1)));
    };
    constexpr std::int64_t step = half;  // words of 128 positions
    const std::int64_t kept = std::min(kept_fragments, layout_.fragments);
    for (std::int64_t first = 0; first < layout_.fragments; first += kept) {
      const std::int64_t end = std::min(first + kept, layout_.fragments);
      std::vector<MatrixUnit::Columns> right;
      for (std::int64_t j = first; j < end; ++j) {
        right.push_back({word(shifted, j * step), word(shifted, j * step + step / 2)});
      }
      // The next rows are on their way while these are multiplied, and no more of them: there are
      // registers for one set.
      const auto next = [&](std::int64_t i) {
        const bool last = i + 1 == layout_.fragments;
        return std::array<Ex, 2>{
            word(straight, i * step + step / 2),
            last ? a_.integer(Scalar::i32, 0) : word(straight, (i + 1) * step)};
      };
      Ex low = word(straight, first * step);
      std::array<Ex, 2> ahead = next(first);
      for (std::int64_t i = first; i < layout_.fragments; ++i) {
        const auto [middle, high] = ahead;
        if (i + 1 < layout_.fragments) ahead = next(i + 1);
        b_.call(loop::intrinsic("sync_warp"), {});
        for (std::int64_t j = first; j < std::min(end, i + 1); ++j) {
          unit_->multiply(sums_[static_cast<std::size_t>(i - j)], {low, middle, middle, high},
                          right[static_cast<std::size_t>(j - first)]);
        }
        low = high;
      }
    }
  }

  // ---- operands -----------------------------------------------------------------------------

  std::int64_t straight_pairs() const { return divide_up(e_.n, 2); }
  /// One more for the pair that begins at an odd last position, where anything reads it.
  std::int64_t shifted_pairs() const { return std::min(e_.n / 2 + 1, half * layout_.fragments); }
  std::int64_t points_of_stage() const {
    return layout_.together * (straight_pairs() + shifted_pairs()) * (channels / width_);
  }

  /// What no row of the batch has a place in.
  void clear_margins() {
    const std::int64_t begin = Layout::margin + shifted_pairs();
    const std::int64_t end = Layout::margin + half * layout_.fragments;
    clear(straight_pairs(), layout_.even_at);
    for (const std::int64_t at : {layout_.even_at, layout_.odd_at}) {
      clear(at, at + Layout::margin);
      clear(at + begin, at + end);
    }
  }

  void clear(std::int64_t first, std::int64_t end) {
    if (first >= end) return;
    const std::int64_t count = end - first;
    for_numbers(layout_.stages * layout_.together * channels * count, [&](Ex number) {
      const Ex at =
          a_.add(scaled(a_.floor_div(number, count), layout_.pitch), a_.floor_mod(number, count));
      b_.store(words_, plus(at, first), a_.integer(Scalar::i32, 0));
    });
  }

  /// A whole stage. Several loads are under way at a time, where nothing else is done with them
  /// that wants registers.
  void fill(Ex to, Ex stage) {
    const std::int64_t at_once = computed_ ? 1 : 4;
    for (const bool shifted : {false, true}) {
      const std::int64_t pairs = shifted ? shifted_pairs() : straight_pairs();
      const std::int64_t total = layout_.together * pairs * (channels / width_);
      const std::int64_t all = at_once * layout_.threads();
      const auto some = [&](Ex first, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) {
          if_below(b_, a_.add(first, plus(thread_, i * layout_.threads())), total,
                   [&](Ex number) { bring_pair(to, stage, number, pairs, shifted); });
        }
      };
      b_.loop(total / all, Role::serial, 1, [&](Ex turn) { some(scaled(turn, all), at_once); });
      const std::int64_t done = total / all * all;
      some(a_.integer(done), divide_up(total - done, layout_.threads()));
    }
  }

  /// One of a stage's points, a pair of neighbours of `width_` channels, to its place in shared
  /// memory.
  void bring(Ex to, Ex stage, Ex number) {
    const std::int64_t chunks = channels / width_;
    const std::int64_t straight = layout_.together * straight_pairs() * chunks;
    b_.condition(a_.less(number, a_.integer(straight)), [&] {
      bring_pair(to, stage, b_.let_within(number, 0, straight - 1), straight_pairs(), false);
    });
    b_.condition(a_.less_equal(a_.integer(straight), number), [&] {
      const std::int64_t shifted = layout_.together * shifted_pairs() * chunks;
      bring_pair(to, stage, b_.let_within(plus(number, -straight), 0, shifted - 1), shifted_pairs(),
                 true);
    });
  }

  void bring_pair(Ex to, Ex stage, Ex number, std::int64_t pairs, bool shifted) {
    const std::int64_t chunks = channels / width_;
    const Ex chunk = a_.floor_mod(number, chunks);
    const Ex rest = a_.floor_div(number, chunks);
    const Ex pair = b_.let(a_.floor_mod(rest, pairs));
    const Ex row = b_.let(a_.floor_div(rest, pairs));
    const Ex batch = a_.add(first_row_, a_.add(scaled(stage, layout_.together), row));
    Ex there = nullptr;
    if (batch->maximum >= e_.batch) {
      // Past the part's last row, where it has fewer.
      there = a_.less(batch, a_.integer(e_.batch));
    }
    const Ex line = b_.let(a_.add(scaled(at_most_last(b_, batch, e_.batch), e_.groups), group_));
    const Ex own = a_.add(scaled(strip_, chunks), chunk);
    const Ex channel = b_.let(scaled(at_most_last(b_, own, e_.d / width_), width_));
    const auto read = [&](std::int64_t slot, Ex position, Ex inside) {
      if (there != nullptr) inside = inside == nullptr ? there : a_.logical_and(inside, there);
      if (inside != nullptr) inside = b_.let(inside);
      if (position->minimum < 0 || position->maximum >= e_.n) {
        position = b_.let_within(a_.select(inside, position, a_.integer(0)), 0, e_.n - 1);
      }
      const std::size_t operand = shifted ? shifted_ : straight_;
      const auto hold = [&](Ex lane) {
        const Ex value = lines_.read_sequence(operand, {line, a_.add(channel, lane), false})
                             .read(position, inside)
                             .re;
        b_.store(held_, a_.add(a_.integer(slot * width_), lane), value);
      };
      if (width_ == 1) {
        hold(a_.integer(0));
      } else {
        b_.loop(width_, Role::vector, static_cast<int>(width_), hold);
      }
    };
    const Ex position = b_.let(scaled(pair, 2));
    const auto past = [&](Ex at) {
      return at->maximum < e_.n ? nullptr : a_.less(at, a_.integer(e_.n));
    };
    read(0, position, past(position));
    read(1, plus(position, 1), past(plus(position, 1)));
    if (shifted) read(2, plus(position, -1), a_.less(a_.integer(0), position));
    const Ex first = scaled(a_.add(scaled(row, channels), scaled(chunk, width_)), layout_.pitch);
    const Ex at = b_.let(a_.add(a_.add(to, first), pair));
    const auto point = [&](std::int64_t slot, std::int64_t lane) {
      return b_.let(a_.load(held_, a_.integer(slot * width_ + lane)));
    };
    for (std::int64_t lane = 0; lane < width_; ++lane) {
      const Ex low = point(0, lane);
      const Ex even = unit_->pack(low, point(1, lane));
      const Ex place = plus(at, lane * layout_.pitch);
      if (!shifted) {
        b_.store(words_, place, even);
        continue;
      }
      b_.store(words_, plus(place, layout_.even_at + Layout::margin), even);
      b_.store(words_, plus(place, layout_.odd_at + Layout::margin),
               unit_->pack(point(2, lane), low));
    }
  }

  // ---- results ------------------------------------------------------------------------------

  /// A lane's sums, two neighbours at a time: `body` with their first lag.
  void for_sums(const std::function<void(Ex lag, Ex low, Ex high)>& body) {
    const Ex lane = scaled(unit_->lane(), 2);
    for (std::int64_t s = 0; s < layout_.fragments; ++s) {
      const MatrixUnit::Sums& sums = sums_[static_cast<std::size_t>(s)];
      for (const std::size_t upper : {0, 1}) {
        const std::int64_t further = s * lags + static_cast<std::int64_t>(upper) * half;
        body(plus(lane, further), b_.read(sums[2 * upper]), b_.read(sums[2 * upper + 1]));
      }
    }
  }

  Ex total_at(Ex lag) { return a_.add(scaled(channel_, layout_.pitch), lag); }

  void keep_sums() {
    for_sums([&](Ex lag, Ex low, Ex high) {
      const Ex at = b_.let(total_at(lag));
      b_.store(words_, at, a_.bits(low, Scalar::i32));
      b_.store(words_, plus(at, 1), a_.bits(high, Scalar::i32));
    });
  }

  /// The sums of a channel's warps, in order, in the first of them.
  void add_warps(Ex turn) {
    if (layout_.warps == 1 && layout_.parts() > 1) return;
    b_.barrier();
    for (std::int64_t other = 1; other < layout_.warps; ++other) {
      b_.condition(a_.equal(turn, a_.integer(other)), [&] { keep_sums(); });
      b_.barrier();
      b_.condition(a_.equal(turn, a_.integer(0)), [&] {
        const Ex lane = scaled(unit_->lane(), 2);
        for (std::int64_t s = 0; s < layout_.fragments; ++s) {
          const MatrixUnit::Sums& sums = sums_[static_cast<std::size_t>(s)];
          for (std::int64_t i = 0; i < 4; ++i) {
            const Ex at = total_at(plus(lane, s * lags + i / 2 * half + i % 2));
            b_.accumulate(sums[static_cast<std::size_t>(i)],
                          b_.let(a_.bits(a_.load(words_, at), Scalar::f32)));
          }
        }
      });
      if (other + 1 < layout_.warps) b_.barrier();
    }
  }

  std::int64_t part_elements() const { return e_.groups * e_.d * layout_.lags_padded(); }

  void finish(std::int64_t direction, Ex part, Ex turn) {
    const Ex first = a_.equal(turn, a_.integer(0));
    if (layout_.parts() > 1) {
      const Ex channel = a_.add(scaled(strip_, channels), channel_);
      const Ex own = a_.logical_and(first, a_.less(channel, a_.integer(e_.d)));
      b_.condition(own, [&] {
        const Ex line = a_.add(scaled(group_, e_.d), at_most_last(b_, channel, e_.d));
        const Ex start =
            b_.let(a_.add(scaled(plus(part, direction * layout_.parts()), part_elements()),
                          scaled(line, layout_.lags_padded())));
        for_sums([&](Ex lag, Ex low, Ex high) {
          b_.store(two_, a_.integer(0), low);
          b_.store(two_, a_.integer(1), high);
          const Ex at = b_.let(a_.add(start, lag));
          b_.loop(2, Role::vector, 2,
                  [&](Ex lane) { b_.store(workspace_, a_.add(at, lane), a_.load(two_, lane)); });
        });
      });
      return;
    }
    b_.condition(first, [&] { keep_sums(); });
    b_.barrier();
    for_numbers(channels * layout_.lags_padded(), [&](Ex number) {
      const Ex own = a_.floor_mod(number, channels);
      const Ex lag = a_.floor_div(number, channels);
      const Ex channel = a_.add(scaled(strip_, channels), own);
      Ex inside = a_.less(channel, a_.integer(e_.d));
      inside = a_.logical_and(inside, wanted(direction, lag));
      const Ex at = a_.add(scaled(own, layout_.pitch), lag);
      const Ex value = b_.let(a_.bits(a_.load(words_, at), Scalar::f32));
      b_.condition(inside, [&] {
        write(a_.integer(direction), group_, b_.let_within(lag, 0, e_.n - 1),
              b_.let_within(channel, 0, e_.d - 1), value);
      });
    });
  }

  /// The second half is that of negative lags.
  Ex wanted(std::int64_t direction, Ex lag) {
    const Ex inside = a_.less(lag, a_.integer(e_.n));
    return direction == 0 ? inside : a_.logical_and(inside, a_.less(a_.integer(0), lag));
  }

  void write(Ex direction, Ex group, Ex lag, Ex channel, Ex value) {
    Ex number = lag;
    if (!e_.causal) {
      const Ex later = a_.equal(direction, a_.integer(0));
      number = plus(a_.select(later, lag, a_.sub(a_.integer(0), lag)), e_.n - 1);
      number = b_.let_within(number, 0, e_.lags() - 1);
    }
    lines_.write_lag(group, number, channel, value);
  }

  /// The parts' sums, in order.
  void add_up() {
    const std::int64_t octets = divide_up(e_.n, add_lags);
    const Shape grid{directions_, e_.groups, octets, e_.d};
    const loop::Buffer* held = b_.kernel().local("sums", DType::f32, add_lags);
    const std::int64_t total = grid.elements();
    b_.phase(divide_up(total, add_threads), add_threads, [&](Ex block, Ex thread) {
      if_below(b_, a_.add(scaled(block, add_threads), thread), total, [&](Ex number) {
        const std::vector<Ex> at = a_.delinearize(number, grid);
        const Ex line = a_.add(scaled(at[1], e_.d), at[3]);
        const Ex first = b_.let(scaled(at[2], add_lags));
        const Ex start = b_.let(a_.add(a_.add(scaled(at[0], layout_.parts() * part_elements()),
                                              scaled(line, layout_.lags_padded())),
                                       first));
        std::array<loop::Accumulator*, add_lags> totals{};
        for (loop::Accumulator*& sum : totals) {
          sum = b_.declare(Scalar::f32, loop::Combine::add, a_.constant(Scalar::f32, 0));
        }
        b_.loop(layout_.parts(), Role::serial, 1, [&](Ex part) {
          const Ex from = b_.let(a_.add(start, scaled(part, part_elements())));
          b_.loop(add_lags, Role::vector, static_cast<int>(add_lags),
                  [&](Ex lane) { b_.store(held, lane, a_.load(workspace_, a_.add(from, lane))); });
          for (std::int64_t i = 0; i < add_lags; ++i) {
            b_.accumulate(totals[static_cast<std::size_t>(i)], a_.load(held, a_.integer(i)));
          }
        });
        for (std::int64_t i = 0; i < add_lags; ++i) {
          const Ex lag = plus(first, i);
          Ex inside = a_.less(lag, a_.integer(e_.n));
          if (!e_.causal && i == 0) {
            inside = a_.logical_and(
                inside, a_.less(a_.integer(0), a_.add(lag, a_.sub(a_.integer(1), at[0]))));
          }
          b_.condition(inside, [&] {
            write(at[0], at[1], b_.let_within(lag, 0, e_.n - 1), at[3],
                  b_.read(totals[static_cast<std::size_t>(i)]));
          });
        }
      });
    });
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const Node& node_;
  TnoExtents e_;
  TnoLines lines_;
  DType type_;
  std::size_t gradient_;  ///< the operand g
  Layout layout_;
  std::int64_t strips_;      ///< of `channels`
  std::int64_t directions_;  ///< lags of 0 and more, negative ones
  bool computed_ = false;    ///< x or g, on the way
  std::int64_t width_;       ///< channels that a thread reads together
  std::size_t straight_ = 0;
  std::size_t shifted_ = 0;
  MatrixUnit* unit_ = nullptr;
  std::vector<MatrixUnit::Sums> sums_;  ///< of 128 lags each
  Ex thread_ = nullptr;
  Ex group_ = nullptr;
  Ex strip_ = nullptr;
  Ex first_row_ = nullptr;               ///< of the batch, of the block's part
  Ex channel_ = nullptr;                 ///< of the block, the warp's
  Ex first_class_ = nullptr;             ///< the warp's
  const loop::Buffer* words_ = nullptr;  ///< [stage][row of the batch][channel], see Layout
  const loop::Buffer* held_ = nullptr;
  const loop::Buffer* two_ = nullptr;
  const loop::Buffer* workspace_ = nullptr;  ///< [direction][part][group][channel][lag]
};

}  // namespace

bool tno_gradient_t_may_be_direct(const Node& node, const DeviceOptions& options) {
  if (!node.is("tno_gradient_t") && !node.is("tno_gradients")) return false;
  const DType type = node.operand_type(0).dtype;
  return (type == DType::f16 || type == DType::bf16) &&
         Layout(TnoExtents(node), options.shared_bytes()).fits();
}

bool tno_gradient_t_is_direct(const Node& node, const DeviceOptions& options) {
  if (!tno_gradient_t_may_be_direct(node, options)) return false;
  const TnoExtents e(node);
  const Layout layout(e, options.shared_bytes());
  return layout.cycles(e) <= Layout::cycles_of_transforms(e, node.is("tno_gradients"));
}

void emit_tno_direct_gradient(GroupEmitter& emitter, const DeviceOptions& options) {
  auto* const node = const_cast<Node*>(emitter.group().anchor);
  if (node->is("tno_gradients") && !emitter.is_output({node, 1})) return;
  DirectTnoGradient(emitter, options).run();
}

}  // namespace weft::compiler
