#include "runtime/transfers.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "runtime/float_mode.h"
#include "runtime/plan/error.h"

namespace weft::runtime {

Lane::~Lane() {
  if (!thread_.joinable()) return;
  wait();
  phase_.store(Phase::closing);
  signal_.post();
  thread_.join();
}

void Lane::start(std::function<void()> job) {
  job_ = std::move(job);
  phase_.store(Phase::busy);
  signal_.post();
  if (thread_.joinable()) return;
  try {
    thread_ = std::thread([this] { loop(); });
  } catch (const std::system_error& error) {
    phase_.store(Phase::idle);
    throw Error(fmt::format("a thread for transfers could not be started: {}", error.what()));
  }
}

void Lane::wait() const {
  signal_.wait([this] { return phase_.load() == Phase::idle; });
}

void Lane::loop() {
  for (;;) {
    signal_.wait([this] { return phase_.load() != Phase::idle; });
    if (phase_.load() == Phase::closing) return;
    job_();
    phase_.store(Phase::idle);
    signal_.post();
  }
}

void Failure::set(std::exception_ptr exception) {
  const std::lock_guard lock(mutex_);
  if (first_) return;
  first_ = std::move(exception);
  any_.store(true);
}

void Failure::reset() {
  const std::lock_guard lock(mutex_);
  first_ = nullptr;
  any_.store(false);
}

void Failure::rethrow() const {
  std::exception_ptr exception;
  {
    const std::lock_guard lock(mutex_);
    exception = first_;
  }
  if (exception) std::rethrow_exception(exception);
}

FeederChannel::FeederChannel(const plan::Feeder& feeder, StagingAllocator allocate)
    : bytes_(feeder.type.bytes()), allocate_(std::move(allocate)) {
  constexpr std::int64_t ring_bytes = std::int64_t{256} << 10;
  constexpr std::int64_t most_slots = 128;
  const std::int64_t slots = ring_bytes / std::max<std::int64_t>(bytes_, 1);
  slots_ = std::clamp<std::int64_t>(slots, 2, most_slots);
}

void FeederChannel::start(std::int64_t first, std::int64_t last, bool synchronous) {
  if (ring_ == nullptr) ring_ = allocate_(slots_ * align_up(bytes_));
  synchronous_ = synchronous;
  float_mode_ = FloatMode::current();
  filled_.store(first);
  released_.store(first);
  failed_.store(false);
  stopping_.store(false);
  error_ = nullptr;
  if (!synchronous && first < last) {
    lane_.start([this, first, last] { fill_all(first, last); });
  }
}

void FeederChannel::call_fill(std::int64_t iteration) {
  const TraceSpan span(track, "fill", "feeder", iteration);
  fill(iteration, {slot(iteration), static_cast<std::size_t>(bytes_)});
}

void FeederChannel::fill_all(std::int64_t first, std::int64_t last) noexcept {
  for (std::int64_t i = first; i < last; ++i) {
    const auto room = [&] { return slots_ - (i - released_.load()); };
    // Once the ring is full, it is worth waking for when half of it is free.
    if (room() < 1) signal_.wait([&] { return stopping_.load() || room() >= slots_ / 2; });
    if (stopping_.load()) return;
    try {
      call_fill(i);
    } catch (...) {
      error_ = std::current_exception();
      failed_.store(true);
      signal_.post();
      return;
    }
    filled_.store(i + 1);
    signal_.post();
  }
}

void FeederChannel::await(std::int64_t iteration) {
  if (synchronous_) {
    const FloatMode mode(float_mode_);
    call_fill(iteration);
    return;
  }
  signal_.wait([&] { return filled_.load() > iteration || failed_.load(); });
  // An iteration that was filled before the failure is still to be run.
  if (filled_.load() <= iteration) std::rethrow_exception(error_);
}

void FeederChannel::release(std::int64_t iteration) {
  if (synchronous_) return;
  released_.store(iteration + 1);
  if (filled_.load() - (iteration + 1) <= slots_ / 2) signal_.post();
}

void FeederChannel::stop() noexcept {
  if (synchronous_) return;
  stopping_.store(true);
  signal_.post();
  lane_.wait();
  error_ = nullptr;
}

ReceiverChannel::ReceiverChannel(const plan::Receiver& receiver, Failure& failure,
                                 StagingAllocator allocate)
    : allocate_(std::move(allocate)),
      types_(receiver.types),
      every_(receiver.every),
      failure_(failure) {
  for (const Type& type : types_) {
    offsets_.push_back(bytes_);
    bytes_ += align_up(type.bytes());
  }
}

void ReceiverChannel::start(int queue, bool synchronous) {
  queue_ = queue;
  synchronous_ = synchronous;
  float_mode_ = FloatMode::current();
  waiting_.clear();
  waiting_count_.store(0);
  closed_.store(false);
  failed_.store(false);
  if (callback && !synchronous) lane_.start([this] { deliver_all(); });
}

std::vector<TensorView> ReceiverChannel::views_of(std::span<void* const> sources) const {
  std::vector<TensorView> views;
  views.reserve(types_.size());
  for (std::size_t i = 0; i < types_.size(); ++i) {
    views.push_back(
        {types_[i],
         {static_cast<const std::byte*>(sources[i]), static_cast<std::size_t>(types_[i].bytes())}});
  }
  return views;
}

std::unique_ptr<ReceiverChannel::Snapshot> ReceiverChannel::new_snapshot() const {
  auto snapshot = std::make_unique<Snapshot>();
  snapshot->memory = allocate_(bytes_);
  std::vector<void*> addresses;
  for (const std::int64_t offset : offsets_) {
    addresses.push_back(snapshot->memory.get() + offset);
  }
  snapshot->views = views_of(addresses);
  return snapshot;
}

std::unique_ptr<ReceiverChannel::Snapshot> ReceiverChannel::free_snapshot() {
  {
    const std::lock_guard lock(mutex_);
    if (!spare_.empty()) {
      std::unique_ptr<Snapshot> snapshot = std::move(spare_.back());
      spare_.pop_back();
      return snapshot;
    }
  }
  return new_snapshot();
}

void ReceiverChannel::call_back(std::int64_t iteration, std::span<const TensorView> tensors,
                                const std::function<void()>& wait) noexcept {
  try {
    if (wait) wait();
    const TraceSpan span(track, "callback", "receiver", iteration);
    callback(iteration, tensors);
  } catch (...) {
    failure_.set(std::current_exception());
    failed_.store(true);
  }
}

bool ReceiverChannel::wait_for_room() const {
  signal_.wait([this] { return waiting_count_.load() < queue_ || failed(); });
  return !failed();
}

void ReceiverChannel::enqueue(std::unique_ptr<Snapshot> snapshot) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(snapshot));
    waiting_count_.fetch_add(1);
  }
  signal_.post();
}

