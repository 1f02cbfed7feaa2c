#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <optional>
#include <stdexcept>
#include <vector>

#include "tests/runtime/fake.h"

/// A training loop in miniature, and what transfers promise of it on any device.
namespace weft::runtime::testing {

using Numbers = std::vector<std::int64_t>;

inline Numbers range(std::int64_t from, std::int64_t to, std::int64_t every = 1) {
  Numbers numbers;
  for (std::int64_t i = from; i < to; ++i) {
    if (i % every == 0) numbers.push_back(i);
  }
  return numbers;
}
inline std::int64_t value_of(std::int64_t iteration) { return iteration * iteration + 1; }
inline std::int64_t sum_below(std::int64_t iteration) {
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < iteration; ++i) sum += value_of(i);
  return sum;
}

/// Each iteration adds the fed numbers, all equal, to the state "sum" and then lets the receiver
/// see its first and them.
template <typename Builder>
struct TrainingLoop {
  Builder b;
  State state;
  Type type;
  std::uint32_t sum_buffer = 0;
  std::uint32_t fed_buffer = 0;

  /// `accumulate` makes the kernel that adds a tensor of `type`, its first argument, to the second.
  TrainingLoop(std::int64_t count, std::int64_t every, const Type& type_of_all,
               const std::function<std::uint32_t(Builder& b, const Type& type)>& accumulate)
      : type(type_of_all) {
    const auto index = b.arena(i64_scalar);
    const auto x = fed_buffer = b.arena(type);
    const auto sum = sum_buffer = b.state("sum", type);
    const auto data = b.feeder("data", type);
    const auto loss = b.receiver("loss", {type, type}, every);
    const auto k = accumulate(b, type);
    b.plan.steps = {
        loop(index, count, {feed(data, x), launch(k, {x, sum}), receive(loss, {sum, x})})};
    state.add("sum", type);
  }
  Executable executable(const RunOptions& options) {
    Executable made = b.executable(options);
    made.bind(state);
    return made;
  }
  /// The state's elements are all the same.
  std::int64_t sum() {
    const auto all = state.template data<std::int64_t>("sum");
    for (const std::int64_t element : all) EXPECT_EQ(element, all[0]);
    return all[0];
  }
};

/// What the callbacks saw. Written by one thread at a time, read after run().
struct Seen {
  Numbers filled;
  Numbers received;
  Numbers sums;
  std::optional<Type> type;  ///< that is expected

  static void fill(std::int64_t iteration, std::span<std::byte> to) {
    for (std::size_t at = 0; at < to.size(); at += 8) put(to.subspan(at), value_of(iteration));
  }
  void watch(Executable& executable) {
    executable.set_feeder("data", [this](std::int64_t iteration, std::span<std::byte> to) {
      filled.push_back(iteration);
      fill(iteration, to);
    });
    executable.set_receiver("loss",
                            [this](std::int64_t iteration, std::span<const TensorView> tensors) {
                              received.push_back(iteration);
                              sums.push_back(get(tensors[0]));
                              EXPECT_EQ(get(tensors[1]), value_of(iteration));
                              if (type) {
                                EXPECT_EQ(tensors[0].type, *type);
                              }
                            });
  }
};

// ---- what holds everywhere; `Training` of 20 iterations -----------------------------------------

template <typename Training>
void ranges_continue(const RunOptions& options) {
  Training training;
  Executable executable = training.executable(options);
  Seen seen;
  seen.type = training.type;
  seen.watch(executable);
  executable.run(0, 7);
  EXPECT_EQ(seen.filled, range(0, 7));
  executable.run(7, 8);
  executable.run(8, 8);
  executable.run(8, 20);
  EXPECT_EQ(seen.filled, range(0, 20));
  EXPECT_EQ(seen.received, range(0, 20));
  EXPECT_EQ(training.sum(), sum_below(20));
}

template <typename Training>
void a_throwing_feeder_stops_before_its_iteration(const RunOptions& options) {
  for (const std::int64_t bad : {0, 9, 19}) {
    Training training;
    Executable executable = training.executable(options);
    Seen seen;
    seen.type = training.type;
    seen.watch(executable);
    executable.set_feeder("data", [&](std::int64_t iteration, std::span<std::byte> to) {
      if (iteration == bad) throw std::out_of_range("no more data");
      put(to, value_of(iteration));
    });
    EXPECT_THROW(executable.run(), std::out_of_range);
    EXPECT_EQ(training.sum(), sum_below(bad));
    EXPECT_EQ(seen.received, range(0, bad));
    seen.watch(executable);
    executable.run(bad, 20);
    EXPECT_EQ(training.sum(), sum_below(20));
    EXPECT_EQ(seen.received, range(0, 20));
  }
}

template <typename Training>
void one_of_two_feeders_throws(const RunOptions& options) {
  Training training;
  const auto x = training.b.arena(i64_scalar);
  const auto more = training.b.feeder("more", i64_scalar);
  // Even where its step comes last, no kernel has run before.
  training.b.plan.steps[0].body.push_back(feed(more, x));
  Executable executable = training.executable(options);
  Seen seen;
  seen.type = training.type;
  seen.watch(executable);
  executable.set_feeder("more", [](std::int64_t iteration, std::span<std::byte>) {
    if (iteration == 5) throw Error("five");
  });
  EXPECT_EQ(error_of([&] { executable.run(); }), "five");
  EXPECT_EQ(training.sum(), sum_below(5));
  EXPECT_EQ(seen.received, range(0, 5));
}

template <typename Training>
void a_throwing_receiver_stops_at_the_next_iteration(const RunOptions& options) {
  for (const std::int64_t bad : {0, 9, 19}) {
    Training training;
    Executable executable = training.executable(options);
    Seen seen;
    seen.type = training.type;
    seen.watch(executable);
    Numbers received;
    std::atomic<bool> thrown{false};
    executable.set_receiver("loss", [&](std::int64_t iteration, std::span<const TensorView>) {
      EXPECT_FALSE(thrown.load());
      if (iteration == bad) {
        thrown = true;
        throw std::domain_error("the loss is not a number");
      }
      received.push_back(iteration);
    });
    EXPECT_THROW(executable.run(), std::domain_error);
    EXPECT_EQ(received, range(0, bad));
    // State is that after some whole iteration: `bad`, or one of those that were under way; the
    // queue holds 4 more, one waits for a place in it.
    std::int64_t done = bad + 1;
    while (done <= 20 && training.sum() != sum_below(done)) ++done;
    EXPECT_LE(done, options.synchronous ? bad + 1 : std::min<std::int64_t>(bad + 7, 20));
    seen.watch(executable);
    seen.filled.clear();
    executable.run(0, 20);
    EXPECT_EQ(seen.filled, range(0, 20));
    EXPECT_EQ(training.sum(), sum_below(done) + sum_below(20));
  }
}

template <typename Training>
void many_short_runs(const RunOptions& options, std::int64_t count, std::int64_t every) {
  Training training(count, every);
  Executable executable = training.executable(options);
  Seen seen;
  seen.type = training.type;
  seen.watch(executable);
  for (std::int64_t i = 0; i < count; ++i) executable.run(i, i + 1);
  EXPECT_EQ(seen.filled, range(0, count));
  EXPECT_EQ(seen.received, range(0, count, every));
  EXPECT_EQ(training.sum(), sum_below(count));
}

}  // namespace weft::runtime::testing
