#include "support.h"

namespace weft::test {
namespace {

TEST(Loop, CarriesWhatTheBodyAssigns) {
  State state;
  const Program program = trace(state, [] {
    Tensor sum = constant(1);
    const Tensor step = constant(0.5);  // captured, not carried
    loop(4, [&](Tensor index) { sum += step * cast(index, DType::f32); });
    out("sum", sum);
  });
  check_graph(program);
  expect_near(evaluate(program, state).received["sum"][0][0], {1 + 0.5 * (0 + 1 + 2 + 3)});
}

TEST(Loop, ReadsBeforeAndAfterAnAssignmentGiveBothValues) {
  State state;
  const Program program = trace(state, [] {
    Tensor x = constant(1);
    loop(3, [&](Tensor) {
      const Tensor before = x * 1;
      assign(x, x * 2);
      out("both", stack({before, x * 1, x - before}));
    });
    out("last", x);
  });
  check_graph(program);
  const Outcome outcome = evaluate(program, state);
  const auto& both = outcome.received.at("both");
  ASSERT_EQ(both.size(), 3U);
  expect_near(both[0][0], {1, 2, 1});
  expect_near(both[1][0], {2, 4, 2});
  expect_near(both[2][0], {4, 8, 4});
  expect_near(outcome.received.at("last")[0][0], {8});
}

TEST(Loop, OtherHandlesOfTheSameValueAreNotCarried) {
  // `start` and `x` stand for one node at first, and so does a reshape that changes nothing.
  State state;
  const Program program = trace(state, [] {
    Tensor start = constant(3);
    Tensor x = constant(0);
    assign(x, start);
    const Tensor view = reshape(start, {});
    loop(2, [&](Tensor) {
      x += 1;
      out("all", stack({x, start, view}));
    });
    out("after", stack({x, start, view}));
  });
  check_graph(program);
  const Outcome outcome = evaluate(program, state);
  expect_near(outcome.received.at("all")[0][0], {4, 3, 3});
  expect_near(outcome.received.at("all")[1][0], {5, 3, 3});
  expect_near(outcome.received.at("after")[0][0], {5, 3, 3});
}

TEST(Loop, ExchangesCarriedValues) {
  State state;
  const Program program = trace(state, [] {
    Tensor a = constant(0);
    Tensor b = constant(1);
    loop(10, [&](Tensor) {
      const Tensor next = a + b;
      assign(a, b);
      assign(b, next);
    });
    out("fibonacci", stack({a, b}));
  });
  check_graph(program);
  expect_near(evaluate(program, state).received["fibonacci"][0][0], {55, 89});
}

TEST(Loop, CarriesStatesAndWritesThem) {
  State state;
  const Program program = trace(state, [] {
    Tensor w = parameter("w", {2}, init::constant(8));
    const Tensor constant_state = weft::state("untouched", {2}, DType::f32, init::ones());
    loop(3, [&](Tensor) { w *= 0.5 * constant_state; });
  });
  check_graph(program);
  EXPECT_EQ(count(program, "state_write"), 1);
  evaluate(program, state);
  expect_near(state.values("w"), {1, 1});
  expect_near(state.values("untouched"), {1, 1});
}

TEST(Loop, StatesMadeInABody) {
  State state;
  const Program program = trace(state, [] {
    loop(2, [&](Tensor) {
      loop(3, [&](Tensor) {
        Tensor n = weft::state("n", {}, DType::i64);
        n += 1;
      });
    });
  });
  check_graph(program);
  evaluate(program, state);
  expect_near(state.values("n"), {6});
}

TEST(Loop, Nests) {
  State state;
  const Program program = trace(state, [] {
    Tensor total = constant(0, DType::i64);
    Tensor row = constant(0, DType::i64);
    loop(3, [&](Tensor i) {
      assign(row, i * 100);
      loop(4, [&](Tensor j) {
        row += j;
        total += row + i;
      });
      out("row", row);
    });
    out("total", total);
  });
  check_graph(program);
  std::int64_t total = 0;
  const Outcome outcome = evaluate(program, state);
  for (std::int64_t i = 0; i < 3; ++i) {
    std::int64_t row = i * 100;
    for (std::int64_t j = 0; j < 4; ++j) {
      row += j;
      total += row + i;
    }
    expect_near(outcome.received.at("row")[static_cast<std::size_t>(i)][0],
                {static_cast<double>(row)});
  }
  expect_near(outcome.received.at("total")[0][0], {static_cast<double>(total)});
}

TEST(Loop, InnerAssignmentsAreCarriedByEveryLoopAround) {
  State state;
  const Program program = trace(state, [] {
    Tensor x = constant(1);
    loop(2, [&](Tensor) {
      const Tensor seen = x * 1;
      loop(2, [&](Tensor) { loop(2, [&](Tensor) { x *= 2; }); });
      out("seen", stack({seen, x}));
    });
  });
  check_graph(program);
  const Outcome outcome = evaluate(program, state);
  expect_near(outcome.received.at("seen")[0][0], {1, 16});
  expect_near(outcome.received.at("seen")[1][0], {16, 256});
}

TEST(Loop, ExplicitForm) {
  State state;
  const Program program = trace(state, [] {
    Tensor calls = constant(0, DType::i64);
    const std::vector<Tensor> last =
        loop(5, {constant(1), constant(0)},
             [&](Tensor index, const std::vector<Tensor>& carried) -> std::vector<Tensor> {
               calls += 1;
               return {carried[0] * 2, carried[1] + carried[0] * cast(index, DType::f32)};
             });
    out("last", stack(last));
    out("calls", calls);
  });
  check_graph(program);
  const Outcome outcome = evaluate(program, state);
  expect_near(outcome.received.at("last")[0][0], {32, 2 + 8 + 24 + 64});
  expect_near(outcome.received.at("calls")[0][0], {5});
}

TEST(Loop, DropsCarriedValuesThatNothingNeeds) {
  State state;
  const Program program = trace(state, [] {
    Tensor unused = zeros({100});
    Tensor used = constant(0);
    loop(2, [&](Tensor) {
      unused += 1;
      used += 1;
    });
    out("used", used);
  });
  check_graph(program);
  EXPECT_EQ(program.dump().find("f32[100]"), std::string::npos) << program.dump();
}

TEST(Loop, ZeroIterationsLeaveEverything) {
  expect_near(value_of([] {
                Tensor x = constant(7);
                loop(0, [&](Tensor) { x += 1; });
                return x;
              }),
              {7});
}

TEST(Loop, ValuesOfABodyEndWithIt) {
  const std::string message = error_of([] {
    Tensor leaked;
    loop(2, [&](Tensor index) { leaked = index + 1; });
    leaked + 1;
  });
  EXPECT_TRUE(names(message, "made in the body of a loop", __FILE__, __LINE__ - 2)) << message;
}

TEST(Loop, ErrorsInABodyLeaveTheTraceUsable) {
  expect_near(value_of([] {
                Tensor x = constant(1);
                Tensor y = constant(2);
                EXPECT_THROW(loop(2,
                                  [&](Tensor) {
                                    x += y;
                                    loop(2, [&](Tensor) {
                                      y += 1;
                                      throw Error("body");
                                    });
                                  }),
                             Error);
                x += 10;
                return stack({x, y});
              }),
              {11, 2});
}

TEST(Loop, ChecksTheExplicitForm) {
  const std::string type = error_of([] {
    loop(2, {constant(1)},
         [](Tensor index, const std::vector<Tensor>&) -> std::vector<Tensor> { return {index}; });
  });
  EXPECT_TRUE(names(type, "carried value 0 starts as f32[]", __FILE__, __LINE__ - 3)) << type;
  const std::string number = error_of([] {
    loop(2, {constant(1)},
         [](Tensor, const std::vector<Tensor>&) -> std::vector<Tensor> { return {}; });
  });
  EXPECT_TRUE(names(number, "returns 0 carried values for 1", __FILE__, __LINE__ - 3)) << number;
  const std::string negative = error_of([] { loop(-1, [](Tensor) {}); });
  EXPECT_TRUE(names(negative, "loop: a count of -1", __FILE__, __LINE__ - 1));
}

TEST(Scan, CarriesSlicesAndStacks) {
  for (const bool reverse : {false, true}) {
    State state;
    const Program program = trace(state, [&] {
      Tensor calls = constant(0);
      const Tensor xs = constant({1, 2, 3, 4, 5, 6}, {3, 2});
      const ScanValues result = scan(
          3, {zeros({2})}, {xs},
          [&](Tensor index, const std::vector<Tensor>& carried,
              const std::vector<Tensor>& slices) -> ScanValues {
            calls += 1;
            const Tensor next = carried[0] * 10 + slices[0];
            return {{next}, {next, index}};
          },
          reverse);
      out("carried", result.carried[0]);
      out("ys", result.ys[0]);
      out("indices", cast(result.ys[1], DType::f32));
      out("calls", calls);
    });
    check_graph(program);
    const Outcome outcome = evaluate(program, state);
    const auto& received = outcome.received;
    if (reverse) {
      expect_near(received.at("carried")[0][0], {531, 642});
      expect_near(received.at("ys")[0][0], {531, 642, 53, 64, 5, 6});
    } else {
      expect_near(received.at("carried")[0][0], {135, 246});
      expect_near(received.at("ys")[0][0], {1, 2, 13, 24, 135, 246});
    }
    expect_near(received.at("indices")[0][0], {0, 1, 2});
    expect_near(received.at("calls")[0][0], {3});
  }
}

TEST(Scan, ChecksItsInputs) {
  const std::string message = error_of([] {
    scan(3, {}, {zeros({2, 2})},
         [](Tensor, const std::vector<Tensor>&, const std::vector<Tensor>&) -> ScanValues {
           return {};
         });
  });
  EXPECT_TRUE(names(message, "scan: input 0 is f32[2, 2]", __FILE__, __LINE__ - 5)) << message;
}

}  // namespace
}  // namespace weft::test
