#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <limits>
#include <stdexcept>
#include <thread>
#include <vector>

#include "training.h"

namespace weft::runtime::testing {
namespace {

void accumulate(void* const* arguments, void*, std::int64_t, std::int64_t) {
  *argument<std::int64_t>(arguments, 1) += *argument<std::int64_t>(arguments, 0);
}

/// The training loop in miniature, of single numbers.
struct Training : TrainingLoop<PlanBuilder> {
  explicit Training(std::int64_t count = 20, std::int64_t every = 1)
      : TrainingLoop(count, every, i64_scalar, [](PlanBuilder& builder, const Type&) {
          return builder.kernel("accumulate", 1, accumulate);
        }) {}
};

class Transfer : public ::testing::TestWithParam<bool> {
 protected:
  RunOptions options() const { return {.threads = 2, .synchronous = GetParam()}; }
};

TEST_P(Transfer, InOrderOnceEachAndNoneBeyondTheEnd) {
  Training training(300);
  Executable executable = training.executable(options());
  Seen seen;
  seen.type = training.type;
  seen.watch(executable);
  executable.run();
  EXPECT_EQ(seen.filled, range(0, 300));
  EXPECT_EQ(seen.received, range(0, 300));
  for (std::int64_t i = 0; i < 300; ++i) {
    ASSERT_EQ(seen.sums[static_cast<std::size_t>(i)], sum_below(i + 1));
  }
}

TEST_P(Transfer, EveryCountsTheIterationsNumber) {
  Training training(20, 6);
  Executable executable = training.executable(options());
  Seen seen;
  seen.watch(executable);
  executable.run(4, 19);
  EXPECT_EQ(seen.received, (Numbers{6, 12, 18}));
}

TEST_P(Transfer, RangesContinue) { ranges_continue<Training>(options()); }

TEST_P(Transfer, NestedLoopsSeeRunningNumbers) {
  Training training;
  plan::Plan& plan = training.b.plan;
  const auto outer = training.b.arena(i64_scalar);
  const auto x = training.b.arena(i64_scalar);
  const auto data = training.b.feeder("outer data", i64_scalar);
  const auto end = training.b.receiver("epoch", {i64_scalar});
  plan.steps[0].count = 4;
  plan.steps = {loop(outer, 5, {feed(data, x), plan.steps[0], receive(end, {x})})};
  Executable executable = training.executable(options());
  Seen seen;
  seen.watch(executable);
  Numbers outer_filled, outer_received;
  executable.set_feeder("outer data", [&](std::int64_t iteration, std::span<std::byte> to) {
    outer_filled.push_back(iteration);
    put(to, -iteration);
  });
  executable.set_receiver("epoch",
                          [&](std::int64_t iteration, std::span<const TensorView> tensors) {
                            outer_received.push_back(iteration);
                            EXPECT_EQ(get(tensors[0]), -iteration);
                          });
  executable.run(1, 4);
  EXPECT_EQ(seen.filled, range(4, 16));
  EXPECT_EQ(seen.received, range(4, 16));
  EXPECT_EQ(outer_filled, range(1, 4));
  EXPECT_EQ(outer_received, range(1, 4));
}

TEST_P(Transfer, WithoutALoopTheRunsNumberCounts) {
  Training training;
  training.b.plan.steps = training.b.plan.steps[0].body;
  Executable executable = training.executable(options());
  Seen seen;
  seen.watch(executable);
  executable.run();
  executable.run(5, 9);
  EXPECT_EQ(seen.filled, (Numbers{0, 5, 6, 7, 8}));
  EXPECT_EQ(seen.received, seen.filled);
}

TEST_P(Transfer, BesideTheOnlyLoopTheNumberIsZero) {
  Training training;
  plan::Plan& plan = training.b.plan;
  const auto index = training.b.arena(i64_scalar);
  plan.steps = plan.steps[0].body;
  plan.steps.push_back(loop(index, 10, {}));
  Executable executable = training.executable(options());
  Seen seen;
  seen.watch(executable);
  executable.run(4, 6);
  EXPECT_EQ(seen.filled, Numbers{0});
  EXPECT_EQ(seen.received, Numbers{0});
}

TEST_P(Transfer, AThrowingFeederStopsBeforeItsIteration) {
  a_throwing_feeder_stops_before_its_iteration<Training>(options());
}

TEST_P(Transfer, OneOfTwoFeedersThrows) { one_of_two_feeders_throws<Training>(options()); }

TEST_P(Transfer, AThrowingReceiverStopsAtTheNextIteration) {
  a_throwing_receiver_stops_at_the_next_iteration<Training>(options());
}

TEST_P(Transfer, OtherReceiversGetTheirsWhenOneThrows) {
  Training training;
  auto& steps = training.b.plan.steps;
  const auto other = training.b.receiver("other", {i64_scalar});
  steps[0].body.push_back(receive(other, {steps[0].body[1].buffers[0]}));
  Executable executable = training.executable(options());
  Seen seen;
  seen.watch(executable);
  Numbers received;
  executable.set_receiver("other", [&](std::int64_t iteration, std::span<const TensorView>) {
    received.push_back(iteration);
  });
  executable.set_receiver("loss", [](std::int64_t iteration, std::span<const TensorView>) {
    if (iteration == 3) throw Error("three");
  });
  EXPECT_EQ(error_of([&] { executable.run(); }), "three");
  // One for each iteration that was run, and no gap.
  EXPECT_EQ(received, range(0, static_cast<std::int64_t>(received.size())));
  EXPECT_EQ(training.sum(), sum_below(static_cast<std::int64_t>(received.size())));
}

TEST_P(Transfer, AFailureStopsTheLoopsAroundItsReceiverOnly) {
  // for 6: { receive "loss"; for 5: accumulate }. The inner loop is a part of the iteration.
  Training training;
  plan::Plan& plan = training.b.plan;
  const auto outer = training.b.arena(i64_scalar);
  std::vector<plan::Step> inner = plan.steps[0].body;
  const plan::Step report = inner.back();
  inner.pop_back();
  plan.steps = {loop(outer, 6, {report, loop(plan.steps[0].buffers[0], 5, inner)})};
  Executable executable = training.executable(options());
  Seen seen;
  seen.watch(executable);
  executable.set_receiver("loss", [](std::int64_t iteration, std::span<const TensorView>) {
    if (iteration == 2) throw Error("two");
  });
  EXPECT_EQ(error_of([&] { executable.run(); }), "two");
  std::int64_t done = 1;
  while (done <= 6 && training.sum() != sum_below(5 * done)) ++done;
  EXPECT_GE(done, 3);
  EXPECT_LE(done, GetParam() ? 3 : 6);
}

TEST_P(Transfer, AReceiverOutsideOfLoopsStopsThem) {
  Training training(1000000);
  plan::Plan& plan = training.b.plan;
  const auto first = training.b.receiver("first", {i64_scalar});
  plan.steps.insert(plan.steps.begin(), receive(first, {plan.steps[0].buffers[0]}));
  Executable executable = training.executable(options());
  Seen seen;
  seen.watch(executable);
  executable.set_receiver("first",
                          [](std::int64_t, std::span<const TensorView>) { throw Error("no"); });
  EXPECT_EQ(error_of([&] { executable.run(); }), "no");
  EXPECT_LT(seen.received.size(), 1000000U);
}

TEST_P(Transfer, CallbacksKeepTheCallersDenormals) {
#if defined(__x86_64__)
  Training training(5);
  Executable executable = training.executable(options());
  const auto denormal_left = [] {
    volatile float value = std::numeric_limits<float>::min();
    value = value * 0.5F;
    return value > 0;
  };
  int kept = 0;
  std::atomic<int> kept_by_receiver{0};
  executable.set_feeder("data", [&](std::int64_t iteration, std::span<std::byte> to) {
    if (denormal_left()) ++kept;
    if (iteration == 4) throw Error("enough");
    put(to, 0);
  });
  executable.set_receiver("loss", [&](std::int64_t, std::span<const TensorView>) {
    if (denormal_left()) ++kept_by_receiver;
  });
  EXPECT_EQ(error_of([&] { executable.run(); }), "enough");
  EXPECT_EQ(kept, 5);
  EXPECT_EQ(kept_by_receiver.load(), 4);
  EXPECT_TRUE(denormal_left());  // restored, an exception notwithstanding
#else
  GTEST_SKIP() << "denormals are flushed on x86 only";
#endif
}

TEST_P(Transfer, NamesAndUnsetFeeders) {
  Training training;
  training.b.plan.feeders.push_back({"unused", i64_scalar});
  Executable executable = training.executable(options());
  EXPECT_EQ(error_of([&] { executable.run(); }),
            "plan \"test\": no function set for feeder \"data\" i64[]");
  EXPECT_EQ(error_of([&] { executable.set_feeder("date", {}); }),
            "plan \"test\": no feeder \"date\"; it has \"data\", \"unused\"");
  EXPECT_EQ(error_of([&] { executable.set_receiver("lost", {}); }),
            "plan \"test\": no receiver \"lost\"; it has \"loss\"");
  EXPECT_EQ(error_of([&] { executable.set_scalar("lr", 1); }),
            "plan \"test\": no scalar \"lr\": it has none");
  executable.set_feeder("data", [](std::int64_t, std::span<std::byte> to) { put(to, 1); });
  executable.run();  // a receiver need not be set
  EXPECT_EQ(training.sum(), 20);
}

TEST_P(Transfer, ACallbackCannotRunItsExecutable) {
  Training training;
  Executable executable = training.executable(options());
  Seen seen;
  seen.watch(executable);
  executable.set_receiver("loss",
                          [&](std::int64_t, std::span<const TensorView>) { executable.run(); });
  EXPECT_EQ(error_of([&] { executable.run(); }), "plan \"test\": run while it runs");
  executable.set_receiver("loss", [&](std::int64_t, std::span<const TensorView>) {
    executable.set_feeder("data", {});
  });
  EXPECT_EQ(error_of([&] { executable.run(); }), "plan \"test\": set_feeder while it runs");
}

INSTANTIATE_TEST_SUITE_P(Mode, Transfer, ::testing::Bool(), [](const auto& test) {
  return std::string(test.param ? "Synchronous" : "Threads");
});

TEST(TransferThreads, EachCallbackHasAThreadOfItsOwn) {
  Training training;
  for (const bool synchronous : {false, true}) {
    Executable executable = training.executable({.threads = 1, .synchronous = synchronous});
    std::vector<std::thread::id> fills, receives;
    executable.set_feeder("data", [&](std::int64_t, std::span<std::byte> to) {
      fills.push_back(std::this_thread::get_id());
      put(to, 0);
    });
    executable.set_receiver("loss", [&](std::int64_t, std::span<const TensorView>) {
      receives.push_back(std::this_thread::get_id());
    });
    executable.run();
    const auto here = std::this_thread::get_id();
    EXPECT_EQ(fills, std::vector(20, fills[0]));
    EXPECT_EQ(receives, std::vector(20, receives[0]));
    EXPECT_EQ(fills[0] == here, synchronous);
    EXPECT_EQ(receives[0] == here, synchronous);
    EXPECT_EQ(fills[0] == receives[0], synchronous);
  }
}

std::atomic<std::int64_t> fills_begun{0};
std::atomic<std::int64_t> kernels_done{0};

/// Holds the first iteration until the feeder is at the next two: these are filled ahead.
void wait_for_fills(void* const*, void*, std::int64_t, std::int64_t) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  const std::int64_t wanted = std::min<std::int64_t>(kernels_done.load() + 3, 400);
  while (fills_begun.load() < wanted && std::chrono::steady_clock::now() < end) {
    std::this_thread::yield();
  }
  ++kernels_done;
}

TEST(TransferThreads, FeedersOfSmallTensorsFillAheadWithinTheirRing) {
  Training training(400);
  auto& body = training.b.plan.steps[0].body;
  const auto k = training.b.kernel("wait", 1, wait_for_fills);
  body.insert(body.begin() + 1, launch(k, {}));
  Executable executable = training.executable({.threads = 1});
  fills_begun = 0;
  kernels_done = 0;
  std::int64_t furthest = 0;
  executable.set_feeder("data", [&](std::int64_t iteration, std::span<std::byte> to) {
    ++fills_begun;
    // The feed step of an iteration comes before its kernel, hence two and not one.
    furthest = std::max(furthest, iteration - kernels_done.load());
    put(to, value_of(iteration));
  });
  executable.run();
  EXPECT_GE(furthest, 2);
  EXPECT_LE(furthest, 128);
  EXPECT_EQ(fills_begun.load(), 400);
  EXPECT_EQ(training.sum(), sum_below(400));
}

TEST(TransferThreads, ASlowReceiverLosesNothingAndBoundsTheQueue) {
  Training training;
  auto& body = training.b.plan.steps[0].body;
  const auto k = training.b.kernel(
      "count", 1, [](void* const*, void*, std::int64_t, std::int64_t) { ++kernels_done; });
  body.insert(body.begin() + 1, launch(k, {}));
  Executable executable = training.executable({.threads = 1, .queue = 2});
  kernels_done = 0;
  Seen seen;
  seen.watch(executable);
  std::int64_t furthest = 0;
  Numbers received;
  executable.set_receiver("loss", [&](std::int64_t iteration, std::span<const TensorView> tensors) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    furthest = std::max(furthest, kernels_done.load() - 1 - iteration);
    EXPECT_EQ(get(tensors[0]), sum_below(iteration + 1));
    received.push_back(iteration);
  });
  executable.run();
  EXPECT_EQ(received, range(0, 20));  // run() has waited for the last
  EXPECT_GE(furthest, 1);
  EXPECT_LE(furthest, 3);  // two wait in the queue, one for a place in it
}

