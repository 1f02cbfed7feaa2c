#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "compiler/fusion/fuse.h"
#include "run.h"

// Two products that share an operand and meet in an elementwise op are one kernel: against sums in
// double precision, with either operand shared and either of the others transposed.
namespace weft::compiler {
namespace {

struct Case {
  std::int64_t m, n, k;
  std::string dtype;
  bool left = true;  ///< x is the left operand of both products
  bool first_transposed = false;
  bool second_transposed = false;
};

std::string text(const Case& c) {
  return fmt::format("{}x{}x{} {} {} {}{}", c.m, c.n, c.k, c.dtype, c.left ? "left" : "right",
                     c.first_transposed ? 't' : 'n', c.second_transposed ? 't' : 'n');
}

/// u = x a, v = x b (or a x, b x, of transposed shape), y = relu(u) * v; u is stored as well.
std::string graph_text(const Case& c) {
  std::string out = "graph @g {\n";
  const auto type = [&](std::int64_t rows, std::int64_t columns) {
    return fmt::format("{}[{}, {}]", c.dtype, rows, columns);
  };
  const auto state = [&](const char* name, std::int64_t rows, std::int64_t columns) {
    out += fmt::format("  %{0} = state {{name = \"{0}\", dtype = {1}, shape = [{2}, {3}]}} : {4}\n",
                       name, c.dtype, rows, columns, type(rows, columns));
  };
  // Stored with the contracted axis first, or last where transposed.
  const auto weights = [&](const char* name, bool transposed) {
    transposed ? state(name, c.n, c.k) : state(name, c.k, c.n);
  };
  state("x", c.m, c.k);
  weights("a", c.first_transposed);
  weights("b", c.second_transposed);
  const std::string result = c.left ? type(c.m, c.n) : type(c.n, c.m);
  const auto dot = [&](const char* to, const char* from, bool transposed) {
    // The layout of the weights is a matter of their own: the product reads them as k by n.
    std::string operand = from;
    if (transposed) {
      operand = fmt::format("{}_t", from);
      out += fmt::format("  %{} = permute %{} {{order = [1, 0]}} : {}\n", operand, from,
                         type(c.k, c.n));
    }
    out += fmt::format(
        "  %{} = dot %{}, %{} {{lhs_contract = [{}], rhs_contract = [{}], lhs_batch = [], "
        "rhs_batch = []}} : {}\n",
        to, c.left ? "x" : operand, c.left ? operand : "x", c.left ? 1 : 0, c.left ? 0 : 1, result);
  };
  dot("u", "a", c.first_transposed);
  dot("v", "b", c.second_transposed);
  out += fmt::format("  %r = relu %u : {0}\n  %y = mul %r, %v : {0}\n", result);
  return out + "  state_write %u {name = \"u\"}\n  state_write %y {name = \"y\"}\n}";
}

struct Sums {
  std::vector<double> value, magnitude;
};

Sums sums(const Case& c, const std::vector<double>& x, const std::vector<double>& w,
          bool transposed) {
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  Sums out;
  out.value.assign(at(c.m * c.n), 0);
  out.magnitude = out.value;
  for (std::int64_t i = 0; i < c.m; ++i) {
    for (std::int64_t j = 0; j < c.n; ++j) {
      const std::size_t to = at(c.left ? i * c.n + j : j * c.m + i);
      for (std::int64_t k = 0; k < c.k; ++k) {
        const double term = x[at(i * c.k + k)] * w[at(transposed ? j * c.k + k : k * c.n + j)];
        out.value[to] += term;
        out.magnitude[to] += std::abs(term);
      }
    }
  }
  return out;
}

void check(const Case& c, std::size_t kernels = 1) {
  SCOPED_TRACE(text(c));
  const ir::Graph graph = test::parse(graph_text(c));
  EXPECT_EQ(fuse(graph).groups.size(), kernels);
  const auto exact = [](std::int64_t count, unsigned seed) {
    std::vector<double> values = test::random_values(static_cast<std::size_t>(count), seed);
    for (double& value : values) value = std::nearbyint(value * 64) / 64;
    return values;
  };
  const test::Values inputs = {
      {"x", exact(c.m * c.k, 1)}, {"a", exact(c.k * c.n, 2)}, {"b", exact(c.k * c.n, 3)}};
  const Compilation compilation = compile(graph);
  const test::Values actual = test::run_plan(compilation.plan, inputs, 1);
  for (const int threads : {2, 5}) {
    EXPECT_EQ(actual, test::run_plan(compilation.plan, inputs, threads));
  }
  const std::vector<double>& actual_u = actual.at("u");
  const std::vector<double>& actual_y = actual.at("y");
  const Sums u = sums(c, inputs.at("x"), inputs.at("a"), c.first_transposed);
  const Sums v = sums(c, inputs.at("x"), inputs.at("b"), c.second_transposed);
  const double sum_unit = c.dtype == "f64" ? 0x1p-53 : 0x1p-24;
  const double unit = c.dtype == "bf16" ? 0x1p-8 : sum_unit;
  ASSERT_EQ(actual_u.size(), u.value.size());
  for (std::size_t i = 0; i < actual_u.size(); ++i) {
    // Sums of k products in any order, then each result's own rounding.
    const double length = static_cast<double>(c.k + 2) * sum_unit;
    const double u_bound = length * u.magnitude[i] + 1.01 * unit * std::abs(u.value[i]);
    const double v_bound = length * v.magnitude[i] + 1.01 * unit * std::abs(v.value[i]);
    ASSERT_NEAR(actual_u[i], u.value[i], u_bound) << "element " << i;
    const double expected = std::max(u.value[i], 0.0) * v.value[i];
    const double bound = std::abs(u.value[i]) * v_bound + std::abs(v.value[i]) * u_bound +
                         u_bound * v_bound + 1.01 * unit * std::abs(expected);
    ASSERT_NEAR(actual_y[i], expected, bound) << "element " << i;
  }
}

TEST(SharedOperand, AllLayouts) {
  for (const bool left : {true, false}) {
    for (const bool first : {true, false}) {
      for (const bool second : {true, false}) {
        check({61, 40, 33, "f32", left, first, second});
        check({130, 97, 50, "f32", left, first, second});
      }
    }
  }
}

TEST(SharedOperand, AroundTilesAndPanels) {
  for (const Case& c : {Case{16, 16, 16, "f32"}, Case{17, 20, 19, "f32"}, Case{24, 32, 64, "f32"},
                        Case{260, 256, 300, "f32"}, Case{31, 33, 2049, "f32"},
                        Case{64, 64, 8192, "f32"}, Case{300, 40, 100, "f32"}}) {
    check(c);
    Case right = c;
    right.left = false;
    check(right);
  }
}

TEST(SharedOperand, OtherTypes) {
  for (const char* dtype : {"f64", "bf16"}) {
    check({61, 40, 33, dtype});
    check({65, 70, 128, dtype, true, true, false});
    check({40, 36, 50, dtype, false, false, true});
  }
}

TEST(SharedOperand, FewRowsAreKernelsOfTheirOwn) { check({3, 200, 100, "f32"}, 2); }

TEST(SharedOperand, ASecondProductOfTheFirstOnesResultIsNotMerged) {
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [32, 32]} : f32[32, 32]
  %a = state {name = "a", dtype = f32, shape = [32, 32]} : f32[32, 32]
  %u = dot %x, %a {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[32, 32]
  %r = relu %u : f32[32, 32]
  %v = dot %x, %r {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[32, 32]
  %y = mul %r, %v : f32[32, 32]
  state_write %y {name = "y"}
})");
  EXPECT_EQ(fuse(graph).groups.size(), 2U);
}

}  // namespace
}  // namespace weft::compiler
