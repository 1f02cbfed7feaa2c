#include <algorithm>
#include <unordered_set>

#include "compiler/passes/differentiate.h"
#include "trace.h"

namespace weft {

namespace detail {
namespace {

using ir::Node;

/// What a gradient is taken with respect to, and the values that stand for it in the open frames.
struct Target {
  std::shared_ptr<Cell> cell;
  std::vector<Value> values;
};

/// Finds out which targets a value depends on, across the bodies that are being traced.
///
/// In a body, a value from outside is a region argument until the body ends, and a gradient does
/// not pass an argument. So arguments through which a target is reached are replaced by the values
/// from outside now ("crossed"), and what they stand for may not change in that body any more.
class Dependence {
 public:
  Dependence(Trace& trace, const std::vector<Target>& targets) : trace_(trace), targets_(targets) {
    for (const Target& target : targets) {
      for (const Value value : target.values) target_nodes_.insert(value.node);
    }
  }

  /// Walks back from `root`; returns the value that stands for it after crossing.
  Value resolve(Value root) {
    walk(root);
    ir::ValueMap map;
    for (const Crossing& crossing : crossings_) {
      pin(crossing.cell, crossing.depth);
      trace_.entry(crossing.cell, crossing.depth).value = crossing.outer;
      map.set(crossing.placeholder, crossing.outer);
    }
    if (!crossings_.empty()) {
      for (Frame& frame : trace_.frames) ir::replace_uses(*frame.region, map);
    }
    for (const Target& target : targets_) {
      for (const Value value : target.values) {
        if (!reached(value)) continue;
        for (std::size_t depth = depth_of(value) + 1; depth <= trace_.depth(); ++depth) {
          pin(target.cell, depth);
        }
      }
    }
    return map.get(root);
  }

  bool reached(Value target) const { return hits_.contains(target.node); }

 private:
  enum class Mark : std::uint8_t { open, clear, reaches };
  struct Crossing {
    std::shared_ptr<Cell> cell;
    Value placeholder;
    Value outer;
    std::size_t depth = 0;
  };
  struct Step {
    Node* node = nullptr;
    std::vector<Value> inputs;
    std::size_t next = 0;
    Crossing crossing;  ///< of a placeholder
  };

  bool enters(Value value) const {
    return is_differentiable(value.dtype()) &&
           (target_nodes_.contains(value.node) || !value.node->is("stop_gradient"));
  }

  void walk(Value root) {
    if (enters(root)) push(root.node);
    while (!stack_.empty()) {
      Step& step = stack_.back();
      if (step.next < step.inputs.size()) {
        const Value input = step.inputs[step.next++];
        if (enters(input) && !marks_.contains(input.node)) push(input.node);
        continue;
      }
      const bool reaches =
          hits_.contains(step.node) ||
          std::any_of(step.inputs.begin(), step.inputs.end(), [&](const Value& input) {
            return enters(input) && marks_.at(input.node) == Mark::reaches;
          });
      marks_[step.node] = reaches ? Mark::reaches : Mark::clear;
      if (reaches && step.crossing.cell != nullptr) crossings_.push_back(step.crossing);
      stack_.pop_back();
    }
  }

  void push(Node* node) {
    marks_[node] = Mark::open;
    Step step;
    step.node = node;
    if (target_nodes_.contains(node)) hits_.insert(node);
    if (node->is("argument")) {
      if (!hits_.contains(node)) step.crossing = crossing_of(node);
      if (step.crossing.outer) step.inputs.push_back(step.crossing.outer);
    } else if (!node->is("stop_gradient")) {
      step.inputs = node->operands;
      for (const ir::Region* region : node->regions) add_uses(*region, step.inputs);
    }
    stack_.push_back(std::move(step));
  }

  /// Empty where the argument is carried by its loop: gradients end there.
  Crossing crossing_of(Node* argument) {
    for (std::size_t depth = trace_.depth(); depth > 0; --depth) {
      const Frame& frame = trace_.frames[depth];
      const auto found = frame.placeholders.find(argument);
      if (found == frame.placeholders.end()) continue;
      const auto cell =
          std::find_if(frame.touched.begin(), frame.touched.end(),
                       [&](const auto& touched) { return touched.get() == found->second; });
      // By value: reading outside may touch more cells there.
      const std::shared_ptr<Cell> captured = *cell;
      if (trace_.entry(captured, depth).assigned) return {};
      const Value outer = trace_.read(captured, depth - 1);
      if (!outer) return {};
      return {captured, argument->result(), outer, depth};
    }
    return {};
  }

  static void add_uses(const ir::Region& region, std::vector<Value>& inputs) {
    ir::walk(region, [&](const Node& node) {
      inputs.insert(inputs.end(), node.operands.begin(), node.operands.end());
      for (const ir::Region* nested : node.regions) {
        inputs.insert(inputs.end(), nested->yields.begin(), nested->yields.end());
      }
    });
    inputs.insert(inputs.end(), region.yields.begin(), region.yields.end());
  }

  std::size_t depth_of(Value value) const {
    std::size_t depth = trace_.depth();
    while (depth > 0 && value.node->parent != trace_.frames[depth].region) --depth;
    return depth;
  }

