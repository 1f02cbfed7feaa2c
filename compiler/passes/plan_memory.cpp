#include "compiler/passes/plan_memory.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <stdexcept>
#include <unordered_map>

#include "compiler/fusion/order.h"
#include "compiler/passes/constant_bytes.h"

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Region;
using ir::Value;

constexpr std::int64_t alignment = 64;

std::int64_t aligned(std::int64_t bytes) {
  return (std::max<std::int64_t>(bytes, 1) + alignment - 1) / alignment * alignment;
}

class Planner {
 public:
  Planner(const FusedGraph& fused, const std::vector<std::int64_t>& workspace, plan::Plan& plan)
      : fused_(fused), workspace_(workspace), plan_(plan) {
    for (std::size_t i = 0; i < fused.groups.size(); ++i) number_[&fused.groups[i]] = i;
  }

  void run() {
    region(fused_.body, plan_.steps);
    place();
  }

 private:
  using Key = std::pair<const Node*, std::uint32_t>;
  static Key key(Value v) { return {v.node, v.index}; }

  struct Life {
    std::int64_t first = std::numeric_limits<std::int64_t>::max();
    std::int64_t last = -1;
    int depth = 0;  ///< loops around the place where it was made
  };

  std::uint32_t add_buffer(plan::Buffer buffer) {
    plan_.buffers.push_back(std::move(buffer));
    lives_.push_back({});
    lives_.back().depth = depth_;
    return static_cast<std::uint32_t>(plan_.buffers.size() - 1);
  }

  std::uint32_t new_temporary(const Type& type) {
    plan::Buffer buffer;
    buffer.type = type;
    return add_buffer(std::move(buffer));
  }

  std::uint32_t buffer(Value v) {
    const auto found = buffers_.find(key(v));
    if (found != buffers_.end()) return found->second;
    if (!is_source(*v.node)) {
      throw std::logic_error("no memory for " + ir::describe(*v.node));
    }
    return buffers_[key(v)] = source(*v.node);
  }

  std::uint32_t source(const Node& node) {
    plan::Buffer buffer;
    buffer.type = node.results[0];
    if (node.is("state") || node.is("scalar")) {
      const bool state = node.is("state");
      buffer.kind = state ? plan::BufferKind::state : plan::BufferKind::scalar;
      buffer.name = node.attributes.text("name");
      auto& known = state ? states_ : scalars_;
      const auto found = known.find(buffer.name);
      if (found != known.end()) return found->second;
      if (!state) {
        const auto value = static_cast<float>(node.attributes.real("value"));
        buffer.data.resize(sizeof value);
        std::memcpy(buffer.data.data(), &value, sizeof value);
      }
      const std::string name = buffer.name;
      return known[name] = add_buffer(std::move(buffer));
    }
    if (node.is("constant_data")) {
      buffer.kind = plan::BufferKind::constant;
      buffer.data = constant_bytes(node);
      return add_buffer(std::move(buffer));
    }
    throw std::logic_error("argument outside of its loop: " + ir::describe(node));
  }

  void touch(std::uint32_t index) {
    Life& life = lives_[index];
    life.first = std::min(life.first, time_);
    life.last = std::max(life.last, time_);
    for (auto& loop : loops_) loop.insert(index);
  }

  // ---- in-place updates
  // ---------------------------------------------------------------------------

  /// A value that is to be in certain memory at the end of a region: a state's, or that of a
  /// carried argument.
  struct Placement {
    Value old_value;  ///< what the memory holds before; null where nothing reads that
    Value new_value;
    std::uint32_t home = 0;
  };

  std::vector<Placement> placements_of(const Region& region) {
    std::vector<Placement> placements;
    std::set<std::string> read;
    for (const Update& update : updates_of(region)) {
      if (region.owner == nullptr) read.insert(update.old_value.node->attributes.text("name"));
      if (update.new_value == update.old_value) continue;
      placements.push_back({update.old_value, update.new_value, buffer(update.old_value)});
    }
    if (region.owner != nullptr) return placements;
    for (const Node* node : region.nodes) {
      if (!node->is("state_write") || read.count(node->attributes.text("name")) != 0) continue;
      plan::Buffer state;
      state.kind = plan::BufferKind::state;
      state.type = node->operand_type(0);
      state.name = node->attributes.text("name");
      placements.push_back({Value{}, node->operands[0], add_buffer(std::move(state))});
    }
    return placements;
  }

  static std::size_t writer_of(const FusedRegion& fused, Value value) {
    for (std::size_t i = 0; i < fused.items.size(); ++i) {
      for (Value v : fused.items[i].writes) {
        if (v == value) return i;
      }
    }
    return fused.items.size();
  }

