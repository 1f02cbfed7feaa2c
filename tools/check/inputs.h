#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "compiler/ir/graph.h"
#include "ops/op.h"

/// Values for a graph that came without any: its states and feeders.
namespace weft::check {

/// Values are drawn from [low, high]; integers inclusive.
struct Range {
  double low = -1;
  double high = 1;
};

/// A sensible range for each state and feeder, by name, from how the graph uses it: indices lie
/// within what they index, divisors and arguments of logarithms and roots are positive, and weights
/// of a product keep its scale.
std::map<std::string, Range> input_ranges(const ir::Graph& graph);

/// Uniform values, rounded to the type; a function of the arguments alone. As State::values().
std::vector<double> random_values(const Type& type, const Range& range, std::uint64_t seed,
                                  const std::string& name, std::int64_t iteration);

/// State::values()'s form to and from the reference evaluation's.
ops::Array to_array(const Type& type, const std::vector<double>& values);
std::vector<double> to_values(const ops::Array& array);

}  // namespace weft::check
