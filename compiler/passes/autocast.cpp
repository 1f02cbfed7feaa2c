#include "compiler/passes/autocast.h"

#include "compiler/passes/rewrite.h"

namespace weft::compiler {
namespace {

using ir::Value;

/// How many operands of a node are those of its products; 0: it has none, or not of f32.
std::size_t operands_of_products(const ir::Node& node) {
  if (node.operands.empty() || node.operand_type(0).dtype != DType::f32) return 0;
  if (node.is("dot")) return 2;
  if (node.is("attention")) return 3;
  return node.is("attention_backward") ? node.operands.size() : 0;
}

/// Products of narrow operands, their results in f32. The logarithms of attention's denominators,
/// and what comes with them, are f32 beside any type.
template <DType dtype>
std::vector<Value> narrow(ops::Builder& b, const ir::Node& node) {
  const std::size_t count = operands_of_products(node);
  if (count == 0) return {};
  std::vector<Value> operands = node.operands;
  for (std::size_t i = 0; i < count; ++i) {
    const bool kept = node.is("attention_backward") && (i == 3 || i == 4);
    if (!kept) operands[i] = ops::cast(b, operands[i], dtype);
  }
  ir::Node* narrowed = b.emit(ops::op(node.op->name), operands, node.attributes);
  std::vector<Value> results;
  for (std::uint32_t i = 0; i < narrowed->results.size(); ++i) {
    results.push_back(ops::cast(b, narrowed->result(i), DType::f32));
  }
  return results;
}

}  // namespace

bool autocast(ir::Graph& graph, DType dtype) {
  if (dtype == DType::bf16) return rewrite(graph, narrow<DType::bf16>);
  if (dtype == DType::f16) return rewrite(graph, narrow<DType::f16>);
  throw Error("autocast: operands can be f16 or bf16, not " + std::string(name(dtype)));
}

}  // namespace weft::compiler
