#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fake.h"

namespace weft::runtime::testing {
namespace {

using Json = nlohmann::json;

void work(void* const* arguments, void*, std::int64_t begin, std::int64_t end) {
  volatile std::int64_t sum = 0;
  for (std::int64_t i = 0; i < 20000 * (end - begin); ++i) sum = sum + i;
  // Blocks run on several threads at once.
  if (begin == 0) *argument<std::int64_t>(arguments, 1) = *argument<std::int64_t>(arguments, 0);
}

struct Event {
  std::string name;
  std::string category;
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t iteration = -1;
};

/// Events by track's name, in the file's order.
std::map<std::string, std::vector<Event>> events_of(const std::string& text) {
  const Json json = Json::parse(text);
  std::map<std::int64_t, std::string> names;
  std::map<std::string, std::vector<Event>> tracks;
  for (const Json& entry : json.at("traceEvents")) {
    if (entry.at("ph") == "M" && entry.at("name") == "thread_name") {
      names[entry.at("tid")] = entry.at("args").at("name");
      tracks[entry.at("args").at("name")];
    }
    if (entry.at("ph") != "X") continue;
    Event event;
    event.name = entry.at("name");
    event.category = entry.at("cat");
    event.begin = std::llround(1000 * entry.at("ts").get<double>());
    event.end = event.begin + std::llround(1000 * entry.at("dur").get<double>());
    if (entry.at("args").contains("iteration")) event.iteration = entry.at("args").at("iteration");
    tracks[names.at(entry.at("tid"))].push_back(event);
  }
  EXPECT_EQ(json.at("otherData").at("dropped"), 0);
  return tracks;
}

/// Begins do not go back, and each event ends before the one around it does.
void expect_nested(const std::vector<Event>& events) {
  std::vector<Event> open;
  for (std::size_t i = 0; i < events.size(); ++i) {
    const Event& event = events[i];
    EXPECT_GE(event.begin, 0);
    EXPECT_GE(event.end, event.begin);
    if (i > 0) {
      EXPECT_GE(event.begin, events[i - 1].begin) << i;
    }
    while (!open.empty() && open.back().end <= event.begin) open.pop_back();
    if (!open.empty()) {
      EXPECT_LE(event.end, open.back().end) << event.name << open.back().name;
    }
    open.push_back(event);
  }
}

std::int64_t count(const std::vector<Event>& events, const std::string& name) {
  std::int64_t found = 0;
  for (const Event& event : events) found += event.name == name ? 1 : 0;
  return found;
}

/// Per iteration: a feeder, a large kernel, two small ones as one launch, a receiver every second.
struct Traced {
  PlanBuilder b;
  State state;
  explicit Traced(std::int64_t iterations) {
    const auto index = b.arena(i64_scalar);
    const auto x = b.arena(i64_scalar);
    const auto y = b.arena(i64_scalar);
    const auto z = b.arena(i64_scalar);
    const auto s = b.state("s", i64_scalar);
    const auto data = b.feeder("data \"quoted\"\n", i64_scalar);
    const auto loss = b.receiver("loss \xff", {i64_scalar}, 2);
    const auto large = b.kernel("large", 64, work);
    const auto small = b.kernel("small", 1, work);
    plan::Step together;
    together.kind = plan::StepKind::together;
    together.body = {launch(small, {x, y}), launch(small, {x, z})};
    b.plan.steps = {loop(index, iterations,
                         {feed(data, x), launch(large, {x, s}), together, receive(loss, {s})})};
    state.add("s", i64_scalar);
  }
};

void run_traced(const RunOptions& options) {
  constexpr std::int64_t iterations = 12;
  Traced traced(iterations);
  Executable executable = traced.b.executable(options);
  executable.bind(traced.state);
  executable.set_feeder("data \"quoted\"\n",
                        [](std::int64_t i, std::span<std::byte> to) { put(to, i); });
  executable.set_receiver("loss \xff", [](std::int64_t, std::span<const TensorView>) {});
  EXPECT_NE(error_of([&] { (void)executable.trace(); }).find("tracing has not been on"),
            std::string::npos);
  executable.run();
  executable.set_tracing(true);
  executable.run();
  const auto tracks = events_of(executable.trace());
  ASSERT_EQ(tracks.size(), static_cast<std::size_t>(options.threads) + 2);
  for (const auto& [name, events] : tracks) {
    SCOPED_TRACE(name);
    expect_nested(events);
  }
  const std::vector<Event>& run = tracks.at("run");
  EXPECT_EQ(count(run, "iteration"), iterations);
  EXPECT_EQ(count(run, "large"), iterations);
  EXPECT_EQ(count(run, "small + 1 more"), iterations);
  EXPECT_EQ(count(run, "deliver"), iterations / 2);
  std::int64_t number = 0;
  for (std::size_t i = 0; i < run.size(); ++i) {
    // Iterations enclose all else.
    if (run[i].name == "iteration") {
      EXPECT_EQ(run[i].iteration, number++);
    } else {
      EXPECT_GT(number, 0);
    }
  }
  const std::vector<Event>& fills = tracks.at("feeder data \"quoted\"\n");
  ASSERT_EQ(fills.size(), static_cast<std::size_t>(iterations));
  for (std::size_t i = 0; i < fills.size(); ++i) {
    EXPECT_EQ(fills[i].iteration, static_cast<std::int64_t>(i));
  }
  const std::vector<Event>& callbacks = tracks.at("receiver loss \u00ff");
  ASSERT_EQ(callbacks.size(), static_cast<std::size_t>(iterations / 2));
  for (std::size_t i = 0; i < callbacks.size(); ++i) {
    EXPECT_EQ(callbacks[i].iteration, static_cast<std::int64_t>(2 * i));
  }
  // Workers record nothing but their parts of launches, within them.
  for (int worker = 1; worker < options.threads; ++worker) {
    for (const Event& part : tracks.at("worker " + std::to_string(worker))) {
      EXPECT_EQ(part.category, "blocks");
      const auto encloses = [&](const Event& launch) {
        return launch.name == part.name && launch.begin <= part.begin && part.end <= launch.end;
      };
      EXPECT_TRUE(std::any_of(run.begin(), run.end(), encloses)) << part.name;
    }
  }
  // Off: nothing more is recorded, what was is kept. On again: from nothing.
  executable.set_tracing(false);
  const std::string before = executable.trace();
  executable.run();
  EXPECT_EQ(executable.trace(), before);
  executable.set_tracing(true);
  executable.run(0, 2);
  EXPECT_EQ(count(events_of(executable.trace()).at("run"), "iteration"), 2);
  // With profiling each kernel is launched alone.
  executable.set_profiling(true);
  executable.set_tracing(true);
  executable.run(0, 2);
  EXPECT_EQ(count(events_of(executable.trace()).at("run"), "small"), 4);
}

TEST(Trace, EventsNestAndAreOrdered) { run_traced({.threads = 1}); }
TEST(Trace, EventsOfSeveralThreads) { run_traced({.threads = 4}); }
TEST(Trace, SynchronousTransfersHaveTheirTracks) {
  run_traced({.threads = 2, .synchronous = true});
}

TEST(Trace, ExecutionsWithoutALoop) {
  PlanBuilder b;
  const auto x = b.arena(i64_scalar);
  const auto y = b.arena(i64_scalar);
  b.plan.steps = {launch(b.kernel("k", 1, work), {x, y}), copy(x, y)};
  Executable executable = b.executable();
  executable.set_tracing(true);
  executable.run(3, 6);
  const std::vector<Event> run = events_of(executable.trace()).at("run");
  ASSERT_EQ(run.size(), 9U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(run[3 * i].name, "execution");
    EXPECT_EQ(run[3 * i].iteration, static_cast<std::int64_t>(3 + i));
    EXPECT_EQ(run[3 * i + 1].name, "k");
    EXPECT_EQ(run[3 * i + 2].name, "copy");
  }
}

}  // namespace
}  // namespace weft::runtime::testing
