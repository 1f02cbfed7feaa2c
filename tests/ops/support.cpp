#include "support.h"

namespace weft::test {

using ir::Value;
using ops::Array;

Value state(ops::Builder& b, const std::string& name, const Type& type) {
  std::vector<std::int64_t> extents(type.shape.begin(), type.shape.end());
  return b.emit1("state", {},
                 {{"name", name}, {"dtype", type.dtype}, {"shape", std::move(extents)}});
}

Use random_use(const ops::Op& op, DType dtype, ops::Random& random) {
  const ops::Sample sample = op.generate.function(random, dtype);
  Use use;
  use.graph = std::make_unique<ir::Graph>();
  ops::Builder b(*use.graph, use.graph->body());
  for (std::size_t i = 0; i < sample.operands.size(); ++i) {
    use.inputs.push_back(state(b, fmt::format("x{}", i), sample.operands[i].type));
    use.values.push_back(ops::random_array(random, sample.operands[i]));
  }
  use.node = b.emit(op, use.inputs, sample.attributes);
  use.smooth = sample.smooth;
  return use;
}

std::vector<std::string> generated_ops() {
  std::vector<std::string> names;
  for (const ops::Op* op : ops::all_ops()) {
    if (op->generate) names.emplace_back(op->name);
  }
  return names;
}

std::vector<Array> evaluate(const ir::Node& node, const std::vector<Array>& operands) {
  std::vector<const Array*> pointers;
  for (const Array& operand : operands) pointers.push_back(&operand);
  return ops::evaluate_node(node, pointers);
}

Array array(const Type& type, const std::vector<double>& values) {
  Array result(type);
  const auto count = static_cast<std::size_t>(type.elements());
  for (std::size_t i = 0; i < count; ++i) {
    if (is_complex(type.dtype)) {
      result.re[i] = values.at(2 * i);
      result.im[i] = values.at(2 * i + 1);
    } else {
      result.set(static_cast<std::int64_t>(i), values.at(i));
    }
  }
  return result;
}

Array apply(std::string_view op_name, const std::vector<Array>& operands,
            ir::Attributes attributes) {
  ir::Graph graph;
  ops::Builder b(graph, graph.body());
  std::vector<Value> inputs;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    inputs.push_back(state(b, fmt::format("x{}", i), operands[i].type));
  }
  const ir::Node* node = b.emit(ops::op(op_name), inputs, std::move(attributes));
  return evaluate(*node, operands).at(0);
}

}  // namespace weft::test
