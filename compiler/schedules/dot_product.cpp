#include "compiler/schedules/dot_product.h"

#include <algorithm>

#include "compiler/schedules/access.h"

namespace weft::compiler {

using ir::Node;
using ir::Value;
using loop::Ex;
using ops::Element;

Product analyse_product(const Node& dot) {
  Product p;
  p.node = &dot;
  const ir::Attributes& a = dot.attributes;
  const auto get = [&](const char* name) {
    return a.has(name) ? a.integers(name) : std::vector<std::int64_t>{};
  };
  p.lhs_batch = get("lhs_batch");
  p.rhs_batch = get("rhs_batch");
  p.lhs_contract = get("lhs_contract");
  p.rhs_contract = get("rhs_contract");
  const Shape& lhs = dot.operand_type(0).shape;
  const Shape& rhs = dot.operand_type(1).shape;
  const auto contains = [](const std::vector<std::int64_t>& axes, int axis) {
    return std::find(axes.begin(), axes.end(), axis) != axes.end();
  };
  for (std::int64_t axis : p.lhs_batch) p.batch.push_back(lhs[static_cast<int>(axis)]);
  for (std::int64_t axis : p.lhs_contract) p.contracted.push_back(lhs[static_cast<int>(axis)]);
  for (int axis = 0; axis < lhs.rank(); ++axis) {
    if (!contains(p.lhs_batch, axis) && !contains(p.lhs_contract, axis)) {
      p.lhs_free.push_back(lhs[axis]);
    }
  }
  for (int axis = 0; axis < rhs.rank(); ++axis) {
    if (!contains(p.rhs_batch, axis) && !contains(p.rhs_contract, axis)) {
      p.rhs_free.push_back(rhs[axis]);
    }
  }
  return p;
}

namespace {

/// Fewer rows or columns than this are bound by reading the operands.
constexpr std::int64_t fewest = 16;

bool is_large(const Node& dot) {
  const Product p = analyse_product(dot);
  return p.rows() >= fewest && p.columns() >= fewest && p.depth() >= fewest;
}

}  // namespace

bool may_sum_operand(const Node& dot, const Node& sum) {
  const DType dtype = sum.results[0].dtype;
  if (!(sum.operands[0] == dot.operands[1]) || (dtype != DType::f32 && dtype != DType::f64)) {
    return false;
  }
  std::vector<std::int64_t> summed = sum.attributes.integers("axes");
  std::vector<std::int64_t> contracted = dot.attributes.integers("rhs_contract");
  std::sort(summed.begin(), summed.end());
  std::sort(contracted.begin(), contracted.end());
  return summed == contracted && dot.attributes.integers("rhs_batch").empty() && is_large(dot);
}

bool may_share_kernel(const Node& a, const Node& b) {
  if (&a == &b || !a.is("dot") || !b.is("dot") || !(a.attributes == b.attributes)) return false;
  const Type& type = a.results[0];
  if (!(type == b.results[0]) || is_complex(type.dtype)) return false;
  const bool lhs = a.operands[0] == b.operands[0];
  const bool rhs = a.operands[1] == b.operands[1];
  if (lhs == rhs) return false;
  const std::size_t other = lhs ? 1 : 0;
  if (!(a.operand_type(other) == b.operand_type(other))) return false;
  return is_large(a);
}

Element ProductAccess::row_operand(Ex batch, Ex row, Ex depth, std::size_t product) {
  return read(*nodes_[product], !p_.swapped, batch, row, depth);
}

Element ProductAccess::column_operand(Ex batch, Ex column, Ex depth, std::size_t product) {
  return read(*nodes_[product], p_.swapped, batch, column, depth);
}

void ProductAccess::store(Ex batch, Ex row, Ex column, std::span<const Element> values) {
  loop::Arena& a = emitter_.arena();
  std::vector<Ex> index = a.delinearize(batch, p_.batch);
  const std::vector<Ex> left = a.delinearize(p_.swapped ? column : row, p_.lhs_free);
  const std::vector<Ex> right = a.delinearize(p_.swapped ? row : column, p_.rhs_free);
  index.insert(index.end(), left.begin(), left.end());
  index.insert(index.end(), right.begin(), right.end());
  emitter_.reset();
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    emitter_.bind({const_cast<Node*>(nodes_[i]), 0}, values[i]);
  }
  emitter_.store_outputs(index, p_.node->results[0].shape);
  emitter_.reset();
}

Element ProductAccess::read(const Node& node, bool lhs, Ex batch, Ex free, Ex depth) {
  const std::vector<std::int64_t>& batch_axes = lhs ? p_.lhs_batch : p_.rhs_batch;
  const std::vector<std::int64_t>& contract_axes = lhs ? p_.lhs_contract : p_.rhs_contract;
  loop::Arena& a = emitter_.arena();
  const Value value = node.operands[lhs ? 0 : 1];
  std::vector<Ex> index(static_cast<std::size_t>(value.shape().rank()), nullptr);
  const std::vector<Ex> batches = a.delinearize(batch, p_.batch);
  const std::vector<Ex> depths = a.delinearize(depth, p_.contracted);
  const std::vector<Ex> frees = a.delinearize(free, lhs ? p_.lhs_free : p_.rhs_free);
  for (std::size_t i = 0; i < batch_axes.size(); ++i) {
    index[static_cast<std::size_t>(batch_axes[i])] = batches[i];
  }
  for (std::size_t i = 0; i < contract_axes.size(); ++i) {
    index[static_cast<std::size_t>(contract_axes[i])] = depths[i];
  }
  std::size_t next = 0;
  for (Ex& e : index) {
    if (e == nullptr) e = frees[next++];
  }
  return emitter_.value(value, index);
}

OperandLayout operand_layout(const Group& group, const Product& product, bool columns) {
  loop::Kernel scratch;
  GroupEmitter probe(scratch, group);
  ProductAccess access(probe, product);
  loop::Arena& a = probe.arena();
  const auto axis = [&](std::int64_t extent) {
    return a.variable(loop::Scalar::i64, 0, std::max<std::int64_t>(extent - 1, 0));
  };
  const Ex batch = axis(product.batches());
  const Ex free = axis(columns ? product.columns() : product.rows());
  const Ex depth = axis(product.depth());
  const Ex e = columns ? access.column_operand(batch, free, depth).re
                       : access.row_operand(batch, free, depth).re;
  OperandLayout layout;
  layout.free_contiguous = contiguous_along(e, free);
  layout.depth_contiguous = contiguous_along(e, depth);
  if (e->kind != loop::ExprKind::load || e->arguments[1] != nullptr) return layout;
  layout.stored = true;
  layout.plain = e->buffer->dtype == DType::f32 || e->buffer->dtype == DType::f64;
  const Ex axes[] = {free, depth};
  if (const auto strides = strides_of(e->arguments[0], axes)) {
    layout.free_stride = (*strides)[0];
    layout.depth_stride = (*strides)[1];
  }
  return layout;
}

}  // namespace weft::compiler
