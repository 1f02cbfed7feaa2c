#include <fmt/format.h>
#include <weft/weft.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "tools/bench/bench.h"
#include "tools/bench/measure.h"
#include "tools/bench/training_peers.h"

/// A small encoder on a sequence of two tokens, trained for 3000 steps: the work of a step is a few
/// microseconds a layer, so that what counts is what stands between the kernels, and how long it
/// takes until the first one runs.
namespace weft::bench {

namespace {

constexpr std::int64_t iterations = 3000;
constexpr std::int64_t width = 64;
constexpr std::int64_t heads = 4;
constexpr std::int64_t hidden = 128;
constexpr std::int64_t tokens = 2;
constexpr std::size_t checked_steps = 3;
constexpr double rate = 0.01;

/// Post-norm layers without dropout, as torch.nn.TransformerEncoderLayer has them, under a cross
/// entropy: behind a layer norm, the gradient of a plain sum is zero.
Program trace_training(State& state, std::int64_t layers, std::vector<double>* losses = nullptr) {
  const auto body = [&] {
    const Tensor input = weft::state("input", {1, tokens, width}, DType::f32, init::constant(0.2));
    const Tensor targets = weft::state("targets", {1, tokens}, DType::i32, init::values({3, 17}));
    std::vector<nn::TransformerBlock> blocks;
    for (std::int64_t i = 0; i < layers; ++i) {
      blocks.emplace_back(fmt::format("layers.{}", i),
                          nn::TransformerBlockOptions{.width = width,
                                                      .heads = heads,
                                                      .hidden = hidden,
                                                      .pre_norm = false,
                                                      .act = nn::Activation::relu});
    }
    optim::Sgd sgd({.lr = rate});
    loop(iterations, [&](Tensor) {
      Tensor x = input;
      for (const nn::TransformerBlock& block : blocks) x = block(x);
      const Tensor loss = cross_entropy(x, targets);
      backward(loss);
      sgd.step();
      sgd.zero_grad();
      receiver(
          "loss", {loss},
          [losses](std::int64_t, const std::vector<HostTensor>& tensors) {
            if (losses != nullptr) losses->push_back(tensors[0].item());
          },
          iterations);
    });
  };
  return trace(state, body, "short_transformer");
}

/// From the first line of the model to the end of all steps, with nothing cached.
double total_seconds(const CompileOptions& options, std::int64_t layers) {
  const TemporaryFolder cache;
  const ScopedVariable variable("WEFT_CACHE_DIR", cache.path());
  return timed([&](std::int64_t) {
    State state;
    trace_training(state, layers).compile(options).run();
  })(1);
}

void measure(const Settings& settings, const Report& report, std::int64_t layers) {
  const std::string name = fmt::format("{} layer{}", layers, layers == 1 ? "" : "s");
  if (!settings.wants(name)) return;
  const auto row = [&](const char* metric, double value, const char* unit) {
    return Row{"short_transformer", name, metric, value, unit, {}, {}};
  };
  CompileOptions options;
  options.threads = settings.threads;
  options.device = settings.device;
  options.tensor_copies = settings.tensor_copies;

  State state;
  std::vector<double> losses;
  const Program program = trace_training(state, layers, &losses);
  const State first_values = state.clone();
  const TemporaryFolder cache;
  const ScopedVariable variable("WEFT_CACHE_DIR", cache.path());
  Executable executable = program.compile(options);
  report(row("kernels a step", static_cast<double>(executable.statistics().launches_per_step),
             "launches"));
  report(row("compile", executable.statistics().compile_seconds, "s"));
  // The receiver takes the first loss of each run.
  for (std::size_t i = 0; i < checked_steps; ++i) executable.run(0, 1);

  // One thread for PyTorch, which is the fastest that it gets: nothing in a step is worth two.
  std::vector<std::unique_ptr<PeerProcess>> peers =
      start(settings, {.name = name,
                       .script = "short_transformer.py",
                       .config = {{"layers", layers}, {"heads", heads}, {"rate", rate}},
                       .modes = {"eager", "compile"},
                       .threads = 1,
                       .values = first_values,
                       .losses = losses});

  std::vector<double> totals;
  for (int i = 0; i < 3; ++i) totals.push_back(total_seconds(options, layers));
  std::sort(totals.begin(), totals.end());
  std::vector<PeerValue> of_peers;
  for (auto peer = peers.begin(); peer != peers.end();) {
    try {
      constexpr auto rest = iterations - static_cast<std::int64_t>(checked_steps);
      of_peers.push_back({(*peer)->name(), (*peer)->setup_seconds() + (*peer)->run(rest)});
      ++peer;
    } catch (const Error& error) {
      fmt::print(stderr, "{}\n", error.what());
      peer = peers.erase(peer);
    }
  }
  report_beside(report, row("total, 3000 steps", totals[1], "s"), of_peers);

  const Work steps = timed([&](std::int64_t count) {
    for (std::int64_t done = 0; done < count; done += iterations) {
      executable.run(0, std::min(iterations, count - done));
    }
  });
  report_turns(report, row("step", 0, "us"), take_turns(steps, peers, settings.seconds), 1e6);
}

}  // namespace

void short_transformer(const Settings& settings, const Report& report) {
  for (std::int64_t layers = 1; layers <= 6; ++layers) {
    run_case(report, "short_transformer", fmt::format("{} layers", layers),
             [&] { measure(settings, report, layers); });
  }
}

}  // namespace weft::bench
