#include "compiler/schedules/across_threads.h"
#include "compiler/schedules/device_reduction.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/reduce.h"
#include "compiler/schedules/schedule.h"
#include "compiler/schedules/thread_indices.h"

/// Reductions on a GPU: a thread for each result where neighbouring results are neighbours in
/// memory, otherwise a block, or lanes of a warp where terms are few or results enough for all
/// threads. Few results of many terms are cut into parts, which a second phase adds up in order.
namespace weft::compiler {
namespace {

using loop::Ex;
using ops::Element;

/// Whether results that are neighbours are so in memory.
bool kept_innermost(const ir::Node& node) {
  const Reduction r = analyse_reduction(node);
  return !r.kept.empty() && r.kept.back() == r.input.rank() - 1;
}

constexpr std::int64_t most_width = 4;  ///< terms of a vector

/// Lanes that share a result, each with vectors of neighbouring terms: what a warp loads at a time
/// are whole sectors.
std::int64_t lanes_of_result(const ir::Node& node) {
  if (kept_innermost(node)) return 1;
  const std::int64_t terms = analyse_reduction(node).reduced_shape.elements();
  std::int64_t lanes = 1;
  while (lanes < warp && 2 * lanes * most_width <= terms) lanes *= 2;
  return lanes;
}

class ReductionDevice final : public DeviceReduction {
 public:
  explicit ReductionDevice(GroupEmitter& emitter)
      : DeviceReduction(emitter, kept_innermost(*emitter.group().anchor),
                        storage_of(register_of(emitter.group().anchor->results[0].dtype)),
                        lanes_of_result(*emitter.group().anchor)) {}

 private:
  /// Parts of few results share a block.
  void sweep_by_thread() override {
    if (lanes_ > 1 && parts_ == 1) return sweep_by_lanes();
    const Shape all{parts_, results_};
    b_.phase(divide_up(all.elements(), threads), threads, [&](Ex block, Ex thread) {
      const auto body = [&](Ex number) {
        const std::vector<Ex> at = a_.delinearize(number, all);
        const Ex part = b_.let(at[0]), result = b_.let(at[1]);
        const Reducer sum = declare(emitter_, *r_.node);
        const Ex first = a_.mul(part, a_.integer(part_terms_));
        b_.loop(extent(first, a_.integer(0), 1),
                [&](Ex i) { add_term(sum, result, a_.add(first, i)); });
        put(part, result, read(emitter_, sum));
      };
      if_below(b_, a_.add(a_.mul(block, a_.integer(threads)), thread), all.elements(), body);
    });
  }

  void sweep_by_lanes() {
    std::int64_t width = most_width;
    while (terms_ % width != 0) width /= 2;
    b_.phase(divide_up(results_ * lanes_, threads), threads, [&](Ex block, Ex thread) {
      const Ex number = a_.add(a_.mul(block, a_.integer(threads)), thread);
      const Ex own = b_.let(a_.floor_div(number, lanes_));
      const Ex lane = b_.let(a_.floor_mod(number, lanes_));
      // All lanes of a warp come to the exchange.
      const Ex result = at_most_last(b_, own, results_);
      const Reducer sum = declare(emitter_, *r_.node);
      const std::int64_t vectors = terms_ / width;
      b_.loop(divide_up(vectors, lanes_), loop::Role::serial, 1, [&](Ex step) {
        const Ex vector = b_.let(a_.add(a_.mul(step, a_.integer(lanes_)), lane));
        if_below(b_, vector, vectors, [&](Ex mine) {
          b_.loop(width, loop::Role::vector, static_cast<int>(width),
                  [&](Ex i) { add_term(sum, result, a_.add(a_.mul(mine, a_.integer(width)), i)); });
        });
      });
      const Element found = read(emitter_, sum);
      const auto all = [&](Ex value) {
        return across_lanes(b_, combine_of(*r_.node), value, static_cast<int>(lanes_));
      };
      const Element total{all(found.re), found.im == nullptr ? nullptr : all(found.im)};
      const Ex writes =
          a_.logical_and(a_.equal(lane, a_.integer(0)), a_.less(own, a_.integer(results_)));
      b_.condition(writes, [&] { put(a_.integer(0), result, total); });
    });
  }

