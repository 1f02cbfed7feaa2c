#include "compiler/passes/autocast.h"

#include "compiler/passes/rewrite.h"

namespace weft::compiler {
namespace {

using ir::Value;

Value narrow(ops::Builder& b, const ir::Node& node, DType dtype) {
  if (!node.is("dot") || node.results[0].dtype != DType::f32) return {};
  const Value lhs = ops::cast(b, node.operands[0], dtype);
  const Value rhs = ops::cast(b, node.operands[1], dtype);
  return ops::cast(b, b.emit1("dot", {lhs, rhs}, node.attributes), DType::f32);
}

Value narrow_to_bf16(ops::Builder& b, const ir::Node& node) { return narrow(b, node, DType::bf16); }
Value narrow_to_f16(ops::Builder& b, const ir::Node& node) { return narrow(b, node, DType::f16); }

}  // namespace

bool autocast(ir::Graph& graph, DType dtype) {
  if (dtype == DType::bf16) return rewrite(graph, {narrow_to_bf16});
  if (dtype == DType::f16) return rewrite(graph, {narrow_to_f16});
  throw Error("autocast: operands can be f16 or bf16, not " + std::string(name(dtype)));
}

}  // namespace weft::compiler
