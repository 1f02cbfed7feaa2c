#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "compiler/ir/graph.h"
#include "ops/op.h"
#include "tools/check/run.h"

/// The reference evaluation done several times side by side, with errors put in by chance.
namespace weft::check {

/// A value by the reference evaluation, and by the evaluations with errors; one only where no error
/// reaches it.
using Samples = std::shared_ptr<const std::vector<ops::Array>>;

struct PerturbedOutcome {
  std::map<std::string, Samples> states;  ///< that are written
  struct Call {
    std::int64_t iteration = 0;
    std::vector<Samples> tensors;
  };
  std::map<std::string, std::vector<Call>> received;
};

/// Each result gets an error of as many roundings as its computation has (see roundings()), times a
/// safety factor, and so do the operands of sums, transforms and composites, whose terms may
/// cancel. Overflow, underflow and the flushing of denormals are as in the type. Where an op jumps
/// (casts to integers, comparisons, floor) or has a pole, it also sees its operands at both ends of
/// the range that their samples span, so that what rounding may decide is decided both ways.
PerturbedOutcome evaluate_perturbed(const ir::Graph& graph, const Inputs& inputs, int samples,
                                    std::uint64_t seed);

/// Below this, kernels may flush to zero; those of f16 compute in f32.
double smallest_normal(DType dtype);

}  // namespace weft::check
