#pragma once

#include <string>
#include <vector>

#include "compiler/fusion/fuse.h"

namespace weft::compiler {

/// A use of a value by a node that is computed in a kernel where the value is not: the kernel loads
/// what another one stored.
struct Separation {
  const ir::Node* producer = nullptr;
  const ir::Node* consumer = nullptr;
  const Group* producer_group = nullptr;  ///< that stores the value
  const Group* consumer_group = nullptr;
  std::string reason;
};

/// All of them, by consumers' kernels. Each has the reason that fusion gave for the two nodes, for
/// the node that the consumer is computed for, or for storing the producer's value.
std::vector<Separation> separations(const FusedGraph& fused, bool fuse = true);

}  // namespace weft::compiler
