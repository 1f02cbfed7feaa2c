#include "ops/elementwise.h"

namespace weft::ops {

namespace {

using loop::Arena;
using loop::Binary;
using loop::Ex;
using loop::Scalar;

std::vector<Type> infer_cast(const Node& node) {
  const Type& from = node.operand_type(0);
  const DType to = node.attributes.dtype("dtype");
  require(!is_complex(from.dtype) || is_complex(to),
          "{} to {} would drop the imaginary part; take real() or imag() first", from.text(),
          name(to));
  require(!is_complex(to) || is_complex(from.dtype) || is_floating(from.dtype),
          "{} to c64; cast to f32 first", from.text());
  return {{to, from.shape}};
}

void derive_cast(Backward& d) {
  if (!is_differentiable(d.gradient().dtype())) return;
  Builder& b = d.build();
  const DType from = d.operand(0).dtype();
  Value g = d.gradient();
  if (is_complex(g.dtype()) && !is_complex(from)) g = unary(b, "real", g);
  d.add(0, cast(b, g, from));
}

void reference_cast(const Node& node, std::span<const Array* const> operands,
                    std::span<Array> results) {
  const Array& x = *operands[0];
  Array& y = results[0];
  const DType to = node.attributes.dtype("dtype");
  const auto count = static_cast<std::size_t>(x.elements());
  const bool from_integer = x.re.empty();
  const bool to_integer = y.re.empty();
  for (std::size_t i = 0; i < count; ++i) {
    if (from_integer && to_integer) {
      y.integers[i] = wrap_to(to, x.integers[i]);
    } else if (from_integer && to == DType::f32) {
      // Not by way of double, which would round twice.
      y.re[i] = static_cast<double>(static_cast<float>(x.integers[i]));
    } else if (from_integer) {
      y.re[i] = round_to(to, static_cast<double>(x.integers[i]));
    } else if (to_integer) {
      y.integers[i] = saturate_to(to, x.re[i]);
    } else {
      y.re[i] = round_to(to, x.re[i]);
      if (!x.im.empty()) y.im[i] = round_to(to, x.im[i]);
    }
  }
}

/// f64 to f32 so that rounding the result to 16 bits equals rounding the f64: toward zero, with the
/// last bit set where anything was lost (round to odd).
Ex narrow_to_odd(Arena& arena, Ex wide) {
  const Ex near = arena.cast(wide, Scalar::f32);
  const Ex back = arena.cast(near, Scalar::f64);
  const Ex zero = arena.integer(Scalar::i32, 0);
  const Ex one = arena.integer(Scalar::i32, 1);
  const Ex too_large = arena.less(arena.unary(loop::Unary::absolute, wide),
                                  arena.unary(loop::Unary::absolute, back));
  const Ex truncated = arena.sub(arena.bits(near, Scalar::i32), arena.select(too_large, one, zero));
  const Ex odd = arena.bits(arena.binary(Binary::bitwise_or, truncated, one), Scalar::f32);
  // NaN compares as exact and is kept.
  const Ex lost = arena.logical_or(arena.less(wide, back), arena.less(back, wide));
  return arena.select(lost, odd, near);
}

Element lower_cast(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  Arena& arena = lowering.arena();
  const DType from = node.operand_type(0).dtype;
  const DType to = node.attributes.dtype("dtype");
  const Element x = lowering.operand(node, 0, index);
  if (is_complex(to)) {
    if (is_complex(from)) return x;
    return {arena.cast(x.re, Scalar::f32), arena.constant(Scalar::f32, 0)};
  }
  if (to != DType::f16 && to != DType::bf16) {
    return {arena.cast(x.re, loop::register_type(to))};
  }
  const Scalar type = x.re->type;
  const bool exact_in_f32 = type == Scalar::f32 || type == Scalar::u8 || type == Scalar::boolean;
  const Ex narrow = exact_in_f32 ? arena.cast(x.re, Scalar::f32)
                                 : narrow_to_odd(arena, arena.cast(x.re, Scalar::f64));
  // A chain keeps 16-bit values in f32 registers: an explicit cast rounds all the same.
  return {lower_rounding(arena, to, narrow)};
}

Sample sample_cast(Random& random, DType dtype) {
  DType to = all_dtypes[static_cast<std::size_t>(random_integer(random, 0, 8))];
  if (is_complex(dtype)) to = DType::c64;
  if (is_complex(to) && !is_differentiable(dtype)) to = DType::f32;
  Sample sample = elementwise_sample(random, dtype, 1, -300, 300);
  if (dtype == DType::boolean) {
    sample.operands[0].low = 0;
    sample.operands[0].high = 1;
  }
  sample.attributes.set("dtype", to);
  // Differences of the reference see its rounding, which only f64 does not do.
  sample.smooth = to == DType::f64 && is_floating(dtype);
  return sample;
}

}  // namespace

std::span<const Op> cast_ops() {
  static const Op rows[] = {
      Op({"cast", Pattern::elementwise, 1, 1, 0, {{"dtype", ir::AttributeSpec::dtype}}, infer_cast},
         every_type(), derive_cast, reference_cast, lower_cast, Decompose::none("is primitive"),
         sample_cast, 2,
         "x in another type: floats round to nearest even; floats to integers truncate and "
         "saturate, NaN gives 0; integers wrap; to bool: x != 0; from bool: 0 or 1"),
  };
  return rows;
}

}  // namespace weft::ops
