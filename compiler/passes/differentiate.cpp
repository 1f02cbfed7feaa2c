#include "compiler/passes/differentiate.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "ops/op.h"

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Region;
using ir::Value;
using ops::Builder;

struct ValueHash {
  std::size_t operator()(const Value& value) const {
    return std::hash<const Node*>()(value.node) * 31 + value.index;
  }
};
using ValueSet = std::unordered_set<Value, ValueHash>;

/// A value together with the gradient that flows into it from outside.
struct Root {
  Value value;
  Value seed;
};

/// Values that the region, nested regions included, uses but does not define; in order of use.
std::vector<Value> captures(const Region& region) {
  std::unordered_set<const Node*> inside(region.arguments.begin(), region.arguments.end());
  std::vector<Value> result;
  ValueSet seen;
  const auto use = [&](Value value) {
    if (!inside.contains(value.node) && seen.insert(value).second) result.push_back(value);
  };
  ir::walk(region, [&](const Node& node) {
    inside.insert(&node);
    for (const Region* nested : node.regions) {
      inside.insert(nested->arguments.begin(), nested->arguments.end());
    }
  });
  ir::walk(region, [&](const Node& node) {
    for (const Value operand : node.operands) use(operand);
    for (const Region* nested : node.regions) {
      for (const Value yielded : nested->yields) use(yielded);
    }
  });
  for (const Value yielded : region.yields) use(yielded);
  return result;
}

/// What a node's results depend on: its operands and what its regions capture.
std::vector<Value> dependences(const Node& node) {
  std::vector<Value> result = node.operands;
  for (const Region* region : node.regions) {
    const std::vector<Value> captured = captures(*region);
    result.insert(result.end(), captured.begin(), captured.end());
  }
  return result;
}

/// The nodes that the roots depend on, operands first; values in `stop` are not looked behind.
std::vector<Node*> order_of(std::span<const Root> roots, const ValueSet& stop) {
  struct Frame {
    Node* node;
    std::vector<Value> next;
    std::size_t position = 0;
  };
  std::vector<Node*> order;
  std::unordered_set<const Node*> seen;
  std::vector<Frame> stack;
  const auto enter = [&](Value value) {
    if (!stop.contains(value) && seen.insert(value.node).second) {
      stack.push_back({value.node, dependences(*value.node)});
    }
  };
  for (const Root& root : roots) {
    enter(root.value);
    while (!stack.empty()) {
      Frame& top = stack.back();
      if (top.position == top.next.size()) {
        order.push_back(top.node);
        stack.pop_back();
      } else {
        enter(top.next[top.position++]);
      }
    }
  }
  return order;
}

void mark_active(const Node& node, ValueSet& active);

/// Activity of a scan's results is the least fixed point over its steps: a carried value is active
/// once its start or any step makes it depend on an active value.
void mark_scan(const Node& scan, ValueSet& active) {
  const Region& body = *scan.regions[0];
  const auto carried = static_cast<std::size_t>(scan.attributes.integer("carried"));
  for (std::size_t i = 0; i < scan.operands.size(); ++i) {
    if (active.contains(scan.operands[i])) active.insert(body.arguments[i + 1]->result());
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (const Node* node : body.nodes) mark_active(*node, active);
    for (std::size_t i = 0; i < carried; ++i) {
      if (active.contains(body.yields[i])) {
        changed |= active.insert(body.arguments[i + 1]->result()).second;
      }
    }
  }
  auto* node = const_cast<Node*>(&scan);
  for (std::size_t i = 0; i < scan.results.size(); ++i) {
    const Value inner = i < carried ? body.arguments[i + 1]->result() : body.yields[i];
    if (active.contains(inner)) active.insert(node->result(static_cast<std::uint32_t>(i)));
  }
}

