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

/// What two orders of rounding make of the same training is measured on the host, where one of them
/// is that of kernels of one op each; so much, several times over, is accepted of a device.
std::vector<std::string> compare(const Model& model, const Target& target) {
  const Result expected = train(model, {.fuse = false});
  const Result other = train(model, {});
  const Result given = train(model, {.device = target.device});
  std::vector<std::string> lines;
  const auto check = [&](const std::string& what, const std::vector<double>& of_device,
                         const std::vector<double>& of_host, const std::vector<double>& of_other) {
    constexpr double least = 4 * steps * std::numeric_limits<float>::epsilon();
    const double accepted = 16 * std::max(difference(of_other, of_host), least);
    const double found = difference(of_device, of_host);
    if (found <= accepted) return;
    lines.push_back(
        fmt::format("{}: relative difference {:.3g}, {:.3g} is accepted", what, found, accepted));
  };
  check("losses", given.losses, expected.losses, other.losses);
  for (const auto& [name, values] : expected.states) {
    const auto found = given.states.find(name);
    if (found == given.states.end()) {
      lines.push_back(fmt::format("state {}: is missing", name));
    } else {
      check("state " + name, found->second, values, other.states.at(name));
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
