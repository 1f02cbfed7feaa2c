#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/build.h"
#include "ops/evaluate.h"
#include "ops/support.h"

namespace weft::test {

/// One use of an op: a graph that reads its operands from the states "x0", "x1", ...
struct Use {
  std::unique_ptr<ir::Graph> graph;
  std::vector<ir::Value> inputs;
  ir::Node* node = nullptr;
  std::vector<ops::Array> values;  ///< of the operands
  bool smooth = true;
};

/// A state with values of its type; returns its value in the graph.
ir::Value state(ops::Builder& b, const std::string& name, const Type& type);
/// Draws a use of the op from its generator.
Use random_use(const ops::Op& op, DType dtype, ops::Random& random);
/// Names of the rows with a generator, for parameterised tests.
std::vector<std::string> generated_ops();
/// The results of the node for the given operands.
std::vector<ops::Array> evaluate(const ir::Node& node, const std::vector<ops::Array>& operands);
/// An array of floats (c64: re, im alternate) or integers from doubles.
ops::Array array(const Type& type, const std::vector<double>& values);
/// One op of scalars of that type: its result as an array.
ops::Array apply(std::string_view op_name, const std::vector<ops::Array>& operands,
                 ir::Attributes attributes = {});

}  // namespace weft::test
