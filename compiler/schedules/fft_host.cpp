#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>

#include "compiler/schedules/butterfly.h"
#include "compiler/schedules/schedule.h"

/// Fourier transforms on a CPU: Stockham's self-sorting passes over a strip of neighbouring lines,
/// one line a vector lane, so that no pass moves data between lanes and nothing is transposed. The
/// first pass reads through the prologue and the last one writes through the epilogue.
namespace weft::compiler {
namespace {

using ir::Node;
using loop::Ex;
using loop::Role;
using loop::Scalar;
using ops::Element;

/// Largest radix whose butterfly is expanded in registers; larger primes run as loops.
constexpr std::int64_t largest_unrolled = 13;

struct Transform {
  const Node* node;
  int axis;
  std::int64_t length;        ///< of the complex transform
  std::int64_t input_extent;  ///< along the axis
  bool inverse;
  bool real_input;
  bool real_output;  ///< irfft
  int lane_axis;     ///< the axis whose neighbours are vector lanes, or -1
};

Transform analyse(const Node& node) {
  Transform t;
  t.node = &node;
  t.axis = static_cast<int>(node.attributes.integer("axis"));
  const Shape& input = node.operand_type(0).shape;
  t.input_extent = input[t.axis];
  t.length =
      node.is("rfft") || node.is("irfft") ? node.attributes.integer("length") : input[t.axis];
  t.inverse = node.is("ifft") || node.is("irfft");
  t.real_input = node.is("rfft");
  t.real_output = node.is("irfft");
  t.lane_axis = -1;
  for (int axis = input.rank() - 1; axis >= 0 && t.lane_axis < 0; --axis) {
    if (axis != t.axis && input[axis] > 1) t.lane_axis = axis;
  }
  return t;
}

class Passes {
 public:
  Passes(GroupEmitter& emitter, const Transform& transform, int lanes)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        t_(transform),
        width_(t_.lane_axis < 0 ? 1
                                : static_cast<int>(std::min<std::int64_t>(
                                      lanes, t_.node->results[0].shape[t_.lane_axis]))),
        radices_(radices(t_.length)) {
    loop::Kernel& kernel = b_.kernel();
    if (radices_.size() > 1 || (!radices_.empty() && radices_[0] > largest_unrolled)) {
      for (int i = 0; i < 2; ++i) {
        re_[i] = kernel.local(i == 0 ? "re0" : "re1", DType::f32, t_.length * width_);
        im_[i] = kernel.local(i == 0 ? "im0" : "im1", DType::f32, t_.length * width_);
      }
      std::vector<double> cosine;
      std::vector<double> sine;
      for (std::int64_t j = 0; j < t_.length; ++j) {
        const double angle =
            2 * std::numbers::pi * static_cast<double>(j) / static_cast<double>(t_.length);
        cosine.push_back(std::cos(angle));
        sine.push_back(t_.inverse ? std::sin(angle) : -std::sin(angle));
      }
      cosine_ = kernel.table("cosine", DType::f32, std::move(cosine));
      sine_ = kernel.table("sine", DType::f32, std::move(sine));
    }
  }

  int width() const { return width_; }

  /// The whole transform of the lines at `rest` (index without the transformed axis).
  void run(const std::vector<Ex>& rest, Ex lane) {
    rest_ = &rest;
    lane_ = lane;
    if (radices_.empty()) {
      write(a_.integer(0), read(a_.integer(0)));
      return;
    }
    std::int64_t n = t_.length;
    std::int64_t stride = 1;
    int source = 0;
    bool first = true;
    for (std::size_t pass = 0; pass < radices_.size(); ++pass) {
      const std::int64_t radix = radices_[pass];
      const bool last = pass + 1 == radices_.size();
      if (radix > largest_unrolled && first) {
        // A pass of loops reads its inputs many times: bring them into scratch first.
        gather(source);
        first = false;
      }
      one_pass(n, stride, radix, first ? -1 : source, last ? -1 : 1 - source);
      n /= radix;
      stride *= radix;
      source = 1 - source;
      first = false;
    }
  }

 private:
  Ex slot(Ex position) { return a_.add(a_.mul(position, a_.integer(width_)), lane_); }

  std::vector<Ex> index_at(Ex position) const {
    std::vector<Ex> index = *rest_;
    index.insert(index.begin() + t_.axis, position);
    return index;
  }

