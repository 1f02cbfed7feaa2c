#include "runtime/plan_check.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "fake.h"
#include "runtime/describe.h"

namespace weft::runtime::testing {
namespace {

void nothing(void* const*, void*, std::int64_t, std::int64_t) {}

/// One of everything: buffer 0 index, 1 x (f32[4]), 2 state w, 3 constant, 4 scalar.
PlanBuilder valid() {
  PlanBuilder b;
  b.arena(i64_scalar);
  b.arena({DType::f32, {4}});
  b.state("w", {DType::f32, {4}});
  b.constant<float>({DType::f32, {4}}, {1, 2, 3, 4});
  b.scalar("lr", 0.5F);
  b.feeder("data", {DType::f32, {4}});
  b.receiver("loss", {{DType::f32, {4}}});
  b.kernel("k", 2, nothing);
  b.plan.steps = {copy(3, 1), loop(0, 3, {feed(0, 1), launch(0, {1, 2, 4}), receive(0, {2})})};
  return b;
}

struct Case {
  const char* name;
  std::function<void(plan::Plan&)> damage;
  const char* message;
};

/// A map of rows 1 to 3 of kernel 0's argument 1, which is the state w, of f16 [4, 16].
plan::TensorMap& mapped(plan::Plan& plan) {
  plan.target = "nvptx64/sm_90a";
  plan.buffers[2].type = {DType::f16, {4, 16}};
  plan.receivers[0].types[0] = plan.buffers[2].type;
  plan.kernels[0].tensor_maps = {{1, 32, DType::f16, {16, 3}, {32}, {16, 2}, true}};
  return plan.kernels[0].tensor_maps[0];
}

class Damaged : public ::testing::TestWithParam<Case> {};

TEST_P(Damaged, IsRefused) {
  PlanBuilder b = valid();
  GetParam().damage(b.plan);
  EXPECT_EQ(error_of([&] { b.executable(); }), std::string("plan \"test\": ") + GetParam().message);
  EXPECT_FALSE(plan::describe(b.plan).empty());  // a listing of a bad plan is needed most
}

constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();

const Case cases[] = {
    {"ArenaSize", [](auto& p) { p.arena_bytes = -1; }, "arena of -1 bytes"},
    {"ArenaEnd", [](auto& p) { p.buffers[1].offset = 128; },
     "buffer 1 (arena): f32[4] at offset 128 does not fit in the arena of 128 bytes"},
    {"ArenaNegative", [](auto& p) { p.buffers[1].offset = -64; },
     "buffer 1 (arena): f32[4] at offset -64 does not fit in the arena of 128 bytes"},
    {"ArenaOverflow", [](auto& p) { p.buffers[1].offset = most - 63; },
     "buffer 1 (arena): f32[4] at offset 9223372036854775744 does not fit in the arena of 128 "
     "bytes"},
    {"ArenaAlignment", [](auto& p) { p.buffers[1].offset = 32; },
     "buffer 1 (arena): offset 32 is not a multiple of 64"},
    {"TypeTooLarge", [](auto& p) { p.buffers[2].type.shape = {most, 3}; },
     "buffer 2 (state w): f32[9223372036854775807, 3] is too large"},
    {"TypeNegative", [](auto& p) { p.buffers[2].type.shape = {-2}; },
     "buffer 2 (state w): negative extent in f32[-2]"},
    {"TypeUnknown", [](auto& p) { p.buffers[2].type.dtype = static_cast<DType>(77); },
     "buffer 2 (state w): no element type has the number 77"},
    {"BufferKind", [](auto& p) { p.buffers[2].kind = static_cast<plan::BufferKind>(9); },
     "buffer 2 (unknown w): no kind of buffer has the number 9"},
    {"StateName", [](auto& p) { p.buffers[2].name = ""; }, "buffer 2 (state): has no name"},
    {"StateTypes",
     [](auto& p) {
       p.buffers.push_back(p.buffers[2]);
       p.buffers.back().type.dtype = DType::f64;
     },
     "buffer 5 (state w): is f64[4] here and f32[4] elsewhere"},
    {"ConstantData", [](auto& p) { p.buffers[3].data.pop_back(); },
     "buffer 3 (constant): f32[4] needs 16 bytes of data, not 15"},
    {"ScalarData", [](auto& p) { p.buffers[4].data = ""; },
     "buffer 4 (scalar lr): f32[] needs 4 bytes of data, not 0"},
    {"ScalarShape", [](auto& p) { p.buffers[4].type.shape = {2}; },
     "buffer 4 (scalar lr): f32[2] is no scalar"},
    {"KernelScratch", [](auto& p) { p.kernels[0].scratch_bytes = -8; },
     "kernel k: scratch of -8 bytes"},
    {"KernelGrid", [](auto& p) { p.kernels[0].phases[0].grid = -1; },
     "kernel k: phase k has a grid of -1"},
    {"KernelSymbol", [](auto& p) { p.kernels[0].phases[0].symbol = ""; },
     "kernel k: a phase without a symbol"},
    {"KernelObject",
     [](auto& p) {
       p.objects.resize(1);
       p.kernels[0].object = 1;
     },
     "kernel k: object 1 of 1"},
    {"NoExecutions", [](auto& p) { p.kernels[0].batch = 0; }, "kernel k: 0 executions a launch"},
    {"BatchOnTheHost",
     [](auto& p) {
       p.target = "x86-64/znver4";
       p.kernels[0].batch = 2;
     },
     "kernel k: 2 executions a launch, in a plan for \"x86-64/znver4\""},
    {"BatchWithTensorMaps",
     [](auto& p) {
       mapped(p);
       p.kernels[0].batch = 2;
     },
     "kernel k: 2 executions a launch, and tensor maps"},
    {"BatchesOfAnObject",
     [](auto& p) {
       p.target = "nvptx64/sm_90a";
       p.kernels.push_back(p.kernels[0]);
       p.kernels[0].batch = 2;
     },
     "kernels k and k are of one object and have 2 and 1 executions a launch"},
    {"TensorMapOnTheHost",
     [](auto& p) {
       mapped(p);
       p.target = "x86-64/znver4";
     },
     "kernel k: tensor maps in a plan for \"x86-64/znver4\""},
    {"TensorMapType", [](auto& p) { mapped(p).dtype = static_cast<DType>(40); },
     "kernel k: tensor map 0: no element type has the number 40"},
    {"TensorMapNoAxes", [](auto& p) { mapped(p).extents = {}; },
     "kernel k: tensor map 0: 0 extents, 1 strides and a box of 2 axes"},
    {"TensorMapSixAxes",
     [](auto& p) {
       plan::TensorMap& map = mapped(p);
       map.extents = {8, 1, 1, 1, 1, 1};
       map.strides = {16, 16, 16, 16, 16};
       map.box = {8, 1, 1, 1, 1, 1};
     },
     "kernel k: tensor map 0: 6 extents, 5 strides and a box of 6 axes"},
    {"TensorMapStrides", [](auto& p) { mapped(p).strides = {32, 32}; },
     "kernel k: tensor map 0: 2 extents, 2 strides and a box of 2 axes"},
    {"TensorMapBoxAxes", [](auto& p) { mapped(p).box = {16}; },
     "kernel k: tensor map 0: 2 extents, 1 strides and a box of 1 axes"},
    {"TensorMapOffset", [](auto& p) { mapped(p).offset = 24; },
     "kernel k: tensor map 0: the offset 24 is no multiple of 16"},
    {"TensorMapNegativeOffset", [](auto& p) { mapped(p).offset = -16; },
     "kernel k: tensor map 0: the offset -16 is no multiple of 16"},
    {"TensorMapExtent", [](auto& p) { mapped(p).extents[1] = 0; },
     "kernel k: tensor map 0: axis 1 has an extent of 0; 1 to 2^32 may be"},
    {"TensorMapLargeExtent", [](auto& p) { mapped(p).extents[0] = (std::int64_t{1} << 32) + 1; },
     "kernel k: tensor map 0: axis 0 has an extent of 4294967297; 1 to 2^32 may be"},
    {"TensorMapStride", [](auto& p) { mapped(p).strides[0] = 24; },
     "kernel k: tensor map 0: axis 1 has a stride of 24 bytes; multiples of 16 below 2^40 may be"},
    {"TensorMapNoStride", [](auto& p) { mapped(p).strides[0] = 0; },
     "kernel k: tensor map 0: axis 1 has a stride of 0 bytes; multiples of 16 below 2^40 may be"},
    {"TensorMapLargeStride", [](auto& p) { mapped(p).strides[0] = std::int64_t{1} << 40; },
     "kernel k: tensor map 0: axis 1 has a stride of 1099511627776 bytes; multiples of 16 below "
     "2^40 may be"},
    {"TensorMapBox", [](auto& p) { mapped(p).box[1] = 257; },
     "kernel k: tensor map 0: axis 1 has 257 elements of a box; 1 to 256 may be"},
    {"TensorMapEmptyBox", [](auto& p) { mapped(p).box[0] = 0; },
     "kernel k: tensor map 0: axis 0 has 0 elements of a box; 1 to 256 may be"},
    {"TensorMapRow", [](auto& p) { mapped(p).box[0] = 12; },
     "kernel k: tensor map 0: a box has rows of 24 bytes, which is no multiple of 16"},
    {"TensorMapExchangedRow", [](auto& p) { mapped(p).box[0] = 128; },
     "kernel k: tensor map 0: a box has rows of 256 bytes; pieces are exchanged in rows of up to "
     "128"},
    {"TensorMapArgument", [](auto& p) { mapped(p).argument = 3; },
     "step 1.1: tensor map 0 of kernel k is of argument 3 of 3"},
    {"TensorMapRows", [](auto& p) { mapped(p).extents[1] = 4; },
     "step 1.1: tensor map 0 of kernel k goes beyond the 128 bytes of argument 1"},
    {"TensorMapRowEnd", [](auto& p) { mapped(p).extents[0] = 17; },
     "step 1.1: tensor map 0 of kernel k goes beyond the 128 bytes of argument 1"},
    {"TensorMapFarEnd",
     [](auto& p) {
       plan::TensorMap& map = mapped(p);
       map.extents[1] = std::int64_t{1} << 32;
       map.strides[0] = (std::int64_t{1} << 40) - 16;
     },
     "step 1.1: tensor map 0 of kernel k goes beyond the 128 bytes of argument 1"},
    {"FeederTwice", [](auto& p) { p.feeders.push_back(p.feeders[0]); },
     "two feeders named \"data\""},
    {"ReceiverTwice", [](auto& p) { p.receivers.push_back(p.receivers[0]); },
     "two receivers named \"loss\""},
    {"ReceiverEvery", [](auto& p) { p.receivers[0].every = 0; }, "receiver \"loss\": every 0"},
    {"StepKind", [](auto& p) { p.steps[0].kind = static_cast<plan::StepKind>(8); },
     "step 0: no kind of step has the number 8"},
    {"StepBuffer", [](auto& p) { p.steps[1].body[1].buffers[0] = 99; }, "step 1.1: buffer 99 of 5"},
    {"StepBody", [](auto& p) { p.steps[0].body.resize(1); }, "step 0: has a body"},
    {"LaunchKernel", [](auto& p) { p.steps[1].body[1].index = 1; }, "step 1.1: kernel 1 of 1"},
    {"CopyCount", [](auto& p) { p.steps[0].buffers = {3}; },
     "step 0: a copy takes 2 buffers, not 1"},
    {"CopyTypes", [](auto& p) { p.steps[0].buffers = {3, 0}; }, "step 0: copies f32[4] to i64[]"},
    {"CopyToConstant", [](auto& p) { p.steps[0].buffers = {1, 3}; },
     "step 0: writes to buffer 3, which is a constant"},
    {"LoopCount", [](auto& p) { p.steps[1].count = -1; }, "step 1: a loop of -1 iterations"},
    {"LoopBuffers", [](auto& p) { p.steps[1].buffers = {}; },
     "step 1: a loop takes an index buffer, not 0 buffers"},
    {"LoopIndexType", [](auto& p) { p.steps[1].buffers = {1}; },
     "step 1: the loop's index is f32[4], not i64[]"},
    {"LoopOverflow", [](auto& p) { p.steps[1].body.push_back(loop(0, most, {loop(0, 2, {})})); },
     "step 1.3.0: the loops around run more often than can be counted"},
    {"LoopDepth",
     [](auto& p) {
       plan::Step nest = loop(0, 1, {});
       for (int i = 0; i < 70; ++i) nest = loop(0, 1, {nest});
       p.steps.push_back(nest);
     },
     "loops nest deeper than 64"},
    {"FeedIndex", [](auto& p) { p.steps[1].body[0].index = 3; }, "step 1.0: feeder 3 of 1"},
    {"FeedTwice", [](auto& p) { p.steps[1].body.push_back(feed(0, 1)); },
     "step 1.3: feeder \"data\" has a step already"},
    {"FeedType", [](auto& p) { p.feeders[0].type.shape = {5}; },
     "step 1.0: feeder \"data\" is f32[5], its buffer f32[4]"},
    {"FeedCount", [](auto& p) { p.steps[1].body[0].buffers = {1, 1}; },
     "step 1.0: feeder \"data\" fills 1 buffer, not 2"},
    {"FeedScalar",
     [](auto& p) {
       p.feeders[0].type.shape = {};
       p.steps[1].body[0].buffers = {4};
     },
     "step 1.0: writes to buffer 4, which is a scalar"},
    {"ReceiveIndex", [](auto& p) { p.steps[1].body[2].index = 2; }, "step 1.2: receiver 2 of 1"},
    {"ReceiveTwice", [](auto& p) { p.steps.push_back(p.steps[1].body[2]); },
     "step 2: receiver \"loss\" has a step already"},
    {"ReceiveCount", [](auto& p) { p.steps[1].body[2].buffers = {}; },
     "step 1.2: receiver \"loss\" takes 1 tensors, not 0"},
    {"ReceiveType", [](auto& p) { p.receivers[0].types[0].dtype = DType::i32; },
     "step 1.2: receiver \"loss\": tensor 0 is i32[4], its buffer f32[4]"},
};

INSTANTIATE_TEST_SUITE_P(Plan, Damaged, ::testing::ValuesIn(cases),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(PlanCheck, TheUndamagedPlanIsAccepted) {
  PlanBuilder b = valid();
  EXPECT_EQ(error_of([&] { b.executable(); }), "");
}

TEST(PlanCheck, TensorMapsMayReachTheEnd) {
  PlanBuilder b = valid();
  mapped(b.plan);
  EXPECT_EQ(error_of([&] { check_plan(b.plan, false); }), "");
  const std::string text = plan::describe(b.plan);
  EXPECT_NE(text.find("tensor map of argument 1 + 32: [16, 3] of [32] bytes apart, boxes of [16, "
                      "2], exchanged"),
            std::string::npos)
      << text;
}

TEST(PlanCheck, AMissingSymbolIsNamed) {
  PlanBuilder b = valid();
  b.functions.clear();
  EXPECT_EQ(error_of([&] { b.executable(); }), "fake code: no k");
  b.functions["k"] = nullptr;
  EXPECT_EQ(error_of([&] { b.executable(); }), "plan \"test\": kernel k: the code has no symbol k");
}

TEST(PlanCheck, KernelsNeedTheirObjectsWhereTheseAreLoaded) {
  const PlanBuilder b = valid();
  EXPECT_EQ(error_of([&] { check_plan(b.plan, true); }), "plan \"test\": kernel k: object 0 of 0");
}

TEST(PlanCheck, TheTargetIsThisMachine) {
  PlanBuilder b = valid();
  const auto make = [&](const std::string& machine) {
    return error_of([&] {
      Executable(b.plan, {.threads = 1}, std::make_unique<FakeCode>(b.functions, machine));
    });
  };
  const std::string here = "x86-64";
  b.plan.target = here + "/znver4";
  EXPECT_EQ(make(here + "/znver4"), "");
  EXPECT_EQ(make(""), "");
  EXPECT_EQ(make(here + "/haswell"), "plan \"test\" is for \"" + here +
                                         "/znver4\"; this machine is \"" + here +
                                         "/haswell\": compile it again here");
  b.plan.target = "pdp-11/20";
  EXPECT_EQ(make(""),
            "plan \"test\" is for the architecture of \"pdp-11/20\"; this machine is " + here);
}

TEST(PlanCheck, NumbersOfNestedTransfers) {
  PlanBuilder b = valid();
  b.plan.steps = {loop(0, 10, {loop(0, 3, {feed(0, 1)}), receive(0, {2})})};
  PlanInfo info = check_plan(b.plan, false);
  ASSERT_TRUE(info.only_loop.has_value());
  EXPECT_EQ(info.feeders[0].range(2, 4).first, 6);
  EXPECT_EQ(info.feeders[0].range(2, 4).last, 12);
  EXPECT_EQ(info.receivers[0].range(2, 4).last, 4);
  EXPECT_EQ(info.deepest, 3);
  b.plan.steps.push_back(loop(0, 5, {}));
  info = check_plan(b.plan, false);
  EXPECT_FALSE(info.only_loop.has_value());
  EXPECT_EQ(info.feeders[0].range(1, 2).first, 30);
  EXPECT_EQ(info.receivers[0].range(1, 2).last, 20);
  b.plan.steps = {feed(0, 1), loop(0, 10, {})};
  info = check_plan(b.plan, false);
  EXPECT_EQ(info.feeders[0].range(4, 9).first, 0);
  EXPECT_EQ(info.feeders[0].range(4, 9).last, 1);
  EXPECT_FALSE(info.receivers[0].used);
}

TEST(Describe, ListsBuffersKernelsAndSteps) {
  const PlanBuilder b = valid();
  EXPECT_EQ(plan::describe(b.plan),
            "plan test for any machine: 1 kernels, 0 B of code, arena 128 B\n"
            "  b0 = arena + 0: i64[]\n"
            "  b1 = arena + 64: f32[4]\n"
            "  \"w\" = state: f32[4]\n"
            "  b3 = constant: f32[4]\n"
            "  \"lr\" = scalar: f32[]\n"
            "  kernel k: reads 0, writes 0, 0 operations, scratch 0\n"
            "    k grid 2\n"
            "  feeder \"data\" f32[4]\n"
            "  receiver \"loss\" f32[4] every 1\n"
            "  copy(b3, b1)\n"
            "  loop 3 (b0) {\n"
            "    feed \"data\" -> b1\n"
            "    k(b1, \"w\", \"lr\")\n"
            "    receive \"loss\" <- \"w\"\n"
            "  }\n");
}

}  // namespace
}  // namespace weft::runtime::testing
