#pragma once

#include <map>
#include <string>
#include <vector>

#include "ops/build.h"
#include "ops/evaluate.h"

namespace weft::test {

/// The values of a graph's states after one run of the reference evaluation.
std::map<std::string, ops::Array> run(const ir::Graph& graph,
                                      const std::map<std::string, ops::Array>& states);

/// Appends state_write(value){name}.
void write(ops::Builder& b, const std::string& name, ir::Value value);

/// Random values of the type in [low, high], exact in it.
ops::Array random_values(ops::Random& random, const Type& type, double low = -1, double high = 1);

/// Largest absolute value.
double magnitude(const ops::Array& array);

/// Checks that `actual` is `expected` within `tolerance`, absolute.
void expect_near(const ops::Array& actual, const ops::Array& expected, double tolerance);

/// For a graph whose state "loss" is a scalar: the gradients of the loss by central differences
/// with respect to the states of those names, against what the graph writes to "d" + name. At most
/// `probes` elements of each are moved, by `step`. Differences of second order in `step` and of
/// 1e-16 / step are expected; `tolerance` is relative to the largest gradient, at least 1.
void check_gradients(const ir::Graph& graph, std::map<std::string, ops::Array> states,
                     const std::vector<std::string>& names, double tolerance = 1e-6,
                     double step = 1e-4, int probes = 24);

}  // namespace weft::test
