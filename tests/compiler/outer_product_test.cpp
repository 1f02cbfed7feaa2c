#include <gtest/gtest.h>

#include <fmt/format.h>

#include <string>
#include <tuple>

#include "run.h"

// Products of a short contracted axis, with an update of a state as their epilogue.
namespace weft::compiler {
namespace {

using Sizes = std::tuple<int, int, int>;  // rows, depth, columns

class OuterProduct : public testing::TestWithParam<Sizes> {};

TEST_P(OuterProduct, UpdatesAStateInPlace) {
  const auto [rows, depth, columns] = GetParam();
  const std::string w = fmt::format("f32[{}, {}]", rows, columns);
  const std::string x = fmt::format("f32[{}, {}]", depth, rows);
  const std::string y = fmt::format("f32[{}, {}]", depth, columns);
  const ir::Graph graph = test::parse(fmt::format(
      R"(graph @g {{
  %w = state {{name = "w", dtype = f32, shape = [{0}, {2}]}} : {3}
  %x = state {{name = "x", dtype = f32, shape = [{1}, {0}]}} : {4}
  %y = state {{name = "y", dtype = f32, shape = [{1}, {2}]}} : {5}
  %d = dot %x, %y {{lhs_contract = [0], rhs_contract = [0], lhs_batch = [], rhs_batch = []}} : {3}
  %r = constant {{dtype = f32, shape = [{0}, {2}], value = 0.5}} : {3}
  %s = mul %d, %r : {3}
  %n = sub %w, %s : {3}
  state_write %n {{name = "w"}}
}})",
      rows, depth, columns, w, x, y));
  const auto count = [](int a, int b) {
    return static_cast<std::size_t>(a) * static_cast<std::size_t>(b);
  };
  const test::Values in = {{"w", test::random_values(count(rows, columns), 1)},
                           {"x", test::random_values(count(depth, rows), 2)},
                           {"y", test::random_values(count(depth, columns), 3)}};
  const Compilation compilation = compile(graph, {});
  EXPECT_EQ(compilation.kernels.size(), 1U);
  // Each of `depth` multiply-adds, the scaling and the difference round once.
  const double tolerance = (depth + 2) * 0x1p-24;
  EXPECT_LE(test::relative_error(test::run_compiled(graph, in).at("w"),
                                 test::run_reference(graph, in).at("w")),
            tolerance);
}

INSTANTIATE_TEST_SUITE_P(Shapes, OuterProduct,
                         testing::Values(Sizes{255, 2, 255}, Sizes{1, 1, 16}, Sizes{3, 4, 17},
                                         Sizes{7, 3, 8}, Sizes{130, 2, 1000}, Sizes{64, 4, 64}));

}  // namespace
}  // namespace weft::compiler
