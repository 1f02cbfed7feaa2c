#pragma once

#include <map>
#include <string>

#include "compiler/ir/graph.h"

namespace weft::command {

/// How far a value may be from the exact one, relative to its norm: the roundings on the longest
/// path to it, each of its type's unit roundoff, a sum of n terms counted as sqrt(n) of them
/// (errors of random sign), a transform of n as log2(n).
class RoundingBound {
 public:
  explicit RoundingBound(const ir::Graph& graph);
  double operator()(ir::Value value) const;

 private:
  void visit(const ir::Region& region);
  double cost(const ir::Node& node) const;

  std::map<std::pair<std::uint32_t, std::uint32_t>, double> bounds_;
};

}  // namespace weft::command
