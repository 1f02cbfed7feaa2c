#include "runtime/thread_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <system_error>

#include "runtime/float_mode.h"
#include "runtime/plan/error.h"
#include "runtime/wait.h"

namespace weft::runtime {

// The protocol. run() writes the job, makes epoch_ odd, works along, makes epoch_ even and waits
// until active_ is 0. A worker adds itself to active_ and then looks whether epoch_ is odd; only if
// so may it touch the job. In the single order of these operations either the worker's look comes
// before the closing, and then run() sees it in active_ and waits; or the worker sees the job
// closed and keeps off. So nobody waits for a worker that wakes too late to help.

ThreadPool::ThreadPool(int threads, std::int64_t scratch_bytes) {
  scratch_.reserve(static_cast<std::size_t>(threads));
  shares_ = std::vector<Share>(static_cast<std::size_t>(threads));
  for (int i = 0; i < threads; ++i) scratch_.emplace_back(align_up(scratch_bytes));
  // With more workers than cores a spinning one takes the core that another needs.
  if (static_cast<unsigned>(threads) <= std::thread::hardware_concurrency()) spin_ = spin_time;
  try {
    for (std::size_t i = 1; i < scratch_.size(); ++i) {
      workers_.emplace_back([this, i] { work(i); });
    }
  } catch (const std::system_error& error) {
    stop();
    throw Error(fmt::format("thread {} of {} could not be started: {}", workers_.size() + 1,
                            threads, error.what()));
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  stopping_.store(true);
  epoch_.fetch_add(2);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::work(std::size_t worker) {
  const FloatMode mode(FloatMode::flushing(FloatMode::current()));
  std::uint32_t seen = 0;
  const auto news = [&] {
    const std::uint32_t epoch = epoch_.load();
    return (epoch != seen && (epoch & 1U) != 0) || stopping_.load();
  };
  for (;;) {
    if (!spin_until(news, spin_)) {
      sleepers_.fetch_add(1);
      for (;;) {
        const std::uint32_t epoch = epoch_.load();
        if (news()) break;
        epoch_.wait(epoch);
      }
      sleepers_.fetch_sub(1);
    }
    if (stopping_.load()) return;
    active_.fetch_add(1);
    seen = epoch_.load();
    if ((seen & 1U) != 0) help(worker);
    active_.fetch_sub(1);
  }
}

std::int64_t ThreadPool::chunk_size(const Segment& segment) const {
  // Several chunks a worker, so that one that is late or slow does not hold up the others.
  return std::max<std::int64_t>(1, segment.grid / (8 * threads()));
}

void ThreadPool::run_chunk(std::int64_t chunk, void* scratch) const {
  for (const Segment& segment : segments_) {
    const std::int64_t size = chunk_size(segment);
    const std::int64_t chunks = (segment.grid + size - 1) / size;
    if (chunk >= chunks) {
      chunk -= chunks;
      continue;
    }
    const std::int64_t begin = chunk * size;
    segment.phase(segment.arguments, scratch, begin, std::min(begin + size, segment.grid));
    return;
  }
}

void ThreadPool::help(std::size_t worker) {
  if (tracks_.empty()) {
    take_chunks(worker);
    return;
  }
  TraceTrack& track = *tracks_[worker];
  TraceEvent event;
  event.name = label_;
  event.category = "blocks";
  event.begin = track.now();
  if (take_chunks(worker) == 0) return;
  event.duration = track.now() - event.begin;
  track.add(event);
}

std::int64_t ThreadPool::take_chunks(std::size_t worker) {
  std::int64_t taken = 0;
  void* scratch = scratch_[worker].data();
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    Share& share = shares_[(worker + i) % shares_.size()];
    for (;;) {
      const std::int64_t chunk = share.next.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= share.end) break;
      run_chunk(chunk, scratch);
      ++taken;
    }
  }
  return taken;
}

void ThreadPool::run(std::span<const Segment> segments) {
  std::int64_t chunks = 0;
  for (const Segment& segment : segments) {
    const std::int64_t size = chunk_size(segment);
    chunks += (segment.grid + size - 1) / size;
  }
  if (chunks <= 1 || workers_.empty()) return run_alone(segments);
  segments_ = segments;
  const auto workers = static_cast<std::int64_t>(shares_.size());
  for (std::int64_t i = 0; i < workers; ++i) {
    Share& share = shares_[static_cast<std::size_t>(i)];
    share.next.store(i * chunks / workers, std::memory_order_relaxed);
    share.end = (i + 1) * chunks / workers;
  }
  epoch_.fetch_add(1);
  if (sleepers_.load() > 0) epoch_.notify_all();
  take_chunks(0);
  epoch_.fetch_add(1);
  const auto done = [this] { return active_.load() == 0; };
  while (!spin_until(done, spin_)) std::this_thread::yield();
}

void ThreadPool::run_alone(std::span<const Segment> segments) {
  for (const Segment& segment : segments) {
    if (segment.grid > 0) {
      segment.phase(segment.arguments, scratch_[0].data(), 0, segment.grid);
    }
  }
}

namespace {

constexpr std::int64_t copy_block = std::int64_t{256} << 10;

/// Arguments: to, from, number of bytes.
void copy_blocks(void* const* arguments, void*, std::int64_t begin, std::int64_t end) {
  const std::int64_t bytes = *static_cast<const std::int64_t*>(arguments[2]);
  const std::int64_t first = begin * copy_block;
  const std::int64_t last = std::min(end * copy_block, bytes);
  std::memcpy(static_cast<std::byte*>(arguments[0]) + first,
              static_cast<const std::byte*>(arguments[1]) + first,
              static_cast<std::size_t>(last - first));
}

}  // namespace

void ThreadPool::copy(void* to, const void* from, std::int64_t bytes) {
  const auto target = reinterpret_cast<std::uintptr_t>(to);
  const auto source = reinterpret_cast<std::uintptr_t>(from);
  const auto size = static_cast<std::uintptr_t>(bytes);
  const bool apart = target + size <= source || source + size <= target;
  if (bytes < 4 * copy_block || !apart) {
    std::memmove(to, from, static_cast<std::size_t>(bytes));
    return;
  }
  void* const arguments[] = {to, const_cast<void*>(from), &bytes};
  run(copy_blocks, arguments, (bytes + copy_block - 1) / copy_block);
}

}  // namespace weft::runtime