TEST(TransferThreads, ASlowFeederIsWaitedFor) {
  Training training;
  Executable executable = training.executable({.threads = 1});
  Seen seen;
  seen.watch(executable);
  executable.set_feeder("data", [&](std::int64_t iteration, std::span<std::byte> to) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    put(to, value_of(iteration));
  });
  executable.run();
  EXPECT_EQ(training.sum(), sum_below(20));
  EXPECT_EQ(seen.received, range(0, 20));
}

TEST(TransferThreads, AFeederAheadOfAStoppedRunDoesNotMatter) {
  // The receiver stops the run early; the feeder would have failed later, or is in the midst.
  Training training;
  Executable executable = training.executable({.threads = 1, .queue = 1});
  std::int64_t filled = 0;
  executable.set_feeder("data", [&](std::int64_t iteration, std::span<std::byte> to) {
    if (iteration == 15) throw std::out_of_range("later");
    filled = iteration;
    std::this_thread::sleep_for(std::chrono::microseconds(300));
    put(to, 0);
  });
  executable.set_receiver("loss", [](std::int64_t iteration, std::span<const TensorView>) {
    if (iteration == 1) throw std::domain_error("now");
  });
  EXPECT_THROW(executable.run(), std::domain_error);
  EXPECT_LT(filled, 15);
}

