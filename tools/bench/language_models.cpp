#include <fmt/format.h>
#include <fmt/ranges.h>
#include <weft/weft.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tools/bench/bench.h"
#include "tools/bench/measure.h"
#include "tools/bench/training_peers.h"

/// Training steps (forward, backward, clipping, AdamW) of two language models of equal size in f32:
/// a Toeplitz neural network and a transformer.
namespace weft::bench {

namespace {

constexpr std::int64_t vocabulary = 256;
constexpr std::int64_t width = 256;
constexpr std::int64_t layers = 4;
constexpr std::int64_t heads = 4;
constexpr std::int64_t batch = 4;
constexpr std::int64_t batches = 4;  ///< of random tokens, one after the other
constexpr std::int64_t checked_steps = 3;
constexpr double gamma = 0.99;
constexpr double rate = 1e-3;
constexpr double beta2 = 0.98;
constexpr double weight_decay = 0.01;
/// As long as any measurement goes on.
constexpr std::int64_t most_steps = std::int64_t{1} << 40;

/// ids (batch, n) -> logits (batch, n, vocabulary).
using Model = std::function<Tensor(const Tensor& ids)>;

Model make_tnn() {
  nn::TnnLmOptions options;
  options.vocabulary = vocabulary;
  options.width = width;
  options.layers = layers;
  options.tied = false;
  options.layer.norm = nn::NormType::simple_rms_norm;
  nn::GtuOptions& gtu = options.layer.gtu;
  gtu.expand_ratio = 1;
  gtu.act = nn::Activation::silu;
  gtu.tno.use_decay = true;
  gtu.tno.gamma = gamma;
  gtu.tno.rpe.layers = 1;
  gtu.tno.rpe.width = 32;
  options.layer.glu.hidden = 2 * width;
  return nn::TnnLm("", options);
}

Model make_transformer(std::int64_t n, std::int64_t hidden) {
  nn::TransformerLmOptions options;
  options.vocabulary = vocabulary;
  options.width = width;
  options.layers = layers;
  options.max_length = n;
  options.tied = false;
  options.block.heads = heads;
  options.block.hidden = hidden;
  return nn::TransformerLm("", options);
}

std::int64_t parameters_in(const std::function<Model()>& make) {
  State state;
  std::int64_t count = 0;
  trace(state, [&] {
    make();
    count = nn::parameter_count();
  });
  return count;
}

/// Width of the transformer's feed-forward parts that makes it as large as the other model, in
/// whole vectors.
std::int64_t hidden_of_transformer(std::int64_t n) {
  constexpr std::int64_t unit = 16;
  const auto size_with = [&](std::int64_t hidden) {
    return parameters_in([&] { return make_transformer(n, hidden); });
  };
  const std::int64_t of_unit = size_with(2 * unit) - size_with(unit);
  const auto rest = static_cast<double>(parameters_in(make_tnn) - size_with(unit));
  const auto units = static_cast<std::int64_t>(std::lround(rest / static_cast<double>(of_unit)));
  return unit * std::max<std::int64_t>(1, 1 + units);
}

std::vector<std::int32_t> random_tokens(std::int64_t n) {
  std::mt19937 generator(1);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(batches * batch * (n + 1)));
  for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(generator() % vocabulary);
  return tokens;
}

Program trace_training(State& state, std::int64_t n, const std::function<Model()>& make,
                       const std::vector<std::int32_t>& tokens, const ReceiveCallback& on_loss,
                       std::int64_t steps) {
  const auto feed = [&tokens](std::int64_t step, std::span<std::int32_t> to) {
    const auto first = static_cast<std::size_t>(step % batches) * to.size();
    std::copy_n(tokens.begin() + static_cast<std::ptrdiff_t>(first), to.size(), to.begin());
  };
  const auto body = [&] {
    set_seed(1);
    const Model model = make();
    optim::AdamW adam({.lr = rate, .beta2 = beta2, .weight_decay = weight_decay});
    loop(steps, [&](Tensor) {
      const Tensor window = feeder("tokens", {batch, n + 1}, DType::i32, feed);
      const Tensor loss = cross_entropy(model(slice(window, 1, 0, n)), slice(window, 1, 1, n + 1));
      backward(loss);
      optim::clip_grad_norm(1);
      adam.step();
      adam.zero_grad();
      receiver("loss", {loss}, on_loss);
    });
  };
  return trace(state, body, "language_model");
}

struct Case {
  const char* model;
  std::int64_t n;
  std::optional<DType> autocast = {};

