#include <algorithm>

#include "compiler/schedules/index_space.h"
#include "compiler/schedules/schedule.h"

/// Pointwise kernels on a GPU: each thread has a vector of neighbours, so that a warp's accesses
/// are whole lines.
namespace weft::compiler {
namespace {

using loop::Ex;
using loop::Role;

constexpr std::int64_t threads = 256;
constexpr std::int64_t widest_access = 16;

/// Neighbours that one thread computes: its widest values fill one access. Rows of another length
/// would have neighbours in two of them.
std::int64_t neighbours(const Group& group, const Shape& merged) {
  std::size_t widest = 1;
  for (const auto* values : {&group.inputs, &group.outputs}) {
    for (const ir::Value value : *values) {
      if (value.type().elements() >= merged.elements()) {
        widest = std::max(widest, size_of(value.dtype()));
      }
    }
  }
  std::int64_t count = widest_access / static_cast<std::int64_t>(widest);
  const std::int64_t inner = merged.rank() == 0 ? 1 : merged[merged.rank() - 1];
  count = std::min<std::int64_t>(count, 8);
  while (inner % count != 0) count /= 2;
  return count;
}

}  // namespace

void schedule_elementwise_device(GroupEmitter& emitter) {
  const Shape shape = loop_shape(emitter.group());
  const std::int64_t total = shape.elements();
  loop::Builder& b = emitter.builder();
  if (total == 0) {
    b.phase(0, threads, [](Ex, Ex) {});
    return;
  }
  const Shape merged = collapse(emitter.group(), shape);
  const std::int64_t count = neighbours(emitter.group(), merged);
  const std::int64_t per_block = threads * count;
  loop::Arena& a = emitter.arena();
  b.phase((total + per_block - 1) / per_block, threads, [&](Ex block, Ex thread) {
    const Ex number = a.add(a.mul(block, a.integer(threads)), thread);
    const auto body = [&](Ex first) {
      std::vector<Ex> start = a.delinearize(first, merged);
      // A multiple of `count`, which a variable of its own would hide.
      if (!start.empty()) {
        start.back() = a.mul(b.let(a.floor_div(start.back(), count)), a.integer(count));
      }
      for (std::size_t i = 0; i + 1 < start.size(); ++i) start[i] = b.let(start[i]);
      b.loop(count, Role::vector, static_cast<int>(count), [&](Ex lane) {
        emitter.reset();
        std::vector<Ex> index = start;
        if (!index.empty()) index.back() = a.add(index.back(), lane);
        if (!(merged == shape)) index = a.delinearize(a.linearize(index, merged), shape);
        emitter.store_outputs(index, shape);
      });
    };
    if (total % per_block == 0) {
      body(a.mul(number, a.integer(count)));
    } else {
      const std::int64_t vectors = total / count;
      b.condition(a.less(number, a.integer(vectors)),
                  [&] { body(a.mul(b.let_within(number, 0, vectors - 1), a.integer(count))); });
    }
  });
}

}  // namespace weft::compiler
