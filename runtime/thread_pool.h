#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "runtime/executable.h"
#include "runtime/memory.h"

namespace weft::runtime {

/// Fork-join over the blocks of one phase. The calling thread is one of the workers. Workers flush
/// denormals to zero; the caller's mode is the caller's affair. run() is for one thread at a time.
class ThreadPool {
 public:
  /// `threads` >= 1 includes the caller; `scratch_bytes` is for each worker. Throws Error.
  ThreadPool(int threads, std::int64_t scratch_bytes);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(scratch_.size()); }

  /// Runs blocks [0, grid) of a phase; returns when all are done. Which worker takes which blocks
  /// is left to chance: blocks do not depend on each other.
  void run(PhaseFunction phase, void* const* arguments, std::int64_t grid);
  /// The same on the calling thread, in one call, waking nobody.
  void run_alone(PhaseFunction phase, void* const* arguments, std::int64_t grid);
  /// memmove that takes all workers where there is much to move and no overlap.
  void copy(void* to, const void* from, std::int64_t bytes);

 private:
  struct Job {
    PhaseFunction phase = nullptr;
    void* const* arguments = nullptr;
    std::int64_t grid = 0;
    std::int64_t chunk = 1;
  };

  void work(std::size_t worker);
  void take_chunks(std::size_t worker);
  void stop();

  std::vector<AlignedBuffer> scratch_;
  std::vector<std::thread> workers_;
  std::chrono::nanoseconds spin_{};
  Job job_;
  // What workers write is kept on cache lines of its own.
  alignas(64) std::atomic<std::int64_t> next_{0};     ///< first block not handed out
  alignas(64) std::atomic<std::uint32_t> epoch_{0};   ///< odd while a job is open
  alignas(64) std::atomic<std::uint32_t> active_{0};  ///< workers that may be looking at job_
  std::atomic<std::uint32_t> sleepers_{0};
  std::atomic<bool> stopping_{false};
};

}  // namespace weft::runtime
