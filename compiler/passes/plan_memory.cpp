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

  /// Values that take the old value's memory; the others are copied at the end of the region.
  struct Updates {
    std::vector<Update> copies;
  };

  bool in_place(const FusedRegion& fused, const std::vector<Update>& updates,
                const Update& update) {
    if (buffers_.count(key(update.new_value)) != 0) return false;
    if (!(update.old_value.type() == update.new_value.type())) return false;
    std::size_t writer = fused.items.size();
    for (std::size_t i = 0; i < fused.items.size(); ++i) {
      for (Value v : fused.items[i].writes) {
        if (v == update.new_value) writer = i;
      }
    }
    if (writer == fused.items.size()) return false;
    // Another slot that takes the old value at the region's end needs it intact.
    for (const Update& other : updates) {
      if (other.new_value == update.old_value) return false;
    }
    for (std::size_t i = writer; i < fused.items.size(); ++i) {
      const Item& item = fused.items[i];
      const auto reads = std::count(item.reads.begin(), item.reads.end(), update.old_value);
      if (reads == 0) continue;
      if (i > writer) return false;
      if (item.group != nullptr) {
        for (std::size_t k = 0; k < item.group->inputs.size(); ++k) {
          if (item.group->inputs[k] == update.old_value && !item.group->identity[k]) return false;
        }
      } else {
        // A loop may carry it on in the same memory if nothing in its body reads the old value.
        const Node& loop = *item.node;
        if (!loop.is("loop") || update.new_value.node != item.node || reads != 1 ||
            !(loop.operands[update.new_value.index] == update.old_value)) {
          return false;
        }
      }
    }
    // A feeder or another loop's result cannot be written anywhere else.
    const Item& item = fused.items[writer];
    if (item.group == nullptr && item.node->is("loop")) {
      return item.node->operands[update.new_value.index] == update.old_value;
    }
    return item.group != nullptr;
  }

  std::vector<Update> assign_updates(const FusedRegion& fused) {
    const std::vector<Update> updates = updates_of(*fused.region);
    std::vector<Update> copies;
    for (const Update& update : updates) {
      if (update.new_value == update.old_value) continue;
      if (in_place(fused, updates, update)) {
        buffers_[key(update.new_value)] = buffer(update.old_value);
      } else {
        copies.push_back(update);
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
    const std::vector<Update> copies = assign_updates(fused);
    for (const Item& item : fused.items) {
      ++time_;
      if (item.group != nullptr) {
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
    finish(copies, steps);
    // States that are written without having been read have no old value to take the place of.
    if (fused.region->owner == nullptr) write_new_states(*fused.region, copies, steps);
  }

  void write_new_states(const Region& region, const std::vector<Update>&,
                        std::vector<plan::Step>& steps) {
    std::set<std::string> read;
    for (const Node* node : region.nodes) {
      if (node->is("state")) read.insert(node->attributes.text("name"));
    }
    for (const Node* node : region.nodes) {
      if (!node->is("state_write") || read.count(node->attributes.text("name")) != 0) continue;
      plan::Buffer state;
      state.kind = plan::BufferKind::state;
      state.type = node->operand_type(0);
      state.name = node->attributes.text("name");
      ++time_;
      copy(buffer(node->operands[0]), add_buffer(std::move(state)), steps);
    }
  }

  /// Copies as if all at once: a source that another copy overwrites goes through memory of its
  /// own.
  void finish(const std::vector<Update>& copies, std::vector<plan::Step>& steps) {
    ++time_;
    std::set<std::uint32_t> targets;
    for (const Update& update : copies) targets.insert(buffer(update.old_value));
    std::vector<std::pair<std::uint32_t, std::uint32_t>> moves;
    for (const Update& update : copies) {
      std::uint32_t from = buffer(update.new_value);
      const std::uint32_t to = buffer(update.old_value);
      if (from != to && targets.count(from) != 0) {
        const std::uint32_t saved = new_temporary(update.new_value.type());
        copy(from, saved, steps);
        from = saved;
      }
      moves.emplace_back(from, to);
    }
    ++time_;
    for (const auto& [from, to] : moves) copy(from, to, steps);
  }

  void launch(const Item& item, std::vector<plan::Step>& steps) {
    plan::Step step;
    step.kind = plan::StepKind::launch;
    const std::size_t number = number_.at(item.group);
    step.index = static_cast<std::uint32_t>(number);
    for (Value v : item.group->inputs) step.buffers.push_back(buffer(v));
    for (Value v : item.group->outputs) {
      if (buffers_.count(key(v)) == 0) buffers_[key(v)] = new_temporary(v.type());
      step.buffers.push_back(buffer(v));
    }
    if (workspace_[number] > 0) {
      Type bytes{DType::u8, Shape{workspace_[number]}};
      step.buffers.push_back(new_temporary(bytes));
    }
    for (std::uint32_t b : step.buffers) touch(b);
    steps.push_back(std::move(step));
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
    for (std::uint32_t k = 0; k < node.results.size(); ++k) {
      const Value result{const_cast<Node*>(&node), k};
      const Value initial = node.operands[k];
      if (buffers_.count(key(result)) == 0) {
        buffers_[key(result)] =
            takes_over(fused, item, initial) ? buffer(initial) : new_temporary(result.type());
      }
      copy(buffer(initial), buffer(result), steps);
      touch(buffer(result));
      buffers_[key(body.arguments[k + 1]->result())] = buffer(result);
    }
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
