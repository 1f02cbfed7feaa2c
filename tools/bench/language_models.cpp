#include <fmt/format.h>
#include <fmt/ranges.h>
#include <weft/weft.h>

#include <algorithm>
#include <array>
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
constexpr std::int64_t batches = 4;  ///< of random tokens, one after the other
constexpr std::int64_t checked_steps = 3;
constexpr double gamma = 0.99;
constexpr double rate = 1e-3;
constexpr double beta2 = 0.98;
constexpr double weight_decay = 0.01;
/// As long as any measurement goes on.
constexpr std::int64_t most_steps = std::int64_t{1} << 40;

struct Size {
  const char* name;
  std::int64_t width;
  std::int64_t layers;
  std::int64_t heads;  ///< of the transformer
};
constexpr Size usual{"", 256, 4, 4};
/// For GPUs; 4096 tokens a batch, as where they were first trained.
constexpr Size small{"small", 512, 6, 8};
constexpr Size medium{"medium", 768, 12, 12};
constexpr std::int64_t tokens_of_large = 4096;

/// ids (batch, n) -> logits (batch, n, vocabulary).
using Model = std::function<Tensor(const Tensor& ids)>;

Model make_tnn(const Size& size) {
  nn::TnnLmOptions options;
  options.vocabulary = vocabulary;
  options.width = size.width;
  options.layers = size.layers;
  options.tied = false;
  options.layer.norm = nn::NormType::simple_rms_norm;
  nn::GtuOptions& gtu = options.layer.gtu;
  gtu.expand_ratio = 1;
  gtu.act = nn::Activation::silu;
  gtu.tno.use_decay = true;
  gtu.tno.gamma = gamma;
  gtu.tno.rpe.layers = 1;
  gtu.tno.rpe.width = 32;
  options.layer.glu.hidden = 2 * size.width;
  return nn::TnnLm("", options);
}

Model make_transformer(const Size& size, std::int64_t n, std::int64_t hidden) {
  nn::TransformerLmOptions options;
  options.vocabulary = vocabulary;
  options.width = size.width;
  options.layers = size.layers;
  options.max_length = n;
  options.tied = false;
  options.block.heads = size.heads;
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
std::int64_t hidden_of_transformer(const Size& size, std::int64_t n) {
  constexpr std::int64_t unit = 16;
  const auto size_with = [&](std::int64_t hidden) {
    return parameters_in([&] { return make_transformer(size, n, hidden); });
  };
  const std::int64_t of_unit = size_with(2 * unit) - size_with(unit);
  const auto rest =
      static_cast<double>(parameters_in([&] { return make_tnn(size); }) - size_with(unit));
  const auto units = static_cast<std::int64_t>(std::lround(rest / static_cast<double>(of_unit)));
  return unit * std::max<std::int64_t>(1, 1 + units);
}

std::vector<std::int32_t> random_tokens(std::int64_t batch, std::int64_t n) {
  std::mt19937 generator(1);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(batches * batch * (n + 1)));
  for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(generator() % vocabulary);
  return tokens;
}

