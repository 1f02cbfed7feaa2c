#include "compiler/fusion/gather.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "compiler/fusion/cost.h"
#include "compiler/fusion/order.h"

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Value;

/// A kernel that moves more takes longer than the launch that it would share.
constexpr std::int64_t small_bytes = std::int64_t{16} << 20;
/// Of a value that lives longer than it would otherwise.
constexpr std::int64_t most_kept_bytes = std::int64_t{4} << 20;

class Gatherer {
 public:
  explicit Gatherer(FusedRegion& region) : region_(region) {}

  void run() {
    take_apart();
    find_edges();
    // From the end on, so that what comes before a moved kernel can follow it.
    for (std::size_t i = units_.size(); i-- > 0;) move_later(i);
    by_signature_.clear();
    for (std::size_t i = 0; i < units_.size(); ++i) move_earlier(i);
    put_together();
  }

 private:
  /// A kernel, or another thing to execute.
  struct Unit {
    Item item = {};
    std::size_t place = 0;       ///< in the order of items; those of one place run side by side
    std::string signature = {};  ///< "": does not move
    std::vector<std::size_t> before = {};
    std::vector<std::size_t> after = {};
  };
  using Key = std::pair<const Node*, std::uint32_t>;
  static Key key(Value value) { return {value.node, value.index}; }

  void take_apart() {
    for (std::size_t place = 0; place < region_.items.size(); ++place) {
      Item& item = region_.items[place];
      if (item.groups.empty()) {
        units_.push_back({.item = std::move(item), .place = place});
        if (units_.back().item.body != nullptr) loops_.push_back(place);
        continue;
      }
      for (Group* group : item.groups) {
        Unit unit{.place = place};
        unit.item.groups = {group};
        unit.item.reads = group->inputs;
        unit.item.writes = group->outputs;
        const Cost cost = cost_of(*group);
        if (cost.bytes_read + cost.bytes_written <= small_bytes) unit.signature = text_of(*group);
        units_.push_back(std::move(unit));
      }
    }
    places_ = region_.items.size();
  }

  /// The same for kernels that are likely to have the same code.
  static std::string text_of(const Group& group) {
    std::string text = group.kind;
    std::map<Key, std::size_t> numbers;
    const auto number = [&](Value value) {
      return numbers.try_emplace(key(value), numbers.size()).first->second;
    };
    for (const Value input : group.inputs) {
      text += fmt::format("|{} {}", number(input), input.type().text());
    }
    for (const Node* node : group.members) {
      text += fmt::format("|{}", node->op->name);
      for (const Value operand : node->operands) text += fmt::format(" {}", number(operand));
      for (std::uint32_t i = 0; i < node->results.size(); ++i) {
        text +=
            fmt::format(" -> {} {}", number({const_cast<Node*>(node), i}), node->results[i].text());
      }
    }
    for (const Value output : group.outputs) text += fmt::format("|{}", number(output));
    return text;
  }

  void find_edges() {
    FusedRegion single;
    single.region = region_.region;
    for (Unit& unit : units_) single.items.push_back(std::move(unit.item));
    const std::vector<std::set<std::size_t>> successors = dependences(single);
    for (std::size_t i = 0; i < units_.size(); ++i) {
      units_[i].item = std::move(single.items[i]);
      for (const std::size_t next : successors[i]) {
        units_[i].after.push_back(next);
        units_[next].before.push_back(i);
      }
      for (const Value read : units_[i].item.reads) readers_[key(read)].insert(i);
    }
  }

  /// What stands before a loop, or after it, stays there: an exception in the loop finds State as
  /// what came before has left it.
  std::pair<std::size_t, std::size_t> between_loops(std::size_t place) const {
    const auto next = std::upper_bound(loops_.begin(), loops_.end(), place);
    return {next == loops_.begin() ? 0 : *std::prev(next) + 1,
            next == loops_.end() ? places_ : *next};
  }

  /// Whether what the unit reads may live until it runs at `place`.
  bool may_wait(std::size_t number, std::size_t place) const {
    const std::vector<Value>& reads = units_[number].item.reads;
    return std::all_of(reads.begin(), reads.end(), [&](Value value) {
      if (is_source(*value.node) || value.node->parent != region_.region ||
          value.type().bytes() <= most_kept_bytes) {
        return true;
      }
      const std::set<std::size_t>& readers = readers_.at(key(value));
      return std::any_of(readers.begin(), readers.end(), [&](std::size_t other) {
        return other != number && units_[other].place >= place;
      });
    });
  }

  bool may_hurry(std::size_t number) const {
    const std::vector<Value>& writes = units_[number].item.writes;
    return std::all_of(writes.begin(), writes.end(),
                       [](Value value) { return value.type().bytes() <= most_kept_bytes; });
  }

  /// To the last place of a kernel that is alike.
  void move_later(std::size_t number) {
    Unit& unit = units_[number];
    if (unit.signature.empty()) return;
    std::size_t end = between_loops(unit.place).second;
    for (const std::size_t next : unit.after) end = std::min(end, units_[next].place);
    std::set<std::size_t>& known = by_signature_[unit.signature];
    for (auto place = known.lower_bound(end); place != known.begin();) {
      --place;
      if (*place <= unit.place) break;
      if (!may_wait(number, *place)) continue;
      unit.place = *place;
      return;
    }
    known.insert(unit.place);
  }

  /// To the first place of a kernel that is alike.
  void move_earlier(std::size_t number) {
    Unit& unit = units_[number];
    if (unit.signature.empty()) return;
    std::size_t begin = between_loops(unit.place).first;
    for (const std::size_t previous : unit.before) {
      begin = std::max(begin, units_[previous].place + 1);
    }
    std::set<std::size_t>& known = by_signature_[unit.signature];
    const auto place = known.lower_bound(begin);
    if (place != known.end() && *place < unit.place && may_hurry(number)) {
      unit.place = *place;
      return;
    }
    known.insert(unit.place);
  }

  void put_together() {
    std::vector<Item> items(places_);
    for (Unit& unit : units_) {
      Item& to = items[unit.place];
      if (unit.item.groups.empty()) {
        to = std::move(unit.item);
        continue;
      }
      const auto append = [](auto& list, const auto& more) {
        list.insert(list.end(), more.begin(), more.end());
      };
      append(to.groups, unit.item.groups);
      append(to.reads, unit.item.reads);
      append(to.writes, unit.item.writes);
    }
    std::erase_if(items, [](const Item& item) { return item.groups.empty() && !item.node; });
    region_.items = std::move(items);
  }

  FusedRegion& region_;
  std::vector<Unit> units_;  ///< in the order of their places at first
  std::size_t places_ = 0;
  std::vector<std::size_t> loops_;  ///< their places, ascending
  std::map<Key, std::set<std::size_t>> readers_;
  std::map<std::string, std::set<std::size_t>> by_signature_;  ///< places
};

}  // namespace

void gather_equal(FusedRegion& region) {
  for (Item& item : region.items) {
    if (item.body != nullptr) gather_equal(*item.body);
  }
  Gatherer(region).run();
}

}  // namespace weft::compiler
