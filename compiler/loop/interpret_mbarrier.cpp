#include "compiler/loop/interpret_mbarrier.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace weft::loop::interpreter {
namespace {

constexpr int mbarrier_bytes = 8;
constexpr int box_alignment = 128;
constexpr int exchanged_alignment = 1024;
constexpr std::int64_t most_bytes = (1 << 20) - 1;  ///< that a phase counts

}  // namespace

void Mbarriers::begin_block() {
  by_place_.clear();
  all_.clear();
  under_way_.clear();
}

void Mbarriers::end_block() {
  for (const Mbarrier& mbarrier : all_) {
    if (mbarrier.copy_end <= mbarrier.seen) continue;
    reports_.add(Report::Kind::in_flight, mbarrier.latest_copy.statement,
                 mbarrier.latest_copy.block, mbarrier.latest_copy.thread,
                 "is not waited for by any thread of the block, which has ended");
  }
}

void Mbarriers::report(const Mbarrier& mbarrier, const Access& access, const std::string& what) {
  reports_.add(Report::Kind::mbarrier, access.statement, access.block, access.thread,
               fmt::format("{}[{}] {}", mbarrier.region->buffer->name, mbarrier.index, what));
}

Mbarriers::Mbarrier* Mbarriers::find(Region& region, std::int64_t index, const Access& access) {
  std::size_t offset = 0;
  if (!memory_.locate(region, index, mbarrier_bytes, mbarrier_bytes, access, offset)) {
    return nullptr;
  }
  const auto found = by_place_.find({&region, index});
  if (found == by_place_.end()) {
    reports_.add(Report::Kind::mbarrier, access.statement, access.block, access.thread,
                 fmt::format("{}[{}] is not initialised", region.buffer->name, index));
    return nullptr;
  }
  // A use is no change: uses go in any order, but after the initialisation.
  memory_.note_read(region, offset, mbarrier_bytes, access);
  return found->second;
}

void Mbarriers::initialise(Region& region, std::int64_t index, std::int64_t arrivals,
                           const Access& access) {
  std::size_t offset = 0;
  if (!memory_.locate(region, index, mbarrier_bytes, mbarrier_bytes, access, offset)) return;
  memory_.note_write(region, offset, mbarrier_bytes, access, false);
  const auto [found, added] = by_place_.try_emplace({&region, index}, nullptr);
  if (!added) return report(*found->second, access, "is initialised a second time");
  Mbarrier& mbarrier = all_.emplace_back();
  mbarrier.region = &region;
  mbarrier.index = index;
  mbarrier.agent = memory_.clocks().copies(all_.size() - 1);
  mbarrier.initialiser = access.thread;
  mbarrier.expected = mbarrier.pending = arrivals;
  found->second = &mbarrier;
  region.mbarriers.push_back(index);
}

void Mbarriers::fence(int thread) {
  for (Mbarrier& mbarrier : all_) {
    if (mbarrier.initialiser == thread) mbarrier.fenced = true;
  }
}

void Mbarriers::arrive(Region& region, std::int64_t index, std::int64_t bytes,
                       const Access& access) {
  Mbarrier* mbarrier = find(region, index, access);
  if (mbarrier == nullptr) return;
  if (bytes < 0 || mbarrier->bytes + bytes > most_bytes) {
    return report(*mbarrier, access,
                  fmt::format("is to expect {} bytes, and counts up to {}", mbarrier->bytes + bytes,
                              most_bytes));
  }
  if (mbarrier->pending == 0) {
    return report(*mbarrier, access,
                  fmt::format("has had all {} arrivals of its phase {}, which waits for {} bytes",
                              mbarrier->expected, mbarrier->phase, mbarrier->bytes));
  }
  memory_.clocks().release(access.thread, mbarrier->arriving);
  --mbarrier->pending;
  mbarrier->bytes += bytes;
  settle(*mbarrier, access);
}

