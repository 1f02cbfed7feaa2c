#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "run.h"

// max and min where a comparison with zero and a test for NaN meet an absolute value: LLVM 19's
// instruction combining merges such pairs wrongly.
namespace weft::compiler {
namespace {

TEST(Extremum, OfAnAbsoluteValueAndZero) {
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f64, shape = [5]} : f64[5]
  %a = abs %x : f64[5]
  %z = constant {dtype = f64, shape = [5], value = 0.0} : f64[5]
  %r = relu %a : f64[5]
  %m = maximum %z, %a : f64[5]
  %n = neg %a : f64[5]
  %l = minimum %n, %z : f64[5]
  state_write %r {name = "relu"}
  state_write %m {name = "maximum"}
  state_write %l {name = "minimum"}
})");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const test::Values out = test::run_compiled(graph, {{"x", {-2, 3, 0, -0.5, nan}}});
  const std::vector<double> expected = {2, 3, 0, 0.5};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(out.at("relu")[i], expected[i]);
    EXPECT_EQ(out.at("maximum")[i], expected[i]);
    EXPECT_EQ(out.at("minimum")[i], -expected[i]);
  }
  for (const char* name : {"relu", "maximum", "minimum"}) EXPECT_TRUE(std::isnan(out.at(name)[4]));
}

TEST(Extremum, ArgmaxTakesTheFirstNaN) {
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [4, 20]} : f32[4, 20]
  %rows = argmax %x {axis = 1} : i64[4]
  %columns = argmax %x {axis = 0} : i64[20]
  state_write %rows {name = "rows"}
  state_write %columns {name = "columns"}
})");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  test::Values::mapped_type x(80);
  for (std::size_t i = 0; i < 80; ++i) x[i] = static_cast<double>(i % 7);
  x[3] = nan;  // row 0: after and before others, and twice
  x[5] = infinity;
  x[11] = nan;
  x[20] = nan;           // row 1: where the search starts
  x[2 * 20 + 19] = nan;  // row 2: last
  x[3 * 20 + 4] = infinity;
  const test::Values out = test::run_compiled(graph, {{"x", x}});
  EXPECT_EQ(out.at("rows"), (std::vector<double>{3, 0, 19, 4}));
  for (std::size_t column = 0; column < 20; ++column) {
    std::size_t first = 0;
    for (std::size_t row = 1; row < 4; ++row) {
      const double best = x[first * 20 + column], next = x[row * 20 + column];
      if (!std::isnan(best) && (std::isnan(next) || next > best)) first = row;
    }
    EXPECT_EQ(out.at("columns")[column], static_cast<double>(first)) << column;
  }
}

}  // namespace
}  // namespace weft::compiler
