#include "support.h"

namespace weft::test {
namespace {

TEST(Trace, RecordsAVerifiedGraph) {
  State state;
  const Program program = trace(
      state,
      [] {
        const Tensor w = parameter("w", {2, 3}, init::ones());
        const Tensor x = feeder("x", {4, 2}, DType::f32, [](std::int64_t, std::span<float>) {});
        out("y", tanh(matmul(x, w)) + 1);
      },
      "model");
  check_graph(program);
  EXPECT_EQ(program.name(), "model");
  EXPECT_EQ(count(program, "dot"), 1);
  EXPECT_EQ(count(program, "state"), 1);
  EXPECT_NE(program.dump("traced").find("dot"), std::string::npos);
  EXPECT_EQ(program.dump("traced", Format::dot).find("digraph"), 0U);
  EXPECT_NE(program.dump("traced", Format::json).find("\"graph\""), std::string::npos);
}

TEST(Trace, DropsWhatNothingNeeds) {
  State state;
  const Program program = trace(state, [] {
    const Tensor w = parameter("w", {2});
    exp(w);
  });
  EXPECT_EQ(count(program, "exp"), 0);
  EXPECT_EQ(count(program, "state"), 0);
  EXPECT_TRUE(state.has("w"));
}

TEST(Trace, NestedTracesAreErrors) {
  State state;
  const std::string message = error_of([&] { trace(state, [] {}); });
  EXPECT_TRUE(names(message, "already running", __FILE__, __LINE__ - 1)) << message;
  // The failed one has ended: another can start.
  EXPECT_NO_THROW(trace(state, [] {}));
}

TEST(Trace, UndoesStatesOfAFailedTrace) {
  State state;
  trace(state, [] { parameter("old", {2}); });
  EXPECT_THROW(trace(state,
                     [] {
                       parameter("old", {2});
                       parameter("new", {3});
                       throw Error("model");
                     }),
               Error);
  EXPECT_TRUE(state.has("old"));
  EXPECT_FALSE(state.has("new"));
}

TEST(Trace, HandlesEndWithTheirTrace) {
  State state;
  Tensor leaked;
  trace(state, [&] { leaked = constant(1); });
  const std::string message = error_of([&] { exp(leaked); });
  EXPECT_TRUE(names(message, "another trace", __FILE__, __LINE__ - 1)) << message;
  try {
    exp(leaked);
    FAIL() << "used outside of a trace";
  } catch (const Error& error) {
    EXPECT_TRUE(names(error.what(), "exp: no trace is running", __FILE__, __LINE__ - 3));
  }
  const std::string undefined = error_of([] { exp(Tensor()); });
  EXPECT_TRUE(names(undefined, "exp: an undefined tensor", __FILE__, __LINE__ - 1));
}

TEST(Trace, OperatorsNameTheCallersLine) {
  const std::string shapes = error_of([] {
    const Tensor x = zeros({2, 3});
    const Tensor y = zeros({2, 4});
    x + y;
  });
  EXPECT_TRUE(names(shapes, "add: shapes [2, 3] and [2, 4]", __FILE__, __LINE__ - 2));
  const std::string types = error_of([] {
    const Tensor x = zeros({2});
    x* zeros({2}, DType::f64);
  });
  EXPECT_TRUE(names(types, "mul: f32[2] and f64[2]", __FILE__, __LINE__ - 2));
  const std::string update = error_of([] {
    Tensor x = zeros({3});
    x += zeros({2, 3});
  });
  EXPECT_TRUE(names(update, "f32[2, 3]", __FILE__, __LINE__ - 2));
  const std::string entry = error_of([] { zeros({3})[3]; });
  EXPECT_TRUE(names(entry, "select: there is no entry 3", __FILE__, __LINE__ - 1));
  const std::string comparison = error_of([] { zeros({3}) < zeros({4}); });
  EXPECT_TRUE(names(comparison, "less", __FILE__, __LINE__ - 1));
}

TEST(Trace, FunctionsNameTheCallersLine) {
  const std::string axis = error_of([] { sum(zeros({2, 3}), 2); });
  EXPECT_TRUE(names(axis, "sum: there is no axis 2 in f32[2, 3]", __FILE__, __LINE__ - 1));
  const std::string twice = error_of([] { max(zeros({2, 3}), {1, -1}); });
  EXPECT_TRUE(names(twice, "max: axis 1 of f32[2, 3] is given twice", __FILE__, __LINE__ - 1));
  const std::string inner = error_of([] { matmul(zeros({2, 3}), zeros({2, 3})); });
  EXPECT_TRUE(names(inner, "matmul: f32[2, 3] and f32[2, 3]", __FILE__, __LINE__ - 1));
  const std::string fit = error_of([] { reshape(zeros({2, 3}), {4, -1}); });
  EXPECT_TRUE(names(fit, "reshape: f32[2, 3] does not fit into [4, -1]", __FILE__, __LINE__ - 1));
  const std::string row = error_of([] { cross_entropy(zeros({2, 3}), zeros({3}, DType::i64)); });
  EXPECT_TRUE(names(row, "cross_entropy", __FILE__, __LINE__ - 1));
  const std::string test = error_of([] { where(zeros({2}), zeros({2}), 1); });
  EXPECT_TRUE(names(test, "where: the condition is f32[2], not bool", __FILE__, __LINE__ - 1));
}

TEST(Trace, CopiesShareAndAssignmentChangesBoth) {
  expect_near(value_of([] {
                Tensor a = constant(1);
                Tensor b = a;
                const Tensor before = a * 1;
                a += 2;
                assign(b, b * 10);
                return stack({before, a, b});
              }),
              {1, 30, 30});
}

TEST(Trace, AssignmentKeepsTheType) {
  const std::string message = error_of([] { assign(zeros({2}), zeros({3})); });
  EXPECT_TRUE(names(message, "assign: f32[2] cannot stand for a value of type f32[3]", __FILE__,
                    __LINE__ - 2));
}

TEST(Trace, LiteralsTakeTheTensorsType) {
  State state;
  const Program program = trace(state, [] {
    EXPECT_EQ((zeros({2}, DType::bf16) * 2).dtype(), DType::bf16);
    EXPECT_EQ((1 - zeros({2}, DType::i64)).dtype(), DType::i64);
    EXPECT_EQ((zeros({2}, DType::f64) + 0.5).dtype(), DType::f64);
    EXPECT_EQ((2.0F * complex(zeros({2}), ones({2}))).dtype(), DType::c64);
    EXPECT_EQ(pow(zeros({2}), 3).dtype(), DType::f32);
    EXPECT_EQ((zeros({2}, DType::i32) < 3).dtype(), DType::boolean);
    EXPECT_EQ(where(ones({2}, DType::boolean), 1, zeros({3, 2}, DType::f16)).type(),
              (Type{DType::f16, {3, 2}}));
  });
  check_graph(program);
  const std::string fraction = error_of([] { zeros({2}, DType::i32) + 0.5; });
  EXPECT_TRUE(names(fraction, "add: the literal 0.5 is no i32", __FILE__, __LINE__ - 1));
  const std::string large = error_of([] { zeros({2}, DType::u8) + 256; });
  EXPECT_TRUE(names(large, "add: the literal 256 is no u8", __FILE__, __LINE__ - 1));
  const std::string negative = error_of([] { zeros({2}, DType::u8) - -1; });
  EXPECT_TRUE(names(negative, "sub: the literal -1 is no u8", __FILE__, __LINE__ - 1));
}

TEST(Trace, LargeIntegerLiteralsAreExact) {
  const std::int64_t large = (std::int64_t{1} << 53) + 1;
  // In doubles the difference would be 0.
  expect_near(value_of([&] {
                const Tensor x = constant(std::vector<std::int64_t>{large}, {1});
                return cast(x - (large - 1), DType::f32);
              }),
              {1});
}

TEST(Trace, BroadcastsAsNumPyDoes) {
  expect_near(value_of([] {
                const Tensor column = constant({1, 2}, {2, 1});
                const Tensor row = constant({10, 20, 30}, {3});
                return column + row;
              }),
              {11, 21, 31, 12, 22, 32});
  expect_near(value_of([] {
                return where(constant({1, 0}, {2, 1}, DType::boolean), constant({1, 2, 3}, {3}), 9);
              }),
              {1, 2, 3, 9, 9, 9});
  State state;
  const Program same = trace(state, [] { out("y", iota({2}, 0) + iota({2}, 0)); });
  EXPECT_EQ(count(same, "broadcast"), 0);
}

TEST(Trace, NamesReachTheDump) {
  State state;
  const Program program = trace(state, [] {
    Tensor y = exp(parameter("layer.w", {2}));
    y.set_name("activation");
    EXPECT_EQ(y.name(), "activation");
    out("y", y);
  });
  EXPECT_NE(program.dump().find("activation"), std::string::npos);
  const std::string message = error_of([] { parameter("w", {2}).set_name("v"); });
  EXPECT_TRUE(names(message, "'w' keeps its name", __FILE__, __LINE__ - 1));
}

TEST(Trace, ShapesOfHandles) {
  State state;
  trace(state, [] {
    const Tensor x = zeros({2, 5, 3}, DType::f16);
    EXPECT_EQ(x.rank(), 3);
    EXPECT_EQ(x.extent(-1), 3);
    EXPECT_EQ(x.extent(1), 5);
    EXPECT_EQ(x.elements(), 30);
    EXPECT_EQ(x.shape(), (Shape{2, 5, 3}));
    EXPECT_THROW(x.extent(3), Error);
    EXPECT_THROW(x.extent(-4), Error);
    EXPECT_FALSE(Tensor().defined());
    EXPECT_THROW(Tensor().shape(), Error);
  });
}

}  // namespace
}  // namespace weft::test