void ReceiverChannel::deliver(std::int64_t iteration, std::span<void* const> sources,
                              ThreadPool& pool) {
  if (failed()) return;
  if (synchronous_) {
    const FloatMode mode(float_mode_);
    call_back(iteration, views_of(sources), {});
    return;
  }
  if (!wait_for_room()) return;
  std::unique_ptr<Snapshot> snapshot = free_snapshot();
  snapshot->iteration = iteration;
  for (std::size_t i = 0; i < types_.size(); ++i) {
    pool.copy(snapshot->memory.get() + offsets_[i], sources[i], types_[i].bytes());
  }
  enqueue(std::move(snapshot));
}

void ReceiverChannel::deliver(std::int64_t iteration, const Take& take) {
  if (failed()) return;
  if (!synchronous_ && !wait_for_room()) return;
  std::unique_ptr<Snapshot> snapshot = free_snapshot();
  snapshot->iteration = iteration;
  try {
    snapshot->wait = take(snapshot->memory.get());
  } catch (...) {
    // What was begun may still write to it.
    const std::lock_guard lock(mutex_);
    spare_.push_back(std::move(snapshot));
    throw;
  }
  if (!synchronous_) return enqueue(std::move(snapshot));
  {
    const FloatMode mode(float_mode_);
    call_back(iteration, snapshot->views, snapshot->wait);
  }
  const std::lock_guard lock(mutex_);
  spare_.push_back(std::move(snapshot));
}

void ReceiverChannel::deliver_all() noexcept {
  for (;;) {
    signal_.wait([this] { return waiting_count_.load() > 0 || closed_.load(); });
    // Read first: once closed, nothing is added, so an empty queue is then the end.
    const bool closed = closed_.load();
    std::unique_ptr<Snapshot> snapshot;
    {
      const std::lock_guard lock(mutex_);
      if (!waiting_.empty()) {
        snapshot = std::move(waiting_.front());
        waiting_.pop_front();
        waiting_count_.fetch_sub(1);
      }
    }
    if (!snapshot) {
      if (closed) return;
      continue;
    }
    signal_.post();
    call_back(snapshot->iteration, snapshot->views, snapshot->wait);
    const std::lock_guard lock(mutex_);
    spare_.push_back(std::move(snapshot));
    if (failed()) {
      signal_.post();
      return;
    }
  }
}

void ReceiverChannel::finish() noexcept {
  if (!callback || synchronous_) return;
  closed_.store(true);
  signal_.post();
  lane_.wait();
}

Transfers::Transfers(const plan::Plan& plan, const StagingAllocator& allocate) {
  for (const plan::Feeder& feeder : plan.feeders) {
    feeders.push_back(std::make_unique<FeederChannel>(feeder, allocate));
  }
  for (const plan::Receiver& receiver : plan.receivers) {
    receivers.push_back(std::make_unique<ReceiverChannel>(receiver, failure, allocate));
  }
}

}  // namespace weft::runtime
