#include "compiler/schedules/tno_tiles.h"

#include <string>

#include "compiler/schedules/access.h"
#include "compiler/schedules/device_tile.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/thread_indices.h"

namespace weft::compiler {

using ir::Node;
using loop::Combine;
using loop::Ex;
using loop::ExprKind;
using loop::Role;
using loop::Scalar;

namespace {

/// Channels in 16 bytes.
constexpr std::int64_t piece = 8;
/// Positions that a lane has four pairs of, two fragments'.
constexpr std::int64_t run = 32;
constexpr std::int64_t run_words = run / 2;
/// Lags before a block: lanes start up to six before their diagonal.
constexpr std::int64_t guard = 8;
constexpr std::int64_t quad = 4;

/// Four words from shared memory, as one access.
std::vector<Ex> load_quad(loop::Builder& b, const loop::Buffer* memory, Ex at,
                          const loop::Buffer* registers) {
  loop::Arena& a = b.arena();
  b.loop(quad, Role::vector, quad,
         [&](Ex lane) { b.store(registers, lane, a.load(memory, a.add(at, lane))); });
  std::vector<Ex> words;
  for (std::int64_t i = 0; i < quad; ++i) words.push_back(b.let(a.load(registers, a.integer(i))));
  return words;
}

void store_quad(loop::Builder& b, const loop::Buffer* memory, Ex at, const loop::Buffer* registers,
                const std::vector<Ex>& words) {
  loop::Arena& a = b.arena();
  for (std::int64_t i = 0; i < quad; ++i) {
    b.store(registers, a.integer(i), words[static_cast<std::size_t>(i)]);
  }
  b.loop(quad, Role::vector, quad,
         [&](Ex lane) { b.store(memory, a.add(at, lane), a.load(registers, lane)); });
}

}  // namespace

std::int64_t with_rest(std::int64_t size, std::int64_t rest) {
  return size + ((rest - size) % warp + warp) % warp;
}

// ---- sequences ----------------------------------------------------------------------------------

TnoSequences::TnoSequences(GroupEmitter& emitter, TnoLines& lines, std::size_t operand,
                           bool reverse, const TnoTiling& tiling)
    : a_(emitter.arena()),
      b_(emitter.builder()),
      lines_(lines),
      e_(lines.extents()),
      operand_(operand),
      reverse_(reverse),
      tiling_(tiling),
      route_(route(emitter, operand, reverse)),
      halves_(tiling.channels / piece),
      tile_words_(TnoTiling::columns * tiling.points * tiling.channels / 2) {
  quad_ = b_.kernel().local("quad", DType::i32, quad);
  if (!route_.copies) values_ = b_.kernel().local("values", DType::f32, piece);
}

Ex TnoSequences::value(Ex row, Ex channel, Ex position, Ex inside) {
  return lines_.read_sequence(operand_, {row, channel, reverse_}).read(position, inside).re;
}

TnoSequences::Route TnoSequences::route(GroupEmitter& emitter, std::size_t operand, bool reverse) {
  const Node& node = *emitter.group().anchor;
  const TnoExtents e(node);
  if (e.d % piece != 0) return {};
  loop::Kernel scratch;
  GroupEmitter probe(scratch, emitter.group());
  TnoLines lines(probe, e.n, false);
  loop::Arena& a = probe.arena();
  const auto axis = [&](std::int64_t extent) { return a.variable(Scalar::i64, 0, extent - 1); };
  const Ex lane = axis(piece);
  const Ex channel = a.add(a.mul(axis(e.d / piece), a.integer(piece)), lane);
  const Ex value = lines.read_sequence(operand, {axis(e.batch * e.groups), channel, reverse})
                       .read(axis(e.n), nullptr)
                       .re;
  if (!lanes_are_aligned(a, value, lane, piece)) return {};
  const bool stored = value->kind == ExprKind::load && value->arguments[1] == nullptr &&
                      value->buffer->space == loop::Space::argument &&
                      value->buffer->dtype == node.operand_type(operand).dtype;
  return {stored && contiguous_along(value, lane) && depends_on(value, lane), true};
}

std::int64_t TnoSequences::per_thread() const {
  return TnoTiling::columns * tiling_.points * halves_ / tiling_.threads();
}

void TnoSequences::for_pieces(const TnoPlace& place,
                              const std::function<void(const Piece& piece)>& body) {
  // Whole sectors first, then positions: their rows of 16 or 32 bytes are side by side.
  for (std::int64_t i = 0; i < per_thread(); ++i) {
    const Ex number = a_.add(place.thread, a_.integer(i * tiling_.threads()));
    const Ex rest = a_.floor_div(number, halves_);
    body({a_.floor_mod(number, halves_), a_.floor_mod(rest, tiling_.points),
          a_.floor_div(rest, tiling_.points)});
  }
}

/// Where the 16 bytes of a piece are. Eight positions are read at once, of one half: where there
/// are two, every second four positions have them exchanged, so that all are in different banks.
Ex TnoSequences::raw(Ex tile, Ex column, Ex position, Ex half) {
  const Ex row = a_.add(a_.mul(column, a_.integer(tiling_.points)), position);
  Ex number = row;
  if (halves_ > 1) {
    const Ex exchanged = a_.floor_mod(a_.add(half, a_.floor_div(position, 4)), 2);
    number = a_.add(a_.mul(row, a_.integer(halves_)), exchanged);
  }
  return a_.add(a_.mul(tile, a_.integer(tile_words_)), a_.mul(number, a_.integer(quad)));
}

/// Where the 16 words of 32 positions are: for each lane % 4 four. Lanes that access them together
/// differ in the column or the channel by one, and either decides about the half of the banks.
Ex TnoSequences::transposed(Ex tile, Ex channel, Ex column, Ex run_number) {
  const std::int64_t runs = tiling_.points / run;
  const Ex line = a_.add(a_.mul(channel, a_.integer(TnoTiling::columns)), column);
  const Ex parity = a_.add(channel, column);
  const Ex number =
      runs > 1
          ? a_.add(a_.mul(line, a_.integer(runs)), a_.floor_mod(a_.add(run_number, parity), runs))
          : a_.add(a_.sub(line, a_.floor_mod(column, 2)), a_.floor_mod(parity, 2));
  const Ex first = a_.mul(a_.add(tile, a_.integer(2)), a_.integer(tile_words_));
  return a_.add(first, a_.mul(number, a_.integer(run_words)));
}

TnoSequences::Source TnoSequences::source(const TnoPlace& place, Ex first, const Piece& own) {
  const Ex batch = a_.add(place.batch, a_.floor_div(own.column, tiling_.shifts));
  const Ex shift = a_.mul(a_.floor_mod(own.column, tiling_.shifts), a_.integer(tiling_.rows));
  const Ex position = b_.let(a_.add(a_.add(first, shift), own.position));
  Source source;
  source.inside =
      a_.logical_and(a_.less_equal(a_.integer(0), position), a_.less(position, a_.integer(e_.n)));
  const auto within = [&](Ex index, std::int64_t extent) {
    source.inside = a_.logical_and(source.inside, a_.less(index, a_.integer(extent)));
    return at_most_last(b_, index, extent);
  };
  const Ex own_batch = within(batch, e_.batch);
  source.row = a_.add(a_.mul(own_batch, a_.integer(e_.groups)), place.group);
  source.piece = a_.add(a_.floor_div(place.channel, piece), own.half);
  if (route_.together) source.piece = within(source.piece, e_.d / piece);
  source.inside = b_.let(source.inside);
  source.position = b_.let_within(a_.select(source.inside, position, a_.integer(0)), 0, e_.n - 1);
  return source;
}

void TnoSequences::fill(MatrixUnit& unit, const TnoPlace& place, Ex tile, Ex first) {
  for_pieces(place, [&](const Piece& own) {
    const Source from = source(place, first, own);
    const Ex channel = a_.mul(from.piece, a_.integer(piece));
    const Ex to = raw(tile, own.column, own.position, own.half);
    if (route_.copies) {
      const Ex e = value(from.row, channel, from.position, nullptr);
      b_.call(loop::intrinsic("copy_async.16"), {from.inside},
              {{memory_, to}, {e->buffer, e->arguments[0]}});
      return;
    }
    b_.loop(piece, route_.together ? Role::vector : Role::unrolled, route_.together ? piece : 1,
            [&](Ex lane) {
              const Ex own_channel = a_.add(channel, lane);
              const Ex at = route_.together ? own_channel : at_most_last(b_, own_channel, e_.d);
              b_.store(values_, lane, value(from.row, at, from.position, from.inside));
            });
    std::vector<Ex> words;
    for (std::int64_t i = 0; i < piece; i += 2) {
      const Ex low = b_.let(a_.load(values_, a_.integer(i)));
      words.push_back(unit.pack(low, b_.let(a_.load(values_, a_.integer(i + 1)))));
    }
    store_quad(b_, memory_, to, quad_, words);
  });
}

void TnoSequences::commit() {
  if (route_.copies) b_.call(loop::intrinsic("copy_commit"), {});
}

void TnoSequences::wait(std::int64_t under_way) {
  if (route_.copies) b_.call(loop::intrinsic("copy_wait"), {a_.integer(Scalar::i32, under_way)});
}

void TnoSequences::transpose(MatrixUnit& unit, const TnoPlace& place, Ex tile) {
  const std::int64_t runs = tiling_.points / run;
  const std::int64_t total = TnoTiling::columns * runs;
  const auto one = [&](Ex number) {
    const Ex column = b_.let(a_.floor_div(number, runs));
    const Ex run_number = a_.floor_mod(number, runs);
    const Ex position = a_.add(a_.mul(run_number, a_.integer(run)), unit.lane());
    for (std::int64_t half = 0; half < halves_; ++half) {
      // The four matrices are eight positions each: lane l has the address of position l.
      const std::vector<Ex> words =
          b_.call(loop::intrinsic("load_matrix.x4.transposed"), {},
                  {{memory_, raw(tile, column, position, a_.integer(half))}});
      const Ex channel = a_.add(a_.integer(half * piece), unit.group());
      const Ex to = a_.add(transposed(tile, channel, column, run_number),
                           a_.mul(unit.thread(), a_.integer(quad)));
      store_quad(b_, memory_, to, quad_, words);
    }
  };
  for (std::int64_t first = 0; first < total; first += tiling_.channels) {
    if_below(b_, a_.add(place.warp, a_.integer(first)), total, one);
  }
}

std::vector<MatrixUnit::Columns> TnoSequences::fragments(MatrixUnit& unit, const TnoPlace& place,
                                                         Ex tile) {
  std::vector<MatrixUnit::Columns> all;
  for (std::int64_t i = 0; i < tiling_.points / run; ++i) {
    const Ex at = a_.add(transposed(tile, place.warp, unit.group(), a_.integer(i)),
                         a_.mul(unit.thread(), a_.integer(quad)));
    const std::vector<Ex> words = load_quad(b_, memory_, at, quad_);
    all.push_back({words[0], words[1]});
    all.push_back({words[2], words[3]});
  }
  return all;
}

// ---- lags ---------------------------------------------------------------------------------------

TnoLags::TnoLags(GroupEmitter& emitter, TnoLines& lines, const TnoTiling& tiling)
    : a_(emitter.arena()),
      b_(emitter.builder()),
      lines_(lines),
      e_(lines.extents()),
      tiling_(tiling),
      window_(divide_up(tiling.rows, tiling.points) + 1),
      slot_(guard + tiling.points),
      pitch_(with_rest((window_ + 1) * slot_, quad)),
      memory_(b_.kernel().shared("lags", DType::i32, words())),
      held_(b_.kernel().local("held_lags", DType::f32, window_ * (quad + 1))),
      quad_(b_.kernel().local("quad_of_lags", DType::i32, quad)) {}

void TnoLags::begin(MatrixUnit& unit, const TnoPlace& place) {
  slots_.clear();
  lane_ = b_.let(a_.add(a_.mul(place.warp, a_.integer(pitch_)),
                        a_.sub(unit.group(), a_.mul(unit.thread(), a_.integer(2)))));
  for (std::int64_t i = 0; i < window_; ++i) {
    slots_.push_back(b_.declare(Scalar::i64, Combine::add, a_.add(lane_, a_.integer(i * slot_))));
  }
  next_ = b_.declare(Scalar::i64, Combine::add, a_.integer(window_));
}

void TnoLags::for_piece(const TnoPlace& place,
                        const std::function<void(Ex channel, Ex lags)>& body) {
  // No thread has more than one.
  const std::int64_t of_half = slot_ / quad / 2;
  if_below(b_, place.number, tiling_.channels * of_half, [&](Ex number) {
    const Ex own =
        a_.add(a_.floor_div(number, tiling_.channels), a_.mul(place.half, a_.integer(of_half)));
    body(a_.floor_mod(number, tiling_.channels), a_.mul(own, a_.integer(quad)));
  });
}

/// t_lag, where lags are distances from the diagonal; zero for what t does not have.
Ex TnoLags::coefficient(const TnoPlace& place, Ex lag, Ex channel) {
  const std::int64_t least = e_.causal ? 0 : 1 - e_.n;
  const Ex number = b_.let(a_.sub(lag, a_.integer(least)));
  const Ex inside = b_.let(
      a_.logical_and(a_.less_equal(a_.integer(0), number), a_.less(number, a_.integer(e_.lags()))));
  const Ex at = b_.let_within(a_.select(inside, number, a_.integer(0)), 0, e_.lags() - 1);
  return lines_.coefficient(place.group, at, channel, inside);
}

void TnoLags::load(const TnoPlace& place, Ex first, std::int64_t number) {
  for_piece(place, [&](Ex channel, Ex lags) {
    const Ex own = at_most_last(b_, a_.add(place.channel, channel), e_.d);
    const Ex least = b_.let(a_.add(first, a_.sub(lags, a_.integer(guard + 1))));
    for (std::int64_t i = 0; i <= quad; ++i) {
      b_.store(held_, a_.integer(number * (quad + 1) + i),
               coefficient(place, a_.add(least, a_.integer(i)), own));
    }
  });
}

void TnoLags::store(MatrixUnit& unit, const TnoPlace& place, std::int64_t number) {
  store(unit, place, number, a_.integer(number));
}

void TnoLags::bring_next(MatrixUnit& unit, const TnoPlace& place, Ex first) {
  load(place, first, 0);
  store(unit, place, 0, next_slot());
}

Ex TnoLags::next_slot() { return b_.let_within(b_.read(next_), 0, window_); }

void TnoLags::store(MatrixUnit& unit, const TnoPlace& place, std::int64_t held, Ex slot) {
  for_piece(place, [&](Ex channel, Ex lags) {
    std::vector<Ex> values;
    for (std::int64_t i = 0; i <= quad; ++i) {
      values.push_back(b_.let(a_.load(held_, a_.integer(held * (quad + 1) + i))));
    }
    std::vector<Ex> words;
    for (std::size_t i = 0; i < quad; ++i) words.push_back(unit.pack(values[i + 1], values[i]));
    const Ex line = a_.add(a_.mul(channel, a_.integer(pitch_)), lags);
    store_quad(b_, memory_, a_.add(a_.mul(slot, a_.integer(slot_)), line), quad_, words);
  });
}

void TnoLags::advance() {
  const Ex slot = next_slot();
  for (std::size_t i = 1; i < slots_.size(); ++i) b_.assign(slots_[i - 1], b_.read(slots_[i]));
  b_.assign(slots_.back(), a_.add(lane_, a_.mul(slot, a_.integer(slot_))));
  b_.assign(next_, a_.select(a_.less(slot, a_.integer(window_)), a_.add(slot, a_.integer(1)),
                             a_.integer(0)));
}

void TnoLags::look() {
  seen_.clear();
  for (std::int64_t i = 0; i < window_; ++i) {
    seen_.push_back(b_.read(slots_[static_cast<std::size_t>(i)]));
  }
}

Ex TnoLags::pair(std::int64_t eighth) {
  const std::int64_t lag = eighth * piece;
  const Ex at = a_.add(seen_[static_cast<std::size_t>(lag / tiling_.points)],
                       a_.integer(guard + lag % tiling_.points));
  return b_.let(a_.load(memory_, b_.let_within(at, 0, words() - 1)));
}

}  // namespace weft::compiler
