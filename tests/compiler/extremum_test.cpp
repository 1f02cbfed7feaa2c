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

}  // namespace
}  // namespace weft::compiler
