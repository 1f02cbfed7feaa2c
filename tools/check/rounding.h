#pragma once

#include <map>
#include <string>

#include "compiler/ir/graph.h"

namespace weft::check {

/// Roundings that the node adds to its results, relative to their norm and in units of the type's
/// roundoff: a sum of n terms counts as sqrt(n) of them (errors of random sign), a transform of n
/// as log2(n); 0 where nothing is rounded.
double roundings(const ir::Node& node);

/// How far a value may be from the exact one, relative to its norm: the roundings on the longest
/// path to it, as roundings() counts them, each of its type's unit roundoff.
class RoundingBound {
 public:
  explicit RoundingBound(const ir::Graph& graph);
  double operator()(ir::Value value) const;

 private:
  void visit(const ir::Region& region);

  std::map<std::pair<std::uint32_t, std::uint32_t>, double> bounds_;
};

}  // namespace weft::check
