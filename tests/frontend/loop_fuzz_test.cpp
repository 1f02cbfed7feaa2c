#include <cmath>
#include <random>

#include "support.h"

namespace weft::test {
namespace {

/// A statement of a random program on scalar variables: `to = 0.5 x - 0.25 y + 1`, `to = x` (both
/// stand for one value then), a block-local variable that is used at once, a log of `x`, or a loop.
struct Statement {
  enum Kind : std::uint8_t { compute, copy, local, log, loop } kind = compute;
  std::size_t to = 0;
  std::size_t x = 0;
  std::size_t y = 0;
  std::int64_t count = 0;
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
    statement.kind = static_cast<Statement::Kind>(below(depth > 0 ? 5 : 4));
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

/// What the program means, said in C++. `slot` gives the place of each variable: copies share one.
struct Direct {
  std::vector<double> values;
  std::vector<std::size_t> slot;
  Values log;

  double& at(std::size_t variable) { return values[slot[variable]]; }

  void run(const std::vector<Statement>& block, double index) {
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
        case Statement::loop:
          for (std::int64_t i = 0; i < s.count; ++i) run(s.body, static_cast<double>(i));
          break;
      }
    }
  }
};

void record(const std::vector<Statement>& block, std::vector<Tensor>& variables,
            const Tensor& index, int& logs) {
  for (const Statement& s : block) {
    Tensor& to = variables[s.to];
    Tensor& x = variables[s.x];
    Tensor& y = variables[s.y];
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
        assign(variables.back(), variables.back() + 1);
        receiver("log" + std::to_string(logs++), {variables.back(), x},
                 [](std::int64_t, const std::vector<HostTensor>&) {});
        break;
      case Statement::loop:
        loop(s.count,
             [&](Tensor inner) { record(s.body, variables, cast(inner, DType::f64), logs); });
        break;
    }
  }
}

TEST(LoopFuzz, TracesMeanWhatTheyWouldRunAs) {
  constexpr std::size_t variables = 6;
  for (unsigned seed = 0; seed < 300; ++seed) {
    Random random(seed);
    const std::vector<Statement> program = random_block(random, variables, 3);
    Direct direct;
    for (std::size_t i = 0; i < variables; ++i) {
      direct.values.push_back(0.75 * static_cast<double>(i) - 1);
      // The last two share the places of the first two.
      direct.slot.push_back(i < variables - 2 ? i : i - (variables - 2));
    }
    direct.run(program, 0);

    State state;
    const Program traced = trace(state, [&] {
      std::vector<Tensor> tensors;
      for (std::size_t i = 0; i < variables - 2; ++i) {
        const auto value = init::constant(0.75 * static_cast<double>(i) - 1);
        tensors.push_back(i % 2 == 0 ? weft::state("v" + std::to_string(i), {}, DType::f64, value)
                                     : constant(value.a, DType::f64));
      }
      tensors.push_back(tensors[0]);
      tensors.push_back(tensors[1]);
      tensors.push_back(constant(0, DType::f64));  // counts the log
      int logs = 0;
      record(program, tensors, constant(0, DType::f64), logs);
      for (std::size_t i = 0; i < variables; ++i) out("v" + std::to_string(i), tensors[i]);
    });
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
      EXPECT_EQ(outcome.received.at("v" + std::to_string(i))[0][0], Values{direct.at(i)})
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
    for (std::size_t i = 0; i < variables - 2; i += 2) {
      EXPECT_EQ(state.values("v" + std::to_string(i)), Values{direct.at(i)}) << "seed " << seed;
      // Fused, multiplications and additions may be rounded once; errors shrink from step to step.
      if (seed % 10 == 0) {
        expect_near(compiled.values("v" + std::to_string(i)), {direct.at(i)}, 64 * 0x1p-53);
      }
    }
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace weft::test