  static bool contains(const std::vector<Value>& values, Value value) {
    return std::find(values.begin(), values.end(), value) != values.end();
  }

  static bool takes(const std::vector<Placement>& placements, Value value) {
    return std::any_of(placements.begin(), placements.end(),
                       [&](const Placement& p) { return p.new_value == value; });
  }

  /// Whether the new value may be computed right into its home.
  bool in_place(const FusedRegion& fused, const std::vector<Placement>& placements,
                const Placement& placement) {
    if (!(plan_.buffers[placement.home].type == placement.new_value.type())) return false;
    const std::size_t writer = writer_of(fused, placement.new_value);
    if (writer == fused.items.size()) return false;
    const Value old_value = placement.old_value;
    // Another slot that takes the old value at the region's end needs it intact.
    if (old_value && takes(placements, old_value)) return false;
    for (std::size_t i = writer; i < fused.items.size(); ++i) {
      const Item& item = fused.items[i];
      const auto reads = std::count(item.reads.begin(), item.reads.end(), old_value);
      if (reads == 0) continue;
      if (i > writer) return false;
      if (!item.groups.empty()) {
        for (const Group* group : item.groups) {
          const bool writes = contains(group->outputs, placement.new_value);
          for (std::size_t k = 0; k < group->inputs.size(); ++k) {
            if (group->inputs[k] == old_value && !(writes && group->identity[k])) return false;
          }
        }
      } else {
        // A loop may carry it on in the same memory if nothing in its body reads the old value.
        const Node& loop = *item.node;
        if (!loop.is("loop") || reads != 1 ||
            !(loop.operands[placement.new_value.index] == old_value)) {
          return false;
        }
      }
    }
    // A feeder or another loop's result cannot be written anywhere else.
    const Item& item = fused.items[writer];
    if (item.groups.empty() && item.node->is("loop")) {
      return item.node->operands[placement.new_value.index] == old_value;
    }
    return !item.groups.empty();
  }

  /// What a loop carries for a state, or for a carried argument of the loop around it, is in that
  /// memory from its first iteration on: an exception between two iterations leaves all states as
  /// the last one left them. Loops that hand a value to each other do so in place. Where something
  /// still needs the old value, that is saved before the first of them.
  bool carry_in_home(const FusedRegion& fused, const std::vector<Placement>& placements,
                     const Placement& placement) {
    Value value = placement.new_value;
    const Item* first = nullptr;
    for (;;) {
      const std::size_t writer = writer_of(fused, value);
      if (writer == fused.items.size()) break;
      const Item& item = fused.items[writer];
      if (item.node == nullptr || !item.node->is("loop")) break;
      first = &item;
      buffers_[key(value)] = placement.home;
      value = item.node->operands[value.index];
      if (value == placement.old_value || buffers_.count(key(value)) != 0) break;
      std::ptrdiff_t reads = takes(placements, value) ? 2 : 0;
      for (const Item& other : fused.items) {
        reads += std::count(other.reads.begin(), other.reads.end(), value);
      }
      if (reads != 1) break;
    }
    if (first == nullptr) return false;
    const Value old_value = placement.old_value;
    if (!old_value) return true;
    bool needed = takes(placements, old_value);
    for (const Item* item = first; item != fused.items.data() + fused.items.size(); ++item) {
      auto reads = std::count(item->reads.begin(), item->reads.end(), old_value);
      if (item == first) {
        reads -= std::count(item->node->operands.begin(), item->node->operands.end(), old_value);
      }
      needed = needed || reads > 0;
    }
    if (needed) saves_[first->node].push_back(old_value);
    return true;
  }

  /// Gives values that can be computed where they belong their memory; returns the others, which
  /// are copied at the end of the region.
  std::vector<Placement> assign_placements(const FusedRegion& fused) {
    const std::vector<Placement> placements = placements_of(*fused.region);
    std::vector<Placement> copies;
    for (const Placement& placement : placements) {
      if (buffers_.count(key(placement.new_value)) != 0) {
        copies.push_back(placement);
      } else if (in_place(fused, placements, placement)) {
        buffers_[key(placement.new_value)] = placement.home;
      } else if (!carry_in_home(fused, placements, placement)) {
        copies.push_back(placement);
      }
    }
    return copies;
  }

  // ---- steps
  // --------------------------------------------------------------------------------------

  void copy(std::uint32_t from, std::uint32_t to, std::vector<plan::Step>& steps) {
    if (from == to) return;
    plan::Step step;
    step.kind = plan::StepKind::copy;
    step.buffers = {from, to};
    touch(from);
    touch(to);
    steps.push_back(std::move(step));
  }

