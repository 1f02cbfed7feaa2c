#include "compiler/schedules/tile_pipeline.h"

#include <algorithm>
#include <utility>

namespace weft::compiler {

using loop::Ex;
using loop::Scalar;

namespace {

bool copied(const TileLoader* operand) { return operand->copies(); }

}  // namespace

TilePipeline::TilePipeline(loop::Builder& builder, std::vector<TileLoader*> operands,
                           const Depth& depth, Ex thread,
                           std::function<void(Ex number, Ex stage)> start)
    : b_(builder),
      a_(builder.arena()),
      operands_(std::move(operands)),
      depth_(depth),
      thread_(thread),
      start_(std::move(start)),
      any_copied_(std::any_of(operands_.begin(), operands_.end(), copied)),
      all_copied_(std::all_of(operands_.begin(), operands_.end(), copied)) {}

Ex TilePipeline::stage(Ex number) { return b_.let(a_.floor_mod(number, depth_.stages)); }

void TilePipeline::finish(Ex number) {
  const Ex at = stage(number);
  for (TileLoader* operand : operands_) operand->finish(at, thread_);
}

void TilePipeline::commit() {
  if (any_copied_) b_.call(loop::intrinsic("copy_commit"), {});
}

void TilePipeline::wait(std::int64_t under_way) {
  if (any_copied_) b_.call(loop::intrinsic("copy_wait"), {a_.integer(Scalar::i32, under_way)});
}

void TilePipeline::keep(TileLoader& tile, Ex batch, Ex free) {
  any_copied_ = any_copied_ || tile.copies();
  const Ex zero = a_.integer(0);
  tile.start(zero, batch, free, zero, thread_);
  tile.finish(zero, thread_);
}

void TilePipeline::fill(Ex begin, Ex end) {
  end_ = end;
  for (std::int64_t i = 0; i < depth_.ahead; ++i) {
    const Ex number = b_.let(a_.add(begin, a_.integer(i)));
    b_.condition(a_.less(number, end), [&] {
      start_(number, stage(number));
      finish(number);
    });
    commit();
  }
}

void TilePipeline::arrive() {
  wait(depth_.ahead - 1);
  if (depth_.group_products) b_.call(loop::intrinsic("fence_async_shared"), {});
  b_.barrier();
}

void TilePipeline::compute(Ex number, const std::function<void()>& body) {
  const Ex next = a_.add(number, a_.integer(depth_.ahead));
  const Ex there = a_.less(next, end_);
  b_.condition(there, [&] { start_(next, stage(next)); });
  commit();
  body();
  if (!all_copied_) b_.condition(there, [&] { finish(next); });
}

void TilePipeline::run(Ex begin, Ex end, const std::function<void(Ex number)>& body) {
  fill(begin, end);
  const std::int64_t most = end->maximum;
  b_.loop(b_.let_within(a_.sub(end, begin), 0, most), [&](Ex turn) {
    const Ex number = b_.let_within(a_.add(begin, turn), 0, most - 1);
    arrive();
    compute(number, [&] { body(number); });
  });
}

void TilePipeline::drain() { wait(0); }

}  // namespace weft::compiler
