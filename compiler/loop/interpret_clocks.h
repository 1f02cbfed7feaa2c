#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft::loop {
struct Statement;
}

/// Vector clocks: what happened before what where more than barriers of a block order its threads.
namespace weft::loop::interpreter {

/// An access, by its time: of a thread of the block or, after those, of the copies that report to
/// an mbarrier.
struct Epoch {
  std::int32_t agent = -1;
  std::uint32_t time = 0;
  bool asynchronous = false;  ///< through the asynchronous proxy
  const Statement* statement = nullptr;
};

/// By agent: what it did up to a time. Agents past the end: nothing.
struct Knowledge {
  std::vector<std::uint32_t> before;  ///< happened before
  std::vector<std::uint32_t> fenced;  ///< of that, what the agent has fenced: see Clocks::fence
};

inline bool covers(const std::vector<std::uint32_t>& times, const Epoch& epoch) {
  const auto agent = static_cast<std::size_t>(epoch.agent);
  return epoch.agent < 0 || (agent < times.size() && times[agent] >= epoch.time);
}
inline bool knows(const Knowledge& knowledge, const Epoch& epoch) {
  return covers(knowledge.before, epoch);
}
/// Whether an access of the asynchronous proxy that comes after it is ordered as well.
inline bool knows_fenced(const Knowledge& knowledge, const Epoch& epoch) {
  return epoch.asynchronous || covers(knowledge.fenced, epoch);
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
  Epoch now(std::int32_t agent) const {
    return {.agent = agent, .time = times_[static_cast<std::size_t>(agent)]};
  }

  /// All threads learn what each has done.
  void meet() { meet(0, known_.size()); }
  /// So many threads from one on do.
  void meet(std::size_t first, std::size_t count);
  /// What the thread did before is ordered before accesses of the asynchronous proxy, too, that
  /// come after it. Of what the PTX ISA says ("async proxy": accesses of a location by several
  /// proxies need a proxy fence; such fences take effect in the thread and compose with what
  /// orders threads) this is the strict reading: the thread that has made an access fences it, no
  /// other one does for it. CUTLASS does so: fence_view_async_shared before the barrier or the
  /// arrival that tells of the access.
  void fence(int thread);
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
