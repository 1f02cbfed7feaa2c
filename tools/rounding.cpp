#include "tools/rounding.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "compiler/ir/type.h"

namespace weft::command {

namespace {

/// Elements of the operand that go into one element of the result.
double reduced(const ir::Node& node) {
  double length = 1;
  const Shape& shape = node.operand_type(0).shape;
  const auto extent = [&](std::int64_t axis) {
    return static_cast<double>(shape[static_cast<int>(axis)]);
  };
  if (node.is("dot")) {
    for (const std::int64_t axis : node.attributes.integers("lhs_contract")) length *= extent(axis);
  } else if (node.attributes.has("axes")) {
    for (const std::int64_t axis : node.attributes.integers("axes")) length *= extent(axis);
  } else if (node.attributes.has("axis")) {
    length = extent(node.attributes.integer("axis"));
  } else if (shape.rank() > 0) {
    // Norms and cross entropy: the last axis; attention and tno have two that matter.
    length = extent(shape.rank() - 1);
    if (node.is("attention") || node.is("tno")) length += extent(shape.rank() - 2);
  }
  return std::max(length, 1.0);
}

}  // namespace

RoundingBound::RoundingBound(const ir::Graph& graph) { visit(graph.body()); }

double RoundingBound::operator()(ir::Value value) const {
  const auto found = bounds_.find({value.node->id, value.index});
  return found == bounds_.end() ? 0 : found->second;
}

double RoundingBound::cost(const ir::Node& node) const {
  double roundoff = 0;
  for (const Type& type : node.results) roundoff = std::max(roundoff, epsilon(type.dtype));
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
      if (node.operands.empty()) return roundoff;
      return roundoff * (4 + std::sqrt(reduced(node)));
    case ir::Pattern::fft:
      return roundoff * (4 + std::log2(reduced(node)));
    case ir::Pattern::elementwise:
    case ir::Pattern::random:
    case ir::Pattern::control:
      break;
  }
  return roundoff;
}

void RoundingBound::visit(const ir::Region& region) {
  for (const ir::Node* node : region.nodes) {
    double bound = 0;
    for (const ir::Value operand : node->operands) bound = std::max(bound, (*this)(operand));
    if (node->regions.empty()) {
      bound += cost(*node);
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

}  // namespace weft::command
