#include "tools/check/rounding.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>

#include "runtime/plan/type.h"

namespace weft::check {

namespace {

/// Elements of the operand that go into one element of the result.
double reduced(const ir::Node& node) {
  double length = 1;
  const Shape& shape = node.operand_type(0).shape;
  const auto extent = [&](std::int64_t axis) {
    return static_cast<double>(shape[static_cast<int>(axis)]);
  };
  if (node.op->pattern == ir::Pattern::scatter) {
    length = static_cast<double>(node.operand_type(1).elements());
  } else if (node.is("dot")) {
    for (const std::int64_t axis : node.attributes.integers("lhs_contract")) length *= extent(axis);
  } else if (node.attributes.has("axes")) {
    for (const std::int64_t axis : node.attributes.integers("axes")) length *= extent(axis);
  } else if (node.attributes.has("axis")) {
    length = extent(node.attributes.integer("axis"));
  } else if (shape.rank() > 0) {
    // Norms and cross entropy: the last axis; attention and tno have two that matter.
    length = extent(shape.rank() - 1);
    if (node.op->pattern == ir::Pattern::tno) length += extent(shape.rank() - 2);
    if (node.op->pattern == ir::Pattern::attention) {
      length += extent(shape.rank() - 2);
      for (const int axis : {1, 2}) {
        length += static_cast<double>(node.operand_type(2).shape[shape.rank() - axis]);
      }
    }
  }
  return std::max(length, 1.0);
}

/// Results that are one of the operands' elements, or have few values, are never rounded.
bool is_exact(const ir::Node& node) {
  static constexpr std::string_view names[] = {
      "neg",     "abs",  "sign", "floor",   "ceil", "round", "relu", "where",         "minimum",
      "maximum", "real", "imag", "complex", "conj", "max",   "min",  "stop_gradient", "keep"};
  if (!is_differentiable(node.results[0].dtype)) return true;
  if (std::find(std::begin(names), std::end(names), node.op->name) != std::end(names)) return true;
  if (node.is("cast")) return epsilon(node.operand_type(0).dtype) >= epsilon(node.results[0].dtype);
  return false;
}

}  // namespace

double roundings(const ir::Node& node) {
  if (node.results.empty() || is_exact(node)) return 0;
  switch (node.op->pattern) {
    case ir::Pattern::movement:
    case ir::Pattern::transfer:
      return 0;
    case ir::Pattern::reduction:
    case ir::Pattern::scan:
    case ir::Pattern::dot:
    case ir::Pattern::tno:
    case ir::Pattern::attention:
    case ir::Pattern::tree:
    case ir::Pattern::scatter:
    case ir::Pattern::composite:
      return node.operands.empty() ? 0 : 4 + std::sqrt(reduced(node));
    case ir::Pattern::fft:
      return 4 + std::log2(reduced(node));
    case ir::Pattern::elementwise:
      // Constants have their type in the reference evaluation as well.
      return node.operands.empty() ? 0 : 1;
    case ir::Pattern::random:
    case ir::Pattern::control:
      break;
  }
  return 1;
}

RoundingBound::RoundingBound(const ir::Graph& graph) { visit(graph.body()); }

double RoundingBound::operator()(ir::Value value) const {
  const auto found = bounds_.find({value.node->id, value.index});
  return found == bounds_.end() ? 0 : found->second;
}

void RoundingBound::visit(const ir::Region& region) {
  for (const ir::Node* node : region.nodes) {
    double bound = 0;
    for (const ir::Value operand : node->operands) bound = std::max(bound, (*this)(operand));
    if (node->regions.empty()) {
      double roundoff = 0;
      for (const Type& type : node->results) roundoff = std::max(roundoff, epsilon(type.dtype));
      bound += roundings(*node) * roundoff;
    } else {
      // Every iteration adds what one adds.
      double added = 0;
      for (const ir::Region* body : node->regions) {
        for (const ir::Node* argument : body->arguments) bounds_[{argument->id, 0}] = bound;
        visit(*body);
        for (const ir::Value yielded : body->yields) {
          added = std::max(added, (*this)(yielded)-bound);
        }
      }
      const char* count = node->attributes.has("length") ? "length" : "count";
      bound += added * static_cast<double>(node->attributes.integer(count));
    }
    for (std::uint32_t i = 0; i < node->results.size(); ++i) bounds_[{node->id, i}] = bound;
  }
}

}  // namespace weft::check
