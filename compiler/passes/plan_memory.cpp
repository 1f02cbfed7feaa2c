#include "compiler/passes/plan_memory.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <unordered_map>

#include "compiler/fusion/order.h"
#include "compiler/passes/constant_bytes.h"
#include "compiler/passes/pack_arena.h"

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
    put(v, source(*v.node));
    return buffers_.at(key(v));
  }

  std::uint32_t source(const Node& node) {
    plan::Buffer buffer;
    buffer.type = node.results[0];
    if (node.is("state")) {
      return state_buffer(node.attributes.text("name"), node.results[0]);
    }
    if (node.is("scalar")) {
      buffer.kind = plan::BufferKind::scalar;
      buffer.name = node.attributes.text("name");
      const auto found = scalars_.find(buffer.name);
      if (found != scalars_.end()) return found->second;
      const auto value = static_cast<float>(node.attributes.real("value"));
      buffer.data.resize(sizeof value);
      std::memcpy(buffer.data.data(), &value, sizeof value);
      const std::string name = buffer.name;
      return scalars_[name] = add_buffer(std::move(buffer));
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

  // ---- homes: memory that one value after another lives in
  // ---------------------------------------------------------------------------

  /// A value that is to be in certain memory at the end of a region: a state's, or that of a
  /// carried argument.
  struct Placement {
    Value new_value;
    std::uint32_t home = 0;
  };

  /// Loops and kernels write right into a home where that is possible. Values that are overwritten
  /// there and still needed are saved before; what is not at home at the end is copied there.
  struct Homes {
    const FusedRegion& fused;
    std::vector<Placement> placements;
    /// Loops' results that are to have these homes: what the loops carry lives there.
    std::map<Key, std::uint32_t> carried;
    /// By item: whether an exception may leave it in its middle. State must then hold what it held
    /// when the region began, or what such loops carry: nothing else is written to it before.
    std::vector<bool> interruptible;

    bool interrupted_between(std::size_t first, std::size_t last) const {
      return std::find(interruptible.begin() + static_cast<std::ptrdiff_t>(first),
                       interruptible.begin() + static_cast<std::ptrdiff_t>(last),
                       true) != interruptible.begin() + static_cast<std::ptrdiff_t>(last);
    }

    bool takes(Value value) const {
      return std::any_of(placements.begin(), placements.end(),
                         [&](const Placement& p) { return p.new_value == value; });
    }
    /// Whether something needs the value after the item at `position` began to overwrite it. A loop
    /// has taken its initial values by then.
    bool needs_after(Value value, std::size_t position) const {
      if (takes(value)) return true;
      const Item& item = fused.items[position];
      if (item.node != nullptr) {
        const auto& operands = item.node->operands;
        if (std::count(item.reads.begin(), item.reads.end(), value) >
            std::count(operands.begin(), operands.end(), value)) {
          return true;
        }
      }
      for (std::size_t i = position + 1; i < fused.items.size(); ++i) {
        const auto& reads = fused.items[i].reads;
        if (std::find(reads.begin(), reads.end(), value) != reads.end()) return true;
      }
      return false;
    }
  };

  std::uint32_t state_buffer(const std::string& name, const Type& type) {
    const auto found = states_.find(name);
    if (found != states_.end()) return found->second;
    plan::Buffer state;
    state.kind = plan::BufferKind::state;
    state.type = type;
    state.name = name;
    return states_[name] = add_buffer(std::move(state));
  }

  bool is_state(std::uint32_t index) const {
    return plan_.buffers[index].kind == plan::BufferKind::state;
  }

  /// The value is in that memory from now on.
  void put(Value value, std::uint32_t index) {
    const auto [place, added] = buffers_.try_emplace(key(value), index);
    if (!added) {
      std::erase(occupants_[place->second], value);
      place->second = index;
    }
    occupants_[index].push_back(value);
  }

  std::vector<Placement> placements_of(const Region& region) {
    std::vector<Placement> placements;
    if (region.owner != nullptr) {
      for (const Update& update : updates_of(region)) {
        placements.push_back({update.new_value, buffer(update.old_value)});
      }
      return placements;
    }
    // All states are there from the start, also those that only later items read.
    for (Node* node : region.nodes) {
      if (node->is("state")) buffer(node->result());
    }
    std::set<std::string> written;
    for (const Node* node : region.nodes) {
      if (!node->is("state_write")) continue;
      const std::string& name = node->attributes.text("name");
      placements.push_back({node->operands[0], state_buffer(name, node->operand_type(0))});
      written.insert(name);
    }
    // What loops make of a state that nothing writes is not for later.
    for (const Node* node : region.nodes) {
      if (!node->is("state") || written.count(node->attributes.text("name")) != 0) continue;
      const Value state{const_cast<Node*>(node), 0};
      placements.push_back({state, buffer(state)});
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

  /// The states that the loop's carried values are between its iterations, by slot.
  static std::map<std::uint32_t, const Node*> states_carried_by(const Node& loop) {
    std::map<std::uint32_t, const Node*> states;
    const Region& body = *loop.regions[0];
    for (const Node* node : body.nodes) {
      if (!node->is("state_carry")) continue;
      const auto slot =
          std::find(body.arguments.begin(), body.arguments.end(), node->operands[0].node);
      if (slot == body.arguments.begin() || slot == body.arguments.end()) continue;
      states.try_emplace(static_cast<std::uint32_t>(slot - body.arguments.begin() - 1), node);
    }
    return states;
  }

  /// The states that are carried by the loop or by loops in it.
  void find_states_within(const Node& loop, std::set<std::uint32_t>& states) {
    for (const auto& [slot, node] : states_carried_by(loop)) {
      states.insert(state_buffer(node->attributes.text("name"), node->operand_type(0)));
    }
    for (const Node* node : loop.regions[0]->nodes) {
      if (node->is("loop")) find_states_within(*node, states);
    }
  }

  static bool has_transfers(const Region& region, bool feeders) {
    return std::any_of(region.nodes.begin(), region.nodes.end(), [&](const Node* node) {
      if (node->is("receiver") || (feeders && node->is("feeder"))) return true;
      return std::any_of(node->regions.begin(), node->regions.end(),
                         [&](const Region* nested) { return has_transfers(*nested, feeders); });
    });
  }

  /// Whether an exception may come between two iterations of the loop: of a feeder or receiver in
  /// it, or of a receiver anywhere where no loop is around it.
  static bool is_interruptible(const Item& item, const Region& region) {
    if (item.node == nullptr || !item.node->is("loop")) return false;
    return has_transfers(*item.node->regions[0], true) ||
           (region.owner == nullptr && has_transfers(region, false));
  }

  Homes find_homes(const FusedRegion& fused) {
    Homes homes{fused, placements_of(*fused.region), {}, {}};
    for (const Item& item : fused.items) {
      homes.interruptible.push_back(is_interruptible(item, *fused.region));
      if (item.node == nullptr || !item.node->is("loop")) continue;
      for (const auto& [slot, node] : states_carried_by(*item.node)) {
        homes.carried[key({const_cast<Node*>(item.node), slot})] =
            state_buffer(node->attributes.text("name"), node->operand_type(0));
      }
    }
    // What becomes a home's value through loops that hand it on lives there in all of them. In a
    // state's only where no exception can show it: it is not the state between iterations.
    for (const Placement& placement : homes.placements) {
      Value value = placement.new_value;
      for (;;) {
        const std::size_t writer = writer_of(fused, value);
        if (writer == fused.items.size()) break;
        const Item& item = fused.items[writer];
        if (item.node == nullptr || !item.node->is("loop")) break;
        if (homes.carried.count(key(value)) == 0) {
          std::set<std::uint32_t> taken;
          find_states_within(*item.node, taken);
          if (taken.count(placement.home) != 0) break;
          if (is_state(placement.home) && homes.interrupted_between(writer, fused.items.size())) {
            break;
          }
          homes.carried[key(value)] = placement.home;
        }
        value = item.node->operands[value.index];
      }
    }
    return homes;
  }

  /// Whether the item at `position`, a kernel, may write its result `value` to `home`.
  bool may_write(const Homes& homes, std::size_t position, Value value, std::uint32_t home) {
    if (!(plan_.buffers[home].type == value.type())) return false;
    const Item& item = homes.fused.items[position];
    const auto found = occupants_.find(home);
    if (found == occupants_.end()) return true;
    return std::none_of(found->second.begin(), found->second.end(), [&](Value occupant) {
      if (occupant == value) return false;
      if (homes.needs_after(occupant, position)) return true;
      // Groups of one item run at the same time: only the one that writes may read.
      for (const Group* group : item.groups) {
        const auto& outputs = group->outputs;
        const bool writes = std::find(outputs.begin(), outputs.end(), value) != outputs.end();
        for (std::size_t k = 0; k < group->inputs.size(); ++k) {
          if (group->inputs[k] == occupant && !(writes && group->identity[k])) return true;
        }
      }
      return false;
    });
  }

  /// The home that the kernel at `position` writes its result to, if it may: that of a value at the
  /// region's end, or of what a later loop carries from this value on.
  std::optional<std::uint32_t> home_of(const Homes& homes, std::size_t position, Value value) {
    const std::size_t end = homes.fused.items.size();
    for (const Placement& placement : homes.placements) {
      if (!(placement.new_value == value)) continue;
      if (is_state(placement.home) && homes.interrupted_between(position, end)) continue;
      if (may_write(homes, position, value, placement.home)) return placement.home;
    }
    for (std::size_t i = position + 1; i < end; ++i) {
      const Node* node = homes.fused.items[i].node;
      if (node == nullptr || !node->is("loop")) continue;
      for (std::uint32_t k = 0; k < node->operands.size(); ++k) {
        if (!(node->operands[k] == value)) continue;
        const auto home = homes.carried.find(key({const_cast<Node*>(node), k}));
        if (home == homes.carried.end()) continue;
        if (is_state(home->second) && homes.interrupted_between(position, i)) continue;
        if (may_write(homes, position, value, home->second)) return home->second;
      }
    }
    return std::nullopt;
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
    const Homes homes = find_homes(fused);
    for (std::size_t i = 0; i < fused.items.size(); ++i) {
      const Item& item = fused.items[i];
      ++time_;
      if (!item.groups.empty()) {
        launch(homes, i, steps);
      } else if (item.node->is("loop")) {
        loop(homes, i, steps);
      } else if (item.node->is("feeder")) {
        feed(*item.node, steps);
      } else if (item.node->is("receiver")) {
        receive(*item.node, steps);
      } else if (!item.node->is("state_write") && !item.node->is("state_carry")) {
        throw std::logic_error("no step for " + ir::describe(*item.node));
      }
    }
    std::vector<Move> moves;
    for (const Placement& p : homes.placements) moves.push_back({buffer(p.new_value), p.home});
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

  void launch(const Homes& homes, std::size_t position, std::vector<plan::Step>& steps) {
    const Item& item = homes.fused.items[position];
    if (item.groups.size() == 1) {
      steps.push_back(launch(homes, position, *item.groups[0]));
      return;
    }
    plan::Step step;
    step.kind = plan::StepKind::together;
    for (const Group* group : item.groups) step.body.push_back(launch(homes, position, *group));
    steps.push_back(std::move(step));
  }

  plan::Step launch(const Homes& homes, std::size_t position, const Group& group) {
    plan::Step step;
    step.kind = plan::StepKind::launch;
    const std::size_t number = number_.at(&group);
    step.index = static_cast<std::uint32_t>(number);
    for (Value v : group.inputs) step.buffers.push_back(buffer(v));
    for (Value v : group.outputs) {
      const std::optional<std::uint32_t> home = home_of(homes, position, v);
      put(v, home ? *home : new_temporary(v.type()));
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
    put(v, new_temporary(v.type()));
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
  bool takes_over(const Homes& homes, const Item& item, Value initial) {
    const FusedRegion& fused = homes.fused;
    if (is_source(*initial.node) || initial.node->parent != fused.region) return false;
    const std::uint32_t index = buffer(initial);
    if (plan_.buffers[index].kind != plan::BufferKind::arena || homes.takes(initial)) return false;
    std::ptrdiff_t reads = 0;
    for (const Item& other : fused.items) {
      reads += std::count(other.reads.begin(), other.reads.end(), initial);
    }
    if (reads != 1 || std::count(item.reads.begin(), item.reads.end(), initial) != 1) return false;
    // It may share the memory of a value that lives on.
    return occupants_.at(index).size() == 1;
  }

  /// Memory for what the loop carries, by slot.
  std::vector<std::uint32_t> memory_of_slots(const Homes& homes, const Item& item) {
    std::vector<std::uint32_t> memory;
    for (std::uint32_t k = 0; k < item.node->results.size(); ++k) {
      const Value result{const_cast<Node*>(item.node), k};
      const Value initial = item.node->operands[k];
      if (const auto home = homes.carried.find(key(result)); home != homes.carried.end()) {
        memory.push_back(home->second);
      } else {
        memory.push_back(takes_over(homes, item, initial) ? buffer(initial)
                                                          : new_temporary(result.type()));
      }
    }
    return memory;
  }

  void loop(const Homes& homes, std::size_t position, std::vector<plan::Step>& steps) {
    const Item& item = homes.fused.items[position];
    const Node& node = *item.node;
    const Region& body = *node.regions[0];
    const std::vector<std::uint32_t> memory = memory_of_slots(homes, item);
    std::set<std::uint32_t> overwritten(memory.begin(), memory.end());
    find_states_within(node, overwritten);
    std::vector<std::pair<Value, std::uint32_t>> saved;
    for (const std::uint32_t home : overwritten) {
      for (const Value occupant : occupants_[home]) {
        if (!homes.needs_after(occupant, position)) continue;
        saved.emplace_back(occupant, new_temporary(occupant.type()));
        copy(home, saved.back().second, steps);
      }
    }
    std::vector<Move> initial_moves;
    for (std::uint32_t k = 0; k < node.results.size(); ++k) {
      initial_moves.push_back({buffer(node.operands[k]), memory[k]});
      touch(memory[k]);
    }
    move(std::move(initial_moves), steps);
    for (const auto& [occupant, saved_buffer] : saved) put(occupant, saved_buffer);
    for (std::uint32_t k = 0; k < node.results.size(); ++k) {
      put({const_cast<Node*>(&node), k}, memory[k]);
      put(body.arguments[k + 1]->result(), memory[k]);
    }
    const std::uint32_t index = new_temporary({DType::i64, {}});
    put(body.arguments[0]->result(), index);
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
    for (const std::uint32_t b : memory) touch(b);
    steps.push_back(std::move(step));
  }

  void place() {
    std::vector<ArenaBlock> blocks;
    std::vector<std::size_t> buffers;
    for (std::size_t i = 0; i < plan_.buffers.size(); ++i) {
      const plan::Buffer& buffer = plan_.buffers[i];
      if (buffer.kind != plan::BufferKind::arena || lives_[i].last < 0) continue;
      blocks.push_back({aligned(buffer.type.bytes()), lives_[i].first, lives_[i].last});
      buffers.push_back(i);
    }
    plan_.live_bytes = live_bytes(blocks);
    plan_.arena_bytes = pack_arena(blocks);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      plan_.buffers[buffers[i]].offset = blocks[i].offset;
    }
  }

  const FusedGraph& fused_;
  const std::vector<std::int64_t>& workspace_;
  plan::Plan& plan_;
  std::unordered_map<const Group*, std::size_t> number_;
  std::map<Key, std::uint32_t> buffers_;
  std::map<std::string, std::uint32_t> states_;
  std::map<std::string, std::uint32_t> scalars_;
  std::unordered_map<std::uint32_t, std::vector<Value>> occupants_;  ///< by buffer
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
