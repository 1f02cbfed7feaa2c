#include "weft/optim.h"

#include <gtest/gtest.h>

#include <cmath>

#include "plain.h"
#include "weft/ops.h"

namespace weft {
namespace {

using plain::expect_near;
using plain::Outcome;
using plain::random_values;
using plain::trace_error;
using plain::Values;

constexpr int steps = 6;
constexpr std::int64_t size = 5;

/// Bound for `steps` updates of a few rounded operations each; the rates and coefficients may be
/// rounded to f32 as well.
const double bound = steps * 16 * epsilon(DType::f32);

Values start() { return random_values(size, 1, 0.5, 1.5); }
Values slopes() { return random_values(size, 2, 0.1, 2); }

/// The gradient of sum(slopes * w^2) / 2.
double gradient(std::size_t i, double w) { return slopes()[i] * w; }

using MakeOptimizer = std::function<std::unique_ptr<optim::Optimizer>()>;

/// `steps` iterations of training w on that loss.
Program training(State& state, const MakeOptimizer& make, DType dtype = DType::f32) {
  return trace(state, [&] {
    const Tensor w = parameter("w", {size}, init::values(start()), dtype);
    const auto optimizer = make();
    loop(steps, [&](const Tensor&) {
      const Tensor x = cast(w, DType::f32);
      backward(sum(constant(slopes(), {size}) * x * x) / 2);
      optimizer->step();
      optimizer->zero_grad();
    });
  });
}

/// Final states: by the reference evaluation, and compiled.
void check(const MakeOptimizer& make, const std::map<std::string, Values>& expected) {
  State state;
  Program program = training(state, make);
  const Outcome outcome = plain::evaluate(program);
  for (const auto& [name, values] : expected) {
    ASSERT_TRUE(state.has(name)) << name;
    expect_near(outcome.states.at(name), values, bound, name);
  }
  EXPECT_EQ(state.names().size(), expected.size());
  program.compile({.threads = 1}).run();
  for (const auto& [name, values] : expected) {
    expect_near(state.values(name), values, bound, name + " compiled");
  }
}

template <typename Optimizer, typename Options>
MakeOptimizer maker(Options options) {
  return [options] { return std::make_unique<Optimizer>(options); };
}

TEST(Sgd, FollowsItsRule) {
  Values w = start();
  for (int t = 0; t < steps; ++t) {
    for (std::size_t i = 0; i < w.size(); ++i) w[i] -= 0.1 * (gradient(i, w[i]) + 0.05 * w[i]);
  }
  check(maker<optim::Sgd>(optim::SgdOptions{.lr = 0.1, .weight_decay = 0.05}),
        {{"w", w}, {"optimizer.step", {steps}}});
}

TEST(Sgd, FollowsItsRuleWithMomentum) {
  for (const bool nesterov : {false, true}) {
    Values w = start();
    Values v(w.size());
    for (int t = 0; t < steps; ++t) {
      for (std::size_t i = 0; i < w.size(); ++i) {
        const double g = gradient(i, w[i]);
        v[i] = 0.9 * v[i] + g;
        w[i] -= 0.05 * (nesterov ? g + 0.9 * v[i] : v[i]);
      }
    }
    check(maker<optim::Sgd>(optim::SgdOptions{.lr = 0.05, .momentum = 0.9, .nesterov = nesterov}),
          {{"w", w}, {"optimizer.step", {steps}}, {"optimizer.w.velocity", v}});
  }
}

/// Adam as in its paper, with the moments.
struct PlainAdam {
  Values w = start();
  Values m = Values(static_cast<std::size_t>(size));
  Values v = Values(static_cast<std::size_t>(size));