TEST(TransferThreads, LargeTensorsAreCopiedWhole) {
  PlanBuilder b;
  const Type type{DType::i32, {3, 200000}};
  const auto index = b.arena(i64_scalar);
  const auto x = b.arena(type);
  const auto data = b.feeder("data", type);
  const auto out = b.receiver("out", {i64_scalar, type});
  b.plan.steps = {loop(index, 6, {feed(data, x), receive(out, {index, x})})};
  Executable executable = b.executable({.threads = 3});
  executable.set_feeder("data", [](std::int64_t iteration, std::span<std::byte> to) {
    auto* values = reinterpret_cast<std::int32_t*>(to.data());
    for (std::size_t i = 0; i < to.size() / 4; ++i) {
      values[i] = static_cast<std::int32_t>(i) ^ static_cast<std::int32_t>(iteration << 24);
    }
  });
  int right = 0;
  executable.set_receiver("out", [&](std::int64_t iteration, std::span<const TensorView> tensors) {
    ASSERT_EQ(get(tensors[0]), iteration);
    const auto* values = reinterpret_cast<const std::int32_t*>(tensors[1].bytes.data());
    for (std::int32_t i = 0; i < 600000; ++i) {
      ASSERT_EQ(values[i], i ^ static_cast<std::int32_t>(iteration << 24));
    }
    ++right;
  });
  executable.run();
  EXPECT_EQ(right, 6);
}

TEST(TransferThreads, ManyShortRuns) { many_short_runs<Training>({.threads = 3}, 2000, 1); }

}  // namespace
}  // namespace weft::runtime::testing
