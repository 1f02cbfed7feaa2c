#include <algorithm>
#include <cmath>
#include <compare>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>

#include "support.h"

namespace weft::test {
namespace {

/// A statement of a random program on scalar variables: `to = 0.5 x - 0.25 y + 1`, `to = x` (both
/// stand for one value then), a block-local variable that is used at once, a log of `x`, data added
/// to `to` and to a sum of all data, or a loop.
struct Statement {
  enum Kind : std::uint8_t { compute, copy, local, log, feed, loop } kind = compute;
  std::size_t to = 0;
  std::size_t x = 0;
  std::size_t y = 0;
  std::int64_t count = 0;
  int number = 0;  ///< of a feed in the program
  std::vector<Statement> body;
};

using Random = std::mt19937;

std::vector<Statement> random_block(Random& random, std::size_t variables, int depth) {
  const auto below = [&](std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random);
  };
  std::vector<Statement> block;
  const std::size_t length = 1 + below(5);
  for (std::size_t i = 0; i < length; ++i) {
    Statement statement;
    statement.kind = static_cast<Statement::Kind>(below(depth > 0 ? 6 : 5));
    statement.to = below(variables);
    statement.x = below(variables);
    statement.y = below(variables);
    if (statement.kind == Statement::loop) {
      statement.count = static_cast<std::int64_t>(below(4));
      statement.body = random_block(random, variables, depth - 1);
    }
    block.push_back(std::move(statement));
  }
  return block;
}

void number_feeds(std::vector<Statement>& block, int& next) {
  for (Statement& s : block) {
    if (s.kind == Statement::feed) s.number = next++;
    number_feeds(s.body, next);
  }
}

/// A feed in an iteration.
struct Feed {
  int number = 0;
  std::int64_t iteration = 0;
  auto operator<=>(const Feed&) const = default;
};

struct Stopped : std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr std::size_t variables = 6;
/// The last two share the places of the first two.
constexpr std::size_t places = variables - 2;

double first_value(std::size_t place) { return 0.75 * static_cast<double>(place) - 1; }
bool is_state(std::size_t place) { return place % 2 == 0; }
std::string name_of(std::size_t place) { return "v" + std::to_string(place); }

/// What the program means, said in C++. `slot` gives the place of each variable: copies share one.
struct Direct {
  std::vector<double> values;
  std::vector<std::size_t> slot;
  double fed = 0;
  Values log;
  /// What State holds: what a loop changes, from its start on as of its last completed iteration;
  /// everything else as before the run.
  std::vector<double> visible;
  double visible_fed = 0;
  std::vector<Feed> feeds;
  std::optional<Feed> stop;  ///< throws Stopped before the iteration of this one

  double& at(std::size_t variable) { return values[slot[variable]]; }

  /// The program as a whole.
  void execute(const std::vector<Statement>& program) {
    visible = values;
    fetch(program, 0);
    run(program, 0, 0);
    visible = values;
    visible_fed = fed;
  }

  void fetch(const std::vector<Statement>& block, std::int64_t iteration) {
    for (const Statement& s : block) {
      if (s.kind != Statement::feed) continue;
      feeds.push_back({s.number, iteration});
      if (stop == feeds.back()) throw Stopped("no more data");
    }
  }

  void show(const std::set<std::size_t>& changed) {
    for (const std::size_t place : changed) {
      (place == fed_place ? visible_fed : visible[place]) =
          place == fed_place ? fed : values[place];
    }
  }

  void run(const std::vector<Statement>& block, double index, std::int64_t iteration) {
    for (const Statement& s : block) {
      switch (s.kind) {
        case Statement::compute:
          at(s.to) = 0.5 * at(s.x) - 0.25 * at(s.y) + 1 + 0.125 * index;
          break;
        case Statement::copy:
          at(s.to) = at(s.x);
          break;
        case Statement::local: {
          const double before = at(s.x);
          at(s.x) = at(s.y) * 0.5;
          at(s.to) = before + at(s.x);
          break;
        }
        case Statement::log:
          log.push_back(at(s.x));
          break;
        case Statement::feed:
          fed += static_cast<double>(iteration);
          at(s.to) = 0.5 * at(s.to) + 0.25 * static_cast<double>(iteration);
          break;
        case Statement::loop: {
          const std::set<std::size_t> changed = changed_by(s.body);
          show(changed);
          for (std::int64_t i = 0; i < s.count; ++i) {
            const std::int64_t inner = iteration * s.count + i;
            fetch(s.body, inner);
            run(s.body, static_cast<double>(i), inner);
            show(changed);
          }
          break;
        }
      }
    }
  }

