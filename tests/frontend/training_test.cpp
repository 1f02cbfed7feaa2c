#include <gtest/gtest.h>
#include <weft/reference.h>
#include <weft/weft.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

/// Whole training loops, compiled, against the reference evaluation from the same parameters.
namespace weft {
namespace {

constexpr std::int64_t steps = 20;
constexpr std::int64_t batch = 2;
constexpr std::int64_t length = 12;
constexpr std::int64_t vocabulary = 32;
constexpr std::int64_t width = 16;

/// Roundings of 2^-24 through the sums of up to a few hundred terms of each of 20 steps.
constexpr double tolerance = 1e-3;

using Model = std::function<Tensor(const Tensor&)>;

/// A sequence in which each token follows from the one before, from a start that depends on the
/// step.
void fill_tokens(std::int64_t step, std::span<std::int32_t> to) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i) / (length + 1);
    const auto column = static_cast<std::int64_t>(i) % (length + 1);
    to[i] = static_cast<std::int32_t>((step * 7 + row * 11 + column * (3 + row)) % vocabulary);
  }
}

Program trace_training(State& state, const std::function<Model()>& make,
                       std::vector<double>& losses) {
  return trace(state, [&] {
    set_seed(3);
    const Model model = make();
    // Softmax does not see the keys' biases: their gradients are rounding errors alone, which an
    // epsilon far below them would turn into steps of full size.
    optim::AdamW adam(
        {.lr = optim::cosine(3e-3, steps, 4, 1e-4), .epsilon = 1e-5, .weight_decay = 0.05});
    loop(steps, [&](Tensor) {
      const Tensor tokens = feeder("tokens", {batch, length + 1}, DType::i32, fill_tokens);
      const Tensor loss =
          cross_entropy(model(slice(tokens, 1, 0, length)), slice(tokens, 1, 1, length + 1));
      backward(loss);
      optim::clip_grad_norm(1);
      adam.step();
      adam.zero_grad();
      receiver("loss", {loss}, [&losses](std::int64_t, const std::vector<HostTensor>& tensors) {
        losses.push_back(tensors[0].item());
      });
    });
  });
}

/// |given - expected| / |expected| of Euclidean norms.
double relative_error(const std::vector<double>& given, const std::vector<double>& expected) {
  double difference = 0;
  double size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += (given.at(i) - expected[i]) * (given.at(i) - expected[i]);
    size += expected[i] * expected[i];
  }
  return std::sqrt(difference / size);
}

void expect_same_training(const std::function<Model()>& make, const CompileOptions& options) {
  State state;
  std::vector<double> losses;
  const Program program = trace_training(state, make, losses);

  std::vector<double> expected;
  ReferenceOptions reference;
  reference.receivers["loss"] = [&](std::int64_t step, const std::vector<HostTensor>& tensors) {
    EXPECT_EQ(step, static_cast<std::int64_t>(expected.size()));
    expected.push_back(tensors[0].item());
  };
  const State initial = state.clone();
  const State trained = reference_run(program, state, reference);
  for (const std::string& name : state.names()) {
    ASSERT_EQ(state.values(name), initial.values(name)) << "the reference run has changed " << name;
  }

  program.compile(options).run();
  ASSERT_EQ(expected.size(), static_cast<std::size_t>(steps));
  ASSERT_EQ(losses.size(), expected.size());
  for (std::size_t step = 0; step < losses.size(); ++step) {
    EXPECT_NEAR(losses[step], expected[step], tolerance * expected[step]) << "step " << step;
  }
  // It does train: the next token is a function of the position and the last one.
  EXPECT_LT(expected.back(), 0.9 * expected.front());
  for (const std::string& name : state.names()) {
    EXPECT_LE(relative_error(state.values(name), trained.values(name)), tolerance) << name;
    if (name.rfind("optimizer.", 0) != 0) {
      EXPECT_GT(relative_error(state.values(name), initial.values(name)), 0) << name;
    }
  }
}