/// Marks the results of a node that depend on an active value and have a derivative's type.
void mark_active(const Node& node, ValueSet& active) {
  const auto is_active = [&](Value value) { return active.contains(value); };
  const bool reached = node.regions.empty() ? std::ranges::any_of(node.operands, is_active)
                                            : std::ranges::any_of(dependences(node), is_active);
  if (!reached) return;
  if (node.is("scan")) return mark_scan(node, active);
  auto* mutable_node = const_cast<Node*>(&node);
  for (std::uint32_t i = 0; i < node.results.size(); ++i) {
    if (is_differentiable(node.results[i].dtype)) active.insert(mutable_node->result(i));
  }
}

/// One walk from the roots back to the sources.
class Sweep {
 public:
  Sweep(Builder& builder, std::span<const Root> roots, std::span<const Value> sources,
        const ValueSet& stop)
      : builder_(builder), stop_(stop), order_(order_of(roots, stop)) {
    for (const Value source : sources) {
      if (is_differentiable(source.dtype())) active_.insert(source);
    }
    for (const Node* node : order_) mark_active(*node, active_);
    for (const Root& root : roots) {
      if (active(root.value)) accumulate(root.value, root.seed);
    }
  }

  void run() {
    const Location before = builder_.location();
    for (auto node = order_.rbegin(); node != order_.rend(); ++node) visit(**node);
    builder_.set_location(before);
  }

  Builder& builder() { return builder_; }
  bool active(Value value) const { return active_.contains(value); }
  /// The gradient collected so far; null where there is none.
  Value gradient(Value value) const {
    const auto found = gradients_.find(value);
    return found == gradients_.end() ? Value{} : found->second;
  }
  /// The gradient that a node hands on; a stopped value keeps its gradient to itself.
  Value outgoing(Value value) const {
    return stop_.contains(value) || !active(value) ? Value{} : gradient(value);
  }
  void accumulate(Value value, Value contribution) {
    Value& sum = gradients_[value];
    sum = sum ? ops::add(builder_, sum, contribution) : contribution;
  }

 private:
  void visit(Node& node);
  void visit_scan(Node& scan);

  Builder& builder_;
  const ValueSet& stop_;
  std::vector<Node*> order_;
  ValueSet active_;
  std::unordered_map<Value, Value, ValueHash> gradients_;
};

class NodeBackward final : public ops::Backward {
 public:
  NodeBackward(Sweep& sweep, Node& node) : sweep_(sweep), node_(node) {}

  Builder& build() override { return sweep_.builder(); }
  const Node& node() const override { return node_; }
  Value result(std::uint32_t index) const override { return node_.result(index); }
  Value gradient(std::uint32_t index) const override {
    return sweep_.outgoing(node_.result(index));
  }
  bool wanted(std::size_t operand) const override { return sweep_.active(node_.operands[operand]); }
  void add(std::size_t operand, Value value) override {
    if (!value || !wanted(operand)) return;
    if (value.type() != node_.operand_type(operand)) {
      throw Error(fmt::format("{}: the derivative rule gives {} for operand {}", describe(node_),
                              value.type().text(), operand),
                  node_.location);
    }
    sweep_.accumulate(node_.operands[operand], value);
  }

 private:
  Sweep& sweep_;
  Node& node_;
};

void Sweep::visit(Node& node) {
  bool flows = false;
  for (std::uint32_t i = 0; i < node.results.size(); ++i) {
    flows |= static_cast<bool>(outgoing(node.result(i)));
  }
  if (!flows) return;
  if (node.is("scan")) {
    builder_.set_location(node.location);
    return visit_scan(node);
  }
  const auto is_active = [&](Value value) { return active(value); };
  if (!std::ranges::any_of(dependences(node), is_active)) return;  // a source itself
  if (!node.regions.empty()) {
    throw Error(fmt::format("{}: differentiation across a loop's boundary is not built",
                            std::string(node.op->name)),
                node.location);
  }
  const ops::Op& op = ops::row(node);
  if (!op.derivative) {
    throw Error(fmt::format("{}: a gradient is needed through it, but it has none: {}",
                            describe(node), op.derivative.absent),
                node.location);
  }
  builder_.set_location(node.location);
  NodeBackward backward(*this, node);
  op.derivative.function(backward);
}

