#include "compiler/passes/fold_constants.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <vector>

#include "compiler/passes/rewrite.h"
#include "ops/support.h"

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Value;

bool all_splats(const Node& node) {
  return !node.operands.empty() &&
         std::ranges::all_of(node.operands, [](Value v) { return splat(v).has_value(); });
}

Value constant(ops::Builder& b, const Type& type, const ir::AttributeValue& value) {
  return b.emit1("constant", {},
                 {{"dtype", type.dtype},
                  {"shape", std::vector<std::int64_t>(type.shape.begin(), type.shape.end())},
                  {"value", value}});
}

/// One element of an elementwise op, by its reference: its result's shape does not matter.
std::optional<ir::AttributeValue> evaluate(const Node& node) {
  ir::Graph scratch;
  ops::Builder b(scratch, scratch.body());
  std::vector<Value> scalars;
  std::vector<ops::Array> arrays;
  for (const Value operand : node.operands) {
    scalars.push_back(constant(b, {operand.dtype(), {}}, *operand.node->attributes.find("value")));
    ops::Array& array = arrays.emplace_back(scalars.back().type());
    ops::row(*scalars.back().node).reference.function(*scalars.back().node, {}, {&array, 1});
  }
  std::vector<const ops::Array*> operands;
  for (const ops::Array& array : arrays) operands.push_back(&array);
  const Node* scalar = b.emit(ops::row(node), scalars, node.attributes);
  ops::Array result(scalar->results[0]);
  ops::row(node).reference.function(*scalar, operands, {&result, 1});
  if (result.re.empty()) return result.integers[0];
  const double value = ops::round_to(result.type.dtype, result.re[0]);
  const bool real = result.im.empty() || result.im[0] == 0;
  if (!std::isfinite(value) || !real) return std::nullopt;
  return value;
}

Value fold_elementwise(ops::Builder& b, const Node& node) {
  const ops::Op& row = ops::row(node);
  // keep asks to be left alone.
  if (node.op->pattern != ir::Pattern::elementwise || node.is("keep") || !row.reference ||
      !all_splats(node)) {
    return {};
  }
  const std::optional<ir::AttributeValue> value = evaluate(node);
  return value ? constant(b, node.results[0], *value) : Value{};
}

Value fold_movement(ops::Builder& b, const Node& node) {
  if (node.results[0].elements() == 0 || node.operands.empty()) return {};
  const auto first = splat(node.operands[0]);
  if (!first) return {};
  const ir::AttributeValue value = *node.operands[0].node->attributes.find("value");
  // These read their first operand only, whatever the indices are.
  for (const std::string_view op :
       {"reshape", "permute", "broadcast", "slice", "flip", "dynamic_slice", "gather"}) {
    if (node.is(op)) return constant(b, node.results[0], value);
  }
  if (node.is("pad") && node.attributes.real("value") == *first) {
    return constant(b, node.results[0], value);
  }
  const auto same = [&](Value v) { return splat(v) == first; };
  const bool joins = node.is("concat") || node.is("dynamic_update_slice");
  if (joins &&
      std::all_of(node.operands.begin(),
                  node.operands.begin() + (node.is("concat") ? node.operands.size() : 2), same)) {
    return constant(b, node.results[0], value);
  }
  return {};
}

/// The sum of n equal elements: n times the element, rounded once.
Value fold_sum(ops::Builder& b, const Node& node) {
  if (!node.is("sum") || !is_floating(node.results[0].dtype)) return {};
  const auto value = splat(node.operands[0]);
  const std::int64_t results = node.results[0].elements();
  if (!value || results == 0) return {};
  const auto count = static_cast<double>(node.operand_type(0).elements() / results);
  const double total = ops::round_to(node.results[0].dtype, *value * count);
  return std::isfinite(total) ? constant(b, node.results[0], total) : Value{};
}

}  // namespace

bool fold_constants(ir::Graph& graph) {
  return rewrite(graph, {fold_elementwise, fold_movement, fold_sum});
}

}  // namespace weft::compiler
