#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compiler/ir/graph.h"
#include "ops/op.h"
#include "tools/check/run.h"

/// Element by element bounds of what rounding may do to a graph's results.
namespace weft::check {

/// One tensor of an Outcome: "state w", or "receiver loss[0], iteration 3".
struct Tensor {
  std::string what;
  ops::Array value;
};
/// In a fixed order: states that are written, then receivers' calls.
std::vector<Tensor> tensors_of(const Outcome& outcome, const Interface& interface);

/// A tensor by the reference evaluation and how far from it each element may be (complex: of re,
/// im, re, ...). Infinite where rounding decides: a comparison's operands that are too close to
/// each other, a sum that may overflow.
struct Bounded {
  Tensor expected;
  std::vector<double> tolerance;
};

/// Bounds from `samples` evaluations with errors put in by chance, see evaluate_perturbed(): what
/// then differs is what rounding can do here, whatever the graph's conditioning; what does not
/// differ, such as moved values or integers, has to be right to the bit.
std::vector<Bounded> bound(const ir::Graph& graph, const Interface& interface, const Inputs& inputs,
                           int samples = 6, std::uint64_t seed = 1);

/// Where the compiled tensors are not within the bounds: a line each with the worst element.
struct Comparison {
  std::vector<std::string> mismatches;
  std::int64_t elements = 0;
  std::int64_t undetermined = 0;  ///< those with an infinite tolerance
};
Comparison compare(const std::vector<Bounded>& expected, const std::vector<Tensor>& compiled);
/// Where two runs that must give the same bits do not.
std::vector<std::string> compare_bits(const std::vector<Tensor>& a, const std::vector<Tensor>& b);

}  // namespace weft::check