  /// The places that the block gives other values, if only in loops in it.
  std::set<std::size_t> changed_by(const std::vector<Statement>& block) const {
    std::set<std::size_t> changed;
    // Where a place's value comes from: its own start, another's, or made here.
    std::vector<std::size_t> origin(values.size());
    std::iota(origin.begin(), origin.end(), std::size_t{0});
    constexpr std::size_t made = static_cast<std::size_t>(-1);
    for (const Statement& s : block) {
      switch (s.kind) {
        case Statement::compute:
          origin[slot[s.to]] = made;
          break;
        case Statement::copy:
          origin[slot[s.to]] = origin[slot[s.x]];
          break;
        case Statement::local:
          origin[slot[s.x]] = made;
          origin[slot[s.to]] = made;
          break;
        case Statement::log:
          break;
        case Statement::feed:
          origin[slot[s.to]] = made;
          changed.insert(fed_place);
          break;
        case Statement::loop:
          for (const std::size_t place : changed_by(s.body)) {
            // A state that is put back after it was another one between iterations, too.
            if (place == fed_place || is_state(place)) changed.insert(place);
            if (place != fed_place) origin[place] = made;
          }
          break;
      }
    }
    for (std::size_t place = 0; place < origin.size(); ++place) {
      if (origin[place] != place) changed.insert(place);
    }
    return changed;
  }

  static constexpr std::size_t fed_place = static_cast<std::size_t>(-1);
};

/// Feeds the number of the iteration; stops at one of them.
auto iterations(std::int64_t stop) {
  return [stop](std::int64_t iteration, std::span<double> to) {
    if (iteration == stop) throw Stopped("no more data");
    std::ranges::fill(to, static_cast<double>(iteration));
  };
}

void record(const std::vector<Statement>& block, std::vector<Tensor>& tensors, const Tensor& index,
            int& logs) {
  for (const Statement& s : block) {
    Tensor& to = tensors[s.to];
    Tensor& x = tensors[s.x];
    Tensor& y = tensors[s.y];
    switch (s.kind) {
      case Statement::compute:
        assign(to, 0.5 * x - 0.25 * y + 1 + 0.125 * index);
        break;
      case Statement::copy:
        assign(to, x);
        break;
      case Statement::local: {
        const Tensor before = reshape(x, {1});
        assign(x, y * 0.5);
        assign(to, reshape(before, {}) + x);
        break;
      }
      case Statement::log:
        // Calls of one receiver are in order; those of several are put in order by a counter.
        assign(tensors.back(), tensors.back() + 1);
        receiver("log" + std::to_string(logs++), {tensors.back(), x},
                 [](std::int64_t, const std::vector<HostTensor>&) {});
        break;
      case Statement::feed: {
        const Tensor data =
            feeder("feed" + std::to_string(s.number), {}, DType::f64, iterations(-1));
        Tensor fed = weft::state("fed", {}, DType::f64);
        fed += data;
        assign(to, 0.5 * to + 0.25 * data);
        break;
      }
      case Statement::loop:
        loop(s.count,
             [&](Tensor inner) { record(s.body, tensors, cast(inner, DType::f64), logs); });
        break;
    }
  }
}

std::vector<Statement> random_program(unsigned seed) {
  Random random(seed);
  std::vector<Statement> program = random_block(random, variables, 3);
  int feeds = 0;
  number_feeds(program, feeds);
  return program;
}

Direct start() {
  Direct direct;
  for (std::size_t i = 0; i < places; ++i) direct.values.push_back(first_value(i));
  for (std::size_t i = 0; i < variables; ++i) direct.slot.push_back(i % places);
  return direct;
}

Program trace_program(State& state, const std::vector<Statement>& program) {
  return trace(state, [&] {
    std::vector<Tensor> tensors;
    for (std::size_t i = 0; i < places; ++i) {
      const auto value = init::constant(first_value(i));
      tensors.push_back(is_state(i) ? weft::state(name_of(i), {}, DType::f64, value)
                                    : constant(value.a, DType::f64));
    }
    tensors.push_back(tensors[0]);
    tensors.push_back(tensors[1]);
    tensors.push_back(constant(0, DType::f64));  // counts the log
    int logs = 0;
    record(program, tensors, constant(0, DType::f64), logs);
    for (std::size_t i = 0; i < variables; ++i) out("v" + std::to_string(i), tensors[i]);
  });
}

/// Fused, multiplications and additions may be rounded once; errors shrink from step to step.
constexpr double tolerance = 64 * 0x1p-53;

TEST(LoopFuzz, TracesMeanWhatTheyWouldRunAs) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    const std::vector<Statement> program = random_program(seed);
    Direct direct = start();
    direct.execute(program);