  void pin(const std::shared_ptr<Cell>& cell, std::size_t depth) {
    Entry& entry = trace_.entry(cell, depth);
    if (entry.assigned) {
      fail(trace_.builder.location(),
           "gradient: it goes through a value that was computed outside of the loop from {}, which "
           "the loop has changed; compute that value inside",
           cell->name.empty() ? "a tensor" : fmt::format("'{}'", cell->name));
    }
    if (entry.pinned) return;
    entry.pinned = true;
    entry.pinned_at = trace_.builder.location();
  }

  Trace& trace_;
  const std::vector<Target>& targets_;
  std::unordered_set<const Node*> target_nodes_;
  std::unordered_set<const Node*> hits_;
  std::unordered_map<const Node*, Mark> marks_;
  std::vector<Step> stack_;
  std::vector<Crossing> crossings_;
};

/// One gradient for each target; null where y does not depend on it.
std::vector<Value> gradients(Recorder& record, Value y, const std::vector<Target>& targets,
                             Value seed) {
  Trace& trace = record.trace();
  record.require(is_floating(y.dtype()), "of a value of type {}; it must be a real floating type",
                 y.type().text());
  Dependence dependence(trace, targets);
  y = dependence.resolve(y);
  std::vector<Value> sources;
  std::vector<std::size_t> owners;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    for (const Value value : targets[i].values) {
      if (!dependence.reached(value)) continue;
      sources.push_back(value);
      owners.push_back(i);
    }
  }
  std::vector<Value> result(targets.size());
  if (sources.empty()) return result;
  const Location at = record.at();
  const std::vector<Value> parts = compiler::gradients(record.build, y, sources, seed);
  record.build.set_location(at);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (!parts[i]) continue;
    Value& sum = result[owners[i]];
    sum = sum ? ops::add(record.build, sum, parts[i]) : parts[i];
  }
  return result;
}

/// All values that stand for a parameter where it is read; the newest last.
Target target_of_parameter(const std::shared_ptr<Cell>& cell) {
  Target target{cell, {}};
  for (const auto& leaf : cell->leaves) target.values.push_back(leaf.second);
  return target;
}

/// A tensor's value here, and what that stands for outside of the bodies that are being traced.
Target target_of(Recorder& record, const Tensor& tensor) {
  Trace& trace = record.trace();
  const std::shared_ptr<Cell>& cell = Access::cell(tensor);
  Target target{cell, {record(tensor)}};
  if (cell->kind == CellKind::parameter) return target_of_parameter(cell);
  for (std::size_t depth = trace.depth(); depth > cell->home.depth; --depth) {
    const Entry& entry = trace.entry(cell, depth);
    if (entry.assigned) break;
    target.values.push_back(trace.read(cell, depth - 1));
  }
  return target;
}

}  // namespace
}  // namespace detail

void backward(const Tensor& loss, Source at) {
  detail::Recorder record("backward", at);
  detail::Trace& trace = record.trace();
  const detail::Value y = record(loss);
  std::vector<detail::Target> targets;
  for (const auto& cell : trace.states) {
    if (cell->kind == detail::CellKind::parameter) {
      targets.push_back(detail::target_of_parameter(cell));
    }
  }
  const std::vector<detail::Value> found = detail::gradients(record, y, targets, {});
  bool any = false;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (!found[i]) continue;
    any = true;
    const std::shared_ptr<detail::Cell>& gradient = targets[i].cell->gradient;
    const detail::Value before = trace.read(gradient, trace.depth());
    trace.write(gradient, before ? ops::add(record.build, before, found[i]) : found[i],
                trace.depth(), "backward");
  }
  record.require(any, "{} depends on no parameter", y.type().text());
}

std::vector<Tensor> grad(const Tensor& y, const std::vector<Tensor>& xs, const Tensor& seed,
                         Source at) {
  detail::Recorder record("grad", at);
  const detail::Value value = record(y);
  const detail::Value start = seed.defined() ? record(seed) : detail::Value{};
  record.require(!start || start.type() == value.type(), "the seed is {}, the value {}",
                 start ? start.type().text() : "", value.type().text());
  std::vector<detail::Target> targets;
  for (const Tensor& x : xs) {
    targets.push_back(detail::target_of(record, x));
    record.require(is_differentiable(x.dtype()), "with respect to a value of type {}",
                   x.type().text());
  }
  const std::vector<detail::Value> found = detail::gradients(record, value, targets, start);
  std::vector<Tensor> result;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const Type& type = targets[i].cell->type;
    result.push_back(
        record(found[i] ? found[i] : ops::constant(record.build, type.dtype, 0, type.shape)));
  }
  return result;
}

void zero_grad(Source at) { zero_grad(parameters(), at); }

void zero_grad(const std::vector<Tensor>& given, Source at) {
  detail::Recorder record("zero_grad", at);
  detail::Trace& trace = record.trace();
  for (const Tensor& parameter : given) {
    const auto& cell = detail::Access::cell(parameter);
    record.require(cell != nullptr && cell->gradient != nullptr, "not a parameter");
    trace.check(*cell, "zero_grad");
    trace.write(cell->gradient, {}, trace.depth(), "zero_grad");
  }
}

}  // namespace weft
