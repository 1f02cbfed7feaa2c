#include "compiler/schedules/emitter.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace weft::compiler {

using ir::Node;
using ir::Value;
using loop::Ex;
using ops::Element;

loop::Scalar register_of(DType dtype) {
  return loop::register_type(dtype == DType::c64 ? DType::f32 : dtype);
}

std::int64_t buffer_elements(const Type& type) {
  return type.elements() * (is_complex(type.dtype) ? 2 : 1);
}

DType buffer_dtype(DType dtype) { return dtype == DType::c64 ? DType::f32 : dtype; }

GroupEmitter::GroupEmitter(loop::Kernel& kernel, const Group& group, bool strict)
    : kernel_(kernel), strict_(strict), builder_(kernel), group_(group) {
  for (Value input : group.inputs) {
    inputs_[key(input)] =
        kernel.argument(fmt::format("in{}", inputs_.size()), buffer_dtype(input.dtype()),
                        buffer_elements(input.type()), false);
  }
  for (Value output : group.outputs) {
    outputs_[key(output)] =
        kernel.argument(fmt::format("out{}", outputs_.size()), buffer_dtype(output.dtype()),
                        buffer_elements(output.type()), true);
  }
}

const loop::Buffer* GroupEmitter::workspace(DType dtype, std::int64_t elements) {
  const std::int64_t bytes = elements * static_cast<std::int64_t>(size_of(dtype));
  workspace_bytes_ += bytes;
  return kernel_.argument("workspace", dtype, elements, true);
}

const loop::Buffer* GroupEmitter::input_buffer(Value value) const {
  const auto found = inputs_.find(key(value));
  return found == inputs_.end() ? nullptr : found->second;
}

const loop::Buffer* GroupEmitter::output_buffer(Value value) const {
  const auto found = outputs_.find(key(value));
  return found == outputs_.end() ? nullptr : found->second;
}

bool GroupEmitter::is_output(Value value) const { return outputs_.count(key(value)) != 0; }

void GroupEmitter::bind(Value value, Element element) {
  bound_[key(value)] = rounded(value, element);
}

Element GroupEmitter::rounded(Value value, Element element) {
  if (!strict_) return element;
  if (value.dtype() == DType::f16) {
    element.re = arena().unary(loop::Unary::round_f16, element.re);
  } else if (value.dtype() == DType::bf16) {
    element.re = arena().unary(loop::Unary::round_bf16, element.re);
  }
  return element;
}

void GroupEmitter::reset() {
  bound_.clear();
  memo_.clear();
}

Element GroupEmitter::load(const loop::Buffer* buffer, const Type& type, std::span<const Ex> index,
                           Ex predicate) {
  loop::Arena& a = arena();
  const Ex position = a.linearize(index, type.shape);
  if (!is_complex(type.dtype)) return {a.load(buffer, position, predicate), nullptr};
  const Ex re = a.mul(position, a.integer(2));
  return {a.load(buffer, re, predicate), a.load(buffer, a.add(re, a.integer(1)), predicate)};
}

Element GroupEmitter::value(Value value, std::span<const Ex> index, Ex predicate) {
  if (const auto found = bound_.find(key(value)); found != bound_.end()) return found->second;
  if (const auto* buffer = input_buffer(value)) {
    return load(buffer, value.type(), index, predicate);
  }
  const Node& node = *value.node;
  if (!ops::is_pointwise(node)) {
    throw std::logic_error(
        fmt::format("kernel {} needs {} (%{}) in registers, but nothing put it "
                    "there",
                    group_.name, node.op->name, node.id));
  }
  std::vector<Ex> memo_index(index.begin(), index.end());
  memo_index.push_back(predicate);
  const auto memo_key = std::make_pair(key(value), std::move(memo_index));
  if (const auto found = memo_.find(memo_key); found != memo_.end()) return found->second;
  const Ex outer = predicate_;
  predicate_ = predicate;
  const Element result = rounded(value, ops::row(node).lower.function(*this, node, index));
  predicate_ = outer;
  memo_[memo_key] = result;
  return result;
}

Element GroupEmitter::operand(const Node& node, std::size_t operand, std::span<const Ex> index) {
  return value(node.operands[operand], index, predicate_);
}

Element GroupEmitter::operand_if(const Node& node, std::size_t operand, std::span<const Ex> index,
                                 Ex predicate) {
  const Ex both = predicate_ == nullptr ? predicate : arena().logical_and(predicate_, predicate);
  return value(node.operands[operand], index, both);
}

