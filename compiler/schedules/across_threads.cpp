#include "compiler/schedules/across_threads.h"

#include "compiler/schedules/reduce.h"
#include "compiler/schedules/thread_indices.h"

namespace weft::compiler {
namespace {

using loop::Combine;
using loop::Ex;
using loop::Scalar;

Ex combined(loop::Arena& a, Combine combine, Ex x, Ex y) {
  const bool boolean = x->type == Scalar::boolean;
  switch (combine) {
    case Combine::add:
      return boolean ? a.logical_or(x, y) : a.add(x, y);
    case Combine::multiply:
      return boolean ? a.logical_and(x, y) : a.mul(x, y);
    case Combine::minimum:
      return a.binary(loop::Binary::minimum, x, y);
    case Combine::maximum:
      break;
  }
  return a.binary(loop::Binary::maximum, x, y);
}

/// A value of another lane: by a row of each of the types f32 and i32 and its operand.
Ex shuffled(loop::Builder& b, const loop::Intrinsic& of_float, const loop::Intrinsic& of_integer,
            Ex value, Ex operand) {
  loop::Arena& a = b.arena();
  const auto word = [&](Ex bits) { return b.call(of_integer, {b.let(bits), operand})[0]; };
  switch (value->type) {
    case Scalar::f32:
      return b.call(of_float, {value, operand})[0];
    case Scalar::f64:
      return a.bits(shuffled(b, of_float, of_integer, b.let(a.bits(value, Scalar::i64)), operand),
                    Scalar::f64);
    case Scalar::i64: {
      constexpr std::int64_t half = 32;
      constexpr std::int64_t low_bits = 0xffffffff;
      const Ex upper = a.binary(loop::Binary::shift_right, value, a.integer(half));
      const Ex low = a.cast(word(a.cast(value, Scalar::i32)), Scalar::i64);
      const Ex high = a.cast(word(a.cast(upper, Scalar::i32)), Scalar::i64);
      return a.binary(loop::Binary::bitwise_or,
                      a.binary(loop::Binary::shift_left, high, a.integer(half)),
                      a.binary(loop::Binary::bitwise_and, low, a.integer(low_bits)));
    }
    case Scalar::i32:
      return word(value);
    default:
      return a.cast(word(a.cast(value, Scalar::i32)), value->type);
  }
}

}  // namespace

Ex exchange_lanes(loop::Builder& b, Ex value, int mask) {
  return shuffled(b, loop::intrinsic("shuffle_xor.f32"), loop::intrinsic("shuffle_xor.i32"), value,
                  b.arena().integer(Scalar::i32, mask));
}

Ex value_of_lane(loop::Builder& b, Ex value, Ex lane) {
  return b.let(shuffled(b, loop::intrinsic("shuffle_index.f32"),
                        loop::intrinsic("shuffle_index.i32"), b.let(value), lane));
}

Ex across_lanes(loop::Builder& b, Combine combine, Ex value, int lanes) {
  for (int mask = 1; mask < lanes; mask *= 2) {
    value = combined(b.arena(), combine, value, exchange_lanes(b, b.let(value), mask));
  }
  return b.let(value);
}

Ex across_threads(loop::Builder& b, Combine combine, Ex value, Ex thread, std::int64_t warps) {
  loop::Arena& a = b.arena();
  value = b.let(value);
  for (int distance = warp / 2; distance > 0; distance /= 2) {
    value = b.let(combined(a, combine, value, exchange_lanes(b, value, distance)));
  }
  if (warps == 1) return value;
  const loop::Buffer* sums = b.kernel().shared("warps", storage_of(value->type), warps);
  b.store(sums, a.floor_div(thread, warp), value, a.equal(a.floor_mod(thread, warp), a.integer(0)));
  b.barrier();
  Ex total = a.load(sums, a.integer(0));
  for (std::int64_t i = 1; i < warps; ++i) {
    total = combined(a, combine, total, a.load(sums, a.integer(i)));
  }
  return b.let(total);
}

}  // namespace weft::compiler
