#include <algorithm>
#include <stdexcept>

#include "compiler/schedules/fft_kernel.h"
#include "compiler/schedules/schedule.h"

/// Fourier transforms on a CPU: what is read and written, and lines whose axis is not the
/// innermost: neighbouring lines are in the lanes of vectors, and nothing is transposed.
namespace weft::compiler {

using ir::Node;
using loop::Ex;
using loop::Role;
using loop::Scalar;
using ops::Element;

FftKernel::FftKernel(GroupEmitter& emitter)
    : emitter_(emitter),
      node_(*emitter.group().anchor),
      streaming_(exceeds_caches(emitter.group())) {
  const auto axis = static_cast<int>(node_.attributes.integer("axis"));
  const Shape& operand = node_.operand_type(0).shape;
  if (node_.is("rfft")) kind_ = FftKind::from_real;
  if (node_.is("irfft")) kind_ = FftKind::to_real;
  inverse_ = node_.is("ifft") || node_.is("irfft");
  length_ = kind_ == FftKind::complex ? operand[axis] : node_.attributes.integer("length");
  results_ = node_.results[0].shape[axis];
  points_ = kind_ == FftKind::from_real ? std::min(operand[axis], length_) : operand[axis];
  for (int i = 0; i < operand.rank(); ++i) {
    if (i < axis) outer_.push_back(operand[i]);
    if (i > axis) inner_.push_back(operand[i]);
  }
}

bool FftKernel::plain() const {
  const std::vector<ir::Value>& outputs = emitter_.group().outputs;
  return outputs.size() == 1 && outputs[0].node == &node_;
}

const loop::Buffer* FftKernel::result_buffer() const {
  return emitter_.output_buffer({const_cast<Node*>(&node_), 0});
}

std::vector<Ex> FftKernel::index(Ex outer, Ex position, Ex inner) {
  std::vector<Ex> at = arena().delinearize(outer, outer_);
  at.push_back(position);
  const std::vector<Ex> rest = arena().delinearize(inner, inner_);
  at.insert(at.end(), rest.begin(), rest.end());
  return at;
}

ComplexEx FftKernel::read(Ex outer, Ex position, Ex inner) {
  loop::Arena& a = arena();
  if (points_ == 0) return {};
  emitter_.reset();
  Ex inside = nullptr;
  if (kind_ == FftKind::from_real && points_ < length_) {
    inside = a.less(position, a.integer(points_));
    if (inside->kind == loop::ExprKind::constant) {
      if (inside->integer == 0) return {};
      inside = nullptr;
    }
  }
  const Element e = emitter_.value(node_.operands[0], index(outer, position, inner), inside);
  if (inside == nullptr) return {e.re, e.im};
  const Ex zero = a.constant(Scalar::f32, 0);
  return {a.select(inside, e.re, zero), e.im == nullptr ? nullptr : a.select(inside, e.im, zero)};
}

void FftKernel::prefetch(Ex outer, Ex position, Ex inner) {
  // Complex rows are twice as far apart: too few of them stay in a cache's sets until they are
  // read.
  if (!streaming_ || kind_ != FftKind::from_real) return;
  const Ex next = arena().add(position, arena().integer(2));
  emitter_.prefetch(node_.operands[0], index(outer, next, inner));
}

void FftKernel::write(Ex outer, Ex position, Ex inner, const ComplexEx& value) {
  const Ex zero = arena().constant(Scalar::f32, 0);
  Element element;
  element.re = value.re == nullptr ? zero : value.re;
  if (complex_result()) element.im = value.im == nullptr ? zero : value.im;
  emitter_.reset();
  emitter_.bind({const_cast<Node*>(&node_), 0}, element);
  emitter_.store_outputs(index(outer, position, inner), node_.results[0].shape, streaming_);
}

namespace {

/// Work of a block: a strip of some lines costs about as many units as it has points.
std::int64_t strips_per_block(const FftKernel& kernel, std::int64_t strip, std::int64_t count) {
  const std::int64_t work = std::max<std::int64_t>(kernel.length() * strip * 4, 1);
  return std::clamp<std::int64_t>(4 * block_elements / work, 1, count);
}

void schedule_outer_fft(FftKernel& kernel, const HostTarget& target) {
  loop::Arena& a = kernel.arena();
  loop::Builder& b = kernel.builder();
  const std::int64_t inner = kernel.inner();
  // Two lines of a lane are the halves of a strip, or the same columns of two rows.
  const bool wanted = LineTransform::wants_two_lines(kernel.kind(), kernel.length());
  const bool halves = wanted && inner % 2 == 0;
  const bool rows = wanted && !halves && kernel.outer() % 2 == 0;
  const std::int64_t parts = halves ? 2 : 1;
  const std::int64_t lanes = std::min<std::int64_t>(target.vector_lanes(DType::f32), inner / parts);
  const std::int64_t strip = parts * lanes;
  const std::int64_t strips = (inner + strip - 1) / strip;
  const std::int64_t units = rows ? kernel.outer() / 2 : kernel.outer();
  FftPlanner planner;
  LineTransform transform(b, planner, kernel.kind(), kernel.length(), kernel.inverse(), lanes,
                          halves || rows);
  const std::int64_t chunk = strips_per_block(kernel, strip, units);
  const Shape grid{(units + chunk - 1) / chunk, strips};
  b.phase(grid.elements(), [&](Ex block) {
    const std::vector<Ex> at = a.delinearize(block, grid);
    const Ex first = a.mul(at[0], a.integer(chunk));
    const Ex left = a.sub(a.integer(units), first);
    b.loop(a.binary(loop::Binary::minimum, left, a.integer(chunk)), [&](Ex u) {
      const Ex unit = b.let_within(a.add(first, u), 0, units - 1);
      const auto row = [&](int part) {
        return rows ? a.add(a.mul(unit, a.integer(2)), a.integer(part)) : unit;
      };
      for_chunk(kernel.emitter(), at[1], inner, strip, [&](Ex column, std::int64_t columns) {
        const std::int64_t extent = columns / parts;
        b.loop(extent, Role::vector, static_cast<int>(lanes), [&](Ex lane) {
          const auto place = [&](int part) {
            return a.add(column, halves ? a.add(lane, a.integer(part * extent)) : lane);
          };
          transform.run(
              lane,
              [&](Ex position, int part) {
                kernel.prefetch(row(part), position, place(part));
                return kernel.read(row(part), position, place(part));
              },
              [&](Ex position, int part, const ComplexEx& value) {
                kernel.write(row(part), position, place(part), value);
              });
        });
      });
    });
  });
}

}  // namespace

void schedule_fft(GroupEmitter& emitter, const HostTarget& target) {
  FftKernel kernel(emitter);
  if (kernel.outer() * kernel.results() * kernel.inner() == 0) {
    emitter.builder().phase(0, [](Ex) {});
    return;
  }
  if (kernel.inner() == 1) {
    schedule_innermost_fft(kernel, target);
  } else {
    schedule_outer_fft(kernel, target);
  }
}

}  // namespace weft::compiler
