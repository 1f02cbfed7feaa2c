#include <algorithm>

#include "compiler/schedules/across_threads.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/reduce.h"
#include "compiler/schedules/reduction_space.h"
#include "compiler/schedules/schedule.h"

/// The index of the maximum on a GPU: a thread for each result where neighbouring results are
/// neighbours in memory or there are enough of them, otherwise a block. Few results of many
/// elements are cut into parts; a second phase compares what they found.
namespace weft::compiler {
namespace {

using ir::Node;
using loop::Binary;
using loop::Combine;
using loop::Ex;
using loop::Scalar;

constexpr std::int64_t threads = 256;
constexpr std::int64_t warp = 32;
constexpr std::int64_t enough_threads = 1 << 16;
constexpr std::int64_t least_terms = 16;

/// An element that may be the largest, and where it is.
struct Candidate {
  Ex value = nullptr;
  Ex index = nullptr;
};

class ArgmaxDevice {
 public:
  explicit ArgmaxDevice(GroupEmitter& emitter)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        node_(*emitter.group().anchor) {
    r_.node = &node_;
    r_.input = node_.operand_type(0).shape;
    const auto axis = static_cast<int>(node_.attributes.integer("axis"));
    for (int i = 0; i < r_.input.rank(); ++i) {
      if (i == axis) continue;
      r_.kept.push_back(i);
      r_.kept_shape.push_back(r_.input[i]);
    }
    r_.reduced = {axis};
    r_.reduced_shape = Shape{r_.input[axis]};
    r_.type = register_of(node_.operand_type(0).dtype);
    r_.complex = false;
    results_ = r_.kept_shape.elements();
    terms_ = r_.input[axis];
    const bool neighbours = axis != r_.input.rank() - 1 && r_.input[r_.input.rank() - 1] >= warp;
    by_thread_ = neighbours || results_ >= enough_threads || terms_ < threads;
    const std::int64_t own = by_thread_ ? results_ : results_ * threads;
    const std::int64_t wanted = divide_up(enough_threads, std::max<std::int64_t>(own, 1));
    const std::int64_t most = terms_ / (least_terms * (by_thread_ ? 1 : threads));
    parts_ = std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(most, 1));
    part_terms_ = divide_up(terms_, parts_);
    parts_ = divide_up(terms_, part_terms_);
  }

  void run() {
    if (results_ == 0) {
      b_.phase(0, threads, [](Ex, Ex) {});
      return;
    }
    if (parts_ > 1) found_ = emitter_.workspace(DType::i64, parts_ * results_);
    by_thread_ ? sweep_by_thread() : sweep_by_block();
    if (parts_ > 1) compare_parts();
  }

 private:
  struct Best {
    loop::Accumulator* value;
    loop::Accumulator* index;
  };

  Ex value_at(Ex result, Ex term) {
    emitter_.reset();
    const std::vector<Ex> kept = a_.delinearize(result, r_.kept_shape);
    const Ex value = emitter_.value(node_.operands[0], input_index(r_, kept, {&term, 1})).re;
    return b_.let(value);
  }

  Best start(const Candidate& first) {
    return {b_.declare(r_.type, Combine::maximum, first.value),
            b_.declare(Scalar::i64, Combine::maximum, first.index)};
  }

  /// Elements come in ascending order of their indices, so of equals the first stays.
  void consider(const Best& best, const Candidate& next) {
    const Ex old = b_.read(best.value);
    const Ex better = b_.let(larger(a_, next.value, old));
    b_.assign(best.value, a_.select(better, next.value, old));
    b_.assign(best.index, a_.select(better, next.index, b_.read(best.index)));
  }

  /// The candidate of two that is the maximum, in whichever order they are.
  Candidate of_two(const Candidate& x, const Candidate& y) {
    const Ex first = a_.less(x.index, y.index);
    const Ex tie = a_.logical_not(larger(a_, y.value, x.value));
    const Ex take_x = b_.let(
        a_.binary(Binary::bitwise_or, larger(a_, x.value, y.value), a_.logical_and(tie, first)));
    return {b_.let(a_.select(take_x, x.value, y.value)),
            b_.let(a_.select(take_x, x.index, y.index))};
  }

