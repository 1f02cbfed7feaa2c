#include <algorithm>

#include "compiler/schedules/across_threads.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/reduce.h"
#include "compiler/schedules/reduction_space.h"
#include "compiler/schedules/schedule.h"

/// Reductions on a GPU: a thread for each result where neighbouring results are neighbours in
/// memory or there are enough of them, otherwise a block. Few results of many terms are cut into
/// parts, which a second phase adds up in order.
namespace weft::compiler {
namespace {

using loop::Ex;
using ops::Element;

constexpr std::int64_t threads = 256;
constexpr std::int64_t warp = 32;
/// Threads that keep a large GPU busy.
constexpr std::int64_t enough_threads = 1 << 16;
/// Terms that a thread should have at least.
constexpr std::int64_t least_terms = 16;

class ReductionDevice {
 public:
  explicit ReductionDevice(GroupEmitter& emitter)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        r_(analyse_reduction(*emitter.group().anchor)),
        results_(r_.kept_shape.elements()),
        terms_(r_.reduced_shape.elements()) {
    const bool neighbours = !r_.kept.empty() && r_.kept.back() == r_.input.rank() - 1;
    by_thread_ = neighbours || results_ >= enough_threads || terms_ < threads;
    const std::int64_t own = by_thread_ ? results_ : results_ * threads;
    const std::int64_t wanted = divide_up(enough_threads, std::max<std::int64_t>(own, 1));
    const std::int64_t most = terms_ / (least_terms * (by_thread_ ? 1 : threads));
    parts_ = std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(most, 1));
    part_terms_ = divide_up(terms_, parts_);
    if (terms_ > 0) parts_ = divide_up(terms_, part_terms_);
  }

  void run() {
    if (results_ == 0) {
      b_.phase(0, threads, [](Ex, Ex) {});
      return;
    }
    if (parts_ > 1) {
      partial_ = emitter_.workspace(storage_of(r_.type), parts_ * results_ * halves());
    }
    by_thread_ ? sweep_by_thread() : sweep_by_block();
    if (parts_ > 1) add_parts();
  }

 private:
  std::int64_t halves() const { return r_.complex ? 2 : 1; }

  void for_numbers(Ex number, std::int64_t count, const std::function<void(Ex number)>& body) {
    if (number->maximum < count) {
      body(number);
      return;
    }
    b_.condition(a_.less(number, a_.integer(count)),
                 [&] { body(b_.let_within(number, 0, count - 1)); });
  }

  /// Parts of few results share a block.
  void sweep_by_thread() {
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
      for_numbers(a_.add(a_.mul(block, a_.integer(threads)), thread), all.elements(), body);
    });
  }

  void sweep_by_block() {
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

  Element of_part(Ex part, Ex result) {
    return {a_.load(partial_, slot(part, result, 0)),
            r_.complex ? a_.load(partial_, slot(part, result, 1)) : nullptr};
  }

  /// Each warp of a block takes every eighth part of the same 32 results, the first adds up what
  /// they found. Few parts are a thread's.
  void add_parts() {
    constexpr std::int64_t warps = threads / warp;
    if (parts_ <= warps) {
      b_.phase(divide_up(results_, threads), threads, [&](Ex block, Ex thread) {
        const Ex number = a_.add(a_.mul(block, a_.integer(threads)), thread);
        for_numbers(number, results_, [&](Ex result) {
          const Reducer sum = declare(emitter_, *r_.node);
          b_.loop(a_.integer(parts_),
                  [&](Ex part) { accumulate(emitter_, sum, of_part(part, result)); });
          finish(result, read(emitter_, sum));
        });
      });
      return;
    }
    b_.phase(divide_up(results_, warp), threads, [&](Ex block, Ex thread) {
      std::vector<const loop::Buffer*> found;
      for (std::int64_t h = 0; h < halves(); ++h) {
        found.push_back(b_.kernel().shared("found", storage_of(r_.type), threads));
      }
      const Ex lane = b_.let(a_.floor_mod(thread, warp));
      const Ex first = b_.let(a_.floor_div(thread, warp));
      const Ex number = a_.add(a_.mul(block, a_.integer(warp)), lane);
      for_numbers(number, results_, [&](Ex result) {
        const Reducer sum = declare(emitter_, *r_.node);
        const Ex count =
            a_.floor_div(a_.add(a_.sub(a_.integer(parts_), first), a_.integer(warps - 1)), warps);
        b_.loop(count, [&](Ex i) {
          const Ex part = a_.add(a_.mul(i, a_.integer(warps)), first);
          accumulate(emitter_, sum, of_part(b_.let_within(part, 0, parts_ - 1), result));
        });
        const Element own = read(emitter_, sum);
        b_.store(found[0], thread, own.re);
        if (r_.complex) b_.store(found[1], thread, own.im);
      });
      b_.barrier();
      b_.condition(a_.less(thread, a_.integer(warp)), [&] {
        for_numbers(number, results_, [&](Ex result) {
          const Reducer sum = declare(emitter_, *r_.node);
          for (std::int64_t w = 0; w < warps; ++w) {
            const Ex at = a_.add(a_.integer(w * warp), lane);
            accumulate(emitter_, sum,
                       {a_.load(found[0], at), r_.complex ? a_.load(found[1], at) : nullptr});
          }
          finish(result, read(emitter_, sum));
        });
      });
    });
  }

  void finish(Ex result, const Element& value) {
    finish_reduction(emitter_, r_, a_.delinearize(result, r_.kept_shape), value);
  }

  /// Every `stride`-th term of a part from `start` on: how many.
  Ex extent(Ex first, Ex start, std::int64_t stride) {
    const Ex end = a_.binary(loop::Binary::minimum, a_.integer(part_terms_),
                             a_.sub(a_.integer(terms_), first));
    const Ex left = a_.add(a_.sub(end, start), a_.integer(stride - 1));
    return a_.floor_div(left, stride);
  }

  void add_term(const Reducer& sum, Ex result, Ex term) {
    const Ex inside = b_.let_within(term, 0, terms_ - 1);
    emitter_.reset();
    const std::vector<Ex> kept = a_.delinearize(result, r_.kept_shape);
    const std::vector<Ex> reduced = a_.delinearize(inside, r_.reduced_shape);
    accumulate(emitter_, sum, emitter_.value(r_.node->operands[0], input_index(r_, kept, reduced)));
  }

  Ex slot(Ex part, Ex result, std::int64_t half) {
    const Ex row = a_.add(a_.mul(part, a_.integer(halves())), a_.integer(half));
    return a_.add(a_.mul(row, a_.integer(results_)), result);
  }

  void put(Ex part, Ex result, const Element& value) {
    if (parts_ == 1) {
      finish(result, value);
      return;
    }
    b_.store(partial_, slot(part, result, 0), value.re);
    if (r_.complex) b_.store(partial_, slot(part, result, 1), value.im);
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  Reduction r_;
  std::int64_t results_, terms_;
  bool by_thread_ = true;
  std::int64_t parts_ = 1;       ///< of the terms
  std::int64_t part_terms_ = 0;  ///< of each but the last
  const loop::Buffer* partial_ = nullptr;
};

}  // namespace

void schedule_reduction_device(GroupEmitter& emitter) { ReductionDevice(emitter).run(); }

}  // namespace weft::compiler
