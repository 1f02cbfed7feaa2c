#include "compiler/passes/rewrite.h"

#include <fmt/format.h>

#include <utility>

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Region;
using ir::Value;

class Rewriter {
 public:
  Rewriter(ir::Graph& graph, std::initializer_list<Rule> rules) : graph_(graph), rules_(rules) {}

  void region(Region& region) {
    ops::Builder builder(graph_, region);
    for (Node* node : std::exchange(region.nodes, {})) {
      for (Value& operand : node->operands) operand = map_.get(operand);
      for (Region* nested : node->regions) this->region(*nested);
      const Value value = node->results.size() == 1 ? apply(builder, *node) : Value{};
      if (!value) {
        region.nodes.push_back(node);
        continue;
      }
      if (value.type() != node->results[0]) {
        throw Error(fmt::format("simplify: {} turned from {} into {}", describe(*node),
                                node->results[0].text(), value.type().text()),
                    node->location);
      }
      if (value.node->name.empty() && value.node->parent == &region &&
          !value.node->is("argument")) {
        value.node->name = node->name;
      }
      map_.set(node->result(), value);
      changed_ = true;
    }
    for (Value& yielded : region.yields) yielded = map_.get(yielded);
  }

  bool changed() const { return changed_; }

 private:
  Value apply(ops::Builder& builder, const Node& node) {
    builder.set_location(node.location);
    for (const Rule rule : rules_) {
      if (const Value value = rule(builder, node)) return value;
    }
    return {};
  }

  ir::Graph& graph_;
  std::initializer_list<Rule> rules_;
  ir::ValueMap map_;
  bool changed_ = false;
};

}  // namespace

bool rewrite(ir::Graph& graph, std::initializer_list<Rule> rules) {
  Rewriter rewriter(graph, rules);
  rewriter.region(graph.body());
  return rewriter.changed();
}

std::optional<double> splat(Value value) {
  if (!value.node->is("constant")) return std::nullopt;
  const ir::AttributeValue* attribute = value.node->attributes.find("value");
  if (attribute == nullptr) return std::nullopt;
  if (const auto* real = std::get_if<double>(attribute)) return *real;
  const auto* integer = std::get_if<std::int64_t>(attribute);
  if (integer == nullptr) return std::nullopt;
  constexpr std::int64_t exact = std::int64_t{1} << 53;
  if (*integer > exact || *integer < -exact) return std::nullopt;
  return static_cast<double>(*integer);
}

}  // namespace weft::compiler