  std::string text() const {
    return fmt::format("{} n {}{}{}", model, n, autocast ? " " : "",
                       autocast ? weft::name(*autocast) : "");
  }
};

/// Throws where a GPU's first losses are not the host's: 16-bit operands are off by 2^-9 each.
void check_losses(const Case& which, const std::vector<double>& losses, const Program& program,
                  std::vector<double>& of_host) {
  CompileOptions options;
  options.autocast = which.autocast;
  program.compile(options).run(0, checked_steps);
  const double error = difference(losses, of_host);
  const double accepted = which.autocast ? 2e-2 : 1e-3;
  if (error <= accepted) return;
  throw Error(fmt::format("losses {:.6f}; the host's {:.6f}", fmt::join(losses, " "),
                          fmt::join(of_host, " ")));
}

void measure(const Settings& settings, const Report& report, const Case& which) {
  const std::string name = which.text();
  const auto row = [&](const char* metric, double value, const char* unit) {
    return Row{"language_models", name, metric, value, unit, {}, {}};
  };
  const bool tnn = which.model == std::string("tnn");
  const std::int64_t hidden = tnn ? 0 : hidden_of_transformer(which.n);
  const auto make = [&]() -> Model { return tnn ? make_tnn() : make_transformer(which.n, hidden); };

  const std::vector<std::int32_t> tokens = random_tokens(which.n);
  std::vector<double> losses;
  const auto on_loss = [&](std::int64_t step, const std::vector<HostTensor>& tensors) {
    if (step < checked_steps) losses.push_back(tensors[0].item());
  };
  State state;
  const Program program = trace_training(state, which.n, make, tokens, on_loss, most_steps);
  State values = state.clone();
  values.add("tokens", {DType::i32, {batches, batch, which.n + 1}});
  std::copy(tokens.begin(), tokens.end(), values.data<std::int32_t>("tokens").begin());

  CompileOptions options;
  options.threads = settings.threads;
  options.device = settings.device;
  options.autocast = which.autocast;
  const TemporaryFolder cache;
  const ScopedVariable variable("WEFT_CACHE_DIR", cache.path());
  Executable executable = program.compile(options);
  const Statistics statistics = executable.statistics();
  executable.run(0, checked_steps);
  if (settings.on_gpu()) {
    State host_state;
    std::vector<double> of_host;
    const auto on_host_loss = [&](std::int64_t, const std::vector<HostTensor>& tensors) {
      of_host.push_back(tensors[0].item());
    };
    check_losses(which, losses,
                 trace_training(host_state, which.n, make, tokens, on_host_loss, most_steps),
                 of_host);
  }

  std::vector<std::unique_ptr<PeerProcess>> peers =
      start(settings, {.name = name,
                       .script = "language_models.py",
                       .config = {{"model", which.model},
                                  {"layers", layers},
                                  {"heads", heads},
                                  {"gamma", gamma},
                                  {"rate", rate},
                                  {"beta2", beta2},
                                  {"weight_decay", weight_decay},
                                  {"autocast", which.autocast.has_value()}},
                       .modes = {"eager", "compile"},
                       .threads = settings.threads,
                       .values = values,
                       .losses = losses});

  report(row("parameters", static_cast<double>(parameters_in(make)), "numbers"));
  std::vector<PeerValue> compiling;
  for (const auto& peer : peers) {
    if (peer->name().find("eager") == std::string::npos) {
      compiling.push_back({peer->name(), peer->setup_seconds()});
    }
  }
  report_beside(report, row("compile", statistics.compile_seconds, "s"), compiling);
  report(row("compile again", program.compile(options).statistics().compile_seconds, "s"));
  report(row("kernels a step", static_cast<double>(statistics.launches_per_step), "launches"));
  report(row("arena", static_cast<double>(statistics.arena_bytes) / 1e6, "MB"));

  std::int64_t step = checked_steps;
  const Work steps = timed([&](std::int64_t count) {
    executable.run(step, step + count);
    step += count;
  });
  report_turns(report, row("step", 0, "ms"), take_turns(steps, peers, settings.seconds), 1e3);
}

}  // namespace

void language_models(const Settings& settings, const Report& report) {
  std::vector<Case> cases = {
      {"tnn", 512}, {"tnn", 2048}, {"transformer", 512}, {"transformer", 2048}};
  if (settings.on_gpu()) {
    for (std::size_t i = 0; i < 4; ++i) {
      cases.push_back({cases[i].model, cases[i].n, DType::bf16});
    }
  }
  for (const Case& which : cases) {
    if (!settings.wants(which.text())) continue;
    run_case(report, "language_models", which.text(), [&] { measure(settings, report, which); });
  }
}

}  // namespace weft::bench
