#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "compiler/fusion/fuse.h"
#include "run.h"

// The sum of a product's right operand over the contracted axes (the gradient of a bias beside that
// of the weights) comes from the product's kernel.
namespace weft::compiler {
namespace {

struct Case {
  std::int64_t m, n;
  std::int64_t k, l = 1;  ///< contracted axes
  std::string dtype = "f32";
  bool last = false;  ///< the contracted axes of g are its last ones
  bool keep = false;
};

std::string text(const Case& c) {
  return fmt::format("{}x{}x{}x{} {}{}{}", c.m, c.n, c.k, c.l, c.dtype, c.last ? " last" : "",
                     c.keep ? " keep" : "");
}

std::string graph_text(const Case& c) {
  const std::string x = fmt::format("[{}, {}, {}]", c.k, c.l, c.m);
  const std::string g = c.last ? fmt::format("[{}, {}, {}]", c.n, c.k, c.l)
                               : fmt::format("[{}, {}, {}]", c.k, c.l, c.n);
  const std::string axes = c.last ? "[1, 2]" : "[0, 1]";
  std::string sum = fmt::format("[{}]", c.n);
  if (c.keep) sum = c.last ? fmt::format("[{}, 1, 1]", c.n) : fmt::format("[1, 1, {}]", c.n);
  const std::string& t = c.dtype;
  return fmt::format(
      "graph @g {{\n"
      "  %x = state {{name = \"x\", dtype = {0}, shape = {1}}} : {0}{1}\n"
      "  %g = state {{name = \"g\", dtype = {0}, shape = {2}}} : {0}{2}\n"
      "  %w = dot %x, %g {{lhs_contract = [0, 1], rhs_contract = {3}, lhs_batch = [], rhs_batch = "
      "[]}} : {0}[{4}, {5}]\n"
      "  %b = sum %g {{axes = {3}, keep = {6}}} : {0}{7}\n"
      "  state_write %w {{name = \"w\"}}\n"
      "  state_write %b {{name = \"b\"}}\n}}",
      t, x, g, axes, c.m, c.n, c.keep, sum);
}

void check(const Case& c, std::size_t kernels = 1) {
  SCOPED_TRACE(text(c));
  const ir::Graph graph = test::parse(graph_text(c));
  const FusedGraph fused = fuse(graph);
  EXPECT_EQ(fused.groups.size(), kernels);
  EXPECT_EQ(fused.groups[0].operand_sum != nullptr, kernels == 1);
  const std::int64_t depth = c.k * c.l;
  const test::Values inputs = {
      {"x", test::random_values(static_cast<std::size_t>(depth * c.m), 1)},
      {"g", test::random_values(static_cast<std::size_t>(depth * c.n), 2)}};
  const test::Values actual = test::run_compiled(graph, inputs);
  // Operands are rounded to the type of the states once, sums in any order.
  const double unit = c.dtype == "f64" ? 0x1p-53 : 0x1p-24;
  const double operand = c.dtype == "bf16" ? 0x1p-8 : unit;
  const auto near = [&](double value, double expected, double magnitude, int operands) {
    const double bound = (static_cast<double>(depth + 1) * unit + operands * operand) * magnitude +
                         operand * std::abs(expected);
    ASSERT_NEAR(value, expected, 1.01 * bound);
  };
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  const auto g = [&](std::int64_t k, std::int64_t j) {
    return inputs.at("g")[at(c.last ? j * depth + k : k * c.n + j)];
  };
  for (std::int64_t j = 0; j < c.n; ++j) {
    double sum = 0;
    double magnitude = 0;
    for (std::int64_t k = 0; k < depth; ++k) {
      sum += g(k, j);
      magnitude += std::abs(g(k, j));
    }
    near(actual.at("b")[at(j)], sum, magnitude, 1);
    for (std::int64_t i = 0; i < c.m; ++i) {
      double product = 0;
      magnitude = 0;
      for (std::int64_t k = 0; k < depth; ++k) {
        const double term = inputs.at("x")[at(k * c.m + i)] * g(k, j);
        product += term;
        magnitude += std::abs(term);
      }
      near(actual.at("w")[at(i * c.n + j)], product, magnitude, 2);
    }
  }
}

TEST(OperandSum, AroundTiles) {
  // One less than whole tiles of 6, 12 and others, whole ones, and one more.
  for (const std::int64_t m : {16, 17, 23, 24, 25, 35, 47, 48, 64, 71, 255}) {
    check({m, 40, 33});
  }
}

TEST(OperandSum, Layouts) {
  for (const bool last : {false, true}) {
    for (const bool keep : {false, true}) {
      check({24, 50, 20, 3, "f32", last, keep});
      check({61, 33, 5, 40, "f64", last, keep});
    }
  }
}

TEST(OperandSum, LongAndSharedOperands) {
  check({31, 33, 4100});
  check({260, 256, 512});
  check({64, 64, 8192});
  check({23, 600, 70, 2});
}

TEST(OperandSum, WhereTheKernelCannotGiveIt) {
  check({4, 200, 100}, 2);
  check({64, 64, 64, 1, "bf16"}, 2);
  // Over another axis, and of a value that waits for the product.
  EXPECT_EQ(fuse(test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [32, 32]} : f32[32, 32]
  %g = state {name = "g", dtype = f32, shape = [32, 32]} : f32[32, 32]
  %w = dot %x, %g {lhs_contract = [0], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[32, 32]
  %b = sum %g {axes = [1], keep = false} : f32[32]
  state_write %w {name = "w"}
  state_write %b {name = "b"}
})"))
                .groups.size(),
            2U);
  EXPECT_EQ(fuse(test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [32, 32]} : f32[32, 32]
  %g = state {name = "g", dtype = f32, shape = [32, 32]} : f32[32, 32]
  %b = sum %g {axes = [0], keep = true} : f32[1, 32]
  %e = broadcast %b {shape = [32, 32]} : f32[32, 32]
  %y = mul %x, %e : f32[32, 32]
  %w = dot %y, %g {lhs_contract = [0], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[32, 32]
  %z = exp %w : f32[32, 32]
  state_write %z {name = "z"}
})"))
                .groups.size(),
            3U);
}

}  // namespace
}  // namespace weft::compiler
