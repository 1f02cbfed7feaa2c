#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "runtime/executable.h"
#include "runtime/memory.h"
#include "runtime/plan.h"
#include "runtime/thread_pool.h"
#include "runtime/tracer.h"
#include "runtime/wait.h"

namespace weft::runtime {

/// A thread that does one job after another, started with the first.
class Lane {
 public:
  Lane() = default;
  ~Lane();  ///< waits for the job
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  /// The last job must be done; `job` must not throw. Throws Error where no thread can be had.
  void start(std::function<void()> job);
  void wait() const;

 private:
  enum class Phase : std::uint8_t { idle, busy, closing };

  void loop();

  std::function<void()> job_;
  std::atomic<Phase> phase_{Phase::idle};
  Signal signal_;
  std::thread thread_;
};

/// The first exception of a run, from whatever thread.
class Failure {
 public:
  void set(std::exception_ptr exception);
  bool any() const { return any_.load(); }
  void reset();
  void rethrow() const;  ///< where there is one

 private:
  mutable std::mutex mutex_;
  std::exception_ptr first_;
  std::atomic<bool> any_{false};
};

/// Runs a feeder's function ahead of need, in order of iteration, into a ring of buffers: two, or
/// more where they are small, so that its thread wakes for several iterations at a time.
class FeederChannel {
 public:
  FeederChannel(const plan::Feeder& feeder, StagingAllocator allocate);

  FeedFunction fill;
  TraceTrack* track = nullptr;  ///< of calls of fill(), where tracing is on

  /// Begins filling for iterations [first, last). Synchronous: await() does it instead.
  void start(std::int64_t first, std::int64_t last, bool synchronous);
  /// Waits until the iteration's data are there; throws what fill() threw.
  void await(std::int64_t iteration);
  /// The awaited data; release() gives the buffer back.
  const std::byte* staged(std::int64_t iteration) const { return slot(iteration); }
  void release(std::int64_t iteration);
  /// Ends filling, waiting for a fill() under way; what it throws now is of no consequence.
  void stop() noexcept;

 private:
  std::byte* slot(std::int64_t iteration) const {
    return ring_.get() + iteration % slots_ * align_up(bytes_);
  }
  void call_fill(std::int64_t iteration);
  void fill_all(std::int64_t first, std::int64_t last) noexcept;

  std::int64_t bytes_;
  StagingAllocator allocate_;
  StagingMemory ring_;
  std::int64_t slots_ = 2;
  bool synchronous_ = false;
  unsigned int float_mode_ = 0;            ///< the caller's, for fill() on its thread
  std::atomic<std::int64_t> filled_{0};    ///< iterations below are filled
  std::atomic<std::int64_t> released_{0};  ///< iterations below are done with
  std::atomic<bool> failed_{false};
  std::atomic<bool> stopping_{false};
  std::exception_ptr error_;  ///< written before failed_
  Signal signal_;
  Lane lane_;
};

/// Takes snapshots and hands them to a receiver's callback, in order.
class ReceiverChannel {
 public:
  ReceiverChannel(const plan::Receiver& receiver, Failure& failure, StagingAllocator allocate);

  ReceiveFunction callback;
  TraceTrack* track = nullptr;  ///< of calls of callback(), where tracing is on

  bool wants(std::int64_t iteration) const { return callback && iteration % every_ == 0; }
  bool failed() const { return failed_.load(); }
  /// A snapshot's bytes, and where in it each tensor is.
  std::int64_t bytes() const { return bytes_; }
  std::span<const std::int64_t> offsets() const { return offsets_; }

  /// `queue`: snapshots that may wait while one is with the callback.
  void start(int queue, bool synchronous);
  /// Snapshots the sources (one address a tensor) for the callback; waits while the queue is full.
  /// Synchronous: calls back with the sources themselves. After a failure it does nothing.
  void deliver(std::int64_t iteration, std::span<void* const> sources, ThreadPool& pool);
  /// Begins to fill a snapshot's bytes. What it returns waits until they are there; it is called
  /// before the callback and on its thread, and may throw what then is the run's failure.
  using Take = std::function<std::function<void()>(std::byte* snapshot)>;
  /// The same for sources that only `take` can read; synchronous as well it makes a snapshot.
  void deliver(std::int64_t iteration, const Take& take);
  /// Returns when the last callback has.
  void finish() noexcept;

 private:
  struct Snapshot {
    std::int64_t iteration = 0;
    StagingMemory memory;
    std::vector<TensorView> views;
    std::function<void()> wait;  ///< until the bytes are there; empty where they are
  };

  std::unique_ptr<Snapshot> new_snapshot() const;
  /// A spare snapshot or a new one.
  std::unique_ptr<Snapshot> free_snapshot();
  /// Waits for room; says whether there is any, which after a failure there is not.
  bool wait_for_room() const;
  void enqueue(std::unique_ptr<Snapshot> snapshot);
  std::vector<TensorView> views_of(std::span<void* const> sources) const;
  void call_back(std::int64_t iteration, std::span<const TensorView> tensors,
                 const std::function<void()>& wait) noexcept;
  void deliver_all() noexcept;

  StagingAllocator allocate_;
  std::vector<Type> types_;
  std::vector<std::int64_t> offsets_;  ///< of each tensor in a snapshot
  std::int64_t bytes_ = 0;
  std::int64_t every_;
  Failure& failure_;
  bool synchronous_ = false;
  unsigned int float_mode_ = 0;
  int queue_ = 1;
  std::mutex mutex_;  ///< guards waiting_ and spare_
  std::deque<std::unique_ptr<Snapshot>> waiting_;
  std::vector<std::unique_ptr<Snapshot>> spare_;
  std::atomic<int> waiting_count_{0};
  std::atomic<bool> closed_{false};
  std::atomic<bool> failed_{false};
  Signal signal_;
  Lane lane_;
};

/// A plan's channels, by index.
struct Transfers {
  /// `allocate` gives the memory of feeders' rings and of snapshots, as runs need it.
  explicit Transfers(const plan::Plan& plan, const StagingAllocator& allocate = ordinary_memory);

  Failure failure;
  std::vector<std::unique_ptr<FeederChannel>> feeders;
  std::vector<std::unique_ptr<ReceiverChannel>> receivers;
};

}  // namespace weft::runtime
