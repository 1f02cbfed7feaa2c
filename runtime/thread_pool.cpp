#include "runtime/thread_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <system_error>

#include "compiler/ir/error.h"
#include "runtime/float_mode.h"
#include "runtime/wait.h"

namespace weft::runtime {

// The protocol. run() writes job_, makes epoch_ odd, works along, makes epoch_ even and waits until
// active_ is 0. A worker adds itself to active_ and then looks whether epoch_ is odd; only if so
// may it touch job_. In the single order of these operations either the worker's look comes before
// the closing, and then run() sees it in active_ and waits; or the worker sees the job closed and
// keeps off. So nobody waits for a worker that wakes too late to help.

ThreadPool::ThreadPool(int threads, std::int64_t scratch_bytes) {
  scratch_.reserve(static_cast<std::size_t>(threads));
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
    if ((seen & 1U) != 0) take_chunks(worker);
    active_.fetch_sub(1);
  }
}

void ThreadPool::take_chunks(std::size_t worker) {
  const Job job = job_;
  void* scratch = scratch_[worker].data();
  for (;;) {
    const std::int64_t begin = next_.fetch_add(job.chunk, std::memory_order_relaxed);
    if (begin >= job.grid) return;
    job.phase(job.arguments, scratch, begin, std::min(begin + job.chunk, job.grid));
  }
}

void ThreadPool::run(PhaseFunction phase, void* const* arguments, std::int64_t grid) {
  if (grid <= 1 || workers_.empty()) return run_alone(phase, arguments, grid);
  // Several chunks a worker, so that one that is late or slow does not hold up the others.
  job_ = {phase, arguments, grid, std::max<std::int64_t>(1, grid / (8 * threads()))};
  next_.store(0, std::memory_order_relaxed);
  epoch_.fetch_add(1);
  if (sleepers_.load() > 0) epoch_.notify_all();
  take_chunks(0);
  epoch_.fetch_add(1);
  const auto done = [this] { return active_.load() == 0; };
  while (!spin_until(done, spin_)) std::this_thread::yield();
}

void ThreadPool::run_alone(PhaseFunction phase, void* const* arguments, std::int64_t grid) {
  if (grid > 0) phase(arguments, scratch_[0].data(), 0, grid);
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