  void run(const std::function<double(int)>& lr, double decay, bool decoupled) {
    for (int t = 1; t <= steps; ++t) {
      for (std::size_t i = 0; i < w.size(); ++i) {
        const double g = gradient(i, w[i]) + (decoupled ? 0 : decay * w[i]);
        m[i] = 0.9 * m[i] + 0.1 * g;
        v[i] = 0.98 * v[i] + 0.02 * g * g;
        const double m_hat = m[i] / (1 - std::pow(0.9, t));
        const double v_hat = v[i] / (1 - std::pow(0.98, t));
        w[i] -= lr(t) * (m_hat / (std::sqrt(v_hat) + 1e-8) + (decoupled ? decay * w[i] : 0));
      }
    }
  }
};

TEST(Adam, FollowsItsRule) {
  for (const bool decoupled : {false, true}) {
    PlainAdam plain;
    plain.run([](int) { return 0.01; }, 0.1, decoupled);
    const optim::AdamOptions options = {.lr = 0.01, .beta2 = 0.98, .weight_decay = 0.1};
    check(decoupled ? maker<optim::AdamW>(options) : maker<optim::Adam>(options),
          {{"w", plain.w},
           {"optimizer.step", {steps}},
           {"optimizer.w.m", plain.m},
           {"optimizer.w.v", plain.v}});
  }
}

TEST(Adam, TakesItsRateFromASchedule) {
  PlainAdam plain;
  plain.run([](int t) { return 0.02 * std::min(1.0, t / 4.0); }, 0, false);
  const optim::AdamOptions options = {.lr = optim::linear_warmup(0.02, 4), .beta2 = 0.98};
  check(maker<optim::Adam>(options), {{"w", plain.w},
                                      {"optimizer.step", {steps}},
                                      {"optimizer.w.m", plain.m},
                                      {"optimizer.w.v", plain.v}});
}

TEST(Adam, FirstStepIsTheRateForAnyBetas) {
  // m' / sqrt(v') is the gradient's sign in the first step; betas next to 1 make both corrections
  // tiny, and their digits count.
  for (const double beta : {0.5, 0.999, 0.999999}) {
    State state;
    Program program = trace(state, [&] {
      const Tensor w = parameter("w", {2}, init::values({1, -1}));
      optim::Adam adam({.lr = 0.5, .beta1 = beta, .beta2 = beta, .epsilon = 1e-30});
      backward(sum(w * w * 3));
      adam.step();
    });
    program.compile({.threads = 1}).run();
    // v and 1 - beta are rounded relative to themselves: no digits are lost.
    expect_near(state.values("w"), {0.5, -0.5}, 32 * epsilon(DType::f32), std::to_string(beta));
  }
}

TEST(Optimizer, UpdatesSixteenBitParametersInF32) {
  State state;
  Program program =
      training(state, maker<optim::Adam>(optim::AdamOptions{.lr = 0.01}), DType::bf16);
  EXPECT_EQ(state.type("w").dtype, DType::bf16);
  EXPECT_EQ(state.type("optimizer.w.m").dtype, DType::f32);
  plain::evaluate(program);
}

TEST(Optimizer, ARateCanBeAScalarThatChanges) {
  State state;
  Program program = trace(state, [&] {
    const Tensor w = parameter("w", {1}, init::values({1}));
    optim::Sgd sgd({.lr = scalar("lr", 0.25)});
    backward(sum(w));
    sgd.step();
    receiver("rate", {sgd.rate()}, [](std::int64_t, const std::vector<HostTensor>&) {});
  });
  EXPECT_EQ(plain::evaluate(program).received.at("rate").back(), Values{0.25});
  Executable executable = program.compile({.threads = 1});
  executable.run();
  EXPECT_EQ(state.values("w"), Values{0.75});
  executable.set_scalar("lr", 0.5);
  executable.run();
  EXPECT_EQ(state.values("w"), Values{0.25});
  EXPECT_EQ(state.values("optimizer.step"), Values{2});
}

TEST(Optimizer, UpdatesTheGivenParametersOnly) {
  State state;
  Program program = trace(state, [&] {
    const Scope scope("model");
    const Tensor a = parameter("a", {1}, init::values({1}));
    const Tensor b = parameter("b", {1}, init::values({1}));
    const Tensor unused = parameter("unused", {1}, init::values({1}));
    optim::Sgd first({.lr = 0.5, .momentum = 0.5, .name = "first"}, {a, unused});
    optim::Sgd second({.lr = 0.25, .name = "second"}, {b});
    backward(sum(a + b));
    first.step();
    second.step();
    first.zero_grad();
    EXPECT_FALSE(a.has_grad());
    EXPECT_TRUE(b.has_grad());
  });
  const auto states = plain::evaluate(program).states;
  EXPECT_EQ(states.at("model.a"), Values{0.5});
  EXPECT_EQ(states.at("model.b"), Values{0.75});
  EXPECT_EQ(states.at("model.unused"), Values{1});
  // Full names, whatever Scope encloses the step.
  EXPECT_EQ(states.at("first.model.a.velocity"), Values{1});
  EXPECT_EQ(states.count("first.model.unused.velocity"), 0U);
  EXPECT_EQ(states.at("second.step"), Values{1});
}

TEST(Optimizer, ErrorsNameWhatIsMissing) {
  EXPECT_NE(trace_error([] {
              parameter("w", {1});
              optim::Sgd().step();
            }).find("backward() must come first"),
            std::string::npos);
  EXPECT_NE(trace_error([] {
              optim::Sgd sgd({}, {zeros({1})});
              sgd.step();
            }).find("is no parameter"),
            std::string::npos);
  EXPECT_NE(trace_error([] { optim::Sgd sgd({.momentum = 1}); }).find("a momentum of 1"),
            std::string::npos);
  EXPECT_NE(trace_error([] { optim::Sgd sgd({.nesterov = true}); }).find("needs a momentum"),
            std::string::npos);
  EXPECT_NE(trace_error([] { optim::Adam adam({.beta2 = -1}); }).find("a beta2 of -1"),
            std::string::npos);
  EXPECT_NE(trace_error([] { optim::AdamW adam({.weight_decay = -1}); }).find("AdamW: a weight"),
            std::string::npos);
  EXPECT_NE(trace_error([] { optim::Sgd sgd({.name = ""}); }).find("its name is empty"),
            std::string::npos);
  EXPECT_NE(trace_error([] { optim::Sgd().rate(); }).find("before the first step"),
            std::string::npos);
  const std::string message = trace_error([] {
    backward(sum(parameter("w", {1})));
    optim::Sgd({.lr = [](const Tensor& step) { return step * ones({2}); }}).step();
  });
  EXPECT_NE(message.find("an f32 scalar, not f32[2]"), std::string::npos) << message;
}

// ---- schedules ----------------------------------------------------------------------------------

Values rates(const optim::Schedule& schedule, std::int64_t count) {
  State state;
  Values numbers;
  for (std::int64_t step = 1; step <= count; ++step) numbers.push_back(static_cast<double>(step));
  // Element-wise throughout, so that all steps are one tensor.
  return plain::evaluate(state, [&] { return schedule(constant(numbers, {count})); });
}

Values expected_rates(std::int64_t count, const std::function<double(double)>& f) {
  Values values;
  for (std::int64_t step = 1; step <= count; ++step) values.push_back(f(static_cast<double>(step)));
  return values;
}

constexpr double schedule_bound = 32 * 0x1p-24;

TEST(Schedule, LinearWarmup) {
  expect_near(rates(optim::linear_warmup(3, 8), 20),
              expected_rates(20, [](double t) { return 3 * std::min(1.0, t / 8); }),
              schedule_bound);
}

TEST(Schedule, Cosine) {
  for (const std::int64_t warmup : {0, 4}) {
    const auto rate = [=](double t) {
      const auto w = static_cast<double>(warmup);
      if (t < w) return 2 * t / w;
      const double done = std::min(1.0, (t - w) / (16 - w));
      return 0.5 + 1.5 * (1 + std::cos(M_PI * done)) / 2;
    };
    expect_near(rates(optim::cosine(2, 16, warmup, 0.5), 20), expected_rates(20, rate),
                schedule_bound);
  }
}

TEST(Schedule, InverseSquareRoot) {
  const auto rate = [](double t) { return 5e-4 * std::min(t / 8, std::sqrt(8 / t)); };
  const Values values = rates(optim::inverse_sqrt(5e-4, 8), 40);
  expect_near(values, expected_rates(40, rate), schedule_bound);
  EXPECT_NEAR(values[7], 5e-4, 5e-4 * schedule_bound);
}

TEST(Schedule, StepDecay) {
  const auto rate = [](double t) { return 2 * std::pow(0.5, std::floor((t - 1) / 3)); };
  expect_near(rates(optim::step_decay(2, 3, 0.5), 10), expected_rates(10, rate), schedule_bound);
}

TEST(Schedule, WarmUpOfAnother) {
  const auto rate = [](double t) { return 2 * std::pow(0.5, std::floor((t - 1) / 3)); };
  expect_near(rates(optim::with_warmup(optim::step_decay(2, 3, 0.5), 5), 10),
              expected_rates(10, [&](double t) { return rate(t) * std::min(1.0, t / 5); }),
              schedule_bound);
}

TEST(Schedule, RejectsLengthsThatMeanNothing) {
  EXPECT_NE(plain::error_of([] { optim::linear_warmup(1, 0); }).find("linear_warmup"),
            std::string::npos);
  EXPECT_NE(plain::error_of([] { optim::cosine(1, 10, 10); }).find("10 steps with a warm-up of 10"),
            std::string::npos);
  EXPECT_NE(plain::error_of([] { optim::inverse_sqrt(1, -1); }).find("-1 steps"),
            std::string::npos);
  EXPECT_NE(plain::error_of([] { optim::step_decay(1, 5, 0); }).find("a factor of 0"),
            std::string::npos);
}

// ---- clipping -----------------------------------------------------------------------------------

TEST(ClipGradNorm, ScalesToTheNorm) {
  for (const double limit : {0.5, 100.0}) {
    State state;
    Program program = trace(state, [&] {
      const Tensor a = parameter("a", {2}, init::values({3, 0}));
      const Tensor b = parameter("b", {1}, init::values({4}));
      parameter("unused", {1});
      backward(sum(a * a) / 2 + sum(b * b) / 2);
      const Tensor norm = optim::clip_grad_norm(limit);
      receiver("clipped", {norm, a.grad(), b.grad()},
               [](std::int64_t, const std::vector<HostTensor>&) {});
    });
    const double factor = std::min(1.0, limit / (5 + 1e-6));
    expect_near(plain::evaluate(program).received.at("clipped").back(),
                {5, 3 * factor, 0, 4 * factor}, 8 * epsilon(DType::f32));
  }
}

TEST(ClipGradNorm, LeavesGradientsOfZero) {
  State state;
  const Values gradient = plain::evaluate(state, [] {
    const Tensor w = parameter("w", {2});
    backward(sum(w * w));
    optim::clip_grad_norm({w}, 1);
    return w.grad();
  });
  EXPECT_EQ(gradient, Values(2, 0));
}

TEST(ClipGradNorm, ErrorsNameWhatIsWrong) {
  EXPECT_NE(trace_error([] {
              parameter("w", {1});
              optim::clip_grad_norm(1);
            }).find("backward() must come first"),
            std::string::npos);
  EXPECT_NE(trace_error([] { optim::clip_grad_norm(0); }).find("a norm of at most 0"),
            std::string::npos);
}

}  // namespace
}  // namespace weft