  void region(const FusedRegion& fused, std::vector<plan::Step>& steps) {
    const std::vector<Placement> copies = assign_placements(fused);
    for (const Item& item : fused.items) {
      ++time_;
      if (!item.groups.empty()) {
        launch(item, steps);
      } else if (item.node->is("loop")) {
        loop(fused, item, steps);
      } else if (item.node->is("feeder")) {
        feed(*item.node, steps);
      } else if (item.node->is("receiver")) {
        receive(*item.node, steps);
      } else if (!item.node->is("state_write")) {
        throw std::logic_error("no step for " + ir::describe(*item.node));
      }
    }
    std::vector<Move> moves;
    for (const Placement& p : copies) moves.push_back({buffer(p.new_value), p.home});
    move(std::move(moves), steps);
  }

  struct Move {
    std::uint32_t from = 0;
    std::uint32_t to = 0;
  };

  /// Copies as if all at once: a source that another copy overwrites goes through memory of its
  /// own.
  void move(std::vector<Move> moves, std::vector<plan::Step>& steps) {
    ++time_;
    std::set<std::uint32_t> targets;
    for (const Move& m : moves) {
      if (m.from != m.to) targets.insert(m.to);
    }
    for (Move& m : moves) {
      if (m.from == m.to || targets.count(m.from) == 0) continue;
      const std::uint32_t saved = new_temporary(plan_.buffers[m.from].type);
      copy(m.from, saved, steps);
      m.from = saved;
    }
    ++time_;
    for (const Move& m : moves) copy(m.from, m.to, steps);
  }

  void launch(const Item& item, std::vector<plan::Step>& steps) {
    if (item.groups.size() == 1) {
      steps.push_back(launch(*item.groups[0]));
      return;
    }
    plan::Step step;
    step.kind = plan::StepKind::together;
    for (const Group* group : item.groups) step.body.push_back(launch(*group));
    steps.push_back(std::move(step));
  }

  plan::Step launch(const Group& group) {
    plan::Step step;
    step.kind = plan::StepKind::launch;
    const std::size_t number = number_.at(&group);
    step.index = static_cast<std::uint32_t>(number);
    for (Value v : group.inputs) step.buffers.push_back(buffer(v));
    for (Value v : group.outputs) {
      if (buffers_.count(key(v)) == 0) buffers_[key(v)] = new_temporary(v.type());
      step.buffers.push_back(buffer(v));
    }
    if (workspace_[number] > 0) {
      Type bytes{DType::u8, Shape{workspace_[number]}};
      step.buffers.push_back(new_temporary(bytes));
    }
    for (std::uint32_t b : step.buffers) touch(b);
    return step;
  }

  void feed(const Node& node, std::vector<plan::Step>& steps) {
    plan::Step step;
    step.kind = plan::StepKind::feed;
    step.index = static_cast<std::uint32_t>(plan_.feeders.size());
    plan_.feeders.push_back({node.attributes.text("name"), node.results[0]});
    const Value v{const_cast<Node*>(&node), 0};
    if (buffers_.count(key(v)) == 0) buffers_[key(v)] = new_temporary(v.type());
    step.buffers = {buffer(v)};
    touch(step.buffers[0]);
    steps.push_back(std::move(step));
  }

  void receive(const Node& node, std::vector<plan::Step>& steps) {
    plan::Step step;
    step.kind = plan::StepKind::receive;
    step.index = static_cast<std::uint32_t>(plan_.receivers.size());
    plan::Receiver receiver;
    receiver.name = node.attributes.text("name");
    receiver.every = node.attributes.has("every") ? node.attributes.integer("every") : 1;
    for (Value v : node.operands) {
      receiver.types.push_back(v.type());
      step.buffers.push_back(buffer(v));
      touch(step.buffers.back());
    }
    plan_.receivers.push_back(std::move(receiver));
    steps.push_back(std::move(step));
  }

  /// Whether the loop may take over the memory of its initial value: a temporary that nothing else
  /// reads.
  bool takes_over(const FusedRegion& fused, const Item& item, Value initial) {
    if (is_source(*initial.node) || initial.node->parent != fused.region) return false;
    if (plan_.buffers[buffer(initial)].kind != plan::BufferKind::arena) return false;
    std::ptrdiff_t reads = 0;
    for (const Item& other : fused.items) {
      reads += std::count(other.reads.begin(), other.reads.end(), initial);
    }
    for (Value v : fused.region->yields) reads += v == initial ? 2 : 0;
    for (const Update& update : updates_of(*fused.region)) {
      reads += update.new_value == initial ? 2 : 0;
    }
    // It may already share the memory of a value that lives on.
    for (const auto& [other, index] : buffers_) {
      if (index == buffer(initial) && other != key(initial)) return false;
    }
    return reads == 1 && std::count(item.reads.begin(), item.reads.end(), initial) == 1;
  }

