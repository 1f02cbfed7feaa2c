#include "compiler/fusion/segments.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "compiler/fusion/cost.h"
#include "compiler/fusion/order.h"

namespace weft::compiler {
namespace {

/// A launch and the wait for the last of its blocks cost some microseconds: kernels that take less
/// than this gain from sharing them. What takes longer gains nothing, and would lose what its
/// neighbour left in the caches.
constexpr double small_seconds = 30e-6;
/// A kernel's values live from its launch on: those that move to another place are small.
constexpr std::int64_t small_bytes = std::int64_t{1} << 20;

class Segments {
 public:
  explicit Segments(FusedRegion& region)
      : region_(region),
        size_(region.items.size()),
        successors_(dependences(region)),
        predecessors_(size_),
        kinds_(size_) {
    for (std::size_t i = 0; i < size_; ++i) {
      for (std::size_t next : successors_[i]) predecessors_[next].push_back(i);
    }
  }

  void run() {
    for (std::size_t i = 0; i < size_; ++i) kinds_[i] = classify(region_.items[i]);
    find_late();
    for (std::size_t i = 0; i < size_; ++i) {
      if (!late_[i]) place_early(i);
    }
    place_late();
    rebuild();
  }

 private:
  struct Kind {
    bool kernel = false;
    bool small = false;
    bool pointwise = false;
  };

  static Kind classify(const Item& item) {
    Kind kind;
    if (item.groups.empty()) return kind;
    const Cost cost = cost_of(*item.groups[0]);
    kind.kernel = true;
    kind.small =
        cost.seconds() <= small_seconds && cost.bytes_read + cost.bytes_written <= small_bytes;
    kind.pointwise = item.groups[0]->anchor == nullptr;
    return kind;
  }

  static bool waits_for_nothing(const Item& item) {
    return item.node != nullptr && item.node->is("state_write");
  }

  /// Small kernels that lead to nothing but other such kernels and the region's end: the updates of
  /// parameters, and what is computed for them alone.
  void find_late() {
    late_.assign(size_, false);
    for (std::size_t i = size_; i-- > 0;) {
      // What stands before a loop has happened when a feeder in the loop fails.
      if (region_.items[i].body != nullptr) break;
      const bool sinks = std::all_of(
          successors_[i].begin(), successors_[i].end(),
          [&](std::size_t next) { return late_[next] || waits_for_nothing(region_.items[next]); });
      late_[i] = kinds_[i].small && sinks;
    }
  }

  bool may_join(std::size_t item, const std::vector<std::size_t>& slot) const {
    const Kind& kind = kinds_[item];
    if (!kind.kernel || !kinds_[slot[0]].kernel) return false;
    // Updates of large tensors are independent too, and as many as there are parameters.
    const bool update =
        kind.pointwise && is_update(item) && kinds_[slot[0]].pointwise && is_update(slot[0]);
    return update || (kind.small && kinds_[slot[0]].small);
  }

  bool is_update(std::size_t item) const {
    return std::all_of(successors_[item].begin(), successors_[item].end(),
                       [&](std::size_t next) { return waits_for_nothing(region_.items[next]); });
  }

  /// In the first launch that comes after everything that the item waits for, or one of its own.
  void place_early(std::size_t item) {
    std::size_t first = after_loops_;
    for (std::size_t previous : predecessors_[item]) first = std::max(first, slot_[previous] + 1);
    for (std::size_t s = first; s < slots_.size(); ++s) {
      if (may_join(item, slots_[s])) {
        slots_[s].push_back(item);
        slot_[item] = s;
        return;
      }
    }
    slot_[item] = slots_.size();
    slots_.push_back({item});
    // What stands after a loop has not happened when a feeder in the loop fails.
    if (region_.items[item].body != nullptr) after_loops_ = slots_.size();
  }

  /// Late items by level: each in the first launch after those that it waits for. A level may join
  /// the last launch before.
  void place_late() {
    const std::size_t begin = slots_.size();
    for (std::size_t i = 0; i < size_; ++i) {
      if (!late_[i]) continue;
      std::size_t first = std::max(after_loops_, begin == 0 ? 0 : begin - 1);
      for (std::size_t previous : predecessors_[i]) first = std::max(first, slot_[previous] + 1);
      while (first < slots_.size() && !may_join(i, slots_[first])) ++first;
      if (first == slots_.size()) slots_.emplace_back();
      slots_[first].push_back(i);
      slot_[i] = first;
    }
  }

  void rebuild() {
    std::vector<Item> items;
    std::vector<Item> last;
    for (const std::vector<std::size_t>& slot : slots_) {
      Item item = std::move(region_.items[slot[0]]);
      for (std::size_t k = 1; k < slot.size(); ++k) append(item, region_.items[slot[k]]);
      (waits_for_nothing(item) ? last : items).push_back(std::move(item));
    }
    std::move(last.begin(), last.end(), std::back_inserter(items));
    region_.items = std::move(items);
  }

  static void append(Item& to, const Item& from) {
    to.groups.insert(to.groups.end(), from.groups.begin(), from.groups.end());
    to.reads.insert(to.reads.end(), from.reads.begin(), from.reads.end());
    to.writes.insert(to.writes.end(), from.writes.begin(), from.writes.end());
  }

  FusedRegion& region_;
  std::size_t size_;
  std::vector<std::set<std::size_t>> successors_;
  std::vector<std::vector<std::size_t>> predecessors_;
  std::vector<Kind> kinds_;
  std::vector<bool> late_;
  std::vector<std::vector<std::size_t>> slots_;        ///< launches in order, each with its items
  std::unordered_map<std::size_t, std::size_t> slot_;  ///< of each item placed so far
  std::size_t after_loops_ = 0;                        ///< first slot behind all loops so far
};

}  // namespace

void merge_segments(FusedRegion& region) { Segments(region).run(); }

}  // namespace weft::compiler
