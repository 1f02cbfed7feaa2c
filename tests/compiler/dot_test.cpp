#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "run.h"

// Matrix products of every schedule against sums over indices in double precision: all
// transpositions, sizes around those of tiles, panels, vectors and chunks, what is fused before and
// after, and the same bits on any number of threads.
namespace weft::compiler {
namespace {

struct Case {
  std::int64_t batch, m, n, k;
  bool x_transposed, w_transposed;
};

std::string text(const Case& c) {
  return fmt::format("{} of {}x{}x{} {}{}", c.batch, c.m, c.n, c.k, c.x_transposed ? 't' : 'n',
                     c.w_transposed ? 't' : 'n');
}

/// y = x w, or y = relu(relu(x) (-w) + b) where `fused`.
std::string graph_text(const Case& c, const std::string& dtype, bool fused) {
  const auto shape = [&](std::int64_t rows, std::int64_t columns) {
    return fmt::format("[{}, {}, {}]", c.batch, rows, columns);
  };
  const std::string x = c.x_transposed ? shape(c.k, c.m) : shape(c.m, c.k);
  const std::string w = c.w_transposed ? shape(c.n, c.k) : shape(c.k, c.n);
  const std::string y = shape(c.m, c.n);
  const auto state = [&](const char* name, const std::string& of) {
    return fmt::format("  %{0} = state {{name = \"{0}\", dtype = {1}, shape = {2}}} : {1}{2}\n",
                       name, dtype, of);
  };
  const auto unary = [&](const char* to, const char* op, const char* from, const std::string& of) {
    return fmt::format("  %{} = {} %{} : {}{}\n", to, op, from, dtype, of);
  };
  std::string out = "graph @g {\n" + state("x", x) + state("w", w);
  if (fused) out += state("b", y) + unary("x1", "relu", "x", x) + unary("w1", "neg", "w", w);
  out += fmt::format(
      "  %p = dot %{}, %{} {{lhs_contract = [{}], rhs_contract = [{}], lhs_batch = [0], rhs_batch "
      "= "
      "[0]}} : {}{}\n",
      fused ? "x1" : "x", fused ? "w1" : "w", c.x_transposed ? 1 : 2, c.w_transposed ? 2 : 1, dtype,
      y);
  if (fused) {
    out += fmt::format("  %q = add %p, %b : {}{}\n", dtype, y) + unary("r", "relu", "q", y);
  }
  return out + fmt::format("  state_write %{} {{name = \"y\"}}\n}}", fused ? "r" : "p");
}

std::vector<double> sums(const Case& c, const std::vector<double>& x, const std::vector<double>& w,
                         std::vector<double>& magnitudes) {
  std::vector<double> y(static_cast<std::size_t>(c.batch * c.m * c.n));
  magnitudes.assign(y.size(), 0);
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  for (std::int64_t b = 0; b < c.batch; ++b) {
    for (std::int64_t i = 0; i < c.m; ++i) {
      double* row = y.data() + at((b * c.m + i) * c.n);
      double* bound = magnitudes.data() + at((b * c.m + i) * c.n);
      for (std::int64_t k = 0; k < c.k; ++k) {
        const double factor = x[at(b * c.m * c.k + (c.x_transposed ? k * c.m + i : i * c.k + k))];
        const double* from = w.data() + at(b * c.k * c.n + (c.w_transposed ? k : k * c.n));
        const std::int64_t step = c.w_transposed ? c.k : 1;
        for (std::int64_t j = 0; j < c.n; ++j) {
          row[j] += factor * from[j * step];
          bound[j] += std::abs(factor * from[j * step]);
        }
      }
    }
  }
  return y;
}

std::vector<double> run(const Compilation& compilation, const test::Values& inputs, int threads) {
  return test::run_plan(compilation.plan, inputs, threads).at("y");
}

struct Precision {
  std::string name;
  double operand;      ///< unit roundoff of the operands' type
  double accumulated;  ///< of the sums
};

void check(const Case& c, const Precision& precision, bool fused,
           const CompileOptions& options = {}) {
  SCOPED_TRACE(text(c) + " " + precision.name + (fused ? " fused" : ""));
  const auto size = [&](std::int64_t a, std::int64_t b) {
    return static_cast<std::size_t>(c.batch * a * b);
  };
  // Values that every type holds exactly.
  const auto exact = [](std::vector<double> values) {
    for (double& value : values) value = std::nearbyint(value * 64) / 64;
    return values;
  };
  test::Values inputs = {{"x", exact(test::random_values(size(c.m, c.k), 1))},
                         {"w", exact(test::random_values(size(c.k, c.n), 2))},
                         {"b", exact(test::random_values(size(c.m, c.n), 3))}};
  const Compilation compilation =
      compile(test::parse(graph_text(c, precision.name, fused)), options);
  const std::vector<double> actual = run(compilation, inputs, 1);
  EXPECT_EQ(actual, run(compilation, inputs, 2));
  EXPECT_EQ(actual, run(compilation, inputs, 5));

  if (fused) {
    for (double& value : inputs["x"]) value = std::max(value, 0.0);
    for (double& value : inputs["w"]) value = -value;
  }
  std::vector<double> magnitudes;
  std::vector<double> expected = sums(c, inputs["x"], inputs["w"], magnitudes);
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    double magnitude = magnitudes[i];
    if (fused) {
      magnitude += std::abs(inputs["b"][i]);
      expected[i] = std::max(expected[i] + inputs["b"][i], 0.0);
    }
    // Sums of k products in any order, one more addition, and the result's own rounding.
    const double bound = static_cast<double>(c.k + 2) * precision.accumulated * magnitude +
                         precision.operand * std::abs(expected[i]) * 1.01;
    ASSERT_NEAR(actual[i], expected[i], bound) << "element " << i;
  }
}

const Precision f32{"f32", 0x1p-24, 0x1p-24};
const Precision f64{"f64", 0x1p-53, 0x1p-53};
const Precision bf16{"bf16", 0x1p-8, 0x1p-24};
const Precision f16{"f16", 0x1p-11, 0x1p-24};

class Products : public testing::TestWithParam<int> {
 protected:
  bool x_transposed() const { return (GetParam() & 1) != 0; }
  bool w_transposed() const { return (GetParam() & 2) != 0; }
  void check_all(const std::vector<std::array<std::int64_t, 4>>& shapes, const Precision& precision,
                 bool fused, const CompileOptions& options = {}) {
    for (const auto& [batch, m, n, k] : shapes) {
      check({batch, m, n, k, x_transposed(), w_transposed()}, precision, fused, options);
    }
  }
};

TEST_P(Products, OfFewRowsOrColumns) {
  check_all({{1, 1, 1, 1},
             {1, 2, 255, 255},
             {1, 255, 2, 33},
             {1, 1, 100, 64},
             {3, 5, 70, 17},
             {2, 6, 33, 100},
             {1, 7, 9, 40}},
            f32, false);
}

TEST_P(Products, AroundTilesAndPanels) {
  check_all({{1, 12, 32, 16},
             {1, 25, 65, 33},
             {1, 130, 97, 50},
             {2, 61, 40, 18},
             {1, 255, 255, 31},
             {1, 300, 150, 3}},
            f32, false);
}

TEST_P(Products, OfLongAxesInChunks) {
  check_all({{1, 40, 40, 4100}, {1, 2, 20, 2500}, {1, 70, 100, 2049}}, f32, false);
}

// Few results of long sums: parts of the contracted axis are blocks of their own.
TEST_P(Products, OfPartsOfTheContractedAxis) {
  const std::vector<std::array<std::int64_t, 4>> shapes = {
      {1, 33, 45, 5001}, {2, 20, 70, 4097}, {1, 64, 64, 2048}, {1, 13, 17, 40000}};
  for (const Precision& precision : {f32, bf16}) {
    for (const bool fused : {false, true}) check_all(shapes, precision, fused);
  }
  check_all({{1, 33, 45, 5001}}, f64, true);
}

TEST(ProductBlocks, CutLongSums) {
  const Case deep{1, 64, 64, 8192, false, false};
  const plan::Plan plan = compile(test::parse(graph_text(deep, "f32", false))).plan;
  ASSERT_EQ(plan.kernels.size(), 1U);
  ASSERT_EQ(plan.kernels[0].phases.size(), 2U);
  EXPECT_GE(plan.kernels[0].phases[0].grid, 8);
}

TEST_P(Products, SharedByBlocks) {
  check_all({{1, 260, 256, 512}, {1, 600, 70, 128}, {7, 64, 64, 40}}, f32, false);
}

TEST_P(Products, OfEmptyAxes) {
  check_all({{1, 13, 40, 0}, {1, 0, 4, 5}, {0, 4, 4, 4}}, f32, false);
}

TEST_P(Products, WithPrologueAndEpilogue) {
  check_all({{1, 3, 50, 40}, {1, 65, 70, 33}, {2, 30, 40, 20}, {1, 260, 256, 256}}, f32, true);
}

TEST_P(Products, InDoublePrecision) {
  check_all({{1, 3, 50, 40}, {1, 65, 70, 33}, {2, 30, 40, 20}}, f64, true);
}

TEST_P(Products, OfSixteenBits) {
  const std::vector<std::array<std::int64_t, 4>> shapes = {
      {1, 2, 50, 40}, {1, 65, 70, 33}, {2, 30, 40, 20}, {1, 130, 256, 255}, {1, 30, 33, 1}};
  for (const bool fused : {false, true}) {
    check_all(shapes, bf16, fused);
    check_all(shapes, f16, fused);
  }
}

// Products that are laid out for tile registers, on whatever machine this is.
TEST_P(Products, OfTiles) {
  CompileOptions options;
  options.target = host_target();
  options.target->tile_products = true;
  for (const bool fused : {false, true}) {
    check_all({{1, 33, 45, 50},
               {1, 16, 16, 32},
               {2, 70, 65, 33},
               {1, 13, 90, 128},
               {1, 20, 40, 9001},
               {1, 270, 260, 4200}},
              bf16, fused, options);
  }
}

std::size_t count(const std::string& text, const std::string& word) {
  std::size_t found = 0;
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
    ++found;
  }
  return found;
}