/// Completes the phase where nothing is missing.
void Mbarriers::settle(Mbarrier& mbarrier, const Access& access) {
  if (mbarrier.pending != 0) return;
  if (mbarrier.bytes < 0) {
    report(mbarrier, access,
           fmt::format("gets {} bytes more than its phase {} expects", -mbarrier.bytes,
                       mbarrier.phase));
  }
  if (mbarrier.bytes != 0) return;
  for (const Flight& flight : under_way_) {
    if (flight.mbarrier != &mbarrier) continue;
    report(mbarrier, flight.copy.access,
           fmt::format("gets {} bytes more than its phase {} expects", flight.view->box_bytes(),
                       mbarrier.phase));
  }
  complete(mbarrier);
}

void Mbarriers::complete(Mbarrier& mbarrier) {
  Clocks& clocks = memory_.clocks();
  join(mbarrier.completed, mbarrier.arriving);
  clocks.release_copies(mbarrier.agent, mbarrier.completed);
  mbarrier.arriving = {};
  mbarrier.pending = mbarrier.expected;
  const std::int64_t parity = mbarrier.phase & 1U;
  ++mbarrier.phase;
  std::vector<Waiter> others;
  for (const Waiter& waiter : mbarrier.waiters) {
    if (waiter.parity != parity) {
      others.push_back(waiter);
      continue;
    }
    clocks.acquire(waiter.access.thread, mbarrier.completed);
    mbarrier.seen = mbarrier.phase;
    --*waiter.missing;
  }
  mbarrier.waiters = std::move(others);
}

void Mbarriers::wait(Region& region, std::int64_t index, std::int64_t parity, const Access& access,
                     int& missing) {
  Mbarrier* mbarrier = find(region, index, access);
  if (mbarrier == nullptr) return;
  if (parity != 0 && parity != 1) {
    return report(*mbarrier, access, fmt::format("has no phase of parity {}", parity));
  }
  if (parity != static_cast<std::int64_t>(mbarrier->phase & 1U)) {
    memory_.clocks().acquire(access.thread, mbarrier->completed);
    mbarrier->seen = mbarrier->phase;
    return;
  }
  ++missing;
  mbarrier->waiters.push_back({parity, access, &missing});
}

/// Calls function(offset in the box, offset in the argument or -1 where zeros are, bytes) for runs
/// of the innermost axis that are inside of the extents or outside.
template <typename Function>
void Mbarriers::each_row(const Flight& flight, const Function& function) {
  const TensorView& view = *flight.view;
  const auto size = static_cast<std::int64_t>(size_of(view.buffer->dtype));
  const std::size_t axes = view.box.size();
  const std::int64_t row = view.box[0], rows = view.box_bytes() / (row * size);
  const std::int64_t first = flight.copy.coordinates[0];
  const std::int64_t low = std::clamp<std::int64_t>(-first, 0, row);
  const std::int64_t high = std::clamp<std::int64_t>(view.extents[0] - first, low, row);
  for (std::int64_t r = 0; r < rows; ++r) {
    std::int64_t left = r, from = view.offset + first;
    bool inside = true;
    for (std::size_t i = 1; i < axes; ++i) {
      const std::int64_t at = flight.copy.coordinates[i] + left % view.box[i];
      left /= view.box[i];
      inside = inside && at >= 0 && at < view.extents[i];
      from += at * view.strides[i];
    }
    const std::int64_t to = r * row;
    const auto part = [&](std::int64_t begin, std::int64_t end, bool there) {
      if (begin < end) {
        function((to + begin) * size, there ? (from + begin) * size : -1, (end - begin) * size);
      }
    };
    if (!inside) {
      part(0, row, false);
      continue;
    }
    part(0, low, false);
    part(low, high, true);
    part(high, row, false);
  }
}

