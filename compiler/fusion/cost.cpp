#include "compiler/fusion/cost.h"

#include <algorithm>
#include <cmath>

namespace weft::compiler {
namespace {

using ir::Node;
using ir::Pattern;

/// Whichever is fewer: the sums of the definition, or real transforms of twice the length, a
/// product of spectra for each line, and what the coefficients take beside.
double tno_operations(const Node& node) {
  const Shape& x = node.operand_type(0).shape;
  const auto n = static_cast<double>(std::max<std::int64_t>(x[x.rank() - 2], 1));
  const auto lines = static_cast<double>(x.elements()) / n;
  const bool gradient_t = node.is("tno_gradient_t");
  const bool both = node.is("tno_gradients");
  const Shape& t = gradient_t ? node.results[0].shape : node.operand_type(1).shape;
  const double coefficient_lines =
      static_cast<double>(t.elements()) /
      static_cast<double>(std::max<std::int64_t>(t.rank() >= 2 ? t[t.rank() - 2] : 1, 1));
  const double products = both ? 2 : 1;
  const double visible = node.attributes.flag("causal") ? (n + 1) / 2 : n;
  const double direct = 2 * lines * n * visible * products;
  const double transform = 2.5 * 2 * n * std::log2(2 * n);
  const double transforms = lines * (both ? 3 : 2) + coefficient_lines * products;
  // A complex multiply-add for each of the n + 1 bins.
  return std::min(direct, transforms * transform + 8 * lines * (n + 1) * products);
}

/// Of the products: two forward, five backward. Causal queries see about half of the keys.
double attention_operations(const Node& node) {
  const Shape& q = node.operand_type(0).shape;
  const Shape& v = node.operand_type(2).shape;
  const auto d = static_cast<double>(q[q.rank() - 1]);
  const auto e = static_cast<double>(v[v.rank() - 1]);
  const auto n = static_cast<double>(q[q.rank() - 2]);
  const auto m = static_cast<double>(v[v.rank() - 2]);
  const auto queries =
      static_cast<double>(node.operand_type(0).elements()) / std::max<double>(d, 1);
  const double visible = node.attributes.flag("causal") ? m - (n - 1) / 2 : m;
  return 2 * queries * visible * (node.is("attention") ? d + e : 3 * d + 2 * e);
}

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
    } else if (node->op->pattern == Pattern::attention) {
      total += attention_operations(*node);
    } else if (node->op->pattern == Pattern::fft) {
      // 5 n log2 n for a complex transform, half of it for a real one: the convention of FFTW.
      const auto axis = static_cast<int>(node->attributes.integer("axis"));
      const bool real = node->is("rfft") || node->is("irfft");
      const auto n = static_cast<double>(real ? node->attributes.integer("length")
                                              : node->results[0].shape[axis]);
      const double lines =
          elements / std::max<double>(1, static_cast<double>(node->results[0].shape[axis]));
      total += lines * (real ? 2.5 : 5.0) * n * std::log2(std::max(2.0, n));
    } else if (node->op->pattern == Pattern::tno) {
      total += tno_operations(*node);
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
