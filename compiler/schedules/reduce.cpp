#include "compiler/schedules/reduce.h"

#include <limits>

namespace weft::compiler {

using loop::Combine;
using loop::Ex;
using loop::Scalar;
using ops::Element;

Combine combine_of(const ir::Node& node) {
  return node.is("max") ? Combine::maximum : node.is("min") ? Combine::minimum : Combine::add;
}

Ex identity_of(loop::Arena& a, Combine combine, Scalar type) {
  if (combine == Combine::add) return a.constant(type, 0);
  const bool maximum = combine == Combine::maximum;
  if (loop::is_float(type)) {
    const double infinity = std::numeric_limits<double>::infinity();
    return a.constant(type, maximum ? -infinity : infinity);
  }
  switch (type) {
    case Scalar::boolean:
      return a.boolean(!maximum);
    case Scalar::u8:
      return a.integer(type, maximum ? 0 : 255);
    case Scalar::i32:
      return a.integer(type, maximum ? std::numeric_limits<std::int32_t>::min()
                                     : std::numeric_limits<std::int32_t>::max());
    default:
      return a.integer(type, maximum ? std::numeric_limits<std::int64_t>::min()
                                     : std::numeric_limits<std::int64_t>::max());
  }
}

Reducer declare(GroupEmitter& emitter, const ir::Node& node) {
  const Combine combine = combine_of(node);
  const Scalar type = register_of(node.results[0].dtype);
  const Ex start = identity_of(emitter.arena(), combine, type);
  loop::Builder& b = emitter.builder();
  return {b.declare(type, combine, start),
          is_complex(node.results[0].dtype) ? b.declare(type, combine, start) : nullptr};
}

void accumulate(GroupEmitter& emitter, const Reducer& reducer, const Element& element) {
  emitter.builder().accumulate(reducer.re, element.re);
  if (reducer.im != nullptr) emitter.builder().accumulate(reducer.im, element.im);
}

Element read(GroupEmitter& emitter, const Reducer& reducer) {
  loop::Builder& b = emitter.builder();
  return {b.read(reducer.re), reducer.im != nullptr ? b.read(reducer.im) : nullptr};
}

DType storage_of(Scalar scalar) {
  switch (scalar) {
    case Scalar::f64:
      return DType::f64;
    case Scalar::i64:
      return DType::i64;
    case Scalar::i32:
      return DType::i32;
    case Scalar::u8:
      return DType::u8;
    case Scalar::boolean:
      return DType::boolean;
    default:
      return DType::f32;
  }
}

}  // namespace weft::compiler
