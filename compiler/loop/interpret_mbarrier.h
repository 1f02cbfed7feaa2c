#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "compiler/loop/interpret_memory.h"
#include "compiler/loop/interpret_traffic.h"

/// A block's mbarriers and the tensor copies that report to them.
namespace weft::loop::interpreter {

class Mbarriers {
 public:
  /// `traffic`: where not null, copies are counted there.
  Mbarriers(const Kernel& kernel, Memory& memory, Reports& reports, TrafficCounter* traffic)
      : kernel_(kernel), memory_(memory), reports_(reports), traffic_(traffic) {}

  void begin_block();
  /// All warps have ended: copies that nobody has waited for are reported.
  void end_block();

  void initialise(Region& region, std::int64_t index, std::int64_t arrivals, const Access& access);
  void fence(int thread);
  void arrive(Region& region, std::int64_t index, std::int64_t bytes, const Access& access);
  /// Adds one to `missing` until the phase of that parity has completed.
  void wait(Region& region, std::int64_t index, std::int64_t parity, const Access& access,
            int& missing);
  struct Copy {
    Region* to = nullptr;
    std::int64_t to_index = 0;
    Region* mbarrier = nullptr;
    std::int64_t mbarrier_index = 0;
    const Buffer* map = nullptr;
    std::vector<std::int64_t> coordinates;
    Access access{};
  };
  void copy(Copy copy, bool at_once);

  bool copies_under_way() const { return !under_way_.empty(); }
  /// Lets a copy that somebody waits for arrive, or, where `random` is given, any. False where
  /// there is none.
  bool land(std::mt19937_64* random);
  /// Reports all waits: nothing can end them any more.
  void report_stuck();

 private:
  struct Waiter {
    std::int64_t parity;
    Access access;
    int* missing;
  };
  struct Mbarrier {
    Region* region;
    std::int64_t index;
    std::int32_t agent;  ///< of its copies
    int initialiser;     ///< thread
    bool fenced = false;
    std::int64_t expected = 0;  ///< arrivals of a phase
    std::int64_t pending = 0;   ///< arrivals that the phase at hand lacks
    std::int64_t bytes = 0;     ///< announced and not come, or negative
    std::uint32_t phase = 0;    ///< that has not completed
    std::uint32_t seen = 0;     ///< phases that some thread has waited for
    Knowledge arriving;         ///< of who has arrived in this phase
    Knowledge completed;        ///< of all phases before
    std::vector<Waiter> waiters;
    std::uint32_t copy_end = 0;  ///< after the phase of the latest copy
    Access latest_copy{};
  };
  struct Flight {
    Copy copy;
    Mbarrier* mbarrier;
    std::uint32_t phase;
    const TensorView* view;
    Region* from;
    std::size_t to;  ///< bytes
  };

  Mbarrier* find(Region& region, std::int64_t index, const Access& access);
  void report(const Mbarrier& mbarrier, const Access& access, const std::string& what);
  void settle(Mbarrier& mbarrier, const Access& access);
  void complete(Mbarrier& mbarrier);
  void land(const Flight& flight);
  void transfer(const Flight& flight);
  template <typename Function>
  static void each_row(const Flight& flight, const Function& function);

  const Kernel& kernel_;
  Memory& memory_;
  Reports& reports_;
  TrafficCounter* traffic_;
  std::map<std::pair<const Region*, std::int64_t>, Mbarrier*> by_place_;
  std::deque<Mbarrier> all_;
  std::deque<Flight> under_way_;
};

}  // namespace weft::loop::interpreter
