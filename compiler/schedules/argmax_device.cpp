#include "compiler/schedules/across_threads.h"
#include "compiler/schedules/device_reduction.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/reduce.h"
#include "compiler/schedules/schedule.h"
#include "compiler/schedules/thread_indices.h"

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

/// An element that may be the largest, and where it is.
struct Candidate {
  Ex value = nullptr;
  Ex index = nullptr;
};

/// Whether a warp's results are read from neighbours in memory.
bool warps_have_neighbours(const Node& node) {
  const Shape& shape = node.operand_type(0).shape;
  return node.attributes.integer("axis") != shape.rank() - 1 && shape[shape.rank() - 1] >= warp;
}

class ArgmaxDevice final : public DeviceReduction {
 public:
  explicit ArgmaxDevice(GroupEmitter& emitter)
      : DeviceReduction(emitter, warps_have_neighbours(*emitter.group().anchor), DType::i64) {}

 private:
  struct Best {
    loop::Accumulator* value;
    loop::Accumulator* index;
  };

  Ex value_at(Ex result, Ex number) { return b_.let(term(result, number).re); }

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

  void sweep_by_thread() override {
    const Shape grid{parts_, divide_up(results_, threads)};
    b_.phase(grid.elements(), threads, [&](Ex block, Ex thread) {
      const std::vector<Ex> at = a_.delinearize(block, grid);
      if_below(b_, a_.add(a_.mul(at[1], a_.integer(threads)), thread), results_, [&](Ex result) {
        put(at[0], result, {sweep(result, at[0], a_.integer(0), 1).index, nullptr});
      });
    });
  }

  void sweep_by_block() override {
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
        put(at[0], at[1], {all.index, nullptr});
      });
    });
  }

  void combine_parts() override {
    b_.phase(divide_up(results_, threads), threads, [&](Ex block, Ex thread) {
      if_below(b_, a_.add(a_.mul(block, a_.integer(threads)), thread), results_, [&](Ex result) {
        const auto of_part = [&](Ex part) {
          const Ex index = b_.let_within(found(part, result).re, 0, terms_ - 1);
          return Candidate{value_at(result, index), index};
        };
        const Best best = start(of_part(a_.integer(0)));
        b_.loop(a_.integer(parts_ - 1),
                [&](Ex part) { consider(best, of_part(a_.add(part, a_.integer(1)))); });
        finish(result, {b_.read(best.index), nullptr});
      });
    });
  }
};

}  // namespace

void schedule_argmax_device(GroupEmitter& emitter) { ArgmaxDevice(emitter).run(); }

}  // namespace weft::compiler
