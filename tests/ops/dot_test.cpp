// dot: small cases written out, all orders of axes against a sum over indices, shape rule.

#include <gtest/gtest.h>

#include "support.h"

namespace weft::test {
namespace {

using ops::Array;
using Integers = std::vector<std::int64_t>;
using Reals = std::vector<double>;

ir::Attributes axes(Integers lhs_contract, Integers rhs_contract, Integers lhs_batch = {},
                    Integers rhs_batch = {}) {
  return {{"lhs_contract", std::move(lhs_contract)},
          {"rhs_contract", std::move(rhs_contract)},
          {"lhs_batch", std::move(lhs_batch)},
          {"rhs_batch", std::move(rhs_batch)}};
}

Array floats(const Shape& shape, const Reals& values) { return array({DType::f32, shape}, values); }

std::string error(const Type& a, const Type& b, ir::Attributes attributes) {
  try {
    apply("dot", {Array(a), Array(b)}, std::move(attributes));
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Dot, MatrixProduct) {
  const Array y = apply("dot", {floats({2, 3}, {1, 2, 3, 4, 5, 6}), floats({3, 1}, {1, 10, 100})},
                        axes({1}, {0}));
  EXPECT_EQ(y.type.text(), "f32[2, 1]");
  EXPECT_EQ(y.re, (Reals{321, 654}));
}

TEST(Dot, TransposedOperands) {
  const Array a = floats({3, 2}, {1, 4, 2, 5, 3, 6});
  const Array b = floats({1, 3}, {1, 10, 100});
  EXPECT_EQ(apply("dot", {a, b}, axes({0}, {1})).re, (Reals{321, 654}));
}

TEST(Dot, InnerAndOuterProducts) {
  const Array a = floats({2}, {2, 3});
  const Array b = floats({2}, {5, 7});
  EXPECT_EQ(apply("dot", {a, b}, axes({0}, {0})).type.text(), "f32[]");
  EXPECT_EQ(apply("dot", {a, b}, axes({0}, {0})).re, (Reals{31}));
  EXPECT_EQ(apply("dot", {a, b}, axes({}, {})).re, (Reals{10, 14, 15, 21}));
  // Batched over all axes: the elementwise product.
  EXPECT_EQ(apply("dot", {a, b}, axes({}, {}, {0}, {0})).re, (Reals{10, 21}));
}

TEST(Dot, BatchesComeFirstInTheOrderOfTheAttribute) {
  // lhs [k, b0, b1, m], rhs [b1, n, k, b0], batches (b1, b0).
  const Array y =
      apply("dot", {Array({DType::f32, {5, 2, 3, 4}}), Array({DType::f32, {3, 6, 5, 2}})},
            axes({0}, {2}, {2, 1}, {0, 3}));
  EXPECT_EQ(y.type.text(), "f32[3, 2, 4, 6]");
}

TEST(Dot, EmptyContractionGivesZeros) {
  const Array y =
      apply("dot", {Array({DType::f32, {2, 0}}), Array({DType::f32, {0, 2}})}, axes({1}, {0}));
  EXPECT_EQ(y.re, (Reals{0, 0, 0, 0}));
}

/// Each element of the result is the sum over all contracted indices, for random axes in random
/// orders, with axes of extent 0 and 1.
TEST(Dot, AgreesWithTheSumOverIndices) {
  ops::Random random(11);
  for (int repeat = 0; repeat < 300; ++repeat) {
    const Use use = random_use(ops::op("dot"), DType::f64, random);
    const ir::Attributes& attributes = use.node->attributes;
    SCOPED_TRACE(ir::describe(*use.node));
    const Array& a = use.values[0];
    const Array& b = use.values[1];
    Array expected(use.node->results[0]);
    // All pairs of elements: those whose batch and contracted indices are equal count.
    ops::for_each_index(a.type.shape, [&](std::span<const std::int64_t> i, std::int64_t at_a) {
      ops::for_each_index(b.type.shape, [&](std::span<const std::int64_t> j, std::int64_t at_b) {
        const auto agree = [&](const char* left, const char* right) {
          const Integers& l = attributes.integers(left);
          const Integers& r = attributes.integers(right);
          for (std::size_t k = 0; k < l.size(); ++k) {
            if (i[static_cast<std::size_t>(l[k])] != j[static_cast<std::size_t>(r[k])])
              return false;
          }
          return true;
        };
        if (!agree("lhs_batch", "rhs_batch") || !agree("lhs_contract", "rhs_contract")) return;
        Integers at;
        for (const std::int64_t axis : attributes.integers("lhs_batch")) {
          at.push_back(i[static_cast<std::size_t>(axis)]);
        }
        const auto append_free = [&](std::span<const std::int64_t> index, const char* batch,
                                     const char* contract) {
          for (std::size_t axis = 0; axis < index.size(); ++axis) {
            const auto named = static_cast<std::int64_t>(axis);
            if (!ops::contains(attributes.integers(batch), named) &&
                !ops::contains(attributes.integers(contract), named)) {
              at.push_back(index[axis]);
            }
          }
        };
        append_free(i, "lhs_batch", "lhs_contract");
        append_free(j, "rhs_batch", "rhs_contract");
        expected.re[static_cast<std::size_t>(ops::position_of(expected.type.shape, at))] +=
            a.re[static_cast<std::size_t>(at_a)] * b.re[static_cast<std::size_t>(at_b)];
      });
    });
    const Array actual = evaluate(*use.node, use.values).at(0);
    ASSERT_EQ(actual.re.size(), expected.re.size());
    for (std::size_t k = 0; k < actual.re.size(); ++k) {
      // At most 81 products of numbers in [-1, 1].
      ASSERT_NEAR(actual.re[k], expected.re[k], 81 * 81 * epsilon(DType::f64));
    }
  }
}

TEST(Dot, ShapeRule) {
  const Type a{DType::f32, {2, 3}};
  EXPECT_EQ(error(a, {DType::f32, {4, 5}}, axes({1}, {0})),
            "dot: contract axes differ: axis 1 of f32[2, 3] has extent 3, axis 0 of f32[4, 5] has "
            "4");
  EXPECT_EQ(error(a, {DType::f32, {4, 3}}, axes({1}, {1}, {0}, {0})),
            "dot: batch axes differ: axis 0 of f32[2, 3] has extent 2, axis 0 of f32[4, 3] has 4");
  EXPECT_EQ(error(a, {DType::f16, {3, 5}}, axes({1}, {0})),
            "dot: operands differ in type: f32[2, 3] and f16[3, 5]");
  EXPECT_EQ(error(a, {DType::f32, {3, 5}}, axes({1}, {0}, {1}, {})),
            "dot: axis 1 of f32[2, 3] is both in lhs_batch and in lhs_contract");
  EXPECT_EQ(error(a, {DType::f32, {3, 5}}, axes({1, 0}, {0})),
            "dot: lhs_contract [1, 0] and rhs_contract [0] differ in length");
  EXPECT_EQ(error(a, {DType::f32, {3, 5}}, axes({2}, {0})),
            "dot: lhs_contract [2]: axis 2 is out of range for rank 2");
  EXPECT_EQ(error({DType::i32, {2, 3}}, {DType::i32, {3, 5}}, axes({1}, {0})),
            "dot: operand 0 has type i32[2, 3]; expected f32, f16, bf16 or f64");
  EXPECT_EQ(error({DType::f32, {1, 1, 1, 1, 1}}, {DType::f32, {1, 1, 1, 1}}, axes({}, {})),
            "dot: the result of f32[1, 1, 1, 1, 1] and f32[1, 1, 1, 1] would have more than 8 "
            "axes");
}

}  // namespace
}  // namespace weft::test
