#include "compiler/schedules/across_threads.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/reduce.h"
#include "compiler/schedules/schedule.h"
#include "compiler/schedules/thread_indices.h"

/// Running sums on a GPU: a thread for each line where neighbouring lines are neighbours in memory,
/// otherwise a warp, which adds up pieces of neighbours and carries on from one to the next. Few
/// long lines are cut into parts, whose sums a phase ahead finds.
namespace weft::compiler {
namespace {

using ir::Node;
using loop::Ex;
using loop::Scalar;
using ops::Element;

constexpr std::int64_t threads = 256;

/// Steps that a part should have for each of its threads, at least.
constexpr std::int64_t least_steps = 32;

class CumulativeDevice {
 public:
  explicit CumulativeDevice(GroupEmitter& emitter)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        node_(*emitter.group().anchor),
        type_(node_.results[0]),
        axis_(static_cast<int>(node_.attributes.integer("axis"))),
        exclusive_(node_.attributes.flag("exclusive")),
        reverse_(node_.attributes.flag("reverse")),
        scalar_(register_of(type_.dtype)),
        complex_(is_complex(type_.dtype)),
        length_(type_.shape[axis_]),
        others_(type_.shape) {
    others_.erase(axis_);
    lines_ = others_.elements();
    const bool innermost = axis_ == type_.rank() - 1;
    by_warp_ = innermost && length_ >= warp;
    // Neighbours of a thread fill an access of 16 bytes.
    constexpr std::int64_t neighbours = 4;
    if (by_warp_ && length_ % neighbours == 0 && length_ >= 2 * neighbours * warp) {
      own_ = neighbours;
    }
    if (type_.elements() == 0) return;
    const std::int64_t line_threads = by_warp_ ? warp : 1;
    parts_ = parts_to_fill(lines_ * line_threads, length_ / (least_steps * line_threads));
    part_steps_ = divide_up(divide_up(length_, parts_), piece()) * piece();
    parts_ = divide_up(length_, part_steps_);
  }

  void run() {
    if (type_.elements() == 0) {
      b_.phase(0, threads, [](Ex, Ex) {});
      return;
    }
    if (parts_ > 1) {
      sums_ = emitter_.workspace(storage_of(scalar_), parts_ * lines_ * halves());
      // What comes before the last part is enough.
      sweep(parts_ - 1, [&](Ex part, Ex line, Ex lane) {
        const Element sum = pass(part, line, lane, zero(), false);
        const Ex first = by_warp_ ? a_.equal(lane, a_.integer(0)) : nullptr;
        b_.store(sums_, slot(part, line, 0), sum.re, first);
        if (complex_) b_.store(sums_, slot(part, line, 1), sum.im, first);
      });
    }
    sweep(parts_, [&](Ex part, Ex line, Ex lane) {
      pass(part, line, lane, parts_ > 1 ? before(part, line) : zero(), true);
    });
  }

 private:
  std::int64_t halves() const { return complex_ ? 2 : 1; }
  /// Steps that are added up together.
  std::int64_t piece() const { return by_warp_ ? warp * own_ : 1; }
  Element zero() {
    const Ex value = a_.constant(scalar_, 0);
    return {value, complex_ ? value : nullptr};
  }
  Element here(const Element& e) {
    return {b_.let(e.re), e.im == nullptr ? nullptr : b_.let(e.im)};
  }
  Element sum(const Element& x, const Element& y) {
    return {a_.add(x.re, y.re), x.im == nullptr ? nullptr : a_.add(x.im, y.im)};
  }
  Ex slot(Ex part, Ex line, std::int64_t half) {
    const Ex number = a_.add(a_.mul(part, a_.integer(lines_)), line);
    return a_.add(a_.mul(number, a_.integer(halves())), a_.integer(half));
  }

  /// A phase over the first parts of all lines. A warp's threads have the same line.
  void sweep(std::int64_t parts, const std::function<void(Ex part, Ex line, Ex lane)>& body) {
    const std::int64_t line_threads = by_warp_ ? warp : 1;
    const std::int64_t units = parts * lines_;
    const std::int64_t per_block = threads / line_threads;
    b_.phase(divide_up(units, per_block), threads, [&](Ex block, Ex thread) {
      const Ex unit =
          a_.add(a_.mul(block, a_.integer(per_block)), a_.floor_div(thread, line_threads));
      const auto one = [&](Ex own) {
        body(b_.let(a_.floor_div(own, lines_)), b_.let(a_.floor_mod(own, lines_)),
             a_.floor_mod(thread, line_threads));
      };
      if_below(b_, unit, units, one);
    });
  }

  /// The sum of the parts before one.
  Element before(Ex part, Ex line) {
    const Reducer total = declare();
    b_.loop(part, [&](Ex earlier) {
      add_to(total, {a_.load(sums_, slot(earlier, line, 0)),
                     complex_ ? a_.load(sums_, slot(earlier, line, 1)) : nullptr});
    });
    return here(read(total));
  }

  Reducer declare() {
    const Ex value = a_.constant(scalar_, 0);
    return {b_.declare(scalar_, loop::Combine::add, value),
            complex_ ? b_.declare(scalar_, loop::Combine::add, value) : nullptr};
  }
  Element read(const Reducer& total) {
    return {b_.read(total.re), complex_ ? b_.read(total.im) : nullptr};
  }
  void add_to(const Reducer& total, const Element& e) { assign(total, sum(read(total), e)); }
  void assign(const Reducer& total, const Element& e) {
    const Element value = here(e);
    b_.assign(total.re, value.re);
    if (complex_) b_.assign(total.im, value.im);
  }

