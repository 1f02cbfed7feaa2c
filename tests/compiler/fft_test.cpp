#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "run.h"

// Compiled transforms of all kinds of lengths and layouts against the definition.
namespace weft::compiler {
namespace {

/// Errors of a transform grow with log2 n; three roundings an element a pass, random in sign.
double tolerance(std::int64_t n) { return 0x1p-24 * 4 * (2 + std::log2(static_cast<double>(n))); }

class Lengths : public testing::TestWithParam<std::int64_t> {};

TEST_P(Lengths, AlongTheFirstAxis) {
  const std::int64_t n = GetParam();
  const std::int64_t bins = n / 2 + 1;
  const std::string text = fmt::format(R"(graph @g {{
  %x = state {{name = "x", dtype = f32, shape = [{0}, 5]}} : f32[{0}, 5]
  %f = rfft %x {{axis = 0, length = {0}}} : c64[{1}, 5]
  %b = irfft %f {{axis = 0, length = {0}}} : f32[{0}, 5]
  %c = complex %x, %b : c64[{0}, 5]
  %g = fft %c {{axis = 0}} : c64[{0}, 5]
  %h = ifft %g {{axis = 0}} : c64[{0}, 5]
  state_write %f {{name = "f"}}
  state_write %b {{name = "b"}}
  state_write %g {{name = "g"}}
  state_write %h {{name = "h"}}
}})",
                                       n, bins);
  const ir::Graph graph = test::parse(text);
  const test::Values in = {{"x", test::random_values(static_cast<std::size_t>(n * 5), 7)}};
  const test::Values expected = test::run_reference(graph, in);
  const test::Values out = test::run_compiled(graph, in);
  for (const char* name : {"f", "b", "g", "h"}) {
    EXPECT_LT(test::relative_error(out.at(name), expected.at(name)), 3 * tolerance(n)) << name;
  }
}

TEST_P(Lengths, AlongTheLastAxisPadded) {
  const std::int64_t n = GetParam();
  const std::int64_t padded = 2 * n + 1;
  const std::string text = fmt::format(R"(graph @g {{
  %x = state {{name = "x", dtype = f32, shape = [3, {0}]}} : f32[3, {0}]
  %e = neg %x : f32[3, {0}]
  %f = rfft %e {{axis = 1, length = {1}}} : c64[3, {2}]
  state_write %f {{name = "f"}}
}})",
                                       n, padded, padded / 2 + 1);
  const ir::Graph graph = test::parse(text);
  const test::Values in = {{"x", test::random_values(static_cast<std::size_t>(n * 3), 8)}};
  EXPECT_LT(test::relative_error(test::run_compiled(graph, in).at("f"),
                                 test::run_reference(graph, in).at("f")),
            tolerance(padded));
}

INSTANTIATE_TEST_SUITE_P(Short, Lengths, testing::Range<std::int64_t>(1, 131));
INSTANTIATE_TEST_SUITE_P(Long, Lengths,
                         testing::Values(169, 210, 256, 257, 289, 514, 1000, 1009, 1024, 2047, 2048,
                                         2 * 509, 3 * 1009, 4099));

}  // namespace
}  // namespace weft::compiler
