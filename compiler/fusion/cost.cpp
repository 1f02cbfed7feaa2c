#include "compiler/fusion/cost.h"

#include <algorithm>
#include <cmath>

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Pattern;

std::int64_t operations(const Group& group) {
  double total = 0;
  for (const Node* node : group.members) {
    const auto elements = static_cast<double>(node->results[0].elements());
    if (node->is("dot")) {
      double depth = 1;
      for (std::int64_t axis : node->attributes.integers("lhs_contract")) {
        depth *= static_cast<double>(node->operand_type(0).shape[static_cast<int>(axis)]);
      }
      total += 2 * elements * depth * (is_complex(node->results[0].dtype) ? 4 : 1);
    } else if (node->op->pattern == Pattern::fft) {
      // 5 n log2 n for a complex transform, half of it for a real one: the convention of FFTW.
      const auto axis = static_cast<int>(node->attributes.integer("axis"));
      const bool real = node->is("rfft") || node->is("irfft");
      const auto n = static_cast<double>(real ? node->attributes.integer("length")
                                              : node->results[0].shape[axis]);
      const double lines =
          elements / std::max<double>(1, static_cast<double>(node->results[0].shape[axis]));
      total += lines * (real ? 2.5 : 5.0) * n * std::log2(std::max(2.0, n));
    } else if (node->op->pattern == Pattern::reduction) {
      total += static_cast<double>(node->operand_type(0).elements());
    } else if (node->op->pattern != Pattern::movement) {
      total += elements * ops::row(*node).cost;
    }
  }
  return static_cast<std::int64_t>(total);
}

}  // namespace

double Cost::seconds() const {
  constexpr double bytes_a_second = 40e9;
  constexpr double operations_a_second = 50e9;
  return static_cast<double>(bytes_read + bytes_written) / bytes_a_second +
         static_cast<double>(operations) / operations_a_second;
}

Cost cost_of(const Group& group) {
  Cost cost;
  for (const ir::Value v : group.inputs) cost.bytes_read += v.type().bytes();
  for (const ir::Value v : group.outputs) cost.bytes_written += v.type().bytes();
  cost.operations = operations(group);
  return cost;
}

}  // namespace weft::compiler