  std::vector<Ex> index(Ex line, Ex step) {
    std::vector<Ex> at = a_.delinearize(line, others_);
    at.insert(at.begin() + axis_, reverse_ ? a_.sub(a_.integer(length_ - 1), step) : step);
    return at;
  }

  /// Sums from `start` on over the steps of a part, stored where wanted; the whole sum.
  Element pass(Ex part, Ex line, Ex lane, const Element& start, bool stores) {
    const Reducer total = declare();
    assign(total, start);
    const Ex first = a_.mul(part, a_.integer(part_steps_));
    const std::int64_t whole = part_steps_ / piece();
    const Ex left =
        a_.sub(a_.integer(divide_up(length_, piece())), a_.mul(part, a_.integer(whole)));
    const Ex pieces = length_ % part_steps_ == 0
                          ? a_.integer(whole)
                          : a_.binary(loop::Binary::minimum, a_.integer(whole), left);
    b_.loop(pieces, [&](Ex number) {
      const Ex begin = a_.add(first, a_.mul(number, a_.integer(piece())));
      const Ex own = b_.let_within(a_.add(begin, a_.mul(lane, a_.integer(own_))), 0,
                                   divide_up(length_, piece()) * piece() - own_);
      // Neighbours of a thread are in the line together or not at all.
      const Ex inside = own->maximum < length_ ? nullptr : a_.less(own, a_.integer(length_));
      const Ex place = inside == nullptr ? own
                                         : b_.let_within(a_.select(inside, own, a_.integer(0)), 0,
                                                         length_ - own_);
      std::vector<Element> terms;
      Element all = zero();
      for (std::int64_t i = 0; i < own_; ++i) {
        terms.push_back(term(line, a_.add(place, a_.integer(i)), inside));
      }
      for (const Element& e : terms) all = here(sum(all, e));
      Element prefix = here(read(total));
      if (by_warp_) {
        const Element scanned = scan(all, lane);
        const Ex narrow = a_.cast(lane, Scalar::i32);
        const Ex previous =
            a_.binary(loop::Binary::maximum, a_.sub(narrow, a_.integer(Scalar::i32, 1)),
                      a_.integer(Scalar::i32, 0));
        const Ex later = a_.less(a_.integer(0), lane);
        const auto shifted = [&](Ex value) {
          return a_.select(later, value_of_lane(b_, value, previous), a_.constant(scalar_, 0));
        };
        const auto last = [&](Ex value) {
          return value_of_lane(b_, value, a_.integer(Scalar::i32, warp - 1));
        };
        assign(total, sum(prefix, {last(scanned.re), complex_ ? last(scanned.im) : nullptr}));
        prefix = here(sum(prefix, {shifted(scanned.re), complex_ ? shifted(scanned.im) : nullptr}));
      } else {
        assign(total, sum(prefix, all));
      }
      if (!stores) return;
      const auto results = [&] {
        for (std::int64_t i = 0; i < own_; ++i) {
          const Element after = here(sum(prefix, terms[static_cast<std::size_t>(i)]));
          emitter_.reset();
          emitter_.bind({const_cast<Node*>(&node_), 0}, exclusive_ ? prefix : after);
          emitter_.store_outputs(index(line, a_.add(place, a_.integer(i))), type_.shape);
          prefix = after;
        }
      };
      if (inside == nullptr) {
        results();
      } else {
        b_.condition(inside, results);
      }
    });
    return here(read(total));
  }

  Element term(Ex line, Ex step, Ex inside) {
    emitter_.reset();
    Element e = emitter_.value(node_.operands[0], index(line, step), inside);
    if (inside != nullptr) {
      const Ex none = a_.constant(scalar_, 0);
      e.re = a_.select(inside, e.re, none);
      if (complex_) e.im = a_.select(inside, e.im, none);
    }
    return here(e);
  }

  /// The sum of a value over the lanes up to the own one.
  Element scan(Element value, Ex lane) {
    const Ex narrow = a_.cast(lane, Scalar::i32);
    for (std::int64_t distance = 1; distance < warp; distance *= 2) {
      const Ex from =
          a_.binary(loop::Binary::maximum, a_.sub(narrow, a_.integer(Scalar::i32, distance)),
                    a_.integer(Scalar::i32, 0));
      const Ex has = a_.less_equal(a_.integer(distance), lane);
      const auto grown = [&](Ex own) {
        const Ex other = value_of_lane(b_, own, from);
        return b_.let(a_.select(has, a_.add(own, other), own));
      };
      value = {grown(value.re), complex_ ? grown(value.im) : nullptr};
    }
    return value;
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const Node& node_;
  Type type_;
  int axis_;
  bool exclusive_;
  bool reverse_;
  Scalar scalar_;
  bool complex_;
  std::int64_t length_;
  Shape others_;
  std::int64_t lines_ = 0;
  bool by_warp_ = false;
  std::int64_t own_ = 1;  ///< neighbours that a thread has in a piece
  std::int64_t parts_ = 1;
  std::int64_t part_steps_ = 0;
  const loop::Buffer* sums_ = nullptr;
};

}  // namespace

void schedule_cumulative_device(GroupEmitter& emitter) { CumulativeDevice(emitter).run(); }

}  // namespace weft::compiler