  /// Every `stride`-th element of a part, beginning with its `offset`-th; a thread that has none
  /// has the part's first.
  Candidate sweep(Ex result, Ex part, Ex offset, std::int64_t stride) {
    const Ex first = b_.let(a_.mul(part, a_.integer(part_terms_)));
    const Ex end = b_.let(
        a_.binary(Binary::minimum, a_.add(first, a_.integer(part_terms_)), a_.integer(terms_)));
    const Ex begin = a_.add(first, offset);
    const Ex inside = b_.let_within(a_.select(a_.less(begin, end), begin, first), 0, terms_ - 1);
    const Best best = start({value_at(result, inside), inside});
    const Ex left = a_.sub(a_.sub(end, begin), a_.integer(1));
    b_.loop(a_.floor_div(left, stride), [&](Ex i) {
      const Ex steps = a_.mul(a_.add(i, a_.integer(1)), a_.integer(stride));
      const Ex term = b_.let_within(a_.add(begin, steps), 0, terms_ - 1);
      consider(best, {value_at(result, term), term});
    });
    return {b_.read(best.value), b_.read(best.index)};
  }

  void for_results(Ex number, const std::function<void(Ex result)>& body) {
    if (number->maximum < results_) {
      body(number);
      return;
    }
    b_.condition(a_.less(number, a_.integer(results_)),
                 [&] { body(b_.let_within(number, 0, results_ - 1)); });
  }

  void sweep_by_thread() {
    const Shape grid{parts_, divide_up(results_, threads)};
    b_.phase(grid.elements(), threads, [&](Ex block, Ex thread) {
      const std::vector<Ex> at = a_.delinearize(block, grid);
      for_results(a_.add(a_.mul(at[1], a_.integer(threads)), thread), [&](Ex result) {
        put(at[0], result, sweep(result, at[0], a_.integer(0), 1).index);
      });
    });
  }

  void sweep_by_block() {
    const Shape grid{parts_, results_};
    b_.phase(grid.elements(), threads, [&](Ex block, Ex thread) {
      const std::vector<Ex> at = a_.delinearize(block, grid);
      Candidate best = sweep(at[1], at[0], thread, threads);
      for (int distance = warp / 2; distance > 0; distance /= 2) {
        best = of_two(best, {exchange_lanes(b_, best.value, distance),
                             exchange_lanes(b_, best.index, distance)});
      }
      constexpr std::int64_t warps = threads / warp;
      const loop::Buffer* values = b_.kernel().shared("values", storage_of(r_.type), warps);
      const loop::Buffer* indices = b_.kernel().shared("indices", DType::i64, warps);
      const Ex own = a_.floor_div(thread, warp);
      b_.condition(a_.equal(a_.floor_mod(thread, warp), a_.integer(0)), [&] {
        b_.store(values, own, best.value);
        b_.store(indices, own, best.index);
      });
      b_.barrier();
      b_.condition(a_.equal(thread, a_.integer(0)), [&] {
        const auto of_warp = [&](std::int64_t i) {
          return Candidate{b_.let(a_.load(values, a_.integer(i))),
                           b_.let(a_.load(indices, a_.integer(i)))};
        };
        Candidate all = of_warp(0);
        for (std::int64_t i = 1; i < warps; ++i) all = of_two(all, of_warp(i));
        put(at[0], at[1], all.index);
      });
    });
  }

  void compare_parts() {
    b_.phase(divide_up(results_, threads), threads, [&](Ex block, Ex thread) {
      for_results(a_.add(a_.mul(block, a_.integer(threads)), thread), [&](Ex result) {
        const auto of_part = [&](Ex part) {
          const Ex slot = a_.add(a_.mul(part, a_.integer(results_)), result);
          const Ex index = b_.let_within(a_.load(found_, slot), 0, terms_ - 1);
          return Candidate{value_at(result, index), index};
        };
        const Best best = start(of_part(a_.integer(0)));
        b_.loop(a_.integer(parts_ - 1),
                [&](Ex part) { consider(best, of_part(a_.add(part, a_.integer(1)))); });
        finish(result, b_.read(best.index));
      });
    });
  }

  void put(Ex part, Ex result, Ex index) {
    if (parts_ == 1) {
      finish(result, index);
    } else {
      b_.store(found_, a_.add(a_.mul(part, a_.integer(results_)), result), index);
    }
  }

  void finish(Ex result, Ex index) {
    finish_reduction(emitter_, r_, a_.delinearize(result, r_.kept_shape), {index, nullptr});
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const Node& node_;
  Reduction r_;
  std::int64_t results_ = 0, terms_ = 0;
  bool by_thread_ = true;
  std::int64_t parts_ = 1;       ///< of the terms
  std::int64_t part_terms_ = 0;  ///< of each but the last
  const loop::Buffer* found_ = nullptr;
};

}  // namespace

void schedule_argmax_device(GroupEmitter& emitter) { ArgmaxDevice(emitter).run(); }

}  // namespace weft::compiler