void GroupEmitter::store(Value output, Ex position, Element element, Ex predicate, bool streaming) {
  const loop::Buffer* buffer = output_buffer(output);
  loop::Arena& a = arena();
  if (!is_complex(output.dtype())) {
    if (streaming) {
      builder_.stream(buffer, position, element.re, predicate);
    } else {
      builder_.store(buffer, position, element.re, predicate);
    }
    return;
  }
  const Ex re = a.mul(position, a.integer(2));
  builder_.store(buffer, re, element.re, predicate);
  builder_.store(buffer, a.add(re, a.integer(1)), element.im, predicate);
}

namespace {

bool reads_memory(Ex e) {
  if (e == nullptr) return false;
  if (e->kind == loop::ExprKind::load) return true;
  return std::any_of(e->arguments.begin(), e->arguments.end(), reads_memory);
}

}  // namespace

void GroupEmitter::prefetch_loads(Ex value, std::set<Ex>& seen) {
  if (value == nullptr || !seen.insert(value).second) return;
  // An index that must be read first may be out of range itself.
  if (value->kind == loop::ExprKind::load && value->buffer->space == loop::Space::argument &&
      !reads_memory(value->arguments[0])) {
    builder_.prefetch(value->buffer, value->arguments[0]);
  }
  for (Ex argument : value->arguments) prefetch_loads(argument, seen);
}

void GroupEmitter::prefetch(Value value, std::span<const Ex> index) {
  reset();
  const Element element = this->value(value, index);
  std::set<Ex> seen;
  prefetch_loads(element.re, seen);
  prefetch_loads(element.im, seen);
}

void GroupEmitter::prefetch_epilogue(std::span<const Ex> index, const Shape& shape) {
  loop::Arena& a = arena();
  reset();
  if (group_.anchor != nullptr) {
    // Stands for the result, which is not there yet.
    const Value result{const_cast<Node*>(group_.anchor), 0};
    const loop::Scalar type = register_of(result.dtype());
    bound_[key(result)] = {a.variable(type),
                           is_complex(result.dtype()) ? a.variable(type) : nullptr};
  }
  const Ex position = a.linearize(index, shape);
  std::set<Ex> seen;
  for (Value output : group_.outputs) {
    if (output.index > 0 || output.node == group_.operand_sum) continue;
    std::vector<Ex> own(index.begin(), index.end());
    if (!(output.shape() == shape)) own = a.delinearize(position, output.shape());
    const Element element = value(output, own);
    prefetch_loads(element.re, seen);
    prefetch_loads(element.im, seen);
  }
  reset();
}

void GroupEmitter::prefetch_outputs(std::span<const Ex> index, const Shape& shape) {
  loop::Arena& a = arena();
  const Ex position = a.linearize(index, shape);
  for (Value output : group_.outputs) {
    if (output.index > 0 || output.node == group_.operand_sum) continue;
    builder_.prefetch(output_buffer(output),
                      is_complex(output.dtype()) ? a.mul(position, a.integer(2)) : position);
  }
}

std::vector<GroupEmitter::Computed> GroupEmitter::compute_outputs(std::span<const Ex> index,
                                                                  const Shape& shape) {
  loop::Arena& a = arena();
  std::vector<Computed> computed;
  for (Value output : group_.outputs) {
    if (output.index > 0 || output.node == group_.operand_sum) continue;
    std::vector<Ex> own(index.begin(), index.end());
    if (!(output.shape() == shape)) own = a.delinearize(a.linearize(index, shape), output.shape());
    Element element = value(output, own);
    element.re = builder_.let(element.re);
    if (element.im != nullptr) element.im = builder_.let(element.im);
    computed.push_back({output, element});
  }
  return computed;
}

void GroupEmitter::store_computed(std::span<const Computed> computed, std::span<const Ex> index,
                                  const Shape& shape, bool streaming) {
  const Ex position = arena().linearize(index, shape);
  for (const Computed& one : computed) {
    store(one.output, position, one.element, nullptr, streaming);
  }
}

void GroupEmitter::store_outputs(std::span<const Ex> index, const Shape& shape, bool streaming) {
  // All values before all stores: an output may share memory with an input that is read here.
  store_computed(compute_outputs(index, shape), index, shape, streaming);
}

}  // namespace weft::compiler
