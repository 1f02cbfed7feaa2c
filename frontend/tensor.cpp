#include "weft/tensor.h"

#include "trace.h"
#include "weft/ops.h"

namespace weft {

namespace {

detail::Cell& checked(const std::shared_ptr<detail::Cell>& cell, std::string_view what,
                      const Source& at) {
  if (cell == nullptr) detail::fail(at, "{}: an undefined tensor", what);
  return *cell;
}

}  // namespace

const Type& Tensor::type(Source at) const { return checked(cell_, "type", at).type; }
const Shape& Tensor::shape(Source at) const { return checked(cell_, "shape", at).type.shape; }
DType Tensor::dtype(Source at) const { return checked(cell_, "dtype", at).type.dtype; }
int Tensor::rank(Source at) const { return checked(cell_, "rank", at).type.rank(); }
std::int64_t Tensor::elements(Source at) const {
  return checked(cell_, "elements", at).type.elements();
}

std::int64_t Tensor::extent(int axis, Source at) const {
  const Type& own = checked(cell_, "extent", at).type;
  if (axis < -own.rank() || axis >= own.rank()) {
    detail::fail(at, "extent: there is no axis {} in {}", axis, own.text());
  }
  return own.shape[axis < 0 ? axis + own.rank() : axis];
}

const std::string& Tensor::name(Source at) const { return checked(cell_, "name", at).name; }

Tensor& Tensor::set_name(const std::string& name, Source at) {
  detail::Cell& cell = checked(cell_, "set_name", at);
  if (cell.kind != detail::CellKind::value) {
    detail::fail(at, "set_name: '{}' keeps its name", cell.name);
  }
  detail::Recorder record("set_name", at);
  ir::Node& node = *record(*this).node;
  cell.name = name;
  if (!node.is("argument")) node.name = name;
  return *this;
}

bool Tensor::is_parameter() const {
  return cell_ != nullptr && cell_->kind == detail::CellKind::parameter;
}
bool Tensor::is_state() const {
  return is_parameter() || (cell_ != nullptr && cell_->kind == detail::CellKind::state);
}

Tensor Tensor::grad(Source at) const {
  detail::Recorder record("grad", at);
  record.require(is_parameter(), "only parameters have one");
  record.trace().check(*cell_, "grad");
  record.require(has_grad(), "'{}' has none: backward() must come first", cell_->name);
  return detail::Access::handle(cell_->gradient);
}

bool Tensor::has_grad() const {
  const detail::Trace* trace = detail::running();
  return is_parameter() && trace != nullptr && trace->serial == cell_->trace &&
         trace->has_value(*cell_->gradient);
}

void Tensor::set_grad(const Tensor& gradient, Source at) {
  detail::Recorder record("set_grad", at);
  record.require(is_parameter(), "only parameters have gradients");
  record.trace().check(*cell_, "set_grad");
  detail::Trace& trace = record.trace();
  trace.write(cell_->gradient, record(gradient), trace.depth(), "set_grad");
}

Tensor& Tensor::operator+=(const Operand& y) {
  assign(*this, add({*this, y.at()}, y), y.at());
  return *this;
}
Tensor& Tensor::operator-=(const Operand& y) {
  assign(*this, sub({*this, y.at()}, y), y.at());
  return *this;
}
Tensor& Tensor::operator*=(const Operand& y) {
  assign(*this, mul({*this, y.at()}, y), y.at());
  return *this;
}
Tensor& Tensor::operator/=(const Operand& y) {
  assign(*this, div({*this, y.at()}, y), y.at());
  return *this;
}

Tensor Tensor::operator[](Index index) const { return select(*this, 0, index.value, index.at); }

Tensor operator+(const Operand& x, const Operand& y) { return add(x, y); }
Tensor operator-(const Operand& x, const Operand& y) { return sub(x, y); }
Tensor operator*(const Operand& x, const Operand& y) { return mul(x, y); }
Tensor operator/(const Operand& x, const Operand& y) { return div(x, y); }
Tensor operator<(const Operand& x, const Operand& y) { return less(x, y); }
Tensor operator<=(const Operand& x, const Operand& y) { return less_equal(x, y); }
Tensor operator>(const Operand& x, const Operand& y) { return greater(x, y); }
Tensor operator>=(const Operand& x, const Operand& y) { return greater_equal(x, y); }

namespace {

/// The operand of a unary operator is a tensor: built-in operators take care of literals.
const Tensor& tensor_of(const Operand& x, std::string_view what) {
  if (x.tensor() == nullptr) detail::fail(x.at(), "{}: needs a tensor", what);
  return *x.tensor();
}

bool is_boolean(const Operand& x) {
  return x.tensor() != nullptr && x.tensor()->defined() && x.tensor()->dtype() == DType::boolean;
}

}  // namespace

Tensor operator-(const Operand& x) { return neg(tensor_of(x, "neg"), x.at()); }
Tensor operator!(const Operand& x) { return logical_not(tensor_of(x, "logical_not"), x.at()); }
Tensor operator~(const Operand& x) { return bitwise_not(tensor_of(x, "bitwise_not"), x.at()); }

Tensor operator&(const Operand& x, const Operand& y) {
  return is_boolean(x) || is_boolean(y) ? logical_and(x, y) : bitwise_and(x, y);
}
Tensor operator|(const Operand& x, const Operand& y) {
  return is_boolean(x) || is_boolean(y) ? logical_or(x, y) : bitwise_or(x, y);
}
Tensor operator^(const Operand& x, const Operand& y) {
  return is_boolean(x) || is_boolean(y) ? logical_xor(x, y) : bitwise_xor(x, y);
}

}  // namespace weft