  /// Element `position` of the line that is transformed, zero-padded or extended by symmetry.
  ComplexEx read(Ex position) {
    emitter_.reset();
    const ir::Value operand = t_.node->operands[0];
    const Ex zero = a_.constant(Scalar::f32, 0);
    if (t_.real_output) {
      // X_(n-k) = conj X_k; the imaginary part of bins that are their own mirror is ignored.
      const Ex mirror = a_.sub(a_.integer(t_.length), position);
      const Ex upper = a_.less(a_.integer(t_.length / 2), position);
      const Ex bin = a_.select(upper, mirror, position);
      const Element e = emitter_.value(operand, index_at(bin));
      Ex im = a_.select(upper, a_.neg(e.im), e.im);
      Ex own_mirror = a_.equal(position, a_.integer(0));
      if (t_.length % 2 == 0) {
        own_mirror = a_.logical_or(own_mirror, a_.equal(position, a_.integer(t_.length / 2)));
      }
      im = a_.select(own_mirror, zero, im);
      return {e.re, im};
    }
    if (t_.input_extent == 0) return {zero, zero};
    Ex inside = nullptr;
    if (t_.input_extent < t_.length) inside = a_.less(position, a_.integer(t_.input_extent));
    if (inside != nullptr && inside->kind == loop::ExprKind::constant) {
      if (inside->integer == 0) return {zero, zero};
      inside = nullptr;
    }
    Element e = emitter_.value(operand, index_at(position), inside);
    if (inside != nullptr) {
      e.re = a_.select(inside, e.re, zero);
      if (e.im != nullptr) e.im = a_.select(inside, e.im, zero);
    }
    return {e.re, t_.real_input ? zero : e.im};
  }

  void write(Ex position, ComplexEx value) {
    const Node& node = *t_.node;
    if (t_.inverse) {
      const Ex scale = a_.constant(Scalar::f32, 1.0 / static_cast<double>(t_.length));
      value.re = a_.mul(value.re, scale);
      if (!t_.real_output) value.im = a_.mul(value.im, scale);
    }
    const auto store = [&] {
      emitter_.reset();
      emitter_.bind({const_cast<Node*>(&node), 0}, {value.re, t_.real_output ? nullptr : value.im});
      emitter_.store_outputs(index_at(position), node.results[0].shape);
    };
    if (!t_.real_input) {
      store();
      return;
    }
    // A real line's spectrum is symmetric: its first half is all.
    const Ex kept = a_.less(position, a_.integer(t_.length / 2 + 1));
    if (kept->kind == loop::ExprKind::constant) {
      if (kept->integer != 0) store();
      return;
    }
    value.re = b_.let(value.re);
    value.im = b_.let(value.im);
    b_.condition(kept, store);
  }

  ComplexEx load(int source, Ex position) {
    if (source < 0) return read(position);
    const Ex at = slot(position);
    return {b_.let(a_.load(re_[source], at)), b_.let(a_.load(im_[source], at))};
  }

  void save(int target, Ex position, const ComplexEx& value) {
    if (target < 0) {
      write(position, value);
      return;
    }
    const Ex at = slot(position);
    b_.store(re_[target], at, value.re);
    b_.store(im_[target], at, value.im);
  }

  void gather(int target) {
    b_.loop(t_.length, Role::serial, 1,
            [&](Ex position) { save(target, position, read(position)); });
  }

  ComplexEx twiddle(Ex exponent) { return {a_.load(cosine_, exponent), a_.load(sine_, exponent)}; }

  /// y[q + s (r p + k)] = w_n^(p k) sum_i x[q + s (p + i m)] w_r^(i k) for all p < m = n / r, q <
  /// s.
  void one_pass(std::int64_t n, std::int64_t stride, std::int64_t radix, int source, int target) {
    const std::int64_t m = n / radix;
    b_.loop(m, Role::serial, 1, [&](Ex p) {
      b_.loop(stride, Role::serial, 1, [&](Ex q) {
        const auto from = [&](Ex i) {
          return a_.add(q, a_.mul(a_.add(p, a_.mul(i, a_.integer(m))), a_.integer(stride)));
        };
        const auto to = [&](Ex k) {
          return a_.add(q, a_.mul(a_.add(a_.mul(p, a_.integer(radix)), k), a_.integer(stride)));
        };
        // w_n^(p k) = w_length^(p k s)
        const auto turn = [&](Ex k) { return a_.mul(a_.mul(p, k), a_.integer(stride)); };
        if (radix > largest_unrolled) {
          loop_pass(n, radix, source, target, from, to, turn);
          return;
        }
        std::vector<ComplexEx> x;
        for (std::int64_t i = 0; i < radix; ++i) {
          ComplexEx value = load(source, from(a_.integer(i)));
          x.push_back({b_.let(value.re), b_.let(value.im)});
        }
        std::vector<ComplexEx> y = butterfly(a_, x, t_.inverse);
        for (std::int64_t k = 0; k < radix; ++k) {
          ComplexEx value = y[static_cast<std::size_t>(k)];
          if (k > 0 && m > 1) value = multiply(a_, value, twiddle(turn(a_.integer(k))));
          y[static_cast<std::size_t>(k)] = value;
        }
        for (std::int64_t k = 0; k < radix; ++k) {
          save(target, to(a_.integer(k)), y[static_cast<std::size_t>(k)]);
        }
      });
    });
  }

