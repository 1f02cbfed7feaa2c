#include <fmt/format.h>
#include <weft/weft.h>

#include <algorithm>
#include <chrono>
#include <span>

#include "tools/bench/bench.h"
#include "tools/bench/measure.h"

/// The training loop of examples/sigmoid_mlp: two layers of 255, two rows of input. Its products
/// are a few microseconds each, so what counts is what stands between them.
namespace weft::bench {

void sigmoid_mlp(const Settings& settings, const Report& report) {
  constexpr std::int64_t iterations = 1000;
  State state;
  const Program program = trace(
      state,
      [] {
        const nn::Linear first("0", 255, 255);
        const nn::Linear second("1", 255, 255);
        optim::Sgd sgd({.lr = 0.01});
        loop(iterations, [&](Tensor) {
          const Tensor input = feeder(
              "input", {2, 255}, DType::f32,
              [](std::int64_t, std::span<float> to) { std::fill(to.begin(), to.end(), 0.2F); });
          backward(second(sigmoid(first(input))));
          sgd.step();
          sgd.zero_grad();
        });
        receiver("saving params", parameters(),
                 [](std::int64_t, const std::vector<HostTensor>&) {});
      },
      "sigmoid_mlp");
  CompileOptions options;
  options.threads = settings.threads;
  options.device = settings.device;
  options.tensor_copies = settings.tensor_copies;
  Executable executable = program.compile(options);
  const std::string name = "255-255-255, batch 2";
  const auto number = [&](const std::string& metric, double value, const std::string& unit) {
    report({"sigmoid_mlp", name, metric, value, unit, {}, {}});
  };
  number("kernels an iteration", static_cast<double>(executable.statistics().launches_per_step),
         "launches");
  number("compile", executable.statistics().compile_seconds, "s");
  const Comparison comparison = compare({timed([&](std::int64_t count) {
                                          for (std::int64_t i = 0; i < count; ++i) executable.run();
                                        })},
                                        settings.seconds / 11);
  number("iteration", 1e6 * comparison.timings[0].median / iterations, "us");
}

}  // namespace weft::bench
