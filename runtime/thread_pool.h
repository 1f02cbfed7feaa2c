#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

#include "runtime/executable.h"
#include "runtime/memory.h"
#include "runtime/tracer.h"

namespace weft::runtime {

/// Blocks [0, grid) of a kernel's phase.
struct Segment {
  PhaseFunction phase = nullptr;
  void* const* arguments = nullptr;
  std::int64_t grid = 0;
};

/// Fork-join over the blocks of phases that do not depend on each other. The calling thread is one
/// of the workers. Workers flush denormals to zero; the caller's mode is the caller's affair. run()
/// is for one thread at a time.
class ThreadPool {
 public:
  /// `threads` >= 1 includes the caller; `scratch_bytes` is for each worker. Throws Error.
  ThreadPool(int threads, std::int64_t scratch_bytes);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(scratch_.size()); }

  /// Runs all blocks of all segments; returns when they are done. Each worker begins with a share
  /// of its own, the same for equal segments, so that it finds in its cache what it wrote there the
  /// last time; who is done helps the others.
  void run(std::span<const Segment> segments);
  /// The same on the calling thread, waking nobody.
  void run_alone(std::span<const Segment> segments);
  void run(PhaseFunction phase, void* const* arguments, std::int64_t grid) {
    const Segment segment{phase, arguments, grid};
    run({&segment, 1});
  }
  void run_alone(PhaseFunction phase, void* const* arguments, std::int64_t grid) {
    const Segment segment{phase, arguments, grid};
    run_alone({&segment, 1});
  }
  /// Workers record their part of what is run, by worker, on these; empty: on none. They must
  /// outlive their use; the caller's entry is not used.
  void set_tracks(std::vector<TraceTrack*> tracks) { tracks_ = std::move(tracks); }
  /// What the next runs are called there.
  void set_label(std::string_view label) { label_ = label; }
  /// memmove that takes all workers where there is much to move and no overlap.
  void copy(void* to, const void* from, std::int64_t bytes);

 private:
  /// Chunks, numbered through all segments, that a worker begins with.
  struct alignas(64) Share {
    std::atomic<std::int64_t> next{0};
    std::int64_t end = 0;
  };

  void work(std::size_t worker);
  void help(std::size_t worker);
  std::int64_t take_chunks(std::size_t worker);  ///< how many
  std::int64_t chunk_size(const Segment& segment) const;
  void run_chunk(std::int64_t chunk, void* scratch) const;
  void stop();

  std::vector<AlignedBuffer> scratch_;
  std::vector<std::thread> workers_;
  std::chrono::nanoseconds spin_{};
  std::span<const Segment> segments_;  ///< the job
  std::vector<TraceTrack*> tracks_;
  std::string_view label_;
  std::vector<Share> shares_;
  // What workers write is kept on cache lines of its own.
  alignas(64) std::atomic<std::uint32_t> epoch_{0};   ///< odd while a job is open
  alignas(64) std::atomic<std::uint32_t> active_{0};  ///< workers that may be looking at job_
  std::atomic<std::uint32_t> sleepers_{0};
  std::atomic<bool> stopping_{false};
};

}  // namespace weft::runtime
