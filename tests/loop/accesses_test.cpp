#include "compiler/loop/accesses.h"

#include <gtest/gtest.h>

namespace weft::loop {
namespace {

using Access = plan::Phase::Access;
using Accesses = std::vector<Access>;

constexpr Access none{false, false}, reads{true, false}, writes{false, true}, both{true, true};

TEST(Accesses, OfEachPhase) {
  Kernel kernel;
  const Buffer* x = kernel.argument("x", DType::f32, 64, false);
  const Buffer* indices = kernel.argument("indices", DType::i64, 64, false);
  const Buffer* partial = kernel.argument("partial", DType::f32, 64, true);
  const Buffer* result = kernel.argument("result", DType::f32, 64, true);
  Builder builder(kernel);
  Arena& a = kernel.arena;
  builder.phase(1, 32, [&](Ex, Ex thread) {
    // Deep inside of an expression, a predicate and a loop.
    builder.loop(2, Role::serial, 1, [&](Ex i) {
      const Ex at = a.add(a.mul(i, a.integer(32)), thread);
      const Ex position = builder.let_within(a.load(indices, at), 0, 63);
      builder.store(partial, at, a.neg(a.load(x, position)));
    });
  });
  builder.phase(1, 32, [&](Ex, Ex thread) {
    builder.prefetch(x, thread);
    Accumulator* sum = builder.declare(Scalar::f32, Combine::add, a.load(partial, thread));
    builder.condition(a.less(thread, a.integer(16)), [&] {
      builder.accumulate(sum, a.load(partial, a.add(thread, a.integer(32))));
    });
    builder.store(result, thread, builder.read(sum));
  });
  EXPECT_EQ(argument_accesses(kernel, 0), (Accesses{reads, reads, writes, none}));
  EXPECT_EQ(argument_accesses(kernel, 1), (Accesses{none, none, reads, writes}));
}

TEST(Accesses, OfIntrinsicsAndTransforms) {
  Kernel kernel;
  const Buffer* from = kernel.argument("from", DType::f32, 64, false);
  const Buffer* sums = kernel.argument("sums", DType::f32, 64, true);
  const Buffer* bins = kernel.argument("bins", DType::f32, 64, true);
  const Buffer* tile = kernel.shared("tile", DType::f32, 32);
  Builder builder(kernel);
  Arena& a = kernel.arena;
  builder.phase(1, 32, [&](Ex, Ex thread) {
    builder.call(intrinsic("copy_async.4"), {a.boolean(true)}, {{tile, thread}, {from, thread}});
    builder.call(intrinsic("copy_commit"), {});
    builder.call(intrinsic("copy_wait"), {a.integer(Scalar::i32, 0)});
    builder.call(intrinsic("atomic_add.global.f32"), {builder.let(a.load(tile, thread))},
                 {{sums, thread}});
  });
  const Buffer* matrix = kernel.argument("matrix", DType::f32, 64, false);
  const Buffer* map = kernel.tensor_map(
      "map", {.buffer = matrix, .offset = 0, .extents = {8, 8}, .strides = {1, 8}, .box = {8, 4}});
  const Buffer* barrier = kernel.shared("barrier", DType::i64, 1);
  builder.phase(1, 32, [&](Ex, Ex) {
    const Ex zero = a.integer(Scalar::i32, 0);
    builder.call(intrinsic("copy_tensor.2"), {zero, zero},
                 {{tile, a.integer(0)}, {barrier, a.integer(0)}, {map, a.integer(0)}});
  });
  plan::Transform transform;
  transform.length = 8;
  transform.from = {static_cast<std::uint32_t>(bins->index), 0, 1, 8, 0};
  transform.to = {static_cast<std::uint32_t>(sums->index), 0, 1, 8, 0};
  builder.phase(transform);
  transform.kind = plan::Transform::Kind::to_real;
  builder.phase(transform);
  EXPECT_EQ(argument_accesses(kernel, 0), (Accesses{reads, both, none, none}));
  EXPECT_EQ(argument_accesses(kernel, 1), (Accesses{none, none, none, reads}));
  EXPECT_EQ(argument_accesses(kernel, 2), (Accesses{none, writes, reads, none}));
  // Its bins may be spoilt.
  EXPECT_EQ(argument_accesses(kernel, 3), (Accesses{none, writes, both, none}));
}

}  // namespace
}  // namespace weft::loop