  void sweep_by_block() override {
    const Shape grid{parts_, results_};
    b_.phase(grid.elements(), threads, [&](Ex block, Ex thread) {
      const std::vector<Ex> at = a_.delinearize(block, grid);
      const Reducer sum = declare(emitter_, *r_.node);
      const Ex first = a_.mul(at[0], a_.integer(part_terms_));
      b_.loop(extent(first, thread, threads), [&](Ex i) {
        add_term(sum, at[1], a_.add(first, a_.add(a_.mul(i, a_.integer(threads)), thread)));
      });
      const Element own = read(emitter_, sum);
      const auto all = [&](Ex value) {
        return across_threads(b_, combine_of(*r_.node), value, thread, threads / warp);
      };
      const Element total{all(own.re), own.im == nullptr ? nullptr : all(own.im)};
      b_.condition(a_.equal(thread, a_.integer(0)), [&] { put(at[0], at[1], total); });
    });
  }

  /// Each warp of a block takes every eighth part of the same 32 results, the first adds up what
  /// they found. Few parts are a thread's.
  void combine_parts() override {
    constexpr std::int64_t warps = threads / warp;
    if (parts_ <= warps) {
      b_.phase(divide_up(results_, threads), threads, [&](Ex block, Ex thread) {
        const Ex number = a_.add(a_.mul(block, a_.integer(threads)), thread);
        if_below(b_, number, results_, [&](Ex result) {
          const Reducer sum = declare(emitter_, *r_.node);
          b_.loop(a_.integer(parts_),
                  [&](Ex part) { accumulate(emitter_, sum, found(part, result)); });
          finish(result, read(emitter_, sum));
        });
      });
      return;
    }
    b_.phase(divide_up(results_, warp), threads, [&](Ex block, Ex thread) {
      std::vector<const loop::Buffer*> sums;
      for (std::int64_t h = 0; h < halves(); ++h) {
        sums.push_back(b_.kernel().shared("found", storage_of(r_.type), threads));
      }
      const Ex lane = b_.let(a_.floor_mod(thread, warp));
      const Ex first = b_.let(a_.floor_div(thread, warp));
      const Ex number = a_.add(a_.mul(block, a_.integer(warp)), lane);
      if_below(b_, number, results_, [&](Ex result) {
        const Reducer sum = declare(emitter_, *r_.node);
        const Ex count =
            a_.floor_div(a_.add(a_.sub(a_.integer(parts_), first), a_.integer(warps - 1)), warps);
        b_.loop(count, [&](Ex i) {
          const Ex part = a_.add(a_.mul(i, a_.integer(warps)), first);
          accumulate(emitter_, sum, found(b_.let_within(part, 0, parts_ - 1), result));
        });
        const Element own = read(emitter_, sum);
        b_.store(sums[0], thread, own.re);
        if (r_.complex) b_.store(sums[1], thread, own.im);
      });
      b_.barrier();
      b_.condition(a_.less(thread, a_.integer(warp)), [&] {
        if_below(b_, number, results_, [&](Ex result) {
          const Reducer sum = declare(emitter_, *r_.node);
          for (std::int64_t w = 0; w < warps; ++w) {
            const Ex at = a_.add(a_.integer(w * warp), lane);
            accumulate(emitter_, sum,
                       {a_.load(sums[0], at), r_.complex ? a_.load(sums[1], at) : nullptr});
          }
          finish(result, read(emitter_, sum));
        });
      });
    });
  }

  /// Every `stride`-th term of a part from `start` on: how many.
  Ex extent(Ex first, Ex start, std::int64_t stride) {
    const Ex end = a_.binary(loop::Binary::minimum, a_.integer(part_terms_),
                             a_.sub(a_.integer(terms_), first));
    const Ex left = a_.add(a_.sub(end, start), a_.integer(stride - 1));
    return a_.floor_div(left, stride);
  }

  void add_term(const Reducer& sum, Ex result, Ex number) {
    const Ex inside = b_.let_within(number, 0, terms_ - 1);
    accumulate(emitter_, sum, term(result, inside));
  }
};

}  // namespace

void schedule_reduction_device(GroupEmitter& emitter) { ReductionDevice(emitter).run(); }

}  // namespace weft::compiler
