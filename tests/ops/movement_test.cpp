// Movement and indexing: small cases written out, edges of the shape rules, clamping, adjoints of
// strides.

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "compiler/passes/differentiate.h"
#include "support.h"

namespace weft::test {
namespace {

using ir::Value;
using ops::Array;
using ops::Builder;
using Integers = std::vector<std::int64_t>;
using Reals = std::vector<double>;

Array floats(const Shape& shape, const Reals& values) { return array({DType::f32, shape}, values); }
Array counting(const Shape& shape) {
  Reals values(static_cast<std::size_t>(shape.elements()));
  std::iota(values.begin(), values.end(), 0);
  return floats(shape, values);
}
Array index(std::int64_t value, DType dtype = DType::i64) {
  return array({dtype, {}}, {static_cast<double>(value)});
}

void expect(const Array& actual, const Shape& shape, const Reals& values) {
  EXPECT_EQ(actual.type.shape.text(), shape.text());
  EXPECT_EQ(actual.re, values);
}

/// What the shape rule says of operands of those types.
std::string error(std::string_view op_name, const std::vector<Type>& types,
                  ir::Attributes attributes) {
  try {
    std::vector<Array> operands;
    for (const Type& type : types) operands.emplace_back(type);
    apply(op_name, operands, std::move(attributes));
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

/// The gradient of sum(w * f(x)) with respect to x, w = 1, 2, 3, ...
Reals gradient(const Array& x, const std::function<Value(Builder&, Value)>& f) {
  ir::Graph graph;
  Builder b(graph, graph.body());
  const Value input = state(b, "x", x.type);
  const Value y = f(b, input);
  const Shape flat = {y.shape().elements()};
  Reals weights(static_cast<std::size_t>(flat[0]));
  std::iota(weights.begin(), weights.end(), 1);
  const Value w = b.emit1(
      "constant_data", {},
      {{"dtype", DType::f32}, {"shape", Integers{flat[0]}}, {"values", std::move(weights)}});
  const Value loss = ops::sum(b, ops::mul(b, ops::reshape(b, y, flat), w), {0});
  const std::vector<Value> inputs = {input};
  const Value g = compiler::gradients(b, loss, inputs).at(0);
  EXPECT_TRUE(g.type() == x.type) << g.type().text();
  b.emit(ops::op("state_write"), {g}, {{"name", std::string("g")}});
  ops::Environment environment;
  environment.state["x"] = x;
  ops::evaluate(graph, environment);
  return environment.state.at("g").re;
}

// ---- movement -----------------------------------------------------------------------------------

TEST(Movement, Reshape) {
  expect(apply("reshape", {counting({2, 3})}, {{"shape", Integers{3, 2}}}), {3, 2},
         {0, 1, 2, 3, 4, 5});
  expect(apply("reshape", {counting({1, 1})}, {{"shape", Integers{}}}), {}, {0});
  expect(apply("reshape", {counting({0, 3})}, {{"shape", Integers{5, 0}}}), {5, 0}, {});
  EXPECT_EQ(error("reshape", {{DType::f32, {2, 3}}}, {{"shape", Integers{4}}}),
            "reshape: f32[2, 3] has 6 elements; [4] needs 4");
  EXPECT_EQ(error("reshape", {{DType::f32, {2}}}, {{"shape", Integers{-2}}}),
            "reshape: shape [-2]: extent -2 is negative");
}

TEST(Movement, Permute) {
  const Array x = counting({2, 3, 2});
  expect(apply("permute", {x}, {{"order", Integers{2, 0, 1}}}), {2, 2, 3},
         {0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11});
  EXPECT_EQ(error("permute", {{DType::f32, {2, 3}}}, {{"order", Integers{0}}}),
            "permute: order [0] does not name every axis of f32[2, 3]");
  EXPECT_EQ(error("permute", {{DType::f32, {2, 3}}}, {{"order", Integers{0, 0}}}),
            "permute: order [0, 0]: axis 0 appears twice");
}

TEST(Movement, Broadcast) {
  expect(apply("broadcast", {counting({2, 1})}, {{"shape", Integers{2, 2, 3}}}), {2, 2, 3},
         {0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1});
  expect(apply("broadcast", {counting({1})}, {{"shape", Integers{2, 0}}}), {2, 0}, {});
  EXPECT_EQ(error("broadcast", {{DType::f32, {2, 3}}}, {{"shape", Integers{2, 4}}}),
            "broadcast: f32[2, 3] does not broadcast to [2, 4]: axis 1 has extent 3, not 4");
  EXPECT_EQ(error("broadcast", {{DType::f32, {2, 3}}}, {{"shape", Integers{3}}}),
            "broadcast: f32[2, 3] has more axes than [3]");
}

TEST(Movement, Slice) {
  const auto slice = [](Integers start, Integers limit, Integers stride) {
    return apply(
        "slice", {counting({2, 5})},
        {{"start", std::move(start)}, {"limit", std::move(limit)}, {"stride", std::move(stride)}});
  };
  expect(slice({1, 1}, {2, 4}, {1, 1}), {1, 3}, {6, 7, 8});
  expect(slice({0, 0}, {2, 5}, {1, 2}), {2, 3}, {0, 2, 4, 5, 7, 9});
  expect(slice({0, 1}, {2, 5}, {1, 2}), {2, 2}, {1, 3, 6, 8});
  expect(slice({0, 2}, {1, 5}, {1, 100}), {1, 1}, {2});
  expect(slice({0, 5}, {2, 5}, {1, 1}), {2, 0}, {});
  const Type x{DType::f32, {5}};
  const auto message = [&](std::int64_t start, std::int64_t limit, std::int64_t stride) {
    return error(
        "slice", {x},
        {{"start", Integers{start}}, {"limit", Integers{limit}}, {"stride", Integers{stride}}});
  };
  EXPECT_EQ(message(0, 6, 1), "slice: [0, 6) is no range of axis 0 of f32[5]");
  EXPECT_EQ(message(3, 2, 1), "slice: [3, 2) is no range of axis 0 of f32[5]");
  EXPECT_EQ(message(0, 5, 0), "slice: stride 0 of axis 0; expected at least 1");
}

TEST(Movement, Pad) {
  expect(apply("pad", {counting({1, 2})},
               {{"low", Integers{1, 0}}, {"high", Integers{0, 2}}, {"value", -1.0}}),
         {2, 4}, {-1, -1, -1, -1, 0, 1, -1, -1});
  const Array integers = apply("pad", {array({DType::i32, {1}}, {3})},
                               {{"low", Integers{1}}, {"high", Integers{1}}, {"value", 7.0}});
  EXPECT_EQ(integers.integers, (Integers{7, 3, 7}));
  expect(
      apply("pad", {counting({0})}, {{"low", Integers{1}}, {"high", Integers{1}}, {"value", 2.0}}),
      {2}, {2, 2});
  EXPECT_EQ(error("pad", {{DType::i32, {2}}},
                  {{"low", Integers{1}}, {"high", Integers{0}}, {"value", 0.5}}),
            "pad: 0.5 is not a value of i32");
  EXPECT_EQ(error("pad", {{DType::f32, {2}}},
                  {{"low", Integers{-1}}, {"high", Integers{0}}, {"value", 0.0}}),
            "pad: padding (-1, 0) of axis 0 is negative");
  EXPECT_EQ(error("pad", {{DType::f32, {2}}},
                  {{"low", Integers{0, 0}}, {"high", Integers{0}}, {"value", 0.0}}),
            "pad: low [0, 0] has 2 entries; f32[2] has 1 axes");
}

TEST(Movement, Flip) {
  expect(apply("flip", {counting({2, 3})}, {{"axes", Integers{1}}}), {2, 3}, {2, 1, 0, 5, 4, 3});
  expect(apply("flip", {counting({2, 3})}, {{"axes", Integers{0, 1}}}), {2, 3}, {5, 4, 3, 2, 1, 0});
}

TEST(Movement, Concat) {
  expect(apply("concat", {counting({2, 1}), counting({2, 0}), floats({2, 2}, {6, 7, 8, 9})},
               {{"axis", std::int64_t{1}}}),
         {2, 3}, {0, 6, 7, 1, 8, 9});
  expect(apply("concat", {counting({2}), counting({1})}, {{"axis", std::int64_t{0}}}), {3},
         {0, 1, 0});
  EXPECT_EQ(
      error("concat", {{DType::f32, {2, 1}}, {DType::f32, {3, 1}}}, {{"axis", std::int64_t{1}}}),
      "concat: operand 1 has type f32[3, 1], which does not continue f32[2, 1] along axis 1");
  EXPECT_EQ(error("concat", {{DType::f32, {}}}, {{"axis", std::int64_t{0}}}),
            "concat: axis 0 is out of range for rank 0");
}

TEST(Movement, ComplexElementsMoveWhole) {
  const Array x = array({DType::c64, {2}}, {1, 2, 3, 4});
  const Array y = apply("flip", {x}, {{"axes", Integers{0}}});
  EXPECT_EQ(y.re, (Reals{3, 1}));
  EXPECT_EQ(y.im, (Reals{4, 2}));
  const Array padded =
      apply("pad", {x}, {{"low", Integers{1}}, {"high", Integers{0}}, {"value", 9.0}});
  EXPECT_EQ(padded.re, (Reals{9, 1, 3}));
  EXPECT_EQ(padded.im, (Reals{0, 2, 4}));
}

/// The adjoint of a slice puts each gradient back where its element came from, whatever the stride.
TEST(Movement, GradientOfEveryStride) {
  for (std::int64_t extent = 1; extent <= 9; ++extent) {
    for (std::int64_t start = 0; start <= extent; ++start) {
      for (std::int64_t limit = start; limit <= extent; ++limit) {
        for (std::int64_t stride = 1; stride <= extent + 1; ++stride) {
          Reals expected(static_cast<std::size_t>(2 * extent));
          double weight = 0;
          for (std::int64_t row = 0; row < 2; ++row) {
            for (std::int64_t i = start; i < limit; i += stride) {
              expected[static_cast<std::size_t>(row * extent + i)] = ++weight;
            }
          }
          const Reals actual = gradient(counting({2, extent, 1}), [&](Builder& b, Value x) {
            return ops::slice_axis(b, x, 1, start, limit, stride);
          });
          ASSERT_EQ(actual, expected) << start << " " << limit << " " << stride << " " << extent;
        }
      }
    }
  }
}

TEST(Movement, StridedGradientAtTheHighestRank) {
  const Reals actual = gradient(counting({1, 1, 1, 5, 1, 1, 1, 2}), [](Builder& b, Value x) {
    return ops::slice_axis(b, x, 3, 0, 5, 2);
  });
  EXPECT_EQ(actual, (Reals{1, 2, 0, 0, 3, 4, 0, 0, 5, 6}));
}

// ---- indexing -----------------------------------------------------------------------------------

TEST(Indexing, DynamicSliceClampsItsStart) {
  const auto slice = [](std::int64_t row, std::int64_t column) {
    return apply("dynamic_slice", {counting({3, 4}), index(row, DType::i32), index(column)},
                 {{"sizes", Integers{1, 2}}});
  };
  expect(slice(1, 1), {1, 2}, {5, 6});
  expect(slice(2, 3), {1, 2}, {10, 11});
  expect(slice(-5, 100), {1, 2}, {2, 3});
  expect(slice(std::numeric_limits<std::int32_t>::max(), std::numeric_limits<std::int64_t>::min()),
         {1, 2}, {8, 9});
}

TEST(Indexing, DynamicSliceErrors) {
  const Type x{DType::f32, {3, 4}};
  const Type start{DType::i64, {}};
  EXPECT_EQ(error("dynamic_slice", {x, start, start}, {{"sizes", Integers{1, 5}}}),
            "dynamic_slice: sizes [1, 5] are larger than f32[3, 4] along axis 1");
  EXPECT_EQ(error("dynamic_slice", {x, start}, {{"sizes", Integers{1, 1}}}),
            "dynamic_slice: expected 2 starts for f32[3, 4], got 1");
  EXPECT_EQ(error("dynamic_slice", {x, start, {DType::i64, {1}}}, {{"sizes", Integers{1, 1}}}),
            "dynamic_slice: start 1 has type i64[1]; expected a scalar");
  EXPECT_EQ(error("dynamic_slice", {x, start, {DType::f32, {}}}, {{"sizes", Integers{1, 1}}}),
            "dynamic_slice: operand 2 has type f32[]; expected i32 or i64");
}

TEST(Indexing, DynamicUpdateSlice) {
  const Array update = floats({1, 2}, {-1, -2});
  const auto updated = [&](std::int64_t row, std::int64_t column) {
    return apply("dynamic_update_slice", {counting({2, 3}), update, index(row), index(column)});
  };
  expect(updated(0, 1), {2, 3}, {0, -1, -2, 3, 4, 5});
  expect(updated(7, 7), {2, 3}, {0, 1, 2, 3, -1, -2});
  expect(updated(-7, -7), {2, 3}, {-1, -2, 2, 3, 4, 5});
  expect(apply("dynamic_update_slice", {counting({2}), floats({0}, {}), index(1)}), {2}, {0, 1});
  EXPECT_EQ(
      error("dynamic_update_slice", {{DType::f32, {2}}, {DType::f32, {3}}, {DType::i64, {}}}, {}),
      "dynamic_update_slice: update f32[3] does not fit into f32[2]");
}

TEST(Indexing, Gather) {
  const Array indices = array({DType::i32, {2, 2}}, {2, 0, 9, -1});
  expect(apply("gather", {counting({3, 2}), indices}, {{"axis", std::int64_t{0}}}), {2, 2, 2},
         {4, 5, 0, 1, 4, 5, 0, 1});
  expect(apply("gather", {counting({2, 3}), array({DType::i64, {1}}, {1})},
               {{"axis", std::int64_t{1}}}),
         {2, 1}, {1, 4});
  expect(apply("gather", {counting({2, 3}), index(1)}, {{"axis", std::int64_t{0}}}), {3},
         {3, 4, 5});
  EXPECT_EQ(error("gather", {{DType::f32, {0, 3}}, {DType::i32, {2}}}, {{"axis", std::int64_t{0}}}),
            "gather: axis 0 of f32[0, 3] has no element for i32[2] to name");
  EXPECT_EQ(error("gather", {{DType::f32, {3}}, {DType::f32, {2}}}, {{"axis", std::int64_t{0}}}),
            "gather: operand 1 has type f32[2]; expected i32 or i64");
}

TEST(Indexing, ScatterAddSumsEqualIndices) {
  const Array indices = array({DType::i32, {4}}, {1, 1, 7, -3});
  expect(apply("scatter_add",
               {counting({2, 2}), indices, floats({4, 2}, {10, 20, 30, 40, 100, 200, 1000, 2000})},
               {{"axis", std::int64_t{0}}}),
         {2, 2}, {1000, 2001, 142, 263});
  const Array small = apply("scatter_add",
                            {array({DType::u8, {1}}, {250}), array({DType::i64, {2}}, {0, 0}),
                             array({DType::u8, {2}}, {5, 3})},
                            {{"axis", std::int64_t{0}}});
  EXPECT_EQ(small.integers, (Integers{2}));  // wraps
  EXPECT_EQ(error("scatter_add", {{DType::f32, {3}}, {DType::i32, {2}}, {DType::f32, {3}}},
                  {{"axis", std::int64_t{0}}}),
            "scatter_add: updates have type f32[3]; f32[3] at i32[2] needs f32[2]");
}

// ---- reductions ---------------------------------------------------------------------------------

TEST(Reduction, Sum) {
  const auto sum = [](const Shape& shape, Integers axes, bool keep) {
    return apply("sum", {counting(shape)}, {{"axes", std::move(axes)}, {"keep", keep}});
  };
  expect(sum({2, 3}, {1}, false), {2}, {3, 12});
  expect(sum({2, 3}, {0}, true), {1, 3}, {3, 5, 7});
  expect(sum({2, 3}, {1, 0}, false), {}, {15});
  expect(sum({2, 0}, {1}, false), {2}, {0, 0});
  expect(sum({2}, {}, false), {2}, {0, 1});
  EXPECT_EQ(error("sum", {{DType::f32, {2}}}, {{"axes", Integers{1}}, {"keep", false}}),
            "sum: axes [1]: axis 1 is out of range for rank 1");
}

TEST(Reduction, Extremes) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  const ir::Attributes along = {{"axes", Integers{1}}, {"keep", false}};
  const Array x = floats({2, 3}, {3, -1, 2, -5, -4, -4});
  expect(apply("max", {x}, along), {2}, {3, -4});
  expect(apply("min", {x}, along), {2}, {-1, -5});
  expect(apply("max", {floats({1, 0}, {})}, along), {1}, {-inf});
  expect(apply("min", {floats({1, 0}, {})}, along), {1}, {inf});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(std::isnan(apply("max", {floats({1, 3}, {1, nan, 2})}, along).re[0]));
  EXPECT_TRUE(std::isnan(apply("min", {floats({1, 3}, {1, nan, 2})}, along).re[0]));
  EXPECT_EQ(error("max", {{DType::i32, {2, 0}}}, along), "max: axis 1 of i32[2, 0] is empty");
}

TEST(Reduction, EqualElementsShareTheGradient) {
  const Reals actual = gradient(floats({2, 3}, {5, 1, 5, 2, 3, 1}),
                                [](Builder& b, Value x) { return ops::max(b, x, {1}); });
  EXPECT_EQ(actual, (Reals{0.5, 0, 0.5, 0, 2, 0}));
}

TEST(Reduction, Argmax) {
  const Array x = floats({2, 3}, {1, 7, 7, 5, 5, 2});
  EXPECT_EQ(apply("argmax", {x}, {{"axis", std::int64_t{1}}}).integers, (Integers{1, 0}));
  EXPECT_EQ(apply("argmax", {x}, {{"axis", std::int64_t{0}}}).integers, (Integers{1, 0, 0}));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(apply("argmax", {floats({4}, {1, nan, 9, nan})}, {{"axis", std::int64_t{0}}}).integers,
            (Integers{1}));
  EXPECT_EQ(error("argmax", {{DType::f32, {2, 0}}}, {{"axis", std::int64_t{1}}}),
            "argmax: axis 1 of f32[2, 0] is empty");
}

TEST(Cumulative, Cumsum) {
  const auto cumsum = [](bool exclusive, bool reverse) {
    return apply("cumsum", {floats({2, 3}, {1, 2, 3, 4, 5, 6})},
                 {{"axis", std::int64_t{1}}, {"exclusive", exclusive}, {"reverse", reverse}});
  };
  expect(cumsum(false, false), {2, 3}, {1, 3, 6, 4, 9, 15});
  expect(cumsum(true, false), {2, 3}, {0, 1, 3, 0, 4, 9});
  expect(cumsum(false, true), {2, 3}, {6, 5, 3, 15, 11, 6});
  expect(cumsum(true, true), {2, 3}, {5, 3, 0, 11, 6, 0});
  expect(apply("cumsum", {floats({0, 2}, {})},
               {{"axis", std::int64_t{0}}, {"exclusive", false}, {"reverse", false}}),
         {0, 2}, {});
}

}  // namespace
}  // namespace weft::test