TEST(ProductTiles, StayInRegisters) {
  CompileOptions options;
  options.target = target_for("sapphirerapids");
  options.keep_assembly = true;
  for (const auto& [m, columns, tiles] :
       {std::array<std::int64_t, 3>{128, 128, 4}, {50, 70, 4}, {16, 64, 2}, {100, 12, 2}}) {
    const Case c{1, m, columns, 128, false, false};
    const Compilation compilation = compile(test::parse(graph_text(c, "bf16", false)), options);
    ASSERT_EQ(compilation.kernels.size(), 1U);
    const std::string& assembly = compilation.kernels[0].assembly;
    SCOPED_TRACE(text(c) + "\n" + assembly);
    // Code for full strips and tiles, and for what is left of both, is made alike.
    const std::size_t products = count(assembly, "tdpbf16ps") / static_cast<std::size_t>(tiles);
    ASSERT_GE(products, 1U);
    EXPECT_EQ(count(assembly, "tdpbf16ps"), products * static_cast<std::size_t>(tiles));
    // Nothing is spilt: each operand is loaded and each sum is stored once.
    EXPECT_EQ(count(assembly, "tilestored"), products * static_cast<std::size_t>(tiles));
    EXPECT_EQ(count(assembly, "tileloadd"),
              products * static_cast<std::size_t>(tiles == 4 ? 4 : 3));
    EXPECT_GE(count(assembly, "ldtilecfg"), 1U);
    EXPECT_GE(count(assembly, "tilerelease"), 1U);
  }
}

TEST(Targets, AreKnownByName) {
  EXPECT_TRUE(runs_here(host_target()));
  EXPECT_TRUE(runs_here(target_for("x86-64")));
  EXPECT_EQ(target_for("x86-64-v3").vector_bits, 256);
  EXPECT_TRUE(target_for("sapphirerapids").tile_products);
  EXPECT_FALSE(target_for("znver4").tile_products);
  EXPECT_THROW(target_for("abacus"), Error);
}

TEST_P(Products, ForAnOlderProcessor) {
  CompileOptions options;
  options.target = target_for("x86-64-v3");
  if (!runs_here(*options.target)) GTEST_SKIP() << "this machine has no AVX2";
  for (const bool fused : {false, true}) {
    check_all({{1, 65, 70, 33}, {1, 33, 45, 3001}}, f32, fused, options);
    check_all({{1, 65, 70, 33}}, bf16, fused, options);
  }
}

INSTANTIATE_TEST_SUITE_P(Dot, Products, testing::Range(0, 4), [](const auto& test) {
  return std::string(1, (test.param & 1) != 0 ? 't' : 'n') + ((test.param & 2) != 0 ? 't' : 'n');
});

}  // namespace
}  // namespace weft::compiler