  /// A large prime radix by the definition, in loops.
  template <typename From, typename To, typename Turn>
  void loop_pass(std::int64_t n, std::int64_t radix, int source, int target, const From& from,
                 const To& to, const Turn& turn) {
    const std::int64_t step = t_.length / radix;
    b_.loop(radix, Role::serial, 1, [&](Ex k) {
      const Ex zero = a_.constant(Scalar::f32, 0);
      loop::Accumulator* re = b_.declare(Scalar::f32, loop::Combine::add, zero);
      loop::Accumulator* im = b_.declare(Scalar::f32, loop::Combine::add, zero);
      b_.loop(radix, Role::serial, 1, [&](Ex i) {
        const ComplexEx x = load(source, from(i));
        const Ex exponent = a_.mul(a_.floor_mod(a_.mul(i, k), radix), a_.integer(step));
        const ComplexEx product = multiply(a_, x, twiddle(exponent));
        b_.accumulate(re, product.re);
        b_.accumulate(im, product.im);
      });
      ComplexEx value{b_.read(re), b_.read(im)};
      if (n > radix) value = multiply(a_, value, twiddle(turn(k)));
      save(target, to(k), value);
    });
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const Transform& t_;
  int width_;
  std::vector<std::int64_t> radices_;
  const loop::Buffer* re_[2] = {nullptr, nullptr};
  const loop::Buffer* im_[2] = {nullptr, nullptr};
  const loop::Buffer* cosine_ = nullptr;
  const loop::Buffer* sine_ = nullptr;
  const std::vector<Ex>* rest_ = nullptr;
  Ex lane_ = nullptr;
};

}  // namespace

void schedule_fft(GroupEmitter& emitter, const HostTarget& target) {
  const Transform t = analyse(*emitter.group().anchor);
  const Shape& output = t.node->results[0].shape;
  loop::Arena& a = emitter.arena();
  loop::Builder& b = emitter.builder();
  if (output.elements() == 0) {
    b.phase(0, [](Ex) {});
    return;
  }
  Passes passes(emitter, t, target.vector_lanes(DType::f32));
  // Lines: every other axis, the one of the lanes in strips.
  Shape outer = output;
  const std::int64_t inner = t.lane_axis < 0 ? 1 : output[t.lane_axis];
  if (t.lane_axis >= 0) outer[t.lane_axis] = 1;
  outer.erase(t.axis);
  const int lane_position = t.lane_axis > t.axis ? t.lane_axis - 1 : t.lane_axis;
  const std::int64_t strip = passes.width();
  const std::int64_t strips = (inner + strip - 1) / strip;
  const std::int64_t units = outer.elements();
  const std::int64_t unit_work = std::max<std::int64_t>(t.length * strip * 4, 1);
  const std::int64_t chunk = std::clamp<std::int64_t>(4 * block_elements / unit_work, 1, units);
  const Shape grid{(units + chunk - 1) / chunk, strips};
  b.phase(grid.elements(), [&](Ex block) {
    const std::vector<Ex> at = a.delinearize(block, grid);
    for_chunk(emitter, at[0], units, chunk, [&](Ex first, std::int64_t extent) {
      b.loop(extent, Role::serial, 1, [&](Ex u) {
        const std::vector<Ex> unit = a.delinearize(a.add(first, u), outer);
        if (t.lane_axis < 0) {
          passes.run(unit, a.integer(0));
          return;
        }
        for_chunk(emitter, at[1], inner, strip, [&](Ex column, std::int64_t columns) {
          b.loop(columns, Role::vector, static_cast<int>(strip), [&](Ex lane) {
            std::vector<Ex> rest = unit;
            rest[static_cast<std::size_t>(lane_position)] = a.add(column, lane);
            passes.run(rest, lane);
          });
        });
      });
    });
  });
}

}  // namespace weft::compiler
