#include "compiler/schedules/device_reduction.h"

#include "compiler/schedules/divide.h"
#include "compiler/schedules/thread_indices.h"

namespace weft::compiler {

using loop::Ex;
using ops::Element;

namespace {

/// Terms that a thread should have at least.
constexpr std::int64_t least_terms = 16;

}  // namespace

DeviceReduction::DeviceReduction(GroupEmitter& emitter, bool neighbours, DType storage,
                                 std::int64_t lanes)
    : emitter_(emitter),
      a_(emitter.arena()),
      b_(emitter.builder()),
      r_(analyse_reduction(*emitter.group().anchor)),
      results_(r_.kept_shape.elements()),
      terms_(r_.reduced_shape.elements()),
      lanes_(lanes),
      storage_(storage),
      by_thread_(neighbours || results_ >= enough_threads || terms_ < threads) {
  const std::int64_t of_result = by_thread_ ? lanes_ : threads;
  parts_ = parts_to_fill(results_ * of_result, terms_ / (least_terms * of_result));
  part_terms_ = divide_up(terms_, parts_);
  if (terms_ > 0) parts_ = divide_up(terms_, part_terms_);
}

void DeviceReduction::run() {
  if (results_ == 0) {
    b_.phase(0, threads, [](Ex, Ex) {});
    return;
  }
  if (parts_ > 1) found_ = emitter_.workspace(storage_, parts_ * results_ * halves());
  by_thread_ ? sweep_by_thread() : sweep_by_block();
  if (parts_ > 1) combine_parts();
}

Ex DeviceReduction::slot(Ex part, Ex result, std::int64_t half) {
  const Ex row = a_.add(a_.mul(part, a_.integer(halves())), a_.integer(half));
  return a_.add(a_.mul(row, a_.integer(results_)), result);
}

void DeviceReduction::put(Ex part, Ex result, const Element& value) {
  if (parts_ == 1) {
    finish(result, value);
    return;
  }
  b_.store(found_, slot(part, result, 0), value.re);
  if (r_.complex) b_.store(found_, slot(part, result, 1), value.im);
}

Element DeviceReduction::found(Ex part, Ex result) {
  return {a_.load(found_, slot(part, result, 0)),
          r_.complex ? a_.load(found_, slot(part, result, 1)) : nullptr};
}

void DeviceReduction::finish(Ex result, const Element& value) {
  finish_reduction(emitter_, r_, a_.delinearize(result, r_.kept_shape), value);
}

Element DeviceReduction::term(Ex result, Ex number) {
  emitter_.reset();
  const std::vector<Ex> kept = a_.delinearize(result, r_.kept_shape);
  const std::vector<Ex> reduced = a_.delinearize(number, r_.reduced_shape);
  return emitter_.value(r_.node->operands[0], input_index(r_, kept, reduced));
}

}  // namespace weft::compiler
