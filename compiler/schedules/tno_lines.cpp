#include "compiler/schedules/tno_lines.h"

#include <algorithm>

namespace weft::compiler {

using ir::Node;
using ir::Value;
using loop::Ex;
using loop::Scalar;

TnoExtents::TnoExtents(const Node& node) : causal(node.attributes.flag("causal")) {
  const Shape& x = node.operand_type(0).shape;
  const Shape& t = node.is("tno_gradient_t") ? node.results[0].shape : node.operand_type(1).shape;
  for (int axis = 0; axis < x.rank() - 2; ++axis) x_leading.push_back(x[axis]);
  for (int axis = 0; axis < t.rank() - 2; ++axis) t_leading.push_back(t[axis]);
  groups = t_leading.elements();
  for (int axis = 0; axis < x.rank() - t.rank(); ++axis) batch *= x[axis];
  n = x[x.rank() - 2];
  d = x[x.rank() - 1];
}

TnoLines::TnoLines(GroupEmitter& emitter, std::int64_t length, bool streaming)
    : emitter_(emitter),
      a_(emitter.arena()),
      b_(emitter.builder()),
      node_(*emitter.group().anchor),
      e_(node_),
      length_(length),
      streaming_(streaming) {}

std::vector<Ex> TnoLines::index(const Shape& leading, Ex row, Ex position, Ex channel) {
  std::vector<Ex> index = a_.delinearize(row, leading);
  index.push_back(position);
  index.push_back(channel);
  return index;
}

/// An element of an operand, through the prologue.
Ex TnoLines::element(std::size_t operand, const std::vector<Ex>& index, Ex predicate) {
  emitter_.reset();
  const Ex value = emitter_.value(node_.operands[operand], index, predicate).re;
  return predicate == nullptr ? value : a_.select(predicate, value, a_.constant(Scalar::f32, 0));
}

Ex TnoLines::from_end(Ex position, bool reverse) {
  return reverse ? a_.sub(a_.integer(e_.n - 1), position) : position;
}

TnoLines::Signal TnoLines::read_sequence(std::size_t operand, Sequence from) {
  Signal signal;
  signal.extent = e_.n;
  signal.real = true;
  signal.read = [=, this](Ex position, Ex predicate) {
    const Ex at = from_end(position, from.reverse);
    const std::vector<Ex> place = index(e_.x_leading, from.row, at, from.channel);
    return ComplexEx{element(operand, place, predicate), nullptr};
  };
  signal.ahead_of_read = [=, this](Ex position) {
    const Ex at = from_end(position, from.reverse);
    emitter_.prefetch(node_.operands[operand], index(e_.x_leading, from.row, at, from.channel));
  };
  return signal;
}

void TnoLines::write_elements(const std::vector<Element>& elements) {
  const Shape& shape = node_.results[0].shape;
  const auto place = [&](const Element& element) {
    return index(e_.x_leading, element.to.row, from_end(element.i, element.to.reverse),
                 element.to.channel);
  };
  std::vector<std::vector<GroupEmitter::Computed>> computed;
  for (const Element& element : elements) {
    emitter_.reset();
    emitter_.bind({const_cast<Node*>(&node_), 0}, {element.value, nullptr});
    computed.push_back(emitter_.compute_outputs(place(element), shape));
  }
  for (std::size_t i = 0; i < elements.size(); ++i) {
    emitter_.store_computed(computed[i], place(elements[i]), shape, streaming_);
  }
}

void TnoLines::write_element(Sequence to, Ex i, Ex value) { write_elements({{to, i, value}}); }

Ex TnoLines::coefficient(Ex group, Ex number, Ex channel, Ex inside) {
  return element(1, index(e_.t_leading, group, number, channel), inside);
}

void TnoLines::write_sequence(Signal& signal, Sequence to) {
  const auto write = [=, this](Ex position, Ex value) { write_element(to, position, value); };
  if (e_.causal) {
    signal.wanted = e_.n;
    signal.real_part = true;
    signal.ahead_of_write = [=, this](Ex position) {
      const auto place = index(e_.x_leading, to.row, from_end(position, to.reverse), to.channel);
      emitter_.prefetch_epilogue(place, node_.results[0].shape);
      if (!streaming_) emitter_.prefetch_outputs(place, node_.results[0].shape);
    };
    signal.write = [=](Ex position, const ComplexEx& value) { write(position, value.re); };
    return;
  }
  // Elements n - 1 .. 2n - 2 of the convolution.
  signal.wanted = length_;
  signal.write = [=, this](Ex position, const ComplexEx& value) {
    const std::int64_t first = e_.n - 1;
    b_.condition(a_.logical_and(a_.less_equal(a_.integer(first), position),
                                a_.less(position, a_.integer(2 * e_.n - 1))),
                 [&] { write(a_.sub(position, a_.integer(first)), value.re); });
    b_.condition(a_.less(position, a_.integer(2 * e_.n - 1 - length_)),
                 [&] { write(a_.add(position, a_.integer(length_ - first)), value.im); });
  };
}

TnoLines::Signal TnoLines::read_coefficients(Ex group, Ex channel) {
  Signal signal;
  signal.extent = std::min(length_, e_.lags());
  signal.real = e_.lags() <= length_;
  signal.read = [=, this](Ex position, Ex predicate) {
    const auto value = [&](Ex lag, Ex inside) { return coefficient(group, lag, channel, inside); };
    ComplexEx result{value(position, predicate), nullptr};
    if (has_second_half()) {
      result.re = b_.let(result.re);
      const Ex lag = a_.add(position, a_.integer(length_));
      result.im = value(lag, a_.less(lag, a_.integer(e_.lags())));
    }
    return result;
  };
  return signal;
}

void TnoLines::write_coefficients(Signal& signal, Ex group, Ex channel) {
  // Element k of the convolution is the gradient of the lag n - 1 - k.
  const std::int64_t last = e_.lags() - 1;
  signal.wanted = std::min(length_, e_.lags());
  signal.real_part = !has_second_half();
  signal.write = [=, this](Ex position, const ComplexEx& value) {
    write_lag(group, a_.sub(a_.integer(last), position), channel, value.re);
    if (!has_second_half()) return;
    const Ex element = a_.add(position, a_.integer(length_));
    b_.condition(a_.less(element, a_.integer(e_.lags())),
                 [&] { write_lag(group, a_.sub(a_.integer(last), element), channel, value.im); });
  };
}

void TnoLines::write_lag(Ex group, Ex lag, Ex channel, Ex value) {
  const std::vector<Ex> place = index(e_.t_leading, group, lag, channel);
  if (node_.results.size() == 1) {
    emitter_.reset();
    emitter_.bind({const_cast<Node*>(&node_), 0}, {value, nullptr});
    emitter_.store_outputs(place, node_.results[0].shape);
    return;
  }
  const Value result{const_cast<Node*>(&node_), 1};
  if (!emitter_.is_output(result)) return;
  emitter_.store(result, a_.linearize(place, result.shape()), {value, nullptr});
}

}  // namespace weft::compiler
