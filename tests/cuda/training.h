#pragma once

#include "fixture.h"

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

/// A training loop in miniature: each iteration adds the fed numbers, all equal, to the state "sum"
/// and then lets the receiver see its first and them.
struct Training {
  GpuPlan b;
  State state;
  Type type;
  std::uint32_t sum_buffer = 0;
  std::uint32_t fed_buffer = 0;

  explicit Training(std::int64_t count = 20, std::int64_t every = 1, std::int64_t elements = 1)
      : type{DType::i64, {elements}} {
    const auto index = b.arena(i64_scalar);
    const auto x = fed_buffer = b.arena(type);
    const auto sum = sum_buffer = b.state("sum", type);
    const auto data = b.feeder("data", type);
    const auto loss = b.receiver("loss", {type, type}, every);
    const auto k =
        b.kernel("accumulate", {stand_in::reads(type.bytes()), stand_in::changes(type.bytes())},
                 [elements](const stand_in::Call& call) {
                   for (std::int64_t i = 0; i < elements; ++i) {
                     call.pointer<std::int64_t>(1)[i] += call.pointer<std::int64_t>(0)[i];
                   }
                 });
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
    const auto all = state.data<std::int64_t>("sum");
    for (const std::int64_t element : all) EXPECT_EQ(element, all[0]);
    return all[0];
  }
};

/// What the callbacks saw. Written by one thread at a time, read after run().
struct Seen {
  Numbers filled;
  Numbers received;
  Numbers sums;

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
                            });
  }
};

}  // namespace weft::runtime::testing
