// Whole training loops, as users write them, against the same ones on the host.
#include <fmt/format.h>
#include <weft/weft.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tools/selftest/cases.h"

namespace weft::selftest {
namespace {

constexpr std::int64_t steps = 12;
constexpr std::int64_t batch = 4;
constexpr std::int64_t length = 24;
constexpr std::int64_t vocabulary = 40;
constexpr std::int64_t width = 32;

/// The loss of one step.
using Model = std::function<std::function<Tensor()>()>;

Tensor token_loss(const Tensor& logits, const Tensor& ids) {
  return mean(cross_entropy(slice(logits, 1, 0, length), slice(ids, 1, 1, length + 1)));
}

Tensor feed_tokens() {
  return feeder("ids", {batch, length + 1}, DType::i64,
                [](std::int64_t iteration, std::span<std::int64_t> to) {
                  for (std::size_t i = 0; i < to.size(); ++i) {
                    to[i] = (static_cast<std::int64_t>(i * i) + 3 * iteration) % vocabulary;
                  }
                });
}

std::function<Tensor()> perceptron() {
  const nn::Sequential model(nn::Linear("hidden", width, 3 * width), weft::silu,
                             nn::Linear("out", 3 * width, 1));
  return [model] {
    const Tensor x =
        feeder("x", {batch, width}, DType::f32, [](std::int64_t iteration, std::span<float> to) {
          for (std::size_t i = 0; i < to.size(); ++i) {
            to[i] = std::sin(0.3F * static_cast<float>(iteration) + 0.7F * static_cast<float>(i));
          }
        });
    return mse_loss(model(x + 0.1 * random_normal({batch, width})), sum(x, {1}, true));
  };
}

std::function<Tensor()> transformer() {
  nn::TransformerLmOptions options;
  options.vocabulary = vocabulary;
  options.width = width;
  options.layers = 2;
  options.max_length = length;
  options.block.heads = 2;
  options.block.hidden = 2 * width;
  const nn::TransformerLm model("", options);
  return [model] {
    const Tensor ids = feed_tokens();
    return token_loss(model(slice(ids, 1, 0, length)), ids);
  };
}

std::function<Tensor()> tnn() {
  nn::TnnLmOptions options;
  options.vocabulary = vocabulary;
  options.width = width;
  options.layers = 2;
  options.layer.gtu.tno.rpe.width = 16;
  options.layer.glu.hidden = 2 * width;
  const nn::TnnLm model("", options);
  return [model] {
    const Tensor ids = feed_tokens();
    return token_loss(model(slice(ids, 1, 0, length)), ids);
  };
}

struct Result {
  std::vector<double> losses;
  std::map<std::string, std::vector<double>> states;
};

Result train(const Model& model, const CompileOptions& options) {
  State state;
  Result result;
  const Program program = trace(
      state,
      [&] {
        set_seed(11);
        const std::function<Tensor()> loss_of_step = model();
        optim::Adam adam({.lr = 1e-3});
        loop(steps, [&](Tensor) {
          const Tensor loss = loss_of_step();
          backward(loss);
          optim::clip_grad_norm(1);
          adam.step();
          adam.zero_grad();
          receiver("loss", {loss}, [&](std::int64_t, const std::vector<HostTensor>& tensors) {
            result.losses.push_back(tensors[0].item());
          });
        });
      },
      "training");
  program.compile(options).run();
  for (const std::string& name : state.names()) result.states[name] = state.values(name);
  return result;
}

/// |a - b| / |b| of Euclidean norms; infinite where they do not fit or are not finite.
double difference(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double apart = 0;
  double size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    apart += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  if (!std::isfinite(apart)) return std::numeric_limits<double>::infinity();
  return apart == 0 ? 0 : std::sqrt(apart / std::max(size, std::numeric_limits<double>::min()));
}

/// What other orders of rounding make of the same training is measured on the host: fused, of whole
/// operators or of their parts, by narrow vectors. So much, several times over, is accepted of a
/// device. Some states are nothing but rounding: the gradient of a bias of attention's keys is
/// zero, and Adam makes steps of what is left of it.
std::vector<std::string> compare(const Model& model, const Target& target) {
  const Result expected = train(model, {.fuse = false});
  const Result others[] = {train(model, {}), train(model, {.composites = false}),
                           train(model, {.cpu = "x86-64"})};
  const Result given = train(model, {.device = target.device});
  std::vector<std::string> lines;
  const auto check = [&](const std::string& what, const auto& values_of) {
    double rounding = 4 * steps * std::numeric_limits<float>::epsilon();
    for (const Result& other : others) {
      rounding = std::max(rounding, difference(values_of(other), values_of(expected)));
    }
    const double accepted = 16 * rounding;
    const double found = difference(values_of(given), values_of(expected));
    if (found <= accepted) return;
    lines.push_back(
        fmt::format("{}: relative difference {:.3g}, {:.3g} is accepted", what, found, accepted));
  };
  check("losses", [](const Result& result) { return result.losses; });
  for (const auto& entry : expected.states) {
    const std::string& name = entry.first;
    if (given.states.count(name) == 0) {
      lines.push_back(fmt::format("state {}: is missing", name));
    } else {
      check("state " + name, [&](const Result& result) { return result.states.at(name); });
    }
  }
  return lines;
}

}  // namespace

void add_training_cases(std::vector<Case>& cases, const Target& target) {
  const auto add = [&](const char* name, const Model& model) {
    cases.push_back(
        {fmt::format("training/{}", name), [model, target] { return compare(model, target); }});
  };
  add("perceptron", perceptron);
  add("transformer", transformer);
  add("tnn", tnn);
}

}  // namespace weft::selftest