Model make_tnn() {
  nn::TnnLmOptions options;
  options.vocabulary = vocabulary;
  options.width = width;
  options.layers = 2;
  options.layer.gtu.expand_ratio = 1;
  options.layer.gtu.tno.use_decay = true;
  options.layer.gtu.tno.gamma = 0.95;
  options.layer.gtu.tno.rpe.layers = 1;
  options.layer.gtu.tno.rpe.width = 8;
  options.layer.glu.hidden = 2 * width;
  return nn::TnnLm("", options);
}

Model make_transformer() {
  nn::TransformerLmOptions options;
  options.vocabulary = vocabulary;
  options.width = width;
  options.layers = 2;
  options.max_length = length;
  options.block.heads = 2;
  return nn::TransformerLm("", options);
}

TEST(Training, ToeplitzNetworkFollowsTheReference) {
  expect_same_training(make_tnn, {.threads = 2});
}

TEST(Training, TransformerFollowsTheReference) {
  expect_same_training(make_transformer, {.threads = 2});
}

TEST(Training, ToeplitzNetworkFollowsTheReferenceWithoutFusion) {
  expect_same_training(make_tnn, {.fuse = false, .threads = 1, .synchronous = true});
}

TEST(Training, TransformerFollowsTheReferenceWithoutFusion) {
  expect_same_training(make_transformer, {.fuse = false, .threads = 1, .synchronous = true});
}

TEST(Training, PiecesOfALoopAreTheWholeLoop) {
  State whole_state;
  std::vector<double> whole;
  trace_training(whole_state, make_tnn, whole).compile({.threads = 2}).run();
  State state;
  std::vector<double> losses;
  const Program program = trace_training(state, make_tnn, losses);
  Executable executable = program.compile({.threads = 2});
  executable.run(0, 1);
  executable.run(1, 13);
  executable.run(13, steps);
  EXPECT_EQ(losses, whole);
  for (const std::string& name : state.names()) {
    EXPECT_EQ(state.values(name), whole_state.values(name)) << name;
  }
}

TEST(ReferenceRun, ScalarsReceiversAndComplexStates) {
  State state;
  const Program program = trace(state, [] {
    const Tensor z = weft::state("z", {2}, DType::c64, init::values({1, 2, 3, 4}));
    const Tensor count = weft::state("count", {}, DType::i64);
    const Tensor scale = scalar("scale", 3);
    loop(3, [&](Tensor index) {
      const Tensor fed = feeder("fed", {2}, DType::f32, [](std::int64_t step, std::span<float> to) {
        to[0] = static_cast<float>(step);
        to[1] = 10;
      });
      assign(count, count + index);
      receiver(
          "scaled", {fed * scale, count},
          [](std::int64_t, const std::vector<HostTensor>&) {
            ADD_FAILURE() << "the program's own callback was called";
          },
          2);
    });
    assign(z, conj(z));
  });
  state.set_values("count", std::vector<double>{0});
  state.data<std::int64_t>("count")[0] = (std::int64_t{1} << 53) + 1;

  std::vector<std::vector<double>> received;
  std::vector<std::int64_t> counts;
  ReferenceOptions options;
  options.scalars["scale"] = 0.5;
  options.receivers["scaled"] = [&](std::int64_t step, const std::vector<HostTensor>& tensors) {
    EXPECT_EQ(step, static_cast<std::int64_t>(2 * received.size()));
    received.push_back(tensors.at(0).values());
    counts.push_back(tensors.at(1).data<std::int64_t>()[0]);
  };
  State after = reference_run(program, state, options);
  const std::vector<std::vector<double>> expected{{0, 5}, {1, 5}};
  EXPECT_EQ(received, expected);
  // Not representable as doubles.
  const std::int64_t base = (std::int64_t{1} << 53) + 1;
  EXPECT_EQ(counts, (std::vector<std::int64_t>{base, base + 3}));
  EXPECT_EQ(after.data<std::int64_t>("count")[0], base + 3);
  EXPECT_EQ(after.values("z"), (std::vector<double>{1, -2, 3, -4}));
  EXPECT_EQ(state.values("z"), (std::vector<double>{1, 2, 3, 4}));

  State empty;
  EXPECT_THROW(reference_run(program, empty), Error);
}

}  // namespace
}  // namespace weft
