// A perceptron of two layers whose whole training loop is one program: a feeder, the network, its
// gradients, the optimiser, and a receiver that gets all parameters after the loop. Shows the graph
// before and after fusion, and how long tracing, compiling and running take.
#include <fmt/format.h>
#include <weft/reference.h>
#include <weft/weft.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace {

using namespace weft;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// What "saving params" has got: the parameters' values by name.
using Parameters = std::map<std::string, std::vector<double>>;

Program trace_training(State& state, std::int64_t iterations, Parameters& saved) {
  const auto train = [&] {
    const nn::Linear first("0", 255, 255);
    const nn::Linear second("1", 255, 255);
    optim::Sgd sgd({.lr = 0.01});
    loop(iterations, [&](Tensor) {
      const Tensor input =
          feeder("input", {2, 255}, DType::f32,
                 [](std::int64_t, std::span<float> to) { std::fill(to.begin(), to.end(), 0.2F); });
      // Not a scalar: the gradient of the output is ones.
      backward(second(sigmoid(first(input))));
      sgd.step();
      sgd.zero_grad();
    });
    const std::vector<Tensor> all = parameters();
    std::vector<std::string> names;
    for (const Tensor& parameter : all) names.push_back(parameter.name());
    receiver("saving params", all,
             [names, &saved](std::int64_t, const std::vector<HostTensor>& tensors) {
               for (std::size_t i = 0; i < tensors.size(); ++i) {
                 saved[names[i]] = tensors[i].values();
               }
             });
  };
  return trace(state, train, "sigmoid_mlp");
}

/// |given - expected| / |expected|, of Euclidean norms.
double relative_error(const std::vector<double>& given, const std::vector<double>& expected) {
  if (given.size() != expected.size()) return HUGE_VAL;
  double difference = 0;
  double size = 0;
  for (std::size_t i = 0; i < given.size(); ++i) {
    difference += (given[i] - expected[i]) * (given[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  return std::sqrt(difference / size);
}

/// Compares what was saved with the reference evaluation from the same initial parameters.
bool check(const Program& program, const State& initial, const Parameters& saved) {
  // 1000 updates, each rounded to f32's 2^-24 of the value, of which sums of 255 terms are a part:
  // 1e-4 is 1.7 roundings a step, all in one direction.
  constexpr double tolerance = 1e-4;
  fmt::print("reference evaluation in double precision ...\n");
  std::fflush(stdout);
  const State expected = reference_run(program, initial);
  bool good = !saved.empty();
  for (const auto& [name, values] : saved) {
    const double error = relative_error(values, expected.values(name));
    fmt::print("  {:<10} relative error {:.2e}\n", name, error);
    good = good && error <= tolerance;
  }
  fmt::print("{}: the largest that is accepted is {:.0e}\n", good ? "passed" : "FAILED", tolerance);
  return good;
}

int run(int argc, char** argv) {
  CLI::App app("Trains a perceptron of two layers in one compiled program.");
  std::int64_t iterations = 1000;
  bool with_check = false;
  bool quiet = false;
  std::string device = "cpu";
  int threads = 0;
  app.add_option("--iterations", iterations, "Of the training loop")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1'000'000'000}))
      ->capture_default_str();
  app.add_flag("--check", with_check,
               "Compare the final parameters with the double-precision reference evaluation");
  app.add_flag("--quiet", quiet, "Do not print the graphs");
  app.add_option("--device", device, "cpu, cuda or cuda:1")->capture_default_str();
  app.add_option("--threads", threads, "0: as many as cores")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  State state;
  Parameters saved;
  const auto trace_start = Clock::now();
  const Program program = trace_training(state, iterations, saved);
  const double trace_seconds = seconds_since(trace_start);
  if (!quiet) fmt::print("{}\n", program.dump("traced"));

  const State initial = state.clone();
  const auto compile_start = Clock::now();
  Executable executable = program.compile({.device = device, .threads = threads});
  const double compile_seconds = seconds_since(compile_start);
  if (!quiet) fmt::print("{}\n", executable.dump("fused"));

  const auto run_start = Clock::now();
  executable.run();
  const double run_seconds = seconds_since(run_start);

  const Statistics& statistics = executable.statistics();
  fmt::print("trace      {:10.2f} ms, {} nodes\n", trace_seconds * 1e3, statistics.nodes);
  fmt::print("compile    {:10.2f} ms, {} kernels\n", compile_seconds * 1e3, statistics.kernels);
  fmt::print("run        {:10.2f} ms, {} iterations\n", run_seconds * 1e3, iterations);
  fmt::print("iteration  {:10.2f} us, {} kernels\n",
             run_seconds * 1e6 / static_cast<double>(iterations), statistics.launches_per_step);
  return !with_check || check(program, initial, saved) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "sigmoid_mlp: {}\n", error.what());
    return 2;
  }
}