void Mbarriers::copy(Copy copy, bool at_once) {
  const TensorView& view = kernel_.tensor_maps[static_cast<std::size_t>(copy.map->index)];
  Mbarrier* mbarrier = find(*copy.mbarrier, copy.mbarrier_index, copy.access);
  std::size_t to = 0;
  const auto bytes = static_cast<std::size_t>(view.box_bytes());
  const int alignment = view.exchanged ? exchanged_alignment : box_alignment;
  if (!memory_.locate(*copy.to, copy.to_index, bytes, alignment, copy.access, to)) return;
  if (mbarrier == nullptr) return;
  if (!mbarrier->fenced) {
    report(*mbarrier, copy.access,
           "is given to a copy with no mbarrier_fence since it was initialised");
  }
  Flight flight{.copy = std::move(copy),
                .mbarrier = mbarrier,
                .phase = mbarrier->phase,
                .view = &view,
                .from = &memory_.region(view.buffer),
                .to = to};
  mbarrier->copy_end = mbarrier->phase + 1;
  mbarrier->latest_copy = flight.copy.access;
  // The copy does it, some time from now on and until the phase completes.
  Access by_copy = flight.copy.access;
  by_copy.as = memory_.clocks().now(mbarrier->agent);
  Access of_mbarrier = by_copy;  // whose fence is its own
  by_copy.asynchronous = true;
  memory_.note_write(*flight.copy.to, to, bytes, by_copy, false);
  memory_.set_initialised(*flight.copy.to, to, bytes);
  memory_.note_read(*flight.copy.mbarrier,
                    static_cast<std::size_t>(mbarrier->index) * mbarrier_bytes, mbarrier_bytes,
                    of_mbarrier);
  std::vector<TrafficCounter::Run> runs;
  each_row(flight, [&](std::int64_t, std::int64_t from, std::int64_t count) {
    if (from < 0) return;
    runs.push_back({from, count});
    memory_.note_read(*flight.from, static_cast<std::size_t>(from), static_cast<std::size_t>(count),
                      by_copy);
  });
  if (traffic_ != nullptr) {
    const Statement* statement = flight.copy.access.statement;
    const TrafficCounter::Run box{static_cast<std::int64_t>(to), view.box_bytes()};
    traffic_->count_copy(statement, *flight.from, false, runs);
    traffic_->count_copy(statement, *flight.copy.to, true, {&box, 1});
  }
  if (at_once) {
    land(flight);
  } else {
    under_way_.push_back(std::move(flight));
  }
}

void Mbarriers::transfer(const Flight& flight) {
  std::byte* const to = flight.copy.to->data + flight.to;
  // Pieces of 16 bytes, which exchanging keeps whole.
  const auto place = [&](std::int64_t offset) {
    return flight.view->exchanged ? offset ^ (((offset >> 7) & 7) << 4) : offset;
  };
  each_row(flight, [&](std::int64_t offset, std::int64_t from, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      to[place(offset + i)] = from < 0 ? std::byte{0} : flight.from->data[from + i];
    }
  });
}

void Mbarriers::land(const Flight& flight) {
  transfer(flight);
  Mbarrier& mbarrier = *flight.mbarrier;
  if (mbarrier.phase != flight.phase) return;  // reported when that phase completed
  mbarrier.bytes -= flight.view->box_bytes();
  settle(mbarrier, flight.copy.access);
}

bool Mbarriers::land(std::mt19937_64* random) {
  auto next = under_way_.begin();
  if (under_way_.empty()) return false;
  if (random != nullptr) {
    next += static_cast<std::ptrdiff_t>((*random)() % under_way_.size());
  } else {
    next = std::find_if(under_way_.begin(), under_way_.end(),
                        [](const Flight& flight) { return !flight.mbarrier->waiters.empty(); });
    if (next == under_way_.end()) return false;
  }
  const Flight flight = std::move(*next);
  under_way_.erase(next);
  land(flight);
  return true;
}

void Mbarriers::report_stuck() {
  for (const Mbarrier& mbarrier : all_) {
    for (const Waiter& waiter : mbarrier.waiters) {
      reports_.add(
          Report::Kind::stuck, waiter.access.statement, waiter.access.block, waiter.access.thread,
          fmt::format(
              "{}[{}] is waited for with parity {}, and its phase {} lacks {} of {} arrivals "
              "and {} bytes, which nothing brings any more",
              mbarrier.region->buffer->name, mbarrier.index, waiter.parity, mbarrier.phase,
              mbarrier.pending, mbarrier.expected, mbarrier.bytes));
    }
  }
}

}  // namespace weft::loop::interpreter
