// Messages of shape rules and of the builder: the op, both types, the line.

#include <gtest/gtest.h>

#include "support.h"

namespace weft::test {
namespace {

using ir::Region;
using ir::Value;
using ops::Builder;

class ErrorTest : public testing::Test {
 protected:
  ErrorTest() : b(graph, graph.body()) { b.set_location({intern("model.cpp"), 12}); }

  Value input(DType dtype, const Shape& shape) {
    return state(b, fmt::format("x{}", graph.node_count()), {dtype, shape});
  }

  /// The message of the error, which leaves the graph as it was.
  std::string error(std::string_view op_name, std::vector<Value> operands,
                    ir::Attributes attributes = {}, std::vector<Region*> regions = {}) {
    const std::size_t before = graph.body().nodes.size();
    std::string message = "no error";
    try {
      b.emit(ops::op(op_name), std::move(operands), std::move(attributes), std::move(regions));
    } catch (const Error& e) {
      message = e.what();
    }
    EXPECT_EQ(graph.body().nodes.size(), before);
    return message;
  }

  ir::Graph graph;
  Builder b;
};

TEST_F(ErrorTest, OperandsDiffer) {
  const Value x = input(DType::f32, {2, 3});
  EXPECT_EQ(error("add", {x, input(DType::f32, {4})}),
            "add: operands differ: f32[2, 3] and f32[4] (model.cpp:12)");
  EXPECT_EQ(error("mul", {x, input(DType::f64, {2, 3})}),
            "mul: operands differ: f32[2, 3] and f64[2, 3] (model.cpp:12)");
}

TEST_F(ErrorTest, WrongType) {
  const Value x = input(DType::i32, {3});
  EXPECT_EQ(error("exp", {x}),
            "exp: operand 0 has type i32[3]; expected f32, f16, bf16, f64 or c64 (model.cpp:12)");
  EXPECT_EQ(error("where", {x, x, x}),
            "where: operand 0 has type i32[3]; expected bool (model.cpp:12)");
  EXPECT_EQ(error("logical_not", {x}),
            "logical_not: operand 0 has type i32[3]; expected bool (model.cpp:12)");
  EXPECT_EQ(error("bitwise_not", {input(DType::f32, {})}),
            "bitwise_not: operand 0 has type f32[]; expected i32, i64 or u8 (model.cpp:12)");
  const Value z = input(DType::c64, {3});
  EXPECT_EQ(error("less", {z, z}),
            "less: operand 0 has type c64[3]; expected f32, f16, bf16, f64, i32, i64 or u8 "
            "(model.cpp:12)");
  EXPECT_EQ(error("cast", {z}, {{"dtype", DType::f32}}),
            "cast: c64[3] to f32 would drop the imaginary part; take real() or imag() first "
            "(model.cpp:12)");
}

TEST_F(ErrorTest, WhereShapes) {
  const Value x = input(DType::f32, {2});
  EXPECT_EQ(error("where", {input(DType::boolean, {3}), x, x}),
            "where: condition bool[3] and values f32[2] differ in shape (model.cpp:12)");
}

TEST_F(ErrorTest, ArityAndAttributes) {
  const Value x = input(DType::f32, {2});
  EXPECT_EQ(error("add", {x}), "add: takes 2 operands, has 1 (model.cpp:12)");
  EXPECT_EQ(error("add", {x, Value{}}), "add: operand 1 is an empty value (model.cpp:12)");
  EXPECT_EQ(error("cast", {x}), "cast: attribute 'dtype' is missing (model.cpp:12)");
  EXPECT_EQ(error("cast", {x}, {{"dtype", std::int64_t{3}}}),
            "cast: attribute 'dtype' is an integer, not a dtype (model.cpp:12)");
  EXPECT_EQ(error("neg", {x}, {{"axis", std::int64_t{0}}}),
            "neg: has no attribute 'axis' (model.cpp:12)");
}

TEST_F(ErrorTest, Constants) {
  const std::vector<std::int64_t> scalar;
  EXPECT_EQ(error("constant", {},
                  {{"dtype", DType::u8}, {"shape", scalar}, {"value", std::int64_t{300}}}),
            "constant: 300 is not a value of u8 (model.cpp:12)");
  EXPECT_EQ(error("constant", {}, {{"dtype", DType::i32}, {"shape", scalar}, {"value", 0.5}}),
            "constant: 0.5 is not a value of i32 (model.cpp:12)");
  EXPECT_EQ(error("constant_data", {},
                  {{"dtype", DType::c64},
                   {"shape", std::vector<std::int64_t>{2}},
                   {"values", std::vector<double>{1, 2}}}),
            "constant_data: c64[2] needs 4 values, got 2 (model.cpp:12)");
  EXPECT_EQ(error("iota", {},
                  {{"dtype", DType::i32},
                   {"shape", std::vector<std::int64_t>{2}},
                   {"axis", std::int64_t{1}}}),
            "iota: axis 1 is out of range for rank 1 (model.cpp:12)");
}

TEST_F(ErrorTest, ShapesThatCannotBeCounted) {
  const auto constant = [&](const std::vector<std::int64_t>& shape) {
    return error("constant", {}, {{"dtype", DType::f32}, {"shape", shape}, {"value", 1.0}});
  };
  EXPECT_EQ(constant({-1}), "constant: shape [-1]: extent -1 is negative (model.cpp:12)");
  const std::int64_t large = std::int64_t{1} << 40;
  const std::string message =
      "constant: a tensor of that shape would have more than 2^48 bytes (model.cpp:12)";
  EXPECT_EQ(constant({large, large}), message);
  EXPECT_EQ(constant({0, large, large}), message);
  EXPECT_EQ(constant({1, 1, 1, 1, 1, 1, 1, 1, 1}),
            "constant: shape [1, 1, 1, 1, 1, 1, 1, 1, 1] has more than 8 axes (model.cpp:12)");
}

TEST_F(ErrorTest, Transfers) {
  const Value x = input(DType::f32, {2});
  EXPECT_EQ(error("receiver", {x}, {{"name", std::string("r")}, {"every", std::int64_t{0}}}),
            "receiver: every is 0; expected at least 1 (model.cpp:12)");
  EXPECT_EQ(error("state_write", {x}, {{"name", std::string()}}),
            "state_write: the name is empty (model.cpp:12)");
}

// ---- bodies -------------------------------------------------------------------------------------

class BodyErrorTest : public ErrorTest {
 protected:
  /// A body with arguments of those types after the index, which yields `yields` of them.
  Region* body(const std::vector<Type>& arguments, const std::vector<std::size_t>& yields,
               DType index = DType::i64) {
    Region* region = graph.new_region(nullptr);
    std::vector<Value> values = {b.argument(*region, {index, {}})};
    for (const Type& type : arguments) values.push_back(b.argument(*region, type));
    for (const std::size_t i : yields) region->yields.push_back(values[i]);
    return region;
  }
  const ir::Attributes count = {{"count", std::int64_t{3}}};
  const Type vector{DType::f32, {2}};
  const Type matrix{DType::f32, {3, 2}};
};

TEST_F(BodyErrorTest, Loop) {
  const Value x = input(DType::f32, {2});
  EXPECT_EQ(error("loop", {x}, count), "loop: takes 1 region, has 0 (model.cpp:12)");
  EXPECT_EQ(error("loop", {x}, {{"count", std::int64_t{-1}}}, {body({vector}, {1})}),
            "loop: count is -1 (model.cpp:12)");
  EXPECT_EQ(error("loop", {x}, count, {nullptr}), "loop: a region is missing (model.cpp:12)");
  EXPECT_EQ(error("loop", {x}, count, {body({}, {})}),
            "loop: the body has 1 argument and needs 2: the index and one for each operand "
            "(model.cpp:12)");
  EXPECT_EQ(error("loop", {x}, count, {body({vector}, {1}, DType::i32)}),
            "loop: argument 0 of the body is i32[], not i64[] (model.cpp:12)");
  EXPECT_EQ(error("loop", {x}, count, {body({matrix}, {1})}),
            "loop: argument 1 of the body is f32[3, 2], not f32[2] (model.cpp:12)");
  EXPECT_EQ(error("loop", {x}, count, {body({vector}, {})}),
            "loop: the body yields 0 values and carries 1 (model.cpp:12)");
  EXPECT_EQ(error("loop", {x}, count, {body({vector}, {0})}),
            "loop: yield 0 is i64[], the carried value is f32[2] (model.cpp:12)");
}

TEST_F(BodyErrorTest, Scan) {
  const Value x = input(DType::f32, {2});
  const Value xs = input(DType::f32, {3, 2});
  const auto attributes = [](std::int64_t length, std::int64_t carried) {
    return ir::Attributes{{"length", length}, {"carried", carried}, {"reverse", false}};
  };
  EXPECT_EQ(error("scan", {x, xs}, attributes(3, 5), {body({vector, vector}, {1})}),
            "scan: carries 5 of 2 operands (model.cpp:12)");
  EXPECT_EQ(error("scan", {x, xs}, attributes(4, 1), {body({vector, vector}, {1})}),
            "scan: scanned operand 1 is f32[3, 2], its first extent is not the length 4 "
            "(model.cpp:12)");
  EXPECT_EQ(error("scan", {x, xs}, attributes(3, 1), {body({vector, matrix}, {1})}),
            "scan: argument 2 of the body is f32[3, 2], not f32[2] (model.cpp:12)");
  EXPECT_EQ(error("scan", {x, xs}, attributes(3, 1), {body({vector, vector}, {})}),
            "scan: the body yields 0 values and carries 1 (model.cpp:12)");
  const Type full{DType::f32, {1, 1, 1, 1, 1, 1, 1, 1}};
  const Value y = input(DType::f32, full.shape);
  EXPECT_EQ(error("scan", {y}, attributes(3, 1), {body({full}, {1, 1})}),
            "scan: yield 1 is f32[1, 1, 1, 1, 1, 1, 1, 1], which has too many axes to be stacked "
            "(model.cpp:12)");
}

}  // namespace
}  // namespace weft::test
