#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "assembled.h"
#include "compiler/fusion/fuse.h"
#include "compiler/schedules/schedule.h"
#include "interpreted.h"
#include "ops/support.h"

// Running sums on a GPU, by the interpreter.
namespace weft::compiler {
namespace {

std::string sums(const std::string& shape, int axis, const std::string& dtype, bool exclusive,
                 bool reverse) {
  return fmt::format(R"(graph @g {{
  %x = state {{name = "x", dtype = {2}, shape = {0}}} : {2}{0}
  %n = neg %x : {2}{0}
  %s = cumsum %n {{axis = {1}, exclusive = {3}, reverse = {4}}} : {2}{0}
  %y = add %s, %x : {2}{0}
  state_write %s {{name = "s"}}
  state_write %y {{name = "y"}}
}})",
                     shape, axis, dtype, exclusive, reverse);
}

void expect_reference(const std::string& shape, int axis, const std::string& dtype) {
  for (const bool exclusive : {false, true}) {
    const bool reverse = exclusive != (axis == 1);
    SCOPED_TRACE(fmt::format("{} axis {} {} {}", shape, axis, dtype, exclusive));
    const ir::Graph graph = test::parse(sums(shape, axis, dtype, exclusive, reverse));
    const Type type = graph.body().nodes[0]->results[0];
    const std::size_t parts = is_complex(type.dtype) ? 2 : 1;
    std::vector<double> x =
        test::random_values(static_cast<std::size_t>(type.elements()) * parts, 3);
    for (double& value : x) {
      if (is_floating(type.dtype) || parts == 2) {
        value = type.dtype == DType::f64
                    ? value
                    : ops::round_to(type.dtype == DType::c64 ? DType::f32 : type.dtype, value);
      } else {
        value = std::abs(static_cast<double>(static_cast<int>(value * 100)));
      }
    }
    const test::Values in = {{"x", x}};
    const test::Values expected = test::run_reference(graph, in);
    const auto readings = test::run_device(graph, in, test::on_device, 2);
    // A rounding for each term at most, of sums that are larger than what is left of them.
    const double epsilon_of = type.dtype == DType::c64 ? 0x1p-23 : epsilon(type.dtype);
    const bool exact = parts == 1 && !is_floating(type.dtype);
    const double length = static_cast<double>(type.shape[axis]);
    const double tolerance = exact ? 0 : 4 * epsilon_of + 0x1p-23 * length;
    for (const test::Values& out : readings) {
      for (const char* name : {"s", "y"}) {
        EXPECT_LE(test::relative_error(out.at(name), expected.at(name)), tolerance) << name;
      }
    }
  }
}

TEST(CumulativeDevice, AlongAnyAxis) {
  expect_reference("[3, 40, 5]", 1, "f32");
  expect_reference("[300, 2]", 0, "f32");
  expect_reference("[7, 9]", 1, "f32");
  expect_reference("[5, 33]", 1, "f32");
  expect_reference("[2, 300]", 1, "f32");
  expect_reference("[2, 1024]", 1, "f32");
  expect_reference("[1, 5000]", 1, "f32");
  expect_reference("[1, 1]", 1, "f32");
}

TEST(CumulativeDevice, OfAnyType) {
  for (const char* dtype : {"f16", "bf16", "f64", "i32", "i64", "u8", "c64"}) {
    expect_reference("[3, 70]", 1, dtype);
    expect_reference("[100, 3]", 0, dtype);
  }
}

TEST(CumulativeDevice, Assembles) {
  for (const auto& [shape, axis] : {std::pair{"[512, 4096]", 1}, {"[64, 1024, 64]", 1}}) {
    const ir::Graph graph = test::parse(sums(shape, axis, "f32", false, false));
    const FusedGraph fused = fuse(graph);
    for (const char* processor : {"sm_80", "sm_90a"}) {
      const test::Assembled made = test::assembled(fused.groups[0], processor);
      EXPECT_EQ(made.code.ptx.find(".local"), std::string::npos);
      fmt::print("cumsum {} {}:\n{}", shape, processor, made.said);
    }
  }
}

}  // namespace
}  // namespace weft::compiler