/// Appends to the scan's stacked results the values that each step starts from; a value that is
/// stacked already is shared. Returns, for each carried value, the index of that result.
std::vector<std::uint32_t> stack_carried(Node& scan) {
  Region& body = *scan.regions[0];
  const auto carried = static_cast<std::size_t>(scan.attributes.integer("carried"));
  std::vector<std::uint32_t> stacked;
  for (std::size_t i = 0; i < carried; ++i) {
    const Value start = body.arguments[i + 1]->result();
    const auto first = body.yields.begin() + static_cast<std::ptrdiff_t>(carried);
    const auto found = std::find(first, body.yields.end(), start);
    stacked.push_back(static_cast<std::uint32_t>(found - body.yields.begin()));
    if (found == body.yields.end()) {
      Type type = start.type();
      type.shape.insert(0, scan.attributes.integer("length"));
      body.yields.push_back(start);
      scan.results.push_back(type);
    }
  }
  return stacked;
}

/// Copies of the body's nodes compute the step once more in the backward scan, which must not be
/// seen outside: receivers and what an exception leaves are dropped, and what cannot be repeated is
/// an error.
void drop_effects(Region& body) {
  std::erase_if(body.nodes,
                [](const Node* node) { return node->is("receiver") || node->is("state_carry"); });
  ir::walk(body, [](Node& node) {
    for (Region* nested : node.regions) drop_effects(*nested);
    if (node.is("feeder") || node.is("state_write")) {
      throw Error(fmt::format("{}: differentiation of a scan whose body contains it is not built",
                              std::string(node.op->name)),
                  node.location);
    }
  });
}

Value zeros_like(Builder& b, const Type& type) {
  return ops::constant(b, type.dtype, 0, type.shape);
}

