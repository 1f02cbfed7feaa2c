#include <gtest/gtest.h>

#include <string>

#include "compiler/fusion/fuse.h"
#include "compiler/schedules/schedule.h"
#include "run.h"

// Schedules for a GPU, as PTX.
namespace weft::compiler {
namespace {

std::string ptx(const std::string& text) {
  const ir::Graph graph = test::parse(text);
  const FusedGraph fused = fuse(graph);
  EXPECT_EQ(fused.groups.size(), 1U);
  loop::Kernel kernel;
  kernel.name = "test";
  GroupEmitter emitter(kernel, fused.groups[0]);
  schedule_elementwise_device(emitter);
  return generate_device(kernel, "test", device_target("sm_90a")).ptx;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
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

}  // namespace
}  // namespace weft::compiler
