#include "compiler/schedules/roof.h"

namespace weft::compiler {

namespace {

using loop::Builder;
using loop::Combine;
using loop::Ex;
using loop::Role;
using loop::Scalar;

/// Independent chains of multiply-adds: more than latency times instructions a cycle, fewer than
/// registers.
constexpr int chains = 12;
constexpr std::int64_t chain_length = 8192;

}  // namespace

std::int64_t roof_operations(const HostTarget& target) {
  return 2 * chains * target.vector_lanes(DType::f32) * chain_length;
}

void build_roof_kernel(RoofKernel which, const HostTarget& target, loop::Kernel& kernel) {
  kernel.name = "roof";
  loop::Arena& arena = kernel.arena;
  // How many blocks there are is the caller's affair; this bounds the index arithmetic.
  constexpr std::int64_t most_blocks = std::int64_t{1} << 20;
  constexpr std::int64_t most = most_blocks * roof_block;
  const int lanes = target.vector_lanes(DType::f32);
  const loop::Buffer* out = kernel.argument("out", DType::f32, most, true);
  const loop::Buffer* x = kernel.argument("x", DType::f32, most, false);
  const loop::Buffer* y =
      which == RoofKernel::triad ? kernel.argument("y", DType::f32, most, false) : nullptr;
  Builder builder(kernel);
  builder.phase(most_blocks, [&](Ex block) {
    const auto position = [&](Ex i) {
      return arena.add(arena.mul(block, arena.integer(roof_block)), i);
    };
    switch (which) {
      case RoofKernel::read: {
        loop::Accumulator* sum =
            builder.declare(Scalar::f32, Combine::add, arena.constant(Scalar::f32, 0));
        builder.loop(roof_block, Role::vector, 8 * lanes,
                     [&](Ex i) { builder.accumulate(sum, arena.load(x, position(i))); });
        builder.store(out, block, builder.read(sum));
        break;
      }
      case RoofKernel::copy:
        builder.loop(roof_block, Role::vector, 4 * lanes,
                     [&](Ex i) { builder.store(out, position(i), arena.load(x, position(i))); });
        break;
      case RoofKernel::triad:
        builder.loop(roof_block, Role::vector, 4 * lanes, [&](Ex i) {
          builder.store(out, position(i),
                        arena.fma(arena.load(y, position(i)), arena.constant(Scalar::f32, 3),
                                  arena.load(x, position(i))));
        });
        break;
      case RoofKernel::multiply_add: {
        const Ex factor = builder.let(arena.load(x, arena.integer(0)));
        std::vector<loop::Accumulator*> sums;
        builder.loop(lanes, Role::vector, lanes, [&](Ex lane) {
          sums.clear();
          for (int i = 0; i < chains; ++i) {
            sums.push_back(
                builder.declare(Scalar::f32, Combine::add, arena.constant(Scalar::f32, i)));
          }
          builder.loop(arena.integer(chain_length), [&](Ex) {
            for (loop::Accumulator* sum : sums) builder.accumulate(sum, arena.mul(factor, factor));
          });
          Ex total = builder.read(sums[0]);
          for (int i = 1; i < chains; ++i) {
            total = arena.add(total, builder.read(sums[static_cast<std::size_t>(i)]));
          }
          builder.store(out, position(lane), total);
        });
        break;
      }
    }
  });
}

}  // namespace weft::compiler
