#include "compiler/passes/lower_scan.h"

#include <utility>
#include <vector>

#include "ops/build.h"

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Region;
using ir::Value;

/// Starts of a window at `position` of the first axis and at 0 of the others.
std::vector<Value> starts(ops::Builder& b, Value position, int rank) {
  std::vector<Value> result{position};
  if (rank > 1) result.resize(static_cast<std::size_t>(rank), ops::constant(b, DType::i64, 0));
  return result;
}

/// x[position] without the first axis.
Value read_step(ops::Builder& b, Value x, Value position) {
  std::vector<std::int64_t> sizes(x.shape().begin(), x.shape().end());
  sizes[0] = 1;
  std::vector<Value> operands = starts(b, position, x.type().rank());
  operands.insert(operands.begin(), x);
  const Value window = b.emit1("dynamic_slice", std::move(operands), {{"sizes", sizes}});
  Shape shape = x.shape();
  shape.erase(0);
  return ops::reshape(b, window, shape);
}

/// stacked with stacked[position] = step.
Value write_step(ops::Builder& b, Value stacked, Value step, Value position) {
  Shape shape = step.shape();
  shape.insert(0, 1);
  std::vector<Value> operands = starts(b, position, stacked.type().rank());
  operands.insert(operands.begin(), {stacked, ops::reshape(b, step, shape)});
  return b.emit1("dynamic_update_slice", std::move(operands));
}

class Lowering {
 public:
  explicit Lowering(ir::Graph& graph) : graph_(graph) {}

  void region(Region& region) {
    for (Node* node : std::exchange(region.nodes, {})) {
      for (Value& operand : node->operands) operand = map_.get(operand);
      for (Region* nested : node->regions) this->region(*nested);
      if (node->is("scan")) {
        lower(*node, region);
      } else {
        region.nodes.push_back(node);
      }
    }
    for (Value& yielded : region.yields) yielded = map_.get(yielded);
  }

  bool changed() const { return changed_; }

 private:
  void lower(Node& scan, Region& region);

  ir::Graph& graph_;
  ir::ValueMap map_;
  bool changed_ = false;
};

void Lowering::lower(Node& scan, Region& region) {
  changed_ = true;
  Region& step = *scan.regions[0];
  const std::int64_t length = scan.attributes.integer("length");
  const auto carried = static_cast<std::size_t>(scan.attributes.integer("carried"));
  ops::Builder outer(graph_, region);
  outer.set_location(scan.location);
  if (length == 0) {
    // The body never runs, and what it yields does not fit into nothing.
    for (std::uint32_t i = 0; i < scan.results.size(); ++i) {
      const Type& type = scan.results[i];
      map_.set(scan.result(i),
               i < carried ? scan.operands[i] : ops::constant(outer, type.dtype, 0, type.shape));
    }
    return;
  }
  Region* body = graph_.new_region(nullptr);
  ops::Builder inner(graph_, *body);
  inner.set_location(scan.location);

  const Value index = inner.argument(*body, {DType::i64, {}});
  index.node->name = step.arguments[0]->name;
  std::vector<Value> operands;
  std::vector<Value> yields;
  for (std::size_t i = 0; i < scan.results.size(); ++i) {
    const Type& type = scan.results[i];
    operands.push_back(i < carried ? scan.operands[i]
                                   : ops::constant(outer, type.dtype, 0, type.shape));
    const Value argument = inner.argument(*body, type);
    if (i >= carried) continue;
    argument.node->name = step.arguments[i + 1]->name;
    map_.set(step.arguments[i + 1]->result(), argument);
  }
  Value position = index;
  if (scan.attributes.flag("reverse")) {
    const Value last = ops::constant(inner, DType::i64, static_cast<double>(length - 1));
    position = ops::sub(inner, last, index);
  }
  map_.set(step.arguments[0]->result(), position);
  for (std::size_t i = carried; i < scan.operands.size(); ++i) {
    const Value slice = read_step(inner, scan.operands[i], position);
    slice.node->name = step.arguments[i + 1]->name;
    map_.set(step.arguments[i + 1]->result(), slice);
  }
  for (Node* node : step.nodes) {
    node->parent = body;
    body->nodes.push_back(node);
  }
  for (const Value yielded : step.yields) yields.push_back(yielded);
  step.nodes.clear();
  step.yields.clear();
  ir::replace_uses(*body, map_);
  for (Value& yielded : yields) yielded = map_.get(yielded);
  for (std::size_t i = carried; i < yields.size(); ++i) {
    yields[i] = write_step(inner, body->arguments[i + 1]->result(), yields[i], position);
  }
  body->yields = std::move(yields);
  Node* loop = outer.emit(ops::op("loop"), std::move(operands), {{"count", length}}, {body});
  loop->name = scan.name;
  for (std::uint32_t i = 0; i < scan.results.size(); ++i) {
    map_.set(scan.result(i), loop->result(i));
  }
}

}  // namespace

bool lower_scan(ir::Graph& graph) {
  Lowering lowering(graph);
  lowering.region(graph.body());
  return lowering.changed();
}

}  // namespace weft::compiler
