#include <cmath>

#include "support.h"

namespace weft::test {
namespace {

TEST(States, AreMadeAndInitialisedOnce) {
  State state;
  trace(state, [] {
    parameter("zeros", {2});
    parameter("ones", {2}, init::ones());
    parameter("values", {2, 1}, init::values({3, 4}), DType::bf16);
    weft::state("count", {}, DType::i64, init::constant(5));
    parameter("complex", {2}, init::constant(2), DType::c64);
  });
  expect_near(state.values("zeros"), {0, 0});
  expect_near(state.values("ones"), {1, 1});
  expect_near(state.values("values"), {3, 4});
  expect_near(state.values("count"), {5});
  expect_near(state.values("complex"), {2, 0, 2, 0});
  EXPECT_EQ(state.type("values"), (Type{DType::bf16, {2, 1}}));
  // A later trace finds them as they are.
  state.set_values("ones", Values{7, 8});
  trace(state, [] { parameter("ones", {2}, init::ones()); });
  expect_near(state.values("ones"), {7, 8});
}

TEST(States, TheSameNameIsTheSameTensor) {
  State state;
  const Program program = trace(state, [] {
    Tensor a = parameter("w", {}, init::ones());
    const Tensor b = parameter("w", {});
    a += 1;
    out("b", b);
    EXPECT_EQ(parameters().size(), 1U);
  });
  EXPECT_EQ(count(program, "state"), 1);
  expect_near(evaluate(program, state).received["b"][0][0], {2});
}

TEST(States, ChecksTypes) {
  State state;
  trace(state, [] { parameter("w", {2}); });
  const auto message = [&](const std::function<void()>& body) -> std::string {
    try {
      trace(state, body);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const std::string shape = message([] { parameter("w", {3}); });
  EXPECT_TRUE(
      names(shape, "parameter: 'w' is f32[2] in State, not f32[3]", __FILE__, __LINE__ - 2));
  const std::string dtype = message([] { parameter("w", {2}, init::zeros(), DType::f64); });
  EXPECT_TRUE(names(dtype, "not f64[2]", __FILE__, __LINE__ - 1));
  const std::string kind = message([] {
    parameter("w", {2});
    weft::state("w", {2});
  });
  EXPECT_TRUE(names(kind, "'w' is a parameter in this trace", __FILE__, __LINE__ - 2));
  const std::string integer = message([] { parameter("i", {2}, init::zeros(), DType::i64); });
  EXPECT_TRUE(names(integer, "has no gradient", __FILE__, __LINE__ - 1));
  const std::string values = message([] { parameter("v", {2}, init::values({1})); });
  EXPECT_TRUE(names(values, "1 initial values for f32[2]", __FILE__, __LINE__ - 1));
  EXPECT_FALSE(state.has("v"));
  const std::string unnamed = message([] { parameter("", {2}); });
  EXPECT_TRUE(names(unnamed, "the name is empty", __FILE__, __LINE__ - 1));
}

TEST(States, ScopesPrefixNames) {
  State state;
  trace(state, [] {
    const Scope model("model");
    for (int i = 0; i < 2; ++i) {
      const Scope layer(std::to_string(i));
      EXPECT_EQ(parameter("weight", {1}).name(), "model." + std::to_string(i) + ".weight");
    }
    parameter("bias", {1});
  });
  EXPECT_EQ(state.names(),
            (std::vector<std::string>{"model.0.weight", "model.1.weight", "model.bias"}));
}

TEST(Initializers, DependOnNameSeedAndIndexAlone) {
  const auto made = [](std::uint64_t seed, const std::string& name, std::int64_t n, bool other) {
    State state;
    trace(state, [&] {
      set_seed(seed);
      if (other) parameter("other", {3}, init::normal());
      parameter(name, {n}, init::normal());
    });
    return state.values(name);
  };
  const Values first = made(1, "w", 10, false);
  EXPECT_EQ(first, made(1, "w", 10, true));
  EXPECT_NE(first, made(2, "w", 10, false));
  EXPECT_NE(first, made(1, "v", 10, false));
  const Values longer = made(1, "w", 1000000, false);  // on several threads
  EXPECT_EQ(first, Values(longer.begin(), longer.begin() + 10));
}

TEST(Initializers, AreTheRandomOperationsOfIterationZero) {
  State state;
  const Program program = trace(state, [] {
    set_seed(42);
    parameter("u", {7}, init::uniform(0, 1));
    parameter("n", {7}, init::normal());
    out("u", random_uniform({7}, "u"));
    out("n", random_normal({7}, "n"));
  });
  const Outcome outcome = evaluate(program, state);
  // The reference keeps double precision, State rounds to f32.
  expect_near(state.values("u"), outcome.received.at("u")[0][0], 0x1p-24);
  expect_near(state.values("n"), outcome.received.at("n")[0][0], 0x1p-24);
}

TEST(Initializers, HaveTheirMoments) {
  constexpr std::int64_t n = 200000;
  const auto moments = [](const Initializer& initializer) {
    State state;
    trace(state, [&] { parameter("w", {n}, initializer); });
    double sum = 0;
    double squares = 0;
    double largest = 0;
    for (const double value : state.values("w")) {
      sum += value;
      squares += value * value;
      largest = std::max(largest, std::abs(value));
    }
    return std::vector<double>{sum / n, squares / n, largest};
  };
  // Five standard deviations of the means of n samples.
  const double mean_error = 5 / std::sqrt(static_cast<double>(n));
  const std::vector<double> normal = moments(init::normal(1, 2));
  EXPECT_NEAR(normal[0], 1, 2 * mean_error);
  EXPECT_NEAR(normal[1], 1 + 4, 7 * mean_error);
  const std::vector<double> kaiming = moments(init::kaiming_uniform(50));
  EXPECT_NEAR(kaiming[1], 2.0 / 50, 2.0 / 50 * mean_error);
  EXPECT_LE(kaiming[2], std::sqrt(6.0 / 50));
  EXPECT_GT(kaiming[2], 0.99 * std::sqrt(6.0 / 50));
  const std::vector<double> xavier = moments(init::xavier_normal(30, 70));
  EXPECT_NEAR(xavier[1], 2.0 / 100, 2 * 2.0 / 100 * mean_error);
  EXPECT_NEAR(moments(init::xavier_uniform(30, 70))[1], 2.0 / 100, 2.0 / 100 * mean_error);
  EXPECT_NEAR(moments(init::kaiming_normal(8, 1))[1], 1.0 / 8, 2.0 / 8 * mean_error);
  EXPECT_THROW(init::kaiming_uniform(0), Error);
}

TEST(Random, StreamsAndIterations) {
  State state;
  const Program program = trace(state, [] {
    loop(3, [](Tensor) {
      out("a", random_uniform({4}, "a"));
      out("a again", random_uniform({4}, "a"));
      out("b", random_uniform({4}, "b"));
      out("unnamed", random_uniform({4}));
      out("other unnamed", random_uniform({4}));
    });
  });
  check_graph(program);
  const Outcome outcome = evaluate(program, state);
  const auto& received = outcome.received;
  const auto& a = received.at("a");
  EXPECT_EQ(a, received.at("a again"));
  EXPECT_NE(a, received.at("b"));
  EXPECT_NE(received.at("unnamed"), received.at("other unnamed"));
  EXPECT_NE(a[0], a[1]);
  EXPECT_NE(a[1], a[2]);
  expect_near(state.values("weft.iteration"), {3});
}

TEST(Random, ResumedTrainingGivesTheSameNumbers) {
  const auto program = [](State& state, std::int64_t n) {
    return trace(state,
                 [n] { loop(n, [](Tensor) { out("noise", random_normal({3}, "noise")); }); });
  };
  State whole;
  const auto expected = evaluate(program(whole, 6), whole).received.at("noise");
  State resumed;
  auto given = evaluate(program(resumed, 2), resumed).received.at("noise");
  State restored = resumed.clone();
  const auto rest = evaluate(program(restored, 4), restored).received.at("noise");
  given.insert(given.end(), rest.begin(), rest.end());
  EXPECT_EQ(given, expected);
  // Without a loop: one number an execution.
  State single;
  const Program once = trace(single, [] { out("noise", random_normal({3}, "noise")); });
  EXPECT_EQ(evaluate(once, single, 6).received.at("noise"), expected);
}

TEST(Random, BodiesInsideOfBodiesHaveNumbersOfTheirOwn) {
  State state;
  const Program program = trace(state, [] {
    loop(2, [](Tensor) {
      out("outer", iteration());
      loop(2, [](Tensor) { out("inner", iteration()); });
      out("outer again", iteration());
    });
    out("top", iteration());
  });
  check_graph(program);
  const Outcome outcome = evaluate(program, state);
  const auto numbers = [&](const std::string& name) {
    Values result;
    for (const auto& call : outcome.received.at(name)) result.push_back(call[0][0]);
    return result;
  };
  EXPECT_EQ(numbers("outer"), (Values{0, 3}));
  EXPECT_EQ(numbers("outer again"), (Values{0, 3}));
  EXPECT_EQ(numbers("inner"), (Values{1, 2, 4, 5}));
  EXPECT_EQ(numbers("top"), (Values{6}));
}

TEST(Random, Dropout) {
  State state;
  const Program program = trace(state, [] {
    const Tensor ones = weft::ones({1000});
    out("dropped", dropout(ones, 0.2, "drop"));
    set_training(false);
    EXPECT_FALSE(is_training());
    out("evaluated", dropout(ones, 0.2, "drop"));
  });
  check_graph(program);
  EXPECT_EQ(count(program, "random_uniform"), 1);
  const Outcome outcome = evaluate(program, state);
  int dropped = 0;
  for (const double value : outcome.received.at("dropped")[0][0]) {
    if (value == 0) {
      ++dropped;
    } else {
      EXPECT_NEAR(value, 1.25, 1e-6);
    }
  }
  EXPECT_NEAR(dropped, 200, 5 * std::sqrt(1000 * 0.2 * 0.8));
  EXPECT_EQ(outcome.received.at("evaluated")[0][0], Values(1000, 1.0));
  const std::string certain = error_of([] { dropout(ones({2}), 1); });
  EXPECT_TRUE(names(certain, "dropout: a probability of 1", __FILE__, __LINE__ - 1));
}

TEST(Transfers, Feeders) {
  State state;
  const Program program = trace(state, [] {
    loop(3, [](Tensor) {
      const Tensor x = feeder("x", {2}, DType::f32, [](std::int64_t, std::span<float>) {});
      out("x", x);
    });
  });
  check_graph(program);
  const Outcome outcome = evaluate(program, state);
  expect_near(outcome.received.at("x")[2][0], {2, 2.25});
  const std::string element =
      error_of([] { feeder("x", {2}, DType::i64, [](std::int64_t, std::span<float>) {}); });
  EXPECT_TRUE(names(element, "does not fill a span of i64", __FILE__, __LINE__ - 1));
  const std::string twice = error_of([] {
    const auto raw = [](std::int64_t, std::span<std::byte>) {};
    feeder("x", {2}, DType::i64, raw);
    feeder("x", {2}, DType::i64, raw);
  });
  EXPECT_TRUE(names(twice, "another one named 'x'", __FILE__, __LINE__ - 2));
}

TEST(Transfers, FillsAcceptTheirElements) {
  EXPECT_TRUE(Fill([](std::int64_t, std::span<double>) {}).accepts(DType::f64));
  EXPECT_TRUE(Fill([](std::int64_t, std::span<std::int32_t>) {}).accepts(DType::i32));
  EXPECT_TRUE(Fill([](std::int64_t, std::span<bool>) {}).accepts(DType::boolean));
  EXPECT_TRUE(Fill([](std::int64_t, std::span<std::uint16_t>) {}).accepts(DType::bf16));
  EXPECT_TRUE(Fill([](std::int64_t, std::span<std::complex<float>>) {}).accepts(DType::c64));
  EXPECT_FALSE(Fill([](std::int64_t, std::span<std::complex<float>>) {}).accepts(DType::f32));
  std::vector<float> buffer(3);
  const Fill fill([](std::int64_t iteration, std::span<float> to) {
    for (float& value : to) value = static_cast<float>(iteration);
  });
  fill.function()(7, std::as_writable_bytes(std::span(buffer)));
  EXPECT_EQ(buffer, (std::vector<float>{7, 7, 7}));
}

TEST(Transfers, Receivers) {
  State state;
  const Program program = trace(state, [] {
    loop(5, [](Tensor index) {
      receiver(
          "every second", {index, index * 2}, [](std::int64_t, const std::vector<HostTensor>&) {},
          2);
    });
  });
  check_graph(program);
  const auto calls = evaluate(program, state).received.at("every second");
  ASSERT_EQ(calls.size(), 3U);
  expect_near(calls[1][1], {4});
  const auto nothing = [](std::int64_t, const std::vector<HostTensor>&) {};
  const std::string empty = error_of([&] { receiver("r", {}, nothing); });
  EXPECT_TRUE(names(empty, "of no tensors", __FILE__, __LINE__ - 1));
  const std::string never = error_of([&] { receiver("r", {ones({2})}, nothing, 0); });
  EXPECT_TRUE(names(never, "every 0", __FILE__, __LINE__ - 1));
}

TEST(Transfers, HostTensors) {
  const std::vector<float> values = {1, 2, 3, 4};
  const auto raw = std::as_bytes(std::span(values));
  const std::vector<std::byte> bytes(raw.begin(), raw.end());
  const HostTensor real(Type{DType::f32, {2, 2}}, bytes);
  EXPECT_EQ(real.values(), (Values{1, 2, 3, 4}));
  EXPECT_EQ(real.data<float>()[2], 3.0F);
  EXPECT_THROW(real.data<double>(), Error);
  EXPECT_THROW(real.item(), Error);
  const HostTensor complex(Type{DType::c64, {2}}, bytes);
  EXPECT_EQ(complex.values(), (Values{1, 2, 3, 4}));
  EXPECT_EQ(complex.data<std::complex<float>>()[1], std::complex<float>(3, 4));
  EXPECT_EQ(HostTensor(Type{DType::f32, {1}}, {bytes.begin(), bytes.begin() + 4}).item(), 1);
}

TEST(Transfers, Scalars) {
  State state;
  const Program program = trace(state, [] {
    loop(2, [](Tensor) { out("rate", scalar("rate", 0.5) * 2); });
    out("again", scalar("rate", 0.5));
  });
  check_graph(program);
  EXPECT_EQ(count(program, "scalar"), 1);
  expect_near(evaluate(program, state).received.at("rate")[0][0], {1});
  const std::string other = error_of([] {
    scalar("rate", 1);
    scalar("rate", 2);
  });
  EXPECT_TRUE(names(other, "'rate' is 1 elsewhere", __FILE__, __LINE__ - 2));
}

}  // namespace
}  // namespace weft::test
