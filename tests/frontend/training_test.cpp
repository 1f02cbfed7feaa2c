#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "plain.h"
#include "weft/weft.h"

namespace weft {
namespace {

using plain::expect_near;
using plain::Values;

constexpr std::int64_t vocabulary = 13;
constexpr std::int64_t batch = 3;
constexpr std::int64_t length = 10;

using Model = std::function<Tensor(const Tensor& ids)>;
using MakeModel = std::function<Model()>;

MakeModel tnn() {
  return [] {
    const nn::TnnLmOptions options = {
        .vocabulary = vocabulary,
        .width = 16,
        .layers = 2,
        .layer = {.gtu = {.tno = {.use_decay = true, .rpe = {.width = 8, .layers = 1}}}}};
    return [model = nn::TnnLm("", options)](const Tensor& ids) { return model(ids); };
  };
}

MakeModel transformer() {
  return [] {
    const nn::TransformerLmOptions options = {.vocabulary = vocabulary,
                                              .width = 16,
                                              .layers = 2,
                                              .max_length = length,
                                              .block = {.heads = 2, .gated = true}};
    return [model = nn::TransformerLm("", options)](const Tensor& ids) { return model(ids); };
  };
}

using MakeOptimizer = std::function<std::unique_ptr<optim::Optimizer>()>;

/// Training on one batch of the walk 5 i + 3 b + i^2 mod the vocabulary; the losses go to a
/// receiver.
Program training(State& state, const MakeModel& make, const MakeOptimizer& make_optimizer,
                 std::int64_t steps, Values& losses) {
  std::vector<std::int64_t> ids;
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t i = 0; i <= length; ++i) ids.push_back((5 * i + 3 * b + i * i) % vocabulary);
  }
  return trace(state, [&] {
    const Model model = make();
    const auto optimizer = make_optimizer();
    const Tensor text = constant(std::span<const std::int64_t>(ids), {batch, length + 1});
    loop(steps, [&](const Tensor&) {
      const Tensor loss =
          cross_entropy(model(slice(text, 1, 0, length)), slice(text, 1, 1, length + 1));
      backward(loss);
      const Tensor norm = optim::clip_grad_norm(1);
      optimizer->step();
      optimizer->zero_grad();
      receiver("loss", {loss, norm}, [&](std::int64_t, const std::vector<HostTensor>& tensors) {
        losses.push_back(tensors[0].item());
      });
    });
  });
}

class Training : public testing::TestWithParam<std::pair<const char*, MakeModel>> {};

TEST_P(Training, CompiledFollowsTheReference) {
  constexpr std::int64_t steps = 4;
  State state;
  Values losses;
  Program program = training(
      state, GetParam().second,
      [] { return std::make_unique<optim::Sgd>(optim::SgdOptions{.lr = 0.1, .momentum = 0.9}); },
      steps, losses);
  Values expected;
  const plain::Outcome outcome = plain::evaluate(program);
  for (const Values& call : outcome.received.at("loss")) expected.push_back(call[0]);
  program.compile({.threads = 2}).run();
  // Sums of at most batch * length terms, about a hundred of them one after the other in forward
  // and backward, in each step.
  expect_near(losses, expected, 100 * plain::f32_bound(batch * length));
  EXPECT_LT(expected.back(), expected.front());
}

TEST_P(Training, LearnsABatchByHeart) {
  State state;
  Values losses;
  Program program = training(
      state, GetParam().second,
      [] {
        return std::make_unique<optim::AdamW>(
            optim::AdamOptions{.lr = optim::cosine(1e-2, 150, 10), .weight_decay = 0.01});
      },
      150, losses);
  program.compile({.threads = 2}).run();
  ASSERT_EQ(losses.size(), 150U);
  // Each token but the first of a text is decided by those before; at first nothing is known.
  EXPECT_GT(losses.front(), std::log(static_cast<double>(vocabulary)) / 2);
  EXPECT_LT(losses.back(), losses.front() / 10);
}

INSTANTIATE_TEST_SUITE_P(Models, Training,
                         testing::Values(std::pair("tnn", tnn()),
                                         std::pair("transformer", transformer())),
                         [](const auto& each) { return std::string(each.param.first); });

}  // namespace
}  // namespace weft
