#include "ops/elementwise.h"

namespace weft::ops {

namespace {

using loop::Arena;
using loop::Binary;
using loop::Ex;

Op row(std::string_view name, int arity, Reference reference, Lower lower, Generate generate,
       int cost, const char* description) {
  return Op({name, Pattern::elementwise, arity, arity, 0, {}, infer_integer}, integer_types(),
            Derivative::none("the operands are integers"), reference, lower,
            Decompose::none("is primitive"), generate, cost, description);
}

std::int64_t bits_of(DType dtype) { return static_cast<std::int64_t>(size_of(dtype)) * 8; }

template <bool left>
void reference_shift(const Node&, std::span<const Array* const> operands,
                     std::span<Array> results) {
  const Array& x = *operands[0];
  const std::int64_t bits = bits_of(x.type.dtype);
  for (std::size_t i = 0; i < x.integers.size(); ++i) {
    const std::int64_t value = x.integers[i];
    const std::int64_t distance = operands[1]->integers[i];
    const bool inside = distance >= 0 && distance < bits;
    std::int64_t shifted = 0;
    if constexpr (left) {
      if (inside)
        shifted = static_cast<std::int64_t>(static_cast<std::uint64_t>(value) << distance);
    } else {
      shifted = inside ? value >> distance : (value < 0 ? -1 : 0);
    }
    results[0].integers[i] = wrap_to(x.type.dtype, shifted);
  }
}

template <Binary code>
Ex lower_code(Arena& arena, Ex x, Ex y) {
  return arena.binary(code, x, y);
}

/// Distances out of range are undefined on machines: they are replaced by what the row promises.
template <bool left>
Element lower_shift(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  Arena& arena = lowering.arena();
  const Ex x = lowering.operand(node, 0, index).re;
  const Ex distance = lowering.operand(node, 1, index).re;
  const Ex zero = constant_as(arena, x, 0);
  const Ex last =
      constant_as(arena, x, static_cast<double>(bits_of(node.operand_type(0).dtype) - 1));
  Ex inside = arena.less_equal(distance, last);
  if (x->type != loop::Scalar::u8) {
    inside = arena.logical_and(inside, arena.less_equal(zero, distance));
  }
  if constexpr (left) {
    const Ex safe = arena.select(inside, distance, zero);
    return {arena.select(inside, arena.binary(Binary::shift_left, x, safe), zero)};
  } else {
    // By all bits but one a signed number becomes its sign; a u8 needs one more.
    const Ex safe = arena.select(inside, distance, last);
    const Ex shifted = arena.binary(Binary::shift_right, x, safe);
    return {x->type == loop::Scalar::u8 ? arena.select(inside, shifted, zero) : shifted};
  }
}

Sample sample_bits(Random& random, DType dtype) {
  return elementwise_sample(random, dtype, 2, -200, 200);
}

Sample sample_not(Random& random, DType dtype) {
  return elementwise_sample(random, dtype, 1, -200, 200);
}

Sample sample_shift(Random& random, DType dtype) {
  Sample sample = sample_bits(random, dtype);
  sample.operands[1].low = dtype == DType::u8 ? 0 : -1;
  sample.operands[1].high = static_cast<double>(bits_of(dtype)) + 1;
  return sample;
}

}  // namespace

std::span<const Op> integer_ops() {
  static const Op rows[] = {
      row("bitwise_and", 2, map_binary<[](std::int64_t x, std::int64_t y) { return x & y; }>,
          lower_binary<lower_code<Binary::bitwise_and>>, sample_bits, 1, "bitwise and"),
      row("bitwise_or", 2, map_binary<[](std::int64_t x, std::int64_t y) { return x | y; }>,
          lower_binary<lower_code<Binary::bitwise_or>>, sample_bits, 1, "bitwise or"),
      row("bitwise_xor", 2, map_binary<[](std::int64_t x, std::int64_t y) { return x ^ y; }>,
          lower_binary<lower_code<Binary::bitwise_xor>>, sample_bits, 1, "bitwise exclusive or"),
      row("bitwise_not", 1, map_unary<[](std::int64_t x) { return ~x; }>,
          lower_unary<[](Arena& a, Ex x) { return a.unary(loop::Unary::bitwise_not, x); }>,
          sample_not, 1, "bitwise not"),
      row("shift_left", 2, reference_shift<true>, lower_shift<true>, sample_shift, 3,
          "x 2^y on the bit pattern; 0 where y is negative or not below the bits of the type"),
      row("shift_right", 2, reference_shift<false>, lower_shift<false>, sample_shift, 3,
          "x 2^-y rounded down; y out of range: -1 where x is negative, else 0"),
  };
  return rows;
}

}  // namespace weft::ops