Program trace_training(State& state, std::int64_t batch, std::int64_t n,
                       const std::function<Model()>& make, const std::vector<std::int32_t>& tokens,
                       const ReceiveCallback& on_loss, std::int64_t steps) {
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
  bool tnn;
  std::int64_t n;
  Size size = usual;
  std::optional<DType> autocast = {};

  const char* model() const { return tnn ? "tnn" : "transformer"; }
  std::int64_t batch() const { return *size.name == '\0' ? 4 : tokens_of_large / n; }
  /// What cases of both models have in common.
  std::string setting() const {
    return fmt::format("{}{}n {}{}{}", size.name, *size.name == '\0' ? "" : " ", n,
                       autocast ? " " : "", autocast ? weft::name(*autocast) : "");
  }
  std::string text() const { return fmt::format("{} {}", model(), setting()); }
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

Beside measure(const Settings& settings, const Report& report, const Case& which) {
  const std::string name = which.text();
  const auto row = [&](const char* metric, double value, const char* unit) {
    return Row{"language_models", name, metric, value, unit, {}, {}};
  };
  const std::int64_t hidden = which.tnn ? 0 : hidden_of_transformer(which.size, which.n);
  const auto make = [&]() -> Model {
    return which.tnn ? make_tnn(which.size) : make_transformer(which.size, which.n, hidden);
  };

  const std::int64_t batch = which.batch();
  const std::vector<std::int32_t> tokens = random_tokens(batch, which.n);
  std::vector<double> losses;
  const auto on_loss = [&](std::int64_t step, const std::vector<HostTensor>& tensors) {
    if (step < checked_steps) losses.push_back(tensors[0].item());
  };
  State state;
  const Program program = trace_training(state, batch, which.n, make, tokens, on_loss, most_steps);
  State values = state.clone();
  values.add("tokens", {DType::i32, {batches, batch, which.n + 1}});
  std::copy(tokens.begin(), tokens.end(), values.data<std::int32_t>("tokens").begin());

  CompileOptions options;
  options.threads = settings.threads;
  options.device = settings.device;
  options.tensor_copies = settings.tensor_copies;
  options.autocast = which.autocast;
  const TemporaryFolder cache;
  const ScopedVariable variable("WEFT_CACHE_DIR", cache.path());
  Executable executable = program.compile(options);
  const Statistics statistics = executable.statistics();
  executable.run(0, checked_steps);
  // The larger models are the same code, and take the host a minute.
  if (settings.on_gpu() && which.size.layers <= small.layers) {
    State host_state;
    std::vector<double> of_host;
    const auto on_host_loss = [&](std::int64_t, const std::vector<HostTensor>& tensors) {
      of_host.push_back(tensors[0].item());
    };
    check_losses(
        which, losses,
        trace_training(host_state, batch, which.n, make, tokens, on_host_loss, checked_steps),
        of_host);
  }

  std::vector<std::unique_ptr<PeerProcess>> peers =
      start(settings, {.name = name,
                       .script = "language_models.py",
                       .config = {{"model", which.model()},
                                  {"layers", which.size.layers},
                                  {"heads", which.size.heads},
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
  const Turns turns = take_turns(steps, peers, settings.seconds);
  report_turns(report, row("step", 0, "ms"), turns, 1e3);
  return turns.median;
}

/// The Toeplitz network's step beside those of transformers as large, weft's and PyTorch's, which
/// were measured one after the other.
void compare_models(const Report& report, const Case& which, const Beside& tnn,
                    const Beside& transformer) {
  std::vector<PeerValue> others{{"weft's transformer", 1e3 * transformer.weft}};
  for (const PeerValue& peer : transformer.peers) {
    others.push_back({peer.peer + ", transformer", 1e3 * peer.value});
  }
  report_beside(report,
                {"language_models",
                 "tnn beside transformers, " + which.setting(),
                 "step",
                 1e3 * tnn.weft,
                 "ms",
                 {},
                 {}},
                others);
}

}  // namespace

void language_models(const Settings& settings, const Report& report) {
  std::vector<Case> cases;  // by pairs of models
  const auto add = [&](const Size& size, std::int64_t n, std::optional<DType> autocast = {}) {
    for (const bool tnn : {true, false}) cases.push_back({tnn, n, size, autocast});
  };
  for (const std::int64_t n : {512, 2048}) add(usual, n);
  if (settings.on_gpu()) {
    for (const Size& size : {small, medium}) {
      for (const std::int64_t n : {512, 2048}) {
        add(size, n);
        add(size, n, DType::bf16);
      }
    }
  }
  for (std::size_t i = 0; i < cases.size(); i += 2) {
    std::array<std::optional<Beside>, 2> steps;
    for (std::size_t model = 0; model < 2; ++model) {
      const Case& which = cases[i + model];
      if (!settings.wants(which.text())) continue;
      run_case(report, "language_models", which.text(),
               [&] { steps[model] = measure(settings, report, which); });
    }
    if (steps[0] && steps[1]) compare_models(report, cases[i], *steps[0], *steps[1]);
  }
}

}  // namespace weft::bench
