#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <thread>
#include <vector>

#include "fake.h"

namespace weft::runtime::testing {
namespace {

constexpr std::int64_t block = 16;

/// out = a + b over blocks of 16 i64.
void add(void* const* arguments, void*, std::int64_t begin, std::int64_t end) {
  const auto* a = argument<std::int64_t>(arguments, 0);
  const auto* b = argument<std::int64_t>(arguments, 1);
  auto* out = argument<std::int64_t>(arguments, 2);
  for (std::int64_t i = begin * block; i < end * block; ++i) out[i] = a[i] + b[i];
}

/// list[++list[0]] = 100 * outer + inner.
void note_indices(void* const* arguments, void*, std::int64_t, std::int64_t) {
  auto* list = argument<std::int64_t>(arguments, 0);
  const std::int64_t outer = *argument<std::int64_t>(arguments, 1);
  const std::int64_t inner = *argument<std::int64_t>(arguments, 2);
  list[++list[0]] = 100 * outer + inner;
}

void increment(void* const* arguments, void*, std::int64_t, std::int64_t) {
  ++*argument<std::int64_t>(arguments, 0);
}

TEST(Executor, ConstantsArenaStateAndCopies) {
  PlanBuilder b;
  const Type type{DType::i64, {4 * block}};
  const auto w = b.state("w", type);
  const auto ones = b.constant(type, std::vector<std::int64_t>(4 * block, 1));
  const auto x = b.arena(type);
  const auto y = b.arena(type);
  const auto k = b.kernel("add", 4, add);
  b.plan.steps = {copy(w, x), launch(k, {x, ones, y}), launch(k, {y, y, x}), copy(x, w)};
  State state;
  state.add("w", type);
  state.data<std::int64_t>("w")[7] = 10;
  Executable executable = b.executable();
  executable.bind(state);
  executable.run();
  EXPECT_EQ(state.data<std::int64_t>("w")[7], 22);
  EXPECT_EQ(state.data<std::int64_t>("w")[63], 2);
  executable.run();
  EXPECT_EQ(state.data<std::int64_t>("w")[7], 46);
  EXPECT_EQ(executable.iterations(), 1);
  EXPECT_EQ(executable.plan().name, "test");
}

struct Nest {
  PlanBuilder b;
  State state;
  Nest() {
    const Type type{DType::i64, {100}};
    const auto outer = b.arena(i64_scalar);
    const auto inner = b.arena(i64_scalar);
    const auto list = b.state("list", type);
    const auto after = b.state("after", i64_scalar);
    const auto note = b.kernel("note", 1, note_indices);
    const auto up = b.kernel("up", 1, increment);
    b.plan.steps = {launch(up, {after}),
                    loop(outer, 4,
                         {loop(inner, 3, {launch(note, {list, outer, inner})}),
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

TEST(Executor, NestedLoopsSetTheirIndices) {
  Nest nest;
  Executable executable = nest.b.executable();
  executable.bind(nest.state);
  EXPECT_EQ(executable.iterations(), 4);
  executable.run();
  EXPECT_EQ(nest.list(),
            (std::vector<std::int64_t>{0, 1, 2, 100, 101, 102, 200, 201, 202, 300, 301, 302}));
  EXPECT_EQ(nest.after(), 2);
}

TEST(Executor, ARangeRestrictsTheOnlyLoopAndRunsTheRest) {
  Nest nest;
  Executable executable = nest.b.executable();
  executable.bind(nest.state);
  executable.run(1, 3);
  EXPECT_EQ(nest.list(), (std::vector<std::int64_t>{100, 101, 102, 200, 201, 202}));
  EXPECT_EQ(nest.after(), 2);
  executable.run(3, 3);
  EXPECT_EQ(nest.list().size(), 6U);
  EXPECT_EQ(nest.after(), 4);
  EXPECT_EQ(error_of([&] { executable.run(2, 5); }),
            "plan \"test\": run(2, 5): its loop has 4 iterations");
  EXPECT_EQ(error_of([&] { executable.run(-1, 2); }), "plan \"test\": run(-1, 2): no such range");
  EXPECT_EQ(error_of([&] { executable.run(3, 2); }), "plan \"test\": run(3, 2): no such range");
}

TEST(Executor, ARangeRepeatsAPlanWithTwoLoops) {
  Nest nest;
  nest.b.plan.steps.push_back(nest.b.plan.steps[1]);
  Executable executable = nest.b.executable();
  executable.bind(nest.state);
  EXPECT_EQ(executable.iterations(), 1);
  executable.run(5, 7);
  EXPECT_EQ(nest.list().size(), 48U);
  EXPECT_EQ(nest.after(), 4);
  EXPECT_EQ(error_of([&] { executable.run(0, std::numeric_limits<std::int64_t>::max()); }),
            "plan \"test\": run(0, 9223372036854775807): more iterations than can be counted");
}

/// A little chaotic arithmetic: any block done twice, not at all or too early changes the bits.
void mix(void* const* arguments, void* scratch, std::int64_t begin, std::int64_t end) {
  const auto* from = argument<float>(arguments, 0);
  auto* to = argument<float>(arguments, 1);
  auto* local = static_cast<float*>(scratch);
  for (std::int64_t i = begin * block; i < end * block; ++i) {
    local[i % block] = from[(i * 7 + 3) % (60 * block)];
    to[i] = 3.7F * local[i % block] * (1 - local[i % block]);
  }
}

std::vector<double> mixed(int threads) {
  PlanBuilder b;
  const Type type{DType::f32, {60 * block}};
  const auto w = b.state("w", type);
  const auto index = b.arena(i64_scalar);
  const auto x = b.arena(type);
  const auto k = b.kernel("k", {{"k.0", 60, mix}});
  const auto both = b.kernel("both", {{"both.0", 60, mix}, {"both.1", 60, mix}});
  b.plan.kernels[k].scratch_bytes = b.plan.kernels[both].scratch_bytes = block * 4;
  b.plan.steps = {
      loop(index, 50, {launch(k, {w, x}), launch(k, {x, w}), launch(both, {w, x}), copy(x, w)})};
  State state;
  state.add("w", type);
  auto values = state.data<float>("w");
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(i + 1) / static_cast<float>(values.size() + 2);
  }
  Executable executable = b.executable({.threads = threads});
  executable.bind(state);
  executable.run();
  return state.values("w");
}

TEST(Executor, SameBitsOnAnyNumberOfThreads) {
  const std::vector<double> one = mixed(1);
  EXPECT_NE(one[0], one[1]);
  EXPECT_EQ(mixed(2), one);
  EXPECT_EQ(mixed(5), one);
}

void note_thread(void* const* arguments, void*, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    argument<std::uint64_t>(arguments, 0)[i] =
        std::hash<std::thread::id>()(std::this_thread::get_id());
  }
}

TEST(Executor, LittleWorkStaysWithTheCaller) {
  PlanBuilder b;
  const auto ids = b.state("ids", {DType::i64, {64}});
  const auto k = b.kernel("k", 64, note_thread);
  b.plan.kernels[k].bytes_written = 512;
  b.plan.steps = {launch(k, {ids})};
  State state;
  state.add("ids", {DType::i64, {64}});
  Executable executable = b.executable({.threads = 4});
  executable.bind(state);
  executable.run();
  const auto here = std::hash<std::thread::id>()(std::this_thread::get_id());
  for (const auto id : state.data<std::uint64_t>("ids")) EXPECT_EQ(id, here);
}

void scale(void* const* arguments, void*, std::int64_t, std::int64_t) {
  *argument<float>(arguments, 1) = 2 * *argument<float>(arguments, 0);
}

TEST(Executor, ScalarsHaveDefaultsAndCanBeSet) {
  PlanBuilder b;
  const auto lr = b.scalar("lr", 0.25F);
  b.scalar("decay", 0);
  const auto out = b.state("out", {DType::f32, {}});
  b.plan.steps = {launch(b.kernel("scale", 1, scale), {lr, out})};
  State state;
  state.add("out", {DType::f32, {}});
  Executable executable = b.executable();
  executable.bind(state);
  executable.run();
  EXPECT_EQ(state.values("out")[0], 0.5);
  executable.set_scalar("lr", 3);
  executable.run();
  EXPECT_EQ(state.values("out")[0], 6);
  EXPECT_EQ(error_of([&] { executable.set_scalar("rate", 1); }),
            "plan \"test\": no scalar \"rate\"; it has \"lr\", \"decay\"");
}

TEST(Executor, BindingNamesAllThatDoesNotFit) {
  PlanBuilder b;
  b.state("a", {DType::f32, {2}});
  b.state("a", {DType::f32, {2}});
  b.state("b", {DType::f32, {3}});
  b.state("c", {DType::f32, {4}});
  const auto out = b.state("d", i64_scalar);
  b.plan.steps = {launch(b.kernel("up", 1, increment), {out})};
  Executable executable = b.executable();
  EXPECT_EQ(error_of([&] { executable.run(); }),
            "plan \"test\": run before a State is bound: it needs \"a\" f32[2]");
  State state;
  state.add("c", {DType::f16, {4}});
  state.add("d", i64_scalar);
  EXPECT_EQ(
      error_of([&] { executable.bind(state); }),
      "plan \"test\": the State does not fit: it lacks \"a\" f32[2], \"b\" f32[3]; and has of "
      "another type: \"c\" f32[4] is f16[4]");
  state.add("a", {DType::f32, {2}});
  state.add("b", {DType::f32, {3}});
  EXPECT_EQ(error_of([&] { executable.bind(state); }),
            "plan \"test\": the State does not fit: of another type: \"c\" f32[4] is f16[4]");
  EXPECT_NE(error_of([&] { executable.run(); }), "");
  state.remove("c");
  state.add("c", {DType::f32, {4}});
  executable.bind(state);
  executable.run();
  EXPECT_NE(error_of([&] { executable.bind(State()); }), "");
  executable.run();  // what was bound before still is
  EXPECT_EQ(state.values("d")[0], 2);
}

TEST(Executor, FollowsAStateWhoseTensorsAreReplaced) {
  PlanBuilder b;
  const auto n = b.state("n", i64_scalar);
  b.plan.steps = {launch(b.kernel("up", 1, increment), {n})};
  State state;
  state.add("n", i64_scalar);
  Executable executable = b.executable();
  executable.bind(state);
  executable.run();
  state.remove("n");
  EXPECT_EQ(error_of([&] { executable.run(); }),
            "plan \"test\": the State does not fit: it lacks \"n\" i64[]");
  state.add("n", i64_scalar);
  executable.run();
  EXPECT_EQ(state.values("n")[0], 1);
}

TEST(Executor, TwoShareAState) {
  PlanBuilder b;
  const auto n = b.state("n", i64_scalar);
  b.plan.steps = {launch(b.kernel("up", 1, increment), {n})};
  State state;
  state.add("n", i64_scalar);
  Executable first = b.executable();
  Executable second = b.executable();
  first.bind(state);
  second.bind(state);
  first.run();
  second.run();
  Executable moved = std::move(first);
  moved.run();
  EXPECT_EQ(state.values("n")[0], 3);
}

TEST(Executor, ProfilesKernels) {
  Nest nest;
  Executable executable = nest.b.executable();
  executable.bind(nest.state);
  executable.run();
  ASSERT_EQ(executable.profile().size(), 2U);
  EXPECT_EQ(executable.profile()[0].launches, 0);
  executable.set_profiling(true);
  executable.run(0, 2);
  const std::vector<KernelTime> profile = executable.profile();
  EXPECT_EQ(profile[0].kernel, "note");
  EXPECT_EQ(profile[0].launches, 6);
  EXPECT_GT(profile[0].seconds, 0);
  EXPECT_EQ(profile[1].launches, 2);
  executable.set_profiling(false);
  executable.run(0, 1);
  EXPECT_EQ(executable.profile()[0].launches, 6);
  executable.set_profiling(true);
  EXPECT_EQ(executable.profile()[0].launches, 0);
}

TEST(Executor, AnEmptyPlanAndEmptyTensors) {
  PlanBuilder b;
  b.executable().run();
  const Type empty{DType::f32, {0, 3}};
  const auto x = b.arena(empty);
  const auto y = b.state("y", empty);
  b.plan.steps = {copy(x, y), launch(b.kernel("k", 0, increment), {y})};
  State state;
  state.add("y", empty);
  Executable executable = b.executable();
  executable.bind(state);
  executable.run();
  EXPECT_TRUE(state.values("y").empty());
}

void arena_is_aligned(void* const* arguments, void*, std::int64_t, std::int64_t) {
  *argument<std::int64_t>(arguments, 1) =
      static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(arguments[0]) % (2 << 20));
}

TEST(Executor, ALargeArenaStartsAtAHugePage) {
  PlanBuilder b;
  const auto x = b.arena({DType::f32, {4 << 20}});
  const auto rest = b.state("rest", i64_scalar);
  b.plan.steps = {launch(b.kernel("k", 1, arena_is_aligned), {x, rest})};
  State state;
  state.add("rest", i64_scalar);
  state.set_values("rest", std::vector<double>{-1});
  Executable executable = b.executable();
  executable.bind(state);
  executable.run();
#ifdef __linux__
  EXPECT_EQ(state.values("rest")[0], 0);
#endif
  EXPECT_EQ(static_cast<std::int64_t>(state.values("rest")[0]) % 64, 0);
}

TEST(Executor, AnArenaBeyondAllMemoryIsAnError) {
  PlanBuilder b;
  b.plan.arena_bytes = std::int64_t{1} << 60;
  EXPECT_EQ(error_of([&] { b.executable(); }),
            "out of memory: 1152921504606846976 bytes could not be allocated");
}

TEST(Executor, Options) {
  const PlanBuilder b;
  const auto make = [&](const RunOptions& options) {
    return error_of([&] { Executable(b.plan, options, b.code()); });
  };
  EXPECT_EQ(make({.threads = -1}), "threads: -1; should be 0 to 1024");
  EXPECT_EQ(make({.queue = 0}), "queue: 0; should be 1 or more");
  setenv("WEFT_THREADS", "3", 1);
  EXPECT_EQ(make({}), "");
  setenv("WEFT_THREADS", "many", 1);
  EXPECT_EQ(make({}), "WEFT_THREADS is \"many\"; should be 1 to 1024");
  EXPECT_EQ(make({.threads = 1}), "");
  unsetenv("WEFT_THREADS");
}

}  // namespace
}  // namespace weft::runtime::testing
