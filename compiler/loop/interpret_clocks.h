#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

/// Vector clocks: what happened before what where more than barriers of a block order its threads.
namespace weft::loop::interpreter {

/// A time of an agent: a thread of the block or, after those, the copies that report to an
/// mbarrier.
struct Epoch {
  std::int32_t agent = -1;
  std::uint32_t time = 0;
};

/// By agent: what it did up to that time happened before. Agents past its end: nothing.
using Knowledge = std::vector<std::uint32_t>;

inline bool knows(const Knowledge& knowledge, Epoch epoch) {
  const auto agent = static_cast<std::size_t>(epoch.agent);
  return epoch.agent < 0 || (agent < knowledge.size() && knowledge[agent] >= epoch.time);
}

void join(Knowledge& into, const Knowledge& other);

class Clocks {
 public:
  void begin_phase(bool on, std::size_t threads);
  /// All that happened in blocks before is known.
  void begin_block();

  bool on() const { return on_; }
  int threads() const { return static_cast<int>(known_.size()); }
  const Knowledge& of(int thread) const { return known_[static_cast<std::size_t>(thread)]; }
  Epoch now(std::int32_t agent) const { return {agent, times_[static_cast<std::size_t>(agent)]}; }

  /// All threads learn what each has done.
  void meet();
  /// What the thread has done so far and knows is told; what it does next is not.
  void release(int thread, Knowledge& into);
  void acquire(int thread, const Knowledge& from);
  /// The agent of the copies that report to the mbarrier of that number.
  std::int32_t copies(std::size_t mbarrier);
  /// What copies did so far is told.
  void release_copies(std::int32_t agent, Knowledge& into);

 private:
  bool on_ = false;
  std::vector<std::uint32_t> times_;  ///< of agents
  std::vector<Knowledge> known_;      ///< of threads
};

/// Who touched a few bytes since the last write, and who wrote them.
struct Trace {
  Epoch write;
  std::vector<Epoch> atomics;
  std::vector<Epoch> reads;
};

}  // namespace weft::loop::interpreter
