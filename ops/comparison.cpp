#include "ops/elementwise.h"

namespace weft::ops {

namespace {

using loop::Arena;
using loop::Binary;
using loop::Ex;

Op row(std::string_view name, int arity, std::vector<Type> (*infer)(const Node&), DTypes dtypes,
       Reference reference, Lower lower, Generate generate, const char* description) {
  return Op({name, Pattern::elementwise, arity, arity, 0, {}, infer}, std::move(dtypes),
            Derivative::none("the result is boolean"), reference, lower,
            Decompose::none("is primitive"), generate, 1, description);
}

const DTypes& comparable_types() {
  static const DTypes list = {DType::f32, DType::f16, DType::bf16, DType::f64,
                              DType::i32, DType::i64, DType::u8,   DType::boolean};
  return list;
}

std::vector<Type> infer_equality(const Node& node) {
  expect_same_type(node, 0, 1);
  return {{DType::boolean, expect_dtype(node, 0, comparable_types()).shape}};
}

std::vector<Type> infer_order(const Node& node) {
  expect_same_type(node, 0, 1);
  return {{DType::boolean, expect_dtype(node, 0, numeric_types()).shape}};
}

std::vector<Type> infer_logical(const Node& node) {
  expect_dtype(node, 0, {DType::boolean});
  return infer_same(node);
}

/// Of a comparison of doubles or integers; comparisons with NaN are false but for not_equal.
template <auto function>
void compare(const Node&, std::span<const Array* const> operands, std::span<Array> results) {
  const Array& x = *operands[0];
  const Array& y = *operands[1];
  std::vector<std::int64_t>& z = results[0].integers;
  for (std::size_t i = 0; i < x.re.size(); ++i) z[i] = function(x.re[i], y.re[i]) ? 1 : 0;
  for (std::size_t i = 0; i < x.integers.size(); ++i) {
    z[i] = function(x.integers[i], y.integers[i]) ? 1 : 0;
  }
}

template <Binary code>
Ex lower_code(Arena& arena, Ex x, Ex y) {
  return arena.binary(code, x, y);
}
template <Binary code>
Ex lower_swapped(Arena& arena, Ex x, Ex y) {
  return arena.binary(code, y, x);
}

Sample sample_comparison(Random& random, DType dtype) {
  if (dtype == DType::boolean) return elementwise_sample(random, dtype, 2, 0, 1);
  // Floats drawn from a range are hardly ever equal: one sample in four is all ones.
  if (random_chance(random, 0.25)) return elementwise_sample(random, dtype, 2, 1, 1);
  return elementwise_sample(random, dtype, 2, -2, 2);
}

Sample sample_logical(Random& random, DType dtype) {
  return elementwise_sample(random, dtype, 2, 0, 1);
}

Sample sample_not(Random& random, DType dtype) {
  return elementwise_sample(random, dtype, 1, 0, 1);
}

}  // namespace

std::span<const Op> comparison_ops() {
  static const DTypes& ordered = numeric_types();
  static const DTypes boolean = {DType::boolean};
  static const Op rows[] = {
      row("equal", 2, infer_equality, comparable_types(),
          compare<[](auto x, auto y) { return x == y; }>, lower_binary<lower_code<Binary::equal>>,
          sample_comparison, "x = y; false with NaN"),
      row("not_equal", 2, infer_equality, comparable_types(),
          compare<[](auto x, auto y) { return x != y; }>,
          lower_binary<lower_code<Binary::not_equal>>, sample_comparison,
          "not x = y; true with NaN"),
      row("less", 2, infer_order, ordered, compare<[](auto x, auto y) { return x < y; }>,
          lower_binary<lower_code<Binary::less>>, sample_comparison, "x < y"),
      row("less_equal", 2, infer_order, ordered, compare<[](auto x, auto y) { return x <= y; }>,
          lower_binary<lower_code<Binary::less_equal>>, sample_comparison, "x <= y"),
      row("greater", 2, infer_order, ordered, compare<[](auto x, auto y) { return y < x; }>,
          lower_binary<lower_swapped<Binary::less>>, sample_comparison, "x > y"),
      row("greater_equal", 2, infer_order, ordered, compare<[](auto x, auto y) { return y <= x; }>,
          lower_binary<lower_swapped<Binary::less_equal>>, sample_comparison, "x >= y"),
      row("logical_and", 2, infer_logical, boolean,
          map_binary<[](std::int64_t x, std::int64_t y) { return x & y; }>,
          lower_binary<lower_code<Binary::bitwise_and>>, sample_logical, "x and y"),
      row("logical_or", 2, infer_logical, boolean,
          map_binary<[](std::int64_t x, std::int64_t y) { return x | y; }>,
          lower_binary<lower_code<Binary::bitwise_or>>, sample_logical, "x or y"),
      row("logical_xor", 2, infer_logical, boolean,
          map_binary<[](std::int64_t x, std::int64_t y) { return x ^ y; }>,
          lower_binary<lower_code<Binary::bitwise_xor>>, sample_logical, "either x or y"),
      row("logical_not", 1, infer_logical, boolean, map_unary<[](std::int64_t x) { return x ^ 1; }>,
          lower_unary<[](Arena& arena, Ex x) { return arena.logical_not(x); }>, sample_not,
          "not x"),
  };
  return rows;
}

}  // namespace weft::ops