    State state;
    const Program traced = trace_program(state, program);
    check_graph(traced);
    // Compiling takes longer than all the rest: a part of the programs.
    State compiled = state.clone();
    if (seed % 10 == 0) {
      Executable executable = traced.compile();
      executable.bind(compiled);
      executable.run();
    }
    const Outcome outcome = evaluate(traced, state);
    for (std::size_t i = 0; i < variables; ++i) {
      EXPECT_EQ(outcome.received.at(name_of(i))[0][0], Values{direct.at(i)})
          << "seed " << seed << ", variable " << i << "\n"
          << traced.dump();
    }
    std::map<double, double> log;
    for (const auto& [name, calls] : outcome.received) {
      if (name.rfind("log", 0) != 0) continue;
      for (const auto& call : calls) log[call[0][0]] = call[1][0];
    }
    Values ordered;
    for (const auto& [number, value] : log) ordered.push_back(value);
    EXPECT_EQ(ordered, direct.log) << "seed " << seed << "\n" << traced.dump();
    for (std::size_t i = 0; i < places; ++i) {
      if (!is_state(i)) continue;
      EXPECT_EQ(state.values(name_of(i)), Values{direct.at(i)}) << "seed " << seed;
      if (seed % 10 == 0) {
        expect_near(compiled.values(name_of(i)), {direct.at(i)}, tolerance);
      }
    }
    if (HasFailure()) return;
  }
}

TEST(LoopFuzz, ExceptionsLeaveTheLastIteration) {
  int stops = 0;
  for (unsigned seed = 1000; seed < 1080; ++seed) {
    const std::vector<Statement> program = random_program(seed);
    Direct whole = start();
    whole.execute(program);
    if (whole.feeds.empty()) continue;
    State state;
    const Program traced = trace_program(state, program);
    Executable executable = traced.compile({.threads = 1, .synchronous = seed % 2 == 0});
    Random random(seed);
    for (int sample = 0; sample < 6; ++sample, ++stops) {
      const Feed stop = whole.feeds[random() % whole.feeds.size()];
      SCOPED_TRACE("seed " + std::to_string(seed) + ", feed " + std::to_string(stop.number) +
                   " in iteration " + std::to_string(stop.iteration));
      Direct direct = start();
      direct.stop = stop;
      EXPECT_THROW(direct.execute(program), Stopped);
      State interrupted = state.clone();
      executable.bind(interrupted);
      const std::string feed = "feed" + std::to_string(stop.number);
      executable.set_feeder(feed, iterations(stop.iteration));
      EXPECT_THROW(executable.run(), Stopped);
      for (std::size_t i = 0; i < places; ++i) {
        if (!is_state(i)) continue;
        expect_near(interrupted.values(name_of(i)), {direct.visible[i]}, tolerance);
      }
      EXPECT_EQ(interrupted.values("fed"), Values{direct.visible_fed});
      // Nothing of that is left in the executable.
      executable.set_feeder(feed, iterations(-1));
      State complete = state.clone();
      executable.bind(complete);
      executable.run();
      EXPECT_EQ(complete.values("fed"), Values{whole.fed});
      for (std::size_t i = 0; i < places; ++i) {
        if (is_state(i)) expect_near(complete.values(name_of(i)), {whole.at(i)}, tolerance);
      }
      if (HasFailure()) {
        ADD_FAILURE() << traced.dump() << executable.dump("fused");
        return;
      }
    }
  }
  EXPECT_GT(stops, 100);
}

}  // namespace
}  // namespace weft::test
