#include "compiler/schedules/fourier_sweeps.h"

#include <algorithm>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/thread_indices.h"

namespace weft::compiler {

using loop::Ex;
using loop::Scalar;

namespace {

/// Points of a block: two or three such blocks share a multiprocessor, so that one's accesses of
/// memory go beside the other's arithmetic.
constexpr std::int64_t block_points = 8192;
/// Points of a block of long lines, which has a multiprocessor to itself: fewer channels would use
/// so small a part of what L2 delivers that this takes longer than waiting for it.
constexpr std::int64_t largest_block_points = 16384;
constexpr std::int64_t long_line = 4096;
/// Short lines are joined until a block has as many.
constexpr std::int64_t least_points = 2048;
/// Points that a thread should have in registers.
constexpr std::int64_t thread_points = 16;
/// Memory is moved in pieces of this size.
constexpr std::int64_t sector_bytes = 32;
/// Channels of a block where lines are swept: a sector of complex points and more.
constexpr std::int64_t swept_channels = 8;

constexpr std::int64_t point_bytes = 8;

/// Points that memory has room for, with what is left out between them.
std::int64_t room_for(std::int64_t shared_bytes) { return shared_bytes * 4 / (5 * point_bytes); }

std::int64_t largest_power_of_two(std::int64_t most) {
  std::int64_t power = 1;
  while (2 * power <= most) power *= 2;
  return power;
}

std::int64_t threads_for(std::int64_t points) {
  const std::int64_t threads = divide_up(divide_up(points, thread_points), warp) * warp;
  const std::int64_t most = points > block_points ? 512 : 256;
  return std::clamp<std::int64_t>(threads, warp, most);
}

}  // namespace

FourierSweeps::FourierSweeps(GroupEmitter& emitter, const DevicePlan& plan, bool twisted,
                             const Lines& lines, const Options& options)
    : emitter_(emitter),
      a_(emitter.arena()),
      b_(emitter.builder()),
      plan_(plan),
      lines_(lines),
      turns_(std::make_shared<const DeviceTurns>(b_, plan_, twisted)),
      shared_bytes_(options.shared_bytes),
      natural_(options.natural) {
  choose_sweeps();
  choose_channels(options);
  make_tiles(options);
}

FourierSweeps::FourierSweeps(const FourierSweeps& like, const Lines& lines)
    : emitter_(like.emitter_),
      a_(like.a_),
      b_(like.b_),
      plan_(like.plan_),
      lines_(lines),
      turns_(like.turns_),
      shared_bytes_(like.shared_bytes_),
      sweeps_(like.sweeps_),
      channels_(std::min(like.channels_, lines.channels)),
      strips_(divide_up(lines.channels, channels_)) {
  make_tiles({});
}

// ---- choices ------------------------------------------------------------------------------------

bool FourierSweeps::in_one_sweep(std::int64_t points, std::int64_t channels,
                                 std::int64_t shared_bytes) {
  if (points > room_for(shared_bytes)) return false;
  return channels < swept_channels || points <= largest_block_points / 2;
}

void FourierSweeps::choose_sweeps() {
  const std::size_t levels = plan_.levels();
  if (in_one_sweep(plan_.length, lines_.channels, shared_bytes_)) {
    sweeps_ = {{0, levels}};
    return;
  }
  // From the last level on as many as fit.
  const std::int64_t room = std::min(block_points, room_for(shared_bytes_));
  for (std::size_t last = levels; last > 0;) {
    std::size_t first = last - 1;
    std::int64_t points = plan_.radices[first];
    while (first > 0 && points * plan_.radices[first - 1] <= room / swept_channels) {
      points *= plan_.radices[--first];
    }
    sweeps_.insert(sweeps_.begin(), {first, last});
    last = first;
  }
}

void FourierSweeps::choose_channels(const Options& options) {
  const std::int64_t longest = longest_tile();
  const bool largest = longest >= long_line && room_for(shared_bytes_) >= largest_block_points;
  const std::int64_t points = largest ? largest_block_points : block_points;
  // Whole sectors where they fit; twice as many for short lines.
  std::int64_t most = std::min(2 * sector_bytes / options.element_bytes,
                               std::max<std::int64_t>(points / longest, 1));
  if (several()) most = std::min(most, swept_channels);
  channels_ = lines_.channels <= most ? std::max<std::int64_t>(lines_.channels, 1)
                                      : largest_power_of_two(most);
  // Fewer where blocks would be too few: sectors are then shared by blocks, in the L2 cache.
  constexpr std::int64_t fewest = 4;
  constexpr std::int64_t short_lines = 256;
  while (channels_ > fewest && channels_ % 2 == 0 && longest >= short_lines &&
         lines_.rows() * divide_up(lines_.channels, channels_) < options.processors) {
    channels_ /= 2;
  }
  strips_ = divide_up(lines_.channels, channels_);
}

std::int64_t FourierSweeps::longest_tile() const {
  std::int64_t longest = 1;
  for (const Sweep& sweep : sweeps_) longest = std::max(longest, tile_points(sweep));
  return longest;
}

void FourierSweeps::make_tiles(const Options& options) {
  for (std::size_t i = 0; i < sweeps_.size(); ++i) {
    const std::int64_t points = tile_points(sweeps_[i]);
    const bool last = i + 1 == sweeps_.size();
    std::int64_t columns = 1;
    FourierTile::Extents extents;
    extents.first = sweeps_[i].first;
    extents.last = sweeps_[i].last;
    if (!several()) {
      const std::int64_t room = least_points / (points * channels_);
      extents.slow = std::clamp<std::int64_t>(room, 1, std::max<std::int64_t>(lines_.batch, 1));
      // Not at the cost of blocks.
      while (extents.slow > 1 &&
             divide_up(lines_.batch, extents.slow) * lines_.groups * strips_ < options.processors) {
        extents.slow /= 2;
      }
    } else if (!last || natural_) {
      // Neighbouring points, so that what is moved together is a line of memory: of the levels
      // below, or of bins.
      const std::int64_t others =
          last ? plan_.length / plan_.size(extents.first) : plan_.size(extents.last);
      const auto wanted = [&](std::int64_t lanes) {
        return (lanes < warp / 2 || points * lanes < least_points) &&
               2 * points * lanes <= std::min(block_points, room_for(shared_bytes_));
      };
      while (wanted(columns * channels_) && others % (2 * columns) == 0) columns *= 2;
    }
    extents.fast = columns * channels_;
    extents.threads = threads_for(extents.slow * points * extents.fast);
    extents.natural = natural_ && last;
    extents.kept = options.kept && last;
    tiles_.push_back(std::make_unique<FourierTile>(b_, plan_, *turns_, extents));
  }
}

std::int64_t FourierSweeps::blocks() const {
  const Sweep& rows = sweeps_.back();
  const std::int64_t columns = tiles_.back()->fast() / channels_;
  return lines_.groups * strips_ * (plan_.length / plan_.size(rows.first) / columns);
}

std::int64_t FourierSweeps::spectrum_elements() const {
  return lines_.groups * strips_ * line_elements();
}

std::int64_t FourierSweeps::lines_elements() const {
  return several() ? lines_.rows() * strips_ * line_elements() : 0;
}

std::int64_t FourierSweeps::shared_elements() const {
  std::int64_t elements = 0;
  for (const auto& tile : tiles_) elements = std::max(elements, tile->shared_elements());
  return elements;
}

// ---- blocks -------------------------------------------------------------------------------------

void FourierSweeps::for_tiles(std::size_t sweep, std::int64_t chunk, const Body& body) {
  const Sweep& levels = sweeps_[sweep];
  FourierTile& tile = *tiles_[sweep];
  const bool last = sweep + 1 == sweeps_.size();
  const std::int64_t columns = tile.fast() / channels_;
  const std::int64_t uppers = plan_.length / plan_.size(levels.first) / (last ? columns : 1);
  const std::int64_t inner = plan_.size(levels.last) / (last ? 1 : columns);
  const std::int64_t batch_blocks = divide_up(lines_.batch, tile.slow());
  // Neighbouring blocks share sectors of the operands.
  const Shape grid{divide_up(batch_blocks, chunk), lines_.groups, uppers, inner, strips_};
  b_.phase(grid.elements(), tile.threads(), [&](Ex block, Ex thread) {
    const std::vector<Ex> index = a_.delinearize(block, grid);
    Position at;
    at.sweep = sweep;
    at.tile = &tile;
    at.lines = lines_;
    at.block = block;
    at.part = b_.let(index[0]);
    at.group = b_.let(index[1]);
    at.upper = b_.let(a_.mul(index[2], a_.integer(last ? columns : 1)));
    at.column = b_.let(a_.mul(index[3], a_.integer(last ? 1 : columns)));
    at.strip = b_.let(index[4]);
    tile.start(thread, shared_, [this, at](Ex fast) { return low(at, fast); });
    if (chunk == 1) {
      at.index = a_.integer(0);
      at.batch = at.part;
      body(at);
      return;
    }
    const Ex first = a_.mul(at.part, a_.integer(chunk));
    const Ex rest = a_.sub(a_.integer(batch_blocks), first);
    b_.loop(a_.binary(loop::Binary::minimum, a_.integer(chunk), rest), [&](Ex i) {
      at.index = i;
      at.batch = b_.let_within(a_.add(first, i), 0, batch_blocks - 1);
      body(at);
      tile.barrier();
    });
  });
}

void FourierSweeps::for_rows(const Body& body, std::int64_t chunk) {
  for_tiles(sweeps_.size() - 1, chunk, body);
}

/// The block that a point of the tile is in, of the sweep's first level.
Ex FourierSweeps::upper(const Position& at, Ex fast) {
  if (!natural_ || at.sweep + 1 < sweeps_.size()) return at.upper;
  const Ex bin = a_.add(at.upper, a_.floor_div(fast, channels_));
  return plan_.slot(a_, 0, sweeps_[at.sweep].first, bin);
}

/// The place of a point in its block of the level past the tile's.
Ex FourierSweeps::low(const Position& at, Ex fast) {
  if (at.sweep + 1 == sweeps_.size()) return a_.integer(0);
  return a_.add(at.column, a_.floor_div(fast, channels_));
}

Ex FourierSweeps::position(const Position& at, const FourierTile::Place& place) {
  const Sweep& sweep = sweeps_[at.sweep];
  const Ex above = a_.mul(upper(at, place.fast), a_.integer(plan_.size(sweep.first)));
  const Ex own = a_.mul(place.element, a_.integer(plan_.size(sweep.last)));
  return a_.add(a_.add(above, own), low(at, place.fast));
}

Ex FourierSweeps::channel(const Position& at, const FourierTile::Place& place) {
  return a_.add(a_.mul(at.strip, a_.integer(channels_)), a_.floor_mod(place.fast, channels_));
}

Ex FourierSweeps::batch(const Position& at, const FourierTile::Place& place) {
  return a_.add(a_.mul(at.batch, a_.integer(at.tile->slow())), place.slow);
}

Ex FourierSweeps::line(const Position& at, const FourierTile::Place& place) {
  return a_.add(a_.mul(batch(at, place), a_.integer(lines_.groups)), at.group);
}

/// Channels past the end are transformed like the last one, lines past the end are zero, as they
/// may be part of a sum; neither is stored.
FourierTile::Load FourierSweeps::load(const Position& at, const Source& source, std::int64_t base) {
  if (at.sweep > 0) {
    return [=, this](const FourierTile::Place& place) { return fetch(point_at(at, place, base)); };
  }
  return [=, this](const FourierTile::Place& place) -> ComplexEx {
    const Ex own = batch(at, place);
    const Ex row =
        a_.add(a_.mul(at_most_last(b_, own, lines_.batch), a_.integer(lines_.groups)), at.group);
    const Ex j = position(at, place);
    const Ex inside = a_.logical_and(a_.less(j, a_.integer(source.extent)),
                                     a_.less(own, a_.integer(lines_.batch)));
    const Ex own_channel = at_most_last(b_, channel(at, place), lines_.channels);
    if (inside->kind == loop::ExprKind::constant) {
      return inside->integer == 0 ? ComplexEx{} : source.read(row, own_channel, j, nullptr);
    }
    return source.read(row, own_channel, j, inside);
  };
}

void FourierSweeps::put(const Position& at, const FourierTile::Place& place, Ex point,
                        const ComplexEx& value, const Sink& sink) {
  const Ex own = batch(at, place);
  const Ex own_channel = channel(at, place);
  const Ex inside =
      a_.logical_and(a_.logical_and(a_.less(point, a_.integer(sink.wanted)),
                                    a_.less(own_channel, a_.integer(lines_.channels))),
                     a_.less(own, a_.integer(lines_.batch)));
  b_.condition(inside, [&] {
    const auto within = [&](Ex index, std::int64_t extent) {
      return b_.let_within(index, 0, extent - 1);
    };
    const Ex row = a_.add(a_.mul(within(own, lines_.batch), a_.integer(lines_.groups)), at.group);
    sink.write(row, within(own_channel, lines_.channels), within(point, sink.wanted), value);
  });
}

FourierTile::Save FourierSweeps::save(const Position& at, const Sink& sink, std::int64_t base) {
  if (at.sweep > 0) {
    return [=, this](const FourierTile::Place& place, const ComplexEx& value) {
      store(point_at(at, place, base), value);
    };
  }
  return [=, this](const FourierTile::Place& place, const ComplexEx& value) {
    put(at, place, position(at, place), value, sink);
  };
}

FourierTile::Save FourierSweeps::save_bins(const Position& at, const Sink& sink) {
  return [=, this](const FourierTile::Place& place, const ComplexEx& value) {
    // The levels before are the lowest digits of a bin.
    const std::int64_t above = plan_.length / plan_.size(sweeps_[at.sweep].first);
    const Ex first = a_.add(at.upper, a_.floor_div(place.fast, channels_));
    put(at, place, a_.add(a_.mul(place.bin, a_.integer(above)), first), value, sink);
  };
}

// ---- workspace ----------------------------------------------------------------------------------

Ex FourierSweeps::part(Ex value) { return value == nullptr ? a_.constant(Scalar::f32, 0) : value; }

ComplexEx FourierSweeps::fetch(Ex at, Ex predicate) {
  return {b_.let(a_.load(workspace_, at, predicate)),
          b_.let(a_.load(workspace_, a_.add(at, a_.integer(1)), predicate))};
}

void FourierSweeps::store(Ex at, const ComplexEx& value) {
  const Ex re = b_.let(part(value.re));
  const Ex im = b_.let(part(value.im));
  b_.store(workspace_, at, re);
  b_.store(workspace_, a_.add(at, a_.integer(1)), im);
}

/// A point of a line between sweeps.
Ex FourierSweeps::point_at(const Position& at, const FourierTile::Place& place, std::int64_t base) {
  const Shape order{lines_.rows(), strips_, plan_.length, channels_};
  const std::vector<Ex> index = {line(at, place), at.strip, position(at, place),
                                 a_.floor_mod(place.fast, channels_)};
  return a_.add(a_.integer(base), a_.mul(a_.linearize(index, order), a_.integer(2)));
}

Ex FourierSweeps::spectrum_at(const Position& at, const FourierTile::Butterfly& own, std::int64_t q,
                              bool of_channels) {
  const auto radix = static_cast<std::int64_t>(own.places.size());
  const std::int64_t points = at.tile->points();
  const Shape order{of_channels ? lines_.groups : 1, of_channels ? strips_ : 1,
                    plan_.length / points, radix, points / radix * (of_channels ? channels_ : 1)};
  const Ex zero = a_.integer(0);
  // Neighbouring threads' points are neighbours.
  const Ex number = of_channels ? own.number : a_.floor_div(own.number, channels_);
  const std::vector<Ex> index = {of_channels ? at.group : zero, of_channels ? at.strip : zero,
                                 at.upper, a_.integer(q), a_.floor_mod(number, order[4])};
  return a_.mul(a_.linearize(index, order), a_.integer(2));
}

// ---- sweeps -------------------------------------------------------------------------------------

void FourierSweeps::forward(const Source& source, std::int64_t base) {
  for (std::size_t i = 0; i + 1 < sweeps_.size(); ++i) {
    for_tiles(i, 1, [&](const Position& at) {
      tiles_[i]->forward(load(at, source, base),
                         [&](const FourierTile::Place& place, const ComplexEx& value) {
                           store(point_at(at, place, base), value);
                         });
    });
  }
}

void FourierSweeps::inverse(const Sink& sink, std::int64_t base) {
  for (std::size_t i = sweeps_.size() - 1; i-- > 0;) {
    for_tiles(i, 1, [&](const Position& at) {
      tiles_[i]->inverse(
          [&](const FourierTile::Place& place) { return fetch(point_at(at, place, base)); },
          save(at, sink, base));
    });
  }
}

}  // namespace weft::compiler
