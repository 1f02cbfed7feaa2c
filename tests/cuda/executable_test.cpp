#include <algorithm>
#include <numeric>

#include "fixture.h"

namespace weft::runtime::testing {
namespace {

using stand_in::Call;
using stand_in::changes;
using stand_in::reads;
using stand_in::writes;

constexpr std::int64_t n = 64;
const Type vector_type{DType::i64, {n}};
constexpr std::int64_t vector_bytes = n * 8;

class CudaExecutable : public Gpu {};

void add(const Call& call) {
  for (std::int64_t i = 0; i < n; ++i) {
    call.pointer<std::int64_t>(2)[i] =
        call.pointer<std::int64_t>(0)[i] + call.pointer<std::int64_t>(1)[i];
  }
}

std::uint32_t add_kernel(GpuPlan& plan) {
  return plan.kernel("add", {reads(vector_bytes), reads(vector_bytes), writes(vector_bytes)}, add,
                     4, 128, 100000);
}

std::uint32_t increment_kernel(GpuPlan& plan) {
  return plan.kernel("increment", {changes(8)},
                     [](const Call& call) { ++*call.pointer<std::int64_t>(0); });
}

struct Sum {
  GpuPlan b;
  State state;
  Sum() {
    const auto w = b.state("w", vector_type);
    const auto ones = b.constant(vector_type, std::vector<std::int64_t>(n, 1));
    const auto x = b.arena(vector_type);
    const auto y = b.arena(vector_type);
    const auto k = add_kernel(b);
    b.plan.steps = {copy(w, x), launch(k, {x, ones, y}), launch(k, {y, y, x}), copy(x, w)};
    state.add("w", vector_type);
    state.data<std::int64_t>("w")[7] = 10;
  }
};

TEST_F(CudaExecutable, ConstantsArenaStateAndCopies) {
  Sum sum;
  Executable executable = sum.b.executable();
  executable.bind(sum.state);
  executable.run();
  EXPECT_EQ(sum.state.data<std::int64_t>("w")[7], 22);
  EXPECT_EQ(sum.state.data<std::int64_t>("w")[63], 2);
  executable.run();
  EXPECT_EQ(sum.state.data<std::int64_t>("w")[7], 46);
  EXPECT_EQ(executable.iterations(), 1);
  EXPECT_EQ(executable.threads(), 1);
  EXPECT_EQ(stand_in::calls("cuGraphInstantiateWithFlags"), 1);
  EXPECT_EQ(stand_in::calls("cuGraphLaunch"), 2);
  EXPECT_EQ(stand_in::calls("cuFuncSetAttribute"), 1);
}

TEST_F(CudaExecutable, StatesStayOnTheDevice) {
  Sum sum;
  Executable executable = sum.b.executable();
  executable.bind(sum.state);
  executable.run();
  const int uploads = stand_in::calls("cuMemcpyHtoDAsync");
  executable.run();
  executable.run();
  EXPECT_EQ(stand_in::calls("cuMemcpyHtoDAsync"), uploads);
  EXPECT_EQ(stand_in::calls("cuMemcpyDtoHAsync"), 0);
  const State& read_only = sum.state;
  EXPECT_EQ(read_only.values("w")[7], 94);
  EXPECT_EQ(read_only.bytes("w").size(), 512U);
  EXPECT_EQ(stand_in::calls("cuMemcpyDtoHAsync"), 1);
  executable.run();
  EXPECT_EQ(stand_in::calls("cuMemcpyHtoDAsync"), uploads);
  // What the host writes is taken, whether or not the device's was fetched before.
  sum.state.data<std::int64_t>("w")[7] = 0;
  executable.run();
  EXPECT_EQ(stand_in::calls("cuMemcpyHtoDAsync"), uploads + 1);
  sum.state.set_values("w", std::vector<double>(n, 5));
  const State copy = sum.state.clone();
  executable.run();
  EXPECT_EQ(sum.state.values("w"), std::vector<double>(n, 12));
  EXPECT_EQ(copy.values("w"), std::vector<double>(n, 5));
}

TEST_F(CudaExecutable, TwoShareAStateAndItOutlivesThem) {
  State state;
  {
    Sum sum;
    Executable first = sum.b.executable();
    Executable second = sum.b.executable();
    first.bind(sum.state);
    second.bind(sum.state);
    first.run();
    second.run();
    first.run();
    EXPECT_EQ(stand_in::calls("cuMemcpyDtoHAsync"), 0);
    state = sum.state;
  }
  EXPECT_EQ(state.values("w")[7], 94);
}

void increment_on_host(void* const* arguments, void*, std::int64_t, std::int64_t) {
  ++*argument<std::int64_t>(arguments, 0);
}

TEST_F(CudaExecutable, SharesAStateWithTheHost) {
  Sum sum;
  PlanBuilder host;
  const auto w = host.state("w", vector_type);
  host.plan.steps = {launch(host.kernel("increment", 1, increment_on_host), {w})};
  Executable on_host = host.executable();
  Executable on_device = sum.b.executable();
  on_host.bind(sum.state);
  on_device.bind(sum.state);
  for (int i = 0; i < 3; ++i) {
    on_host.run();
    on_device.run();
  }
  // ((0 + 1 + 1) * 2 ...: each turn is (w + 2) * 2 of the first element, w + 1 of it before.
  std::int64_t expected = 0;
  for (int i = 0; i < 3; ++i) expected = (expected + 1 + 1) * 2;
  EXPECT_EQ(sum.state.data<std::int64_t>("w")[0], expected);
}

TEST_F(CudaExecutable, FollowsAStateWhoseTensorsAreReplaced) {
  Sum sum;
  Executable executable = sum.b.executable();
  executable.bind(sum.state);
  executable.run();
  sum.state.remove("w");
  sum.state.add("w", vector_type);
  executable.run();
  EXPECT_EQ(sum.state.data<std::int64_t>("w")[7], 2);
  State other;
  other.add("w", vector_type);
  other.data<std::int64_t>("w")[7] = 1;
  executable.bind(other);
  executable.run();
  EXPECT_EQ(other.data<std::int64_t>("w")[7], 4);
  EXPECT_EQ(sum.state.data<std::int64_t>("w")[7], 2);
}

/// list[++list[0]] = 100 * outer + inner.
void note_indices(const Call& call) {
  auto* list = call.pointer<std::int64_t>(0);
  list[++list[0]] = 100 * *call.pointer<std::int64_t>(1) + *call.pointer<std::int64_t>(2);
}

struct Nest {
  GpuPlan b;
  State state;
  std::uint32_t note = 0;
  std::uint32_t index_buffer = 0;
  std::uint32_t copy_buffer = 0;
  explicit Nest(std::int64_t inner_count = 3) {
    const Type type{DType::i64, {10000}};
    const auto outer = b.arena(i64_scalar);
    const auto inner = index_buffer = b.arena(i64_scalar);
    copy_buffer = b.arena(i64_scalar);
    const auto list = b.state("list", type);
    const auto after = b.state("after", i64_scalar);
    note = b.kernel("note", {changes(type.bytes()), reads(8), reads(8)}, note_indices);
    const auto up = increment_kernel(b);
    b.plan.steps = {launch(up, {after}),
                    loop(outer, 4,
                         {loop(inner, inner_count, {launch(note, {list, outer, inner})}),
                          loop(inner, 0, {launch(note, {list, outer, inner})})}),
                    launch(up, {after})};
    state.add("list", type);
    state.add("after", i64_scalar);
  }
  std::vector<std::int64_t> list() {
    const auto data = state.data<std::int64_t>("list");
    return {data.begin() + 1, data.begin() + 1 + data[0]};
  }
  std::int64_t after() { return state.data<std::int64_t>("after")[0]; }
};

TEST_F(CudaExecutable, NestedLoopsSetTheirIndices) {
  Nest nest;
  Executable executable = nest.b.executable();
  executable.bind(nest.state);
  EXPECT_EQ(executable.iterations(), 4);
  executable.run();
  EXPECT_EQ(nest.list(),
            (std::vector<std::int64_t>{0, 1, 2, 100, 101, 102, 200, 201, 202, 300, 301, 302}));
  EXPECT_EQ(nest.after(), 2);
  executable.run(1, 3);
  EXPECT_EQ(nest.list().size(), 18U);
  EXPECT_EQ(nest.list().back(), 202);
  executable.run(3, 3);
  EXPECT_EQ(nest.list().size(), 18U);
  EXPECT_EQ(nest.after(), 6);
}

TEST_F(CudaExecutable, LongInnerLoopsAreCountedByTheHost) {
  constexpr std::int64_t count = 2000;
  Nest nest(count);
  Executable executable = nest.b.executable();
  executable.bind(nest.state);
  executable.run();
  const std::vector<std::int64_t> list = nest.list();
  ASSERT_EQ(list.size(), 4U * count);
  for (std::int64_t i = 0; i < 4 * count; ++i) {
    ASSERT_EQ(list[static_cast<std::size_t>(i)], i / count * 100 + i % count);
  }
  // Many iterations to a launch.
  EXPECT_LT(stand_in::calls("cuGraphLaunch"), 4 * count / 16);
}

TEST_F(CudaExecutable, ARangeRepeatsAPlanWithTwoLoops) {
  Nest nest;
  nest.b.plan.steps.push_back(nest.b.plan.steps[1]);
  Executable executable = nest.b.executable();
  executable.bind(nest.state);
  EXPECT_EQ(executable.iterations(), 1);
  executable.run(5, 7);
  EXPECT_EQ(nest.list().size(), 48U);
  EXPECT_EQ(nest.after(), 4);
}

/// The memory of a loop's index may be another value's after its last reader.
TEST_F(CudaExecutable, TheIndexSharesItsMemory) {
  GpuPlan b;
  const auto index = b.arena(i64_scalar);
  const auto other = b.arena(i64_scalar);
  b.plan.buffers[other].offset = b.plan.buffers[index].offset;
  const auto total = b.state("total", i64_scalar);
  const auto sum = b.kernel("sum", {reads(8), changes(8)}, [](const Call& call) {
    *call.pointer<std::int64_t>(1) += *call.pointer<std::int64_t>(0);
  });
  const auto spoil = b.kernel("spoil", {writes(8)},
                              [](const Call& call) { *call.pointer<std::int64_t>(0) = 1000; });
  b.plan.steps = {loop(index, 100, {launch(sum, {index, total}), launch(spoil, {other})})};
  State state;
  state.add("total", i64_scalar);
  Executable executable = b.executable();
  executable.bind(state);
  executable.run();
  EXPECT_EQ(state.data<std::int64_t>("total")[0], 4950);
}

TEST_F(CudaExecutable, ScalarsHaveDefaultsAndCanBeSet) {
  GpuPlan b;
  const Type scalar{DType::f32, {}};
  const auto rate = b.scalar("rate", 0.5F);
  const auto out = b.state("out", scalar);
  b.plan.steps = {copy(rate, out)};
  State state;
  state.add("out", scalar);
  Executable executable = b.executable();
  executable.bind(state);
  executable.run();
  EXPECT_EQ(state.data<float>("out")[0], 0.5F);
  executable.set_scalar("rate", 2);
  executable.run();
  executable.run();
  EXPECT_EQ(state.data<float>("out")[0], 2);
  EXPECT_EQ(error_of([&] { executable.set_scalar("momentum", 1); }),
            "plan \"test\": no scalar \"momentum\"; it has \"rate\"");
}

TEST_F(CudaExecutable, AnEmptyPlanAndEmptyTensors) {
  GpuPlan b;
  const Type none{DType::f32, {0}};
  const auto w = b.state("w", none);
  const auto x = b.arena(none);
  b.plan.steps = {copy(w, x), loop(b.arena(i64_scalar), 3, {})};
  State state;
  state.add("w", none);
  Executable executable = b.executable();
  executable.bind(state);
  executable.run();
  EXPECT_EQ(stand_in::calls("cuGraphLaunch"), 0);
  EXPECT_EQ(state.values("w"), std::vector<double>());
  GpuPlan().executable().run();
}

TEST_F(CudaExecutable, OutOfMemoryBeforeAnythingRuns) {
  GpuPlan b;
  b.arena({DType::f32, {1 << 28}});
  EXPECT_EQ(error_of([&] { b.executable(); }),
            "CUDA: allocating 1073741824 bytes for the arena of plan \"test\" on Stand-in, where "
            "268435456 of 268435456 bytes are free: CUDA_ERROR_OUT_OF_MEMORY: out of memory");
  Sum sum;
  stand_in::settings().memory_bytes = 4096;
  Executable executable = sum.b.executable();
  stand_in::settings().memory_bytes = 2048;
  const std::string message = error_of([&] { executable.bind(sum.state); });
  EXPECT_EQ(message.find("CUDA: allocating 512 bytes for the state \"w\" on Stand-in, where "), 0U);
  stand_in::settings() = {};
  executable.bind(sum.state);
  executable.run();
  EXPECT_EQ(sum.state.data<std::int64_t>("w")[7], 22);
}

TEST_F(CudaExecutable, PlansForOtherDevices) {
  const auto message = [](const std::string& target, int major, int minor) {
    GpuPlan b;
    b.plan.target = target;
    stand_in::settings().major = major;
    stand_in::settings().minor = minor;
    return error_of([&] { b.executable(); });
  };
  EXPECT_EQ(message("nvptx64/sm_80", 9, 0), "");
  EXPECT_EQ(message("nvptx64/sm_100f", 10, 3), "");
  EXPECT_EQ(message("nvptx64/sm_90a", 10, 0),
            "plan \"test\" is for \"nvptx64/sm_90a\"; Stand-in has the compute capability 10.0: "
            "compile it again for this one");
  EXPECT_NE(message("nvptx64/sm_90", 8, 9), "");
  EXPECT_NE(message("nvptx64/sm_100f", 12, 0), "");
  EXPECT_EQ(message("nvptx64/sm_", 9, 0),
            "plan \"test\" is for \"nvptx64/sm_\", which names no compute capability");
  EXPECT_NE(message("nvptx64/gfx90", 9, 0), "");
}

TEST_F(CudaExecutable, KernelsThatTheDeviceDoesNotTake) {
  const auto message = [](const auto& change) {
    GpuPlan b;
    const auto up = increment_kernel(b);
    b.plan.steps = {launch(up, {b.arena(i64_scalar)})};
    change(b.plan);
    return error_of([&] { b.executable(); });
  };
  const std::string start = "plan \"test\": kernel increment: phase increment: ";
  EXPECT_EQ(message([](plan::Plan& plan) { plan.kernels[0].phases[0].threads = 0; }),
            start + "is for the host");
  EXPECT_EQ(message([](plan::Plan& plan) { plan.kernels[0].phases[0].threads = 1025; }),
            start + "1025 threads in a block; with its registers Stand-in has 1024");
  EXPECT_EQ(message([](plan::Plan& plan) { plan.kernels[0].phases[0].shared_bytes = 300000; }),
            start + "300000 bytes of shared memory; Stand-in has 232448 for a block");
  EXPECT_EQ(message([](plan::Plan& plan) { plan.kernels[0].phases[0].grid = 1LL << 31; }),
            start + "2147483648 blocks; a GPU takes 2147483647");
  EXPECT_EQ(message([](plan::Plan& plan) { plan.steps[0].buffers.resize(513); }),
            "plan \"test\": kernel increment has 513 arguments; a GPU takes 512");
  EXPECT_EQ(message([](plan::Plan& plan) {
              plan.kernels[0].batch = 2;
              plan.steps[0].buffers.resize(257);
            }),
            "plan \"test\": kernel increment has 257 arguments of up to 2 executions; a GPU takes "
            "512");
  EXPECT_EQ(message([](plan::Plan& plan) {
              plan.kernels[0].batch = 2;
              plan.kernels[0].phases[0].grid = 1LL << 30;
            }),
            start + "1073741824 blocks of up to 2 executions; a GPU takes 2147483647");
  EXPECT_NE(message([](plan::Plan& plan) { plan.objects[0].bytes = "nonsense"; })
                .find("loading the code of kernel increment of plan \"test\", of which the driver "
                      "says \"line 1; fatal"),
            std::string::npos);
  EXPECT_EQ(message([](plan::Plan& plan) {
              const Type pair{DType::i64, {16}};
              plan.arena_bytes = 192;
              plan.buffers.push_back({plan::BufferKind::arena, pair, 0, "", ""});
              plan.buffers.push_back({plan::BufferKind::arena, pair, 64, "", ""});
              plan.steps.push_back(copy(1, 2));
            }),
            "plan \"test\": copies i64[16] from offset 0 to 64: they overlap");
}

TEST_F(CudaExecutable, ProfilesKernels) {
  Nest nest(700);
  nest.b.plan.kernels[nest.note].phases.push_back(nest.b.plan.kernels[nest.note].phases[0]);
  nest.b.plan.steps.push_back(copy(nest.index_buffer, nest.copy_buffer));
  Executable executable = nest.b.executable();
  executable.bind(nest.state);
  ASSERT_EQ(executable.profile().size(), 2U);
  EXPECT_EQ(executable.profile()[0].launches, 0);
  executable.set_profiling(true);
  executable.run();
  executable.set_profiling(false);
  const std::vector<KernelTime> times = executable.profile();
  EXPECT_EQ(times[0].kernel, "note");
  EXPECT_EQ(times[0].launches, 2800);
  EXPECT_NEAR(times[0].seconds, 5.6, 1e-5);
  EXPECT_EQ(times[1].launches, 2);
  EXPECT_NEAR(times[1].seconds, 0.002, 1e-8);
  const std::vector<std::int64_t> profiled = nest.list();
  nest.state.data<std::int64_t>("list")[0] = 0;
  executable.run();
  EXPECT_EQ(nest.list(), profiled);
  EXPECT_EQ(executable.profile()[0].launches, 2800);
  executable.set_profiling(true);
  EXPECT_EQ(executable.profile()[0].launches, 0);
}

TEST_F(CudaExecutable, AFailureHasTheKernelsNameWhereItIsAskedFor) {
  Nest nest;
  ASSERT_EQ(setenv("WEFT_CUDA_CHECK", "1", 1), 0);
  Executable executable = nest.b.executable();
  ASSERT_EQ(unsetenv("WEFT_CUDA_CHECK"), 0);
  executable.bind(nest.state);
  executable.run();
  EXPECT_EQ(nest.list().size(), 12U);
  EXPECT_EQ(stand_in::calls("cuGraphLaunch"), 0);
  // Two states are uploaded; then come "increment", the outer index, the inner, and "note".
  nest.state.set_values("after", std::vector<double>{0});
  stand_in::fail("cuStreamSynchronize", 6, CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_EQ(error_of([&] { executable.run(); }),
            "plan \"test\": kernel note, phase note, of 1 blocks of 32 threads: CUDA: waiting for "
            "the work of Stand-in: CUDA_ERROR_ILLEGAL_ADDRESS");
}

TEST_F(CudaExecutable, Traces) {
  Nest nest;
  Executable executable = nest.b.executable();
  executable.bind(nest.state);
  executable.set_tracing(true);
  executable.run();
  EXPECT_NE(executable.trace().find("launch a graph"), std::string::npos);
  executable.set_tracing(false);
  executable.run();
}

}  // namespace
}  // namespace weft::runtime::testing