void Sweep::visit_scan(Node& scan) {
  ir::Graph& graph = builder_.graph();
  const auto carried = static_cast<std::size_t>(scan.attributes.integer("carried"));
  const std::size_t inputs = scan.operands.size() - carried;
  const std::vector<std::uint32_t> stacked = stack_carried(scan);
  const Region& forward = *scan.regions[0];
  const std::vector<Value> captured = captures(forward);

  // The body of the backward scan: the step again, then its gradients.
  Region* body = graph.new_region(nullptr);
  ir::ValueMap copies;
  ir::clone_region(forward, graph, *body, copies);
  drop_effects(*body);
  const std::vector<Node*> step_arguments = body->arguments;
  const std::vector<Value> step_yields = body->yields;
  Builder inner(graph, *body);
  inner.set_location(scan.location);

  // Gradients of the carried values are carried, those of stacked results are stacked inputs.
  std::vector<std::size_t> active_carried;
  std::vector<Root> roots;
  std::vector<Node*> carried_arguments;
  std::vector<Node*> stacked_arguments(step_arguments.begin() + 1, step_arguments.end());
  std::vector<Value> carried_starts;
  std::vector<Value> stacked_inputs;
  for (const std::uint32_t index : stacked) stacked_inputs.push_back(scan.result(index));
  stacked_inputs.insert(stacked_inputs.end(),
                        scan.operands.begin() + static_cast<std::ptrdiff_t>(carried),
                        scan.operands.end());
  for (std::size_t i = 0; i < scan.results.size(); ++i) {
    const Value result = scan.result(static_cast<std::uint32_t>(i));
    if (!active(result)) continue;
    const Value gradient = outgoing(result);
    if (i >= carried && !gradient) continue;
    const Value argument = inner.argument(*body, step_yields[i].type());
    roots.push_back({step_yields[i], argument});
    if (i < carried) {
      active_carried.push_back(i);
      carried_arguments.push_back(argument.node);
      carried_starts.push_back(gradient ? gradient : zeros_like(builder_, result.type()));
    } else {
      stacked_arguments.push_back(argument.node);
      stacked_inputs.push_back(gradient);
    }
  }

  std::vector<Value> sources;
  for (const std::size_t i : active_carried) sources.push_back(step_arguments[i + 1]->result());
  std::vector<std::size_t> active_inputs;
  for (std::size_t i = 0; i < inputs; ++i) {
    if (!active(scan.operands[carried + i])) continue;
    active_inputs.push_back(i);
    sources.push_back(step_arguments[1 + carried + i]->result());
  }
  std::vector<Value> active_captured;
  std::ranges::copy_if(captured, std::back_inserter(active_captured),
                       [&](Value value) { return active(value); });
  sources.insert(sources.end(), active_captured.begin(), active_captured.end());
  const ValueSet stop(captured.begin(), captured.end());
  Sweep step(inner, roots, sources, stop);
  step.run();

  std::vector<Value> yields;
  for (const std::size_t i : active_carried) {
    const Value argument = step_arguments[i + 1]->result();
    const Value gradient = step.gradient(argument);
    yields.push_back(gradient ? gradient : zeros_like(inner, argument.type()));
  }
  // A captured value is one value for all steps: its gradient is summed in a carried accumulator.
  std::vector<Value> accumulated;
  for (const Value value : active_captured) {
    const Value gradient = step.gradient(value);
    if (!gradient) continue;
    const Value sum = inner.argument(*body, value.type());
    accumulated.push_back(value);
    carried_arguments.push_back(sum.node);
    carried_starts.push_back(zeros_like(builder_, value.type()));
    yields.push_back(ops::add(inner, sum, gradient));
  }
  const std::size_t backward_carried = yields.size();
  std::vector<std::size_t> gradient_inputs;
  for (const std::size_t i : active_inputs) {
    const Value gradient = step.gradient(step_arguments[1 + carried + i]->result());
    if (!gradient) continue;
    gradient_inputs.push_back(i);
    yields.push_back(gradient);
  }

  body->arguments = {step_arguments[0]};
  body->arguments.insert(body->arguments.end(), carried_arguments.begin(), carried_arguments.end());
  body->arguments.insert(body->arguments.end(), stacked_arguments.begin(), stacked_arguments.end());
  body->yields = std::move(yields);
  std::vector<Value> operands = std::move(carried_starts);
  operands.insert(operands.end(), stacked_inputs.begin(), stacked_inputs.end());
  Node* backward = builder_.emit(ops::op("scan"), std::move(operands),
                                 {{"length", scan.attributes.integer("length")},
                                  {"carried", static_cast<std::int64_t>(backward_carried)},
                                  {"reverse", !scan.attributes.flag("reverse")}},
                                 {body});

  std::uint32_t next = 0;
  for (const std::size_t i : active_carried) {
    const Value gradient = backward->result(next++);
    if (active(scan.operands[i])) accumulate(scan.operands[i], gradient);
  }
  for (const Value value : accumulated) accumulate(value, backward->result(next++));
  for (const std::size_t i : gradient_inputs) {
    accumulate(scan.operands[carried + i], backward->result(next++));
  }
}

}  // namespace

std::vector<Value> gradients(Builder& builder, Value y, std::span<const Value> xs, Value seed) {
  if (is_complex(y.dtype())) {
    throw Error(fmt::format("gradient of a complex value: {}", y.type().text()), y.node->location);
  }
  if (!is_differentiable(y.dtype())) {
    throw Error(fmt::format("gradient of a value without derivative: {}", y.type().text()),
                y.node->location);
  }
  if (seed && seed.type() != y.type()) {
    throw Error(fmt::format("gradient: the seed has type {}, the value {}", seed.type().text(),
                            y.type().text()),
                y.node->location);
  }
  if (!seed) seed = ops::constant_like(builder, y, 1);
  const Root root{y, seed};
  const ValueSet stop;
  Sweep sweep(builder, {&root, 1}, xs, stop);
  sweep.run();
  std::vector<Value> result;
  for (const Value x : xs) result.push_back(sweep.gradient(x));
  return result;
}

}  // namespace weft::compiler
