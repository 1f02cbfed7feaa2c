#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace weft::runtime {

/// What a thread did, and when.
struct TraceEvent {
  static constexpr std::int64_t none = -1;

  std::string_view name;  ///< must outlive the tracer
  std::string_view category;
  std::int64_t begin = 0;     ///< nanoseconds since tracing was turned on
  std::int64_t duration = 0;  ///< nanoseconds
  std::int64_t iteration = none;
  std::int64_t bytes = none;
  std::int64_t operations = none;
};

/// The events of one thread, or of a feeder's or receiver's calls. Written by one thread at a time.
class TraceTrack {
 public:
  using Clock = std::chrono::steady_clock;

  TraceTrack(std::string name, Clock::time_point start) : name_(std::move(name)), start_(start) {}

  std::int64_t now() const {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start_).count();
  }
  /// A full track counts what it drops.
  void add(const TraceEvent& event) {
    if (events_.size() < most_events) {
      events_.push_back(event);
    } else {
      ++dropped_;
    }
  }
  const std::string& name() const { return name_; }
  const std::deque<TraceEvent>& events() const { return events_; }
  std::int64_t dropped() const { return dropped_; }

 private:
  static constexpr std::size_t most_events = std::size_t{1} << 20;

  std::string name_;
  Clock::time_point start_;
  std::deque<TraceEvent> events_;
  std::int64_t dropped_ = 0;
};

/// Records what it encloses, where there is a track.
class TraceSpan {
 public:
  TraceSpan(TraceTrack* track, std::string_view name, std::string_view category,
            std::int64_t iteration = TraceEvent::none)
      : track_(track) {
    if (track_ == nullptr) return;
    event_.name = name;
    event_.category = category;
    event_.iteration = iteration;
    event_.begin = track_->now();
  }
  ~TraceSpan() {
    if (track_ == nullptr) return;
    event_.duration = track_->now() - event_.begin;
    track_->add(event_);
  }
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;

  void set_work(std::int64_t bytes, std::int64_t operations) {
    event_.bytes = bytes;
    event_.operations = operations;
  }

 private:
  TraceTrack* track_;
  TraceEvent event_;
};

/// All tracks of an executable while tracing is on.
class Tracer {
 public:
  Tracer() : start_(TraceTrack::Clock::now()) {}

  /// Tracks stay where they are.
  TraceTrack& track(std::string name) { return tracks_.emplace_back(std::move(name), start_); }
  /// The trace as JSON in the format of Chrome's tracing, which Perfetto reads: complete events, by
  /// begin, an enclosing one first; times are microseconds. `process` is the whole's name.
  std::string json(std::string_view process) const;

 private:
  TraceTrack::Clock::time_point start_;
  std::deque<TraceTrack> tracks_;
};

}  // namespace weft::runtime
