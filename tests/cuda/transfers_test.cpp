#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "training.h"

namespace weft::runtime::testing {
namespace {

class CudaTransfer : public Gpu, public ::testing::WithParamInterface<bool> {
 protected:
  static RunOptions options() { return {.synchronous = GetParam()}; }
};

TEST_P(CudaTransfer, InOrderOnceEachAndNoneBeyondTheEnd) {
  // Rings of many slots and of two; snapshots in two slots and in one.
  for (const std::int64_t elements : {1, 40000, 3000000}) {
    const std::int64_t count = elements == 1 ? 300 : 7;
    Training training(count, 1, elements);
    Executable executable = training.executable(options());
    Seen seen;
    seen.watch(executable);
    executable.run();
    EXPECT_EQ(seen.filled, range(0, count));
    EXPECT_EQ(seen.received, range(0, count));
    for (std::int64_t i = 0; i < count; ++i) {
      ASSERT_EQ(seen.sums[static_cast<std::size_t>(i)], sum_below(i + 1));
    }
    EXPECT_EQ(training.sum(), sum_below(count));
  }
}

TEST_P(CudaTransfer, EveryCountsTheIterationsNumber) {
  Training training(20, 6);
  Executable executable = training.executable(options());
  Seen seen;
  seen.watch(executable);
  executable.run(4, 19);
  EXPECT_EQ(seen.received, (Numbers{6, 12, 18}));
  EXPECT_EQ(training.sum(), sum_below(19) - sum_below(4));
  // One graph an iteration; what is not received is not copied.
  EXPECT_EQ(stand_in::calls("cuGraphLaunch"), 15);
  EXPECT_LE(stand_in::calls("cuGraphInstantiateWithFlags"), 4);
  EXPECT_EQ(stand_in::calls("cuMemcpyDtoHAsync"), 4);
}

TEST_P(CudaTransfer, RangesContinue) { ranges_continue<Training>(options()); }

TEST_P(CudaTransfer, NestedLoopsSeeRunningNumbers) {
  // for 4: { for 5: { feed, accumulate }; receive } with the receiver's numbers those of the outer.
  Training training;
  plan::Plan& plan = training.b.plan;
  const auto outer = training.b.arena(i64_scalar);
  std::vector<plan::Step> inner = plan.steps[0].body;
  const plan::Step report = inner.back();
  inner.pop_back();
  plan.steps = {loop(outer, 4, {loop(plan.steps[0].buffers[0], 5, inner), report})};
  Executable executable = training.executable(options());
  Seen seen;
  seen.watch(executable);
  executable.set_receiver("loss", [&](std::int64_t iteration, std::span<const TensorView> tensors) {
    seen.received.push_back(iteration);
    seen.sums.push_back(get(tensors[0]));
  });
  executable.run();
  EXPECT_EQ(seen.filled, range(0, 20));
  EXPECT_EQ(seen.received, range(0, 4));
  EXPECT_EQ(seen.sums, (Numbers{sum_below(5), sum_below(10), sum_below(15), sum_below(20)}));
}

TEST_P(CudaTransfer, WithoutALoopTheRunsNumberCounts) {
  Training training;
  training.b.plan.steps = training.b.plan.steps[0].body;
  Executable executable = training.executable(options());
  Seen seen;
  seen.watch(executable);
  executable.run(3, 6);
  EXPECT_EQ(seen.filled, range(3, 6));
  EXPECT_EQ(seen.received, range(3, 6));
}

TEST_P(CudaTransfer, AThrowingFeederStopsBeforeItsIteration) {
  a_throwing_feeder_stops_before_its_iteration<Training>(options());
}

TEST_P(CudaTransfer, OneOfTwoFeedersThrows) { one_of_two_feeders_throws<Training>(options()); }

TEST_P(CudaTransfer, AThrowingReceiverStopsAtTheNextIteration) {
  a_throwing_receiver_stops_at_the_next_iteration<Training>(options());
}

TEST_P(CudaTransfer, OtherReceiversGetTheirsWhenOneThrows) {
  Training training;
  const auto other = training.b.receiver("other", {training.type}, 2);
  training.b.plan.steps[0].body.push_back(receive(other, {training.sum_buffer}));
  Executable executable = training.executable(options());
  Seen seen;
  seen.watch(executable);
  Numbers received;
  executable.set_receiver("other", [&](std::int64_t iteration, std::span<const TensorView> view) {
    received.push_back(iteration);
    EXPECT_EQ(get(view[0]), sum_below(iteration + 1));
  });
  executable.set_receiver("loss", [](std::int64_t iteration, std::span<const TensorView>) {
    if (iteration == 3) throw Error("three");
  });
  EXPECT_EQ(error_of([&] { executable.run(); }), "three");
  EXPECT_EQ(received, range(0, 2 * static_cast<std::int64_t>(received.size()), 2));
}

TEST_P(CudaTransfer, UnsetReceiversCostNothing) {
  Training training;
  Executable executable = training.executable(options());
  EXPECT_EQ(error_of([&] { executable.run(); }),
            "plan \"test\": no function set for feeder \"data\" i64[1]");
  executable.set_feeder("data", Seen::fill);
  executable.run();
  EXPECT_EQ(stand_in::calls("cuMemcpyDtoHAsync"), 0);
  EXPECT_EQ(training.sum(), sum_below(20));
}

INSTANTIATE_TEST_SUITE_P(Both, CudaTransfer, ::testing::Values(false, true),
                         [](const auto& information) {
                           return information.param ? "Synchronous" : "Threads";
                         });

class CudaTransferThreads : public Gpu {};

TEST_F(CudaTransferThreads, ASlowReceiverLosesNothingAndBoundsTheQueue) {
  Training training(30);
  Executable executable = training.executable({.queue = 2});
  Seen seen;
  seen.watch(executable);
  std::atomic<std::int64_t> launched{0};
  executable.set_feeder("data", [&](std::int64_t iteration, std::span<std::byte> to) {
    launched = iteration;
    Seen::fill(iteration, to);
  });
  executable.set_receiver("loss", [&](std::int64_t iteration, std::span<const TensorView> tensors) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    seen.received.push_back(iteration);
    EXPECT_EQ(get(tensors[0]), sum_below(iteration + 1));
  });
  executable.run();
  EXPECT_EQ(seen.received, range(0, 30));
}

TEST_F(CudaTransferThreads, ManyShortRuns) { many_short_runs<Training>({}, 400, 3); }

}  // namespace
}  // namespace weft::runtime::testing