  void loop(const FusedRegion& fused, const Item& item, std::vector<plan::Step>& steps) {
    const Node& node = *item.node;
    const Region& body = *node.regions[0];
    std::vector<std::pair<Value, std::uint32_t>> saved;
    if (const auto found = saves_.find(&node); found != saves_.end()) {
      for (Value old_value : found->second) {
        saved.emplace_back(old_value, new_temporary(old_value.type()));
        copy(buffer(old_value), saved.back().second, steps);
      }
    }
    std::vector<Move> initial_moves;
    for (std::uint32_t k = 0; k < node.results.size(); ++k) {
      const Value result{const_cast<Node*>(&node), k};
      const Value initial = node.operands[k];
      if (buffers_.count(key(result)) == 0) {
        buffers_[key(result)] =
            takes_over(fused, item, initial) ? buffer(initial) : new_temporary(result.type());
      }
      initial_moves.push_back({buffer(initial), buffer(result)});
      touch(buffer(result));
      buffers_[key(body.arguments[k + 1]->result())] = buffer(result);
    }
    move(std::move(initial_moves), steps);
    for (const auto& [old_value, saved_buffer] : saved) buffers_[key(old_value)] = saved_buffer;
    const std::uint32_t index = new_temporary({DType::i64, {}});
    buffers_[key(body.arguments[0]->result())] = index;
    touch(index);
    plan::Step step;
    step.kind = plan::StepKind::loop;
    step.buffers = {index};
    step.count = node.attributes.integer("count");
    const std::int64_t start = time_;
    ++depth_;
    loops_.emplace_back();
    region(*item.body, step.body);
    const std::set<std::uint32_t> touched = std::move(loops_.back());
    loops_.pop_back();
    --depth_;
    ++time_;
    // What the body uses but does not make must last for every iteration.
    for (std::uint32_t b : touched) {
      Life& life = lives_[b];
      if (life.depth > depth_) continue;
      life.first = std::min(life.first, start);
      life.last = std::max(life.last, time_);
    }
    Life& life = lives_[index];
    life.last = time_;
    for (std::uint32_t k = 0; k < node.results.size(); ++k)
      touch(buffer({const_cast<Node*>(&node), k}));
    steps.push_back(std::move(step));
  }

  // ---- the arena
  // ----------------------------------------------------------------------------------

  void place() {
    struct Block {
      std::uint32_t buffer;
      std::int64_t size;
      Life life;
    };
    std::vector<Block> blocks;
    for (std::uint32_t i = 0; i < plan_.buffers.size(); ++i) {
      const plan::Buffer& buffer = plan_.buffers[i];
      if (buffer.kind != plan::BufferKind::arena || lives_[i].last < 0) continue;
      blocks.push_back({i, aligned(buffer.type.bytes()), lives_[i]});
    }
    // Large ones first, each at the lowest place that is free during its life.
    std::stable_sort(blocks.begin(), blocks.end(),
                     [](const Block& a, const Block& b) { return a.size > b.size; });
    std::vector<Block> placed;  // by offset
    for (const Block& block : blocks) {
      std::int64_t offset = 0;
      for (const Block& other : placed) {
        if (other.life.last < block.life.first || other.life.first > block.life.last) continue;
        const std::int64_t begin = plan_.buffers[other.buffer].offset;
        if (begin >= offset + block.size) break;
        offset = std::max(offset, begin + other.size);
      }
      plan_.buffers[block.buffer].offset = offset;
      plan_.arena_bytes = std::max(plan_.arena_bytes, offset + block.size);
      const auto position = std::upper_bound(
          placed.begin(), placed.end(), offset,
          [&](std::int64_t o, const Block& b) { return o < plan_.buffers[b.buffer].offset; });
      placed.insert(position, block);
    }
  }

  const FusedGraph& fused_;
  const std::vector<std::int64_t>& workspace_;
  plan::Plan& plan_;
  std::unordered_map<const Group*, std::size_t> number_;
  std::map<Key, std::uint32_t> buffers_;
  std::map<std::string, std::uint32_t> states_;
  std::map<std::string, std::uint32_t> scalars_;
  /// By loop: old values that are needed after it began to change them in place.
  std::unordered_map<const Node*, std::vector<Value>> saves_;
  std::vector<Life> lives_;
  std::vector<std::set<std::uint32_t>> loops_;
  std::int64_t time_ = 0;
  int depth_ = 0;
};

}  // namespace

void plan_memory(const FusedGraph& fused, const std::vector<std::int64_t>& workspace_bytes,
                 plan::Plan& plan) {
  Planner(fused, workspace_bytes, plan).run();
}

}  // namespace weft::compiler
