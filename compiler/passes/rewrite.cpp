#include "compiler/passes/rewrite.h"

#include <fmt/format.h>

#include <functional>
#include <utility>

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Region;
using ir::Value;

class Rewriter {
 public:
  using Replace = std::function<std::vector<Value>(ops::Builder& builder, const Node& node)>;
  Rewriter(ir::Graph& graph, Replace replace) : graph_(graph), replace_(std::move(replace)) {}

  void region(Region& region) {
    ops::Builder builder(graph_, region);
    for (Node* node : std::exchange(region.nodes, {})) {
      for (Value& operand : node->operands) operand = map_.get(operand);
      for (Region* nested : node->regions) this->region(*nested);
      builder.set_location(node->location);
      const std::vector<Value> values = replace_(builder, *node);
      if (values.empty()) {
        region.nodes.push_back(node);
        continue;
      }
      for (std::uint32_t i = 0; i < node->results.size(); ++i) {
        const Value value = values.at(i);
        if (value.type() != node->results[i]) {
          throw Error(fmt::format("simplify: {} turned from {} into {}", describe(*node),
                                  node->results[i].text(), value.type().text()),
                      node->location);
        }
        map_.set(node->result(i), value);
      }
      const Value first = values[0];
      if (first.node->name.empty() && first.node->parent == &region &&
          !first.node->is("argument")) {
        first.node->name = node->name;
      }
      changed_ = true;
    }
    for (Value& yielded : region.yields) yielded = map_.get(yielded);
  }

  bool changed() const { return changed_; }

 private:
  ir::Graph& graph_;
  Replace replace_;
  ir::ValueMap map_;
  bool changed_ = false;
};

}  // namespace

bool rewrite(ir::Graph& graph, std::initializer_list<Rule> rules) {
  Rewriter rewriter(graph, [&](ops::Builder& builder, const Node& node) -> std::vector<Value> {
    if (node.results.size() != 1) return {};
    for (const Rule rule : rules) {
      if (const Value value = rule(builder, node)) return {value};
    }
    return {};
  });
  rewriter.region(graph.body());
  return rewriter.changed();
}

bool rewrite(ir::Graph& graph, NodeRule rule) {
  Rewriter rewriter(graph, rule);
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
