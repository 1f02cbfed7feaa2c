#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <utility>

#include "compiler/fusion/fuse.h"
#include "compiler/schedules/schedule.h"
#include "ptxas.h"
#include "run.h"

// Schedules for a GPU, as PTX.
namespace weft::compiler {
namespace {

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// The PTX for both processors, assembled.
std::string ptx(const std::string& text) {
  const ir::Graph graph = test::parse(text);
  const FusedGraph fused = fuse(graph, true, false);
  EXPECT_EQ(fused.groups.size(), 1U);
  std::string code;
  for (const char* processor : {"sm_80", "sm_90a"}) {
    const ScheduledKernel scheduled = schedule_device(fused.groups[0]);
    code = generate_device(*scheduled.kernel, "test", device_target(processor)).ptx;
    const std::string said = test::assemble(code, processor);
    EXPECT_TRUE(said.empty() || has(said, "0 bytes spill stores, 0 bytes spill loads")) << said;
  }
  return code;
}

TEST(DeviceSchedule, PointwiseKernelsAccessVectors) {
  const std::string text = ptx(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [30, 64]} : f32[30, 64]
  %b = state {name = "b", dtype = f32, shape = [64]} : f32[64]
  %c = broadcast %b {shape = [30, 64]} : f32[30, 64]
  %y = add %x, %c : f32[30, 64]
  %z = silu %y : f32[30, 64]
  state_write %z {name = "z"}
})");
  EXPECT_TRUE(has(text, "ld.global.v4")) << text;
  EXPECT_TRUE(has(text, "st.global.v4")) << text;
}

TEST(DeviceSchedule, RowsOfAnyLength) {
  const std::string text = ptx(R"(graph @g {
  %x = state {name = "x", dtype = bf16, shape = [7, 33]} : bf16[7, 33]
  %t = permute %x {order = [1, 0]} : bf16[33, 7]
  %y = exp %t : bf16[33, 7]
  state_write %y {name = "y"}
})");
  EXPECT_TRUE(has(text, "st.global")) << text;
  EXPECT_FALSE(has(text, ".local")) << text;
}

std::string softmax(int rows, int columns, const std::string& dtype = "f32") {
  const std::string whole = fmt::format("{}[{}, {}]", dtype, rows, columns);
  const std::string row = fmt::format("{}[{}, 1]", dtype, rows);
  return fmt::format(R"(graph @g {{
  %x = state {{name = "x", dtype = {2}, shape = [{0}, {1}]}} : {3}
  %m = max %x {{axes = [1], keep = true}} : {4}
  %n = broadcast %m {{shape = [{0}, {1}]}} : {3}
  %d = sub %x, %n : {3}
  %e = exp %d : {3}
  %s = sum %e {{axes = [1], keep = true}} : {4}
  %b = broadcast %s {{shape = [{0}, {1}]}} : {3}
  %y = div %e, %b : {3}
  state_write %y {{name = "y"}}
}})",
                     rows, columns, dtype, whole, row);
}

TEST(DeviceSchedule, ShortRowsAreAWarpsLongOnesABlocks) {
  const std::string warp = ptx(softmax(100, 256));
  EXPECT_TRUE(has(warp, "shfl.sync.bfly")) << warp;
  EXPECT_FALSE(has(warp, "bar.sync")) << warp;
  EXPECT_FALSE(has(warp, ".local")) << warp;
  const std::string block = ptx(softmax(100, 4096));
  EXPECT_TRUE(has(block, "bar.sync") || has(block, "barrier.sync")) << block;
  EXPECT_FALSE(has(block, ".local")) << block;
}

TEST(DeviceSchedule, RowsOfOddLengthsAndOtherTypes) {
  for (const auto& [rows, columns] : {std::pair{3, 7}, {9, 1000}, {5, 1001}, {2, 16000}}) {
    for (const char* dtype : {"f32", "f16", "bf16"}) {
      EXPECT_TRUE(has(ptx(softmax(rows, columns, dtype)), "shfl.sync.bfly"));
    }
  }
}

