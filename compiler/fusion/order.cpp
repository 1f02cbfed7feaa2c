#include "compiler/fusion/order.h"

#include <map>
#include <optional>
#include <queue>
#include <set>
#include <unordered_map>

namespace weft::compiler {

using ir::Node;
using ir::Region;
using ir::Value;

std::vector<Update> updates_of(const Region& region) {
  std::vector<Update> updates;
  if (region.owner == nullptr) {
    std::map<std::string, Value> states;
    for (Node* node : region.nodes) {
      if (node->is("state")) states[node->attributes.text("name")] = node->result();
    }
    for (Node* node : region.nodes) {
      if (!node->is("state_write")) continue;
      const auto found = states.find(node->attributes.text("name"));
      if (found != states.end()) updates.push_back({found->second, node->operands[0]});
    }
  } else {
    // The first argument is the loop's index.
    for (std::size_t i = 0; i < region.yields.size() && i + 1 < region.arguments.size(); ++i) {
      updates.push_back({region.arguments[i + 1]->result(), region.yields[i]});
    }
  }
  return updates;
}

namespace {

class Edges {
 public:
  explicit Edges(const FusedRegion& region)
      : region_(region), size_(region.items.size()), successors_(size_) {}

  std::vector<std::set<std::size_t>> run() && {
    for (std::size_t i = 0; i < size_; ++i) {
      for (Value v : region_.items[i].writes) writer_[key(v)] = i;
    }
    for (std::size_t i = 0; i < size_; ++i) {
      for (Value v : region_.items[i].reads) {
        readers_[key(v)].insert(i);
        const auto found = writer_.find(key(v));
        if (found != writer_.end() && found->second != i) successors_[found->second].insert(i);
      }
    }
    add_write_after_read();
    keep_order_of_loops();
    return std::move(successors_);
  }

 private:
  using Key = std::pair<const Node*, std::uint32_t>;
  static Key key(Value v) { return {v.node, v.index}; }

  bool reaches(std::size_t from, std::size_t to) const {
    std::vector<std::size_t> stack{from};
    std::set<std::size_t> seen;
    while (!stack.empty()) {
      const std::size_t current = stack.back();
      stack.pop_back();
      if (current == to) return true;
      if (!seen.insert(current).second) continue;
      for (std::size_t next : successors_[current]) stack.push_back(next);
    }
    return false;
  }

  void add_write_after_read() {
    for (const Update& update : updates_of(*region_.region)) {
      const auto writer = writer_.find(key(update.new_value));
      if (writer == writer_.end()) continue;
      const auto readers = readers_.find(key(update.old_value));
      if (readers == readers_.end()) continue;
      // All or nothing: one reader that must come later already forces a copy.
      bool possible = true;
      for (std::size_t reader : readers->second) {
        if (reader != writer->second && reaches(writer->second, reader)) possible = false;
      }
      if (!possible) continue;
      for (std::size_t reader : readers->second) {
        if (reader != writer->second) successors_[reader].insert(writer->second);
      }
    }
  }

  /// Loops run in the order of the program, so that an exception in one finds State as the others
  /// before it left it.
  void keep_order_of_loops() {
    std::optional<std::size_t> last;
    for (std::size_t i = 0; i < size_; ++i) {
      const Node* node = region_.items[i].node;
      if (node == nullptr || !node->is("loop")) continue;
      if (last && !reaches(i, *last)) successors_[*last].insert(i);
      last = i;
    }
  }

  const FusedRegion& region_;
  std::size_t size_;
  std::vector<std::set<std::size_t>> successors_;
  std::map<Key, std::size_t> writer_;
  std::map<Key, std::set<std::size_t>> readers_;
};

}  // namespace

std::vector<std::set<std::size_t>> dependences(const FusedRegion& region) {
  return Edges(region).run();
}

void order_items(FusedRegion& region) {
  const std::size_t size = region.items.size();
  const std::vector<std::set<std::size_t>> successors = dependences(region);
  std::vector<std::size_t> waiting(size, 0);
  for (const auto& next : successors) {
    for (std::size_t s : next) ++waiting[s];
  }
  // Feeders first: an exception of theirs must come before any kernel of the iteration.
  const auto priority = [&](std::size_t i) {
    const Item& item = region.items[i];
    const bool feeder = item.node != nullptr && item.node->is("feeder");
    return std::pair<int, std::size_t>(feeder ? 0 : 1, i);
  };
  std::priority_queue<std::pair<int, std::size_t>, std::vector<std::pair<int, std::size_t>>,
                      std::greater<>>
      ready;
  for (std::size_t i = 0; i < size; ++i) {
    if (waiting[i] == 0) ready.push(priority(i));
  }
  std::vector<Item> sorted;
  while (!ready.empty()) {
    const std::size_t i = ready.top().second;
    ready.pop();
    for (std::size_t next : successors[i]) {
      if (--waiting[next] == 0) ready.push(priority(next));
    }
    sorted.push_back(std::move(region.items[i]));
  }
  if (sorted.size() != size) throw std::logic_error("fusion made a cycle of kernels");
  region.items = std::move(sorted);
}

}  // namespace weft::compiler
