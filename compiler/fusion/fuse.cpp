#include "compiler/fusion/fuse.h"

#include "compiler/fusion/region.h"

namespace weft::compiler {

using ir::Node;
using ir::Pattern;

bool is_immediate(const Node& node) {
  return node.operands.empty() && node.op->pattern != Pattern::random && ops::is_pointwise(node);
}

bool is_source(const Node& node) {
  return node.is("state") || node.is("scalar") || node.is("constant_data") || node.is("argument");
}

bool is_anchor(const Node& node) {
  switch (node.op->pattern) {
    case Pattern::reduction:
    case Pattern::scan:
    case Pattern::dot:
    case Pattern::fft:
    case Pattern::tno:
    case Pattern::attention:
    case Pattern::scatter:
      return true;
    default:
      return false;
  }
}

FusedRegion RegionFuser::run() {
  number();
  count_uses();
  choose_virtual();
  if (enabled_) move_to_producers();
  make_vertices();
  if (enabled_) merge();
  return build();
}

FusedGraph fuse(const ir::Graph& graph, bool enabled, bool together) {
  FusedGraph fused;
  RegionFuser fuser(fused, graph.body(), enabled, together);
  fused.body = fuser.run();
  return fused;
}

}  // namespace weft::compiler