std::string product(int m, int n, int k, const std::string& dtype, bool transposed) {
  const std::string w = transposed ? fmt::format("[{}, {}]", n, k) : fmt::format("[{}, {}]", k, n);
  return fmt::format(R"(graph @g {{
  %x = state {{name = "x", dtype = {3}, shape = [{0}, {2}]}} : {3}[{0}, {2}]
  %w = state {{name = "w", dtype = {3}, shape = {4}}} : {3}{4}
  %b = state {{name = "b", dtype = {3}, shape = [{1}]}} : {3}[{1}]
  %p = dot %x, %w {{lhs_contract = [1], rhs_contract = [{5}], lhs_batch = [], rhs_batch = []}} : {3}[{0}, {1}]
  %c = broadcast %b {{shape = [{0}, {1}]}} : {3}[{0}, {1}]
  %q = add %p, %c : {3}[{0}, {1}]
  %y = relu %q : {3}[{0}, {1}]
  state_write %y {{name = "y"}}
}})",
                     m, n, k, dtype, w, transposed ? 1 : 0);
}

TEST(DeviceSchedule, ProductsFromSharedMemory) {
  const std::string text = ptx(product(4096, 4096, 512, "f32", false));
  EXPECT_TRUE(has(text, "ld.shared.v4")) << text.substr(0, 20000);
  EXPECT_TRUE(has(text, "st.global.v4"));
  EXPECT_FALSE(has(text, ".local"));
  for (const bool transposed : {false, true}) {
    for (const auto& [m, n, k] : {std::tuple{100, 70, 33}, {3, 5, 7}, {640, 130, 1000}}) {
      for (const char* dtype : {"f32", "bf16", "f64"}) {
        const std::string code = ptx(product(m, n, k, dtype, transposed));
        EXPECT_TRUE(has(code, dtype == std::string("bf16") ? "mma.sync" : "fma.rn")) << code;
      }
    }
  }
}

TEST(DeviceSchedule, ReductionsOfAllKinds) {
  const auto sum = [](const std::string& shape, const std::string& axes, const std::string& to,
                      const char* op = "sum", const char* dtype = "f32") {
    return fmt::format(R"(graph @g {{
  %x = state {{name = "x", dtype = {4}, shape = {0}}} : {4}{0}
  %y = neg %x : {4}{0}
  %s = {3} %y {{axes = {1}, keep = false}} : {4}{2}
  state_write %s {{name = "s"}}
}})",
                       shape, axes, to, op, dtype);
  };
  // Columns, few of many terms (two phases), rows too long for a row kernel, all, none.
  ptx(sum("[100, 64]", "[0]", "[64]"));
  EXPECT_TRUE(has(ptx(sum("[20000, 64]", "[0]", "[64]")), "test_1("));
  EXPECT_TRUE(has(ptx(sum("[3, 200000]", "[1]", "[3]")), "shfl.sync"));
  ptx(sum("[10, 20, 30]", "[0, 2]", "[20]", "max"));
  ptx(sum("[100000, 3]", "[1]", "[100000]", "min", "f64"));
  ptx(sum("[5, 0, 3]", "[1]", "[5, 3]"));
  ptx(sum("[3, 200000]", "[1]", "[3]", "sum", "c64"));
}

TEST(DeviceSchedule, AWholeGraphIsAPlanForTheDevice) {
  CompileOptions options;
  options.gpu = "sm_90a";
  const Compilation compilation = compile(test::parse(softmax(100, 4096)), options);
  EXPECT_EQ(compilation.plan.target, "nvptx64/sm_90a");
  ASSERT_EQ(compilation.plan.kernels.size(), 1U);
  const plan::Phase& phase = compilation.plan.kernels[0].phases[0];
  EXPECT_EQ(phase.grid, 100);
  EXPECT_GT(phase.threads, 0);
  EXPECT_GT(phase.shared_bytes, 0);
  EXPECT_TRUE(has(compilation.plan.objects[0].bytes, ".entry " + phase.symbol + "("));
}

}  // namespace
}  // namespace weft::compiler
