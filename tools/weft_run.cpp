#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "compiler/compile.h"
#include "compiler/ir/text.h"
#include "frontend/device.h"
#include "frontend/kernel_cache.h"
#include "frontend/measured_choice.h"
#include "tools/check/bounds.h"
#include "tools/check/inputs.h"
#include "tools/check/rounding.h"
#include "tools/check/run.h"

#include "tools/command.h"

namespace weft::command {

using check::Interface;
using check::Outcome;
using check::Received;
using check::RoundingBound;

namespace {

struct RunCommandOptions {
  std::string file;
  std::string device = "cpu";
  std::uint64_t seed = 0;
  double tolerance = 0;
  int threads = 0;
  bool fuse = true;
  std::int64_t memory = 4;
  int samples = 0;
};

/// Beyond this a comparison says nothing.
constexpr double largest_tolerance = 0.1;
/// Values a bound may be off by: errors that a badly conditioned op magnifies.
constexpr double safety = 16;

struct Difference {
  double relative = 0;     ///< |a - b| / |b|, or the worst of several
  std::int64_t wrong = 0;  ///< elements that should be equal and are not: integers, infinities
  std::int64_t not_numbers = 0;
  void add(const Difference& other) {
    relative = std::max(relative, other.relative);
    wrong += other.wrong;
    not_numbers += other.not_numbers;
  }
};

Difference compare(const ops::Array& compiled_array, const ops::Array& reference_array) {
  Difference difference;
  const Type& type = reference_array.type;
  const std::vector<double> compiled = check::to_values(compiled_array);
  const std::vector<double> reference = check::to_values(reference_array);
  if (compiled.size() != reference.size()) {
    difference.wrong = static_cast<std::int64_t>(std::max(compiled.size(), reference.size()));
    return difference;
  }
  const bool rounded = is_differentiable(type.dtype);
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < compiled.size(); ++i) {
    const double a = compiled[i];
    const double b = reference[i];
    if (std::isfinite(a) && std::isfinite(b) && rounded) {
      error += (a - b) * (a - b);
      norm += b * b;
    } else if (std::isnan(a) && std::isnan(b)) {
      ++difference.not_numbers;
    } else if (a != b) {
      ++difference.wrong;
    }
  }
  // Inputs are of size 1: results far below that come from cancellation and carry its rounding.
  const double floor = 0.01 * std::sqrt(static_cast<double>(compiled.size()));
  if (error > 0) difference.relative = std::sqrt(error) / std::max(std::sqrt(norm), floor);
  return difference;
}

class Report {
 public:
  explicit Report(double tolerance) : tolerance_(tolerance) {}

  void add(const std::string& what, const std::string& type, const Difference& difference,
           double bound) {
    const double tolerance =
        tolerance_ > 0 ? tolerance_ : std::min(safety * bound, largest_tolerance);
    const bool good = difference.wrong == 0 && difference.relative <= tolerance;
    std::string line = fmt::format("{:<40} {:<20} error {:.2e}  tolerance {:.2e}  ", what, type,
                                   difference.relative, tolerance);
    line += good ? "ok" : "MISMATCH";
    if (difference.wrong) line += fmt::format(" ({} elements differ)", difference.wrong);
    if (difference.not_numbers) line += fmt::format(" (NaN in both: {})", difference.not_numbers);
    std::cout << line << '\n';
    mismatches_ += good ? 0 : 1;
    ++compared_;
  }
  void fail(const std::string& message) {
    std::cout << message << "  MISMATCH\n";
    ++mismatches_;
    ++compared_;
  }
  int compared() const { return compared_; }
  int mismatches() const { return mismatches_; }

 private:
  double tolerance_;
  int compared_ = 0;
  int mismatches_ = 0;
};

void compare_received(Report& report, const std::string& name, const std::vector<ir::Value>& values,
                      const RoundingBound& bound, const std::vector<Received>& compiled,
                      const std::vector<Received>& reference) {
  if (compiled.size() != reference.size()) {
    report.fail(fmt::format("receiver {}: called {} times, by the reference {} times", name,
                            compiled.size(), reference.size()));
    return;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    Difference difference;
    for (std::size_t call = 0; call < compiled.size(); ++call) {
      if (compiled[call].iteration != reference[call].iteration ||
          compiled[call].tensors.size() != values.size() ||
          reference[call].tensors.size() != values.size()) {
        report.fail(fmt::format("receiver {}: call {} is for iteration {}, by the reference {}",
                                name, call, compiled[call].iteration, reference[call].iteration));
        return;
      }
      difference.add(compare(compiled[call].tensors[i], reference[call].tensors[i]));
    }
    report.add(fmt::format("receiver {}[{}] x {}", name, i, compiled.size()),
               values[i].type().text(), difference, bound(values[i]));
  }
}

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// By norms, with one bound for each tensor.
void compare_norms(Report& report, const ir::Graph& graph, const Interface& interface,
                   const Outcome& compiled, const Outcome& reference) {
  const RoundingBound bound(graph);
  const auto calls = [](const Outcome& outcome, const std::string& name) {
    const auto found = outcome.received.find(name);
    return found == outcome.received.end() ? std::vector<Received>{} : found->second;
  };
  for (const auto& [name, value] : interface.written) {
    report.add("state " + name, value.type().text(),
               compare(compiled.states.at(name), reference.states.at(name)), bound(value));
  }
  for (const auto& [name, values] : interface.receivers) {
    compare_received(report, name, values, bound, calls(compiled, name), calls(reference, name));
  }
}

/// Element by element; returns the number of mismatches.
int compare_elements(const ir::Graph& graph, const Interface& interface,
                     const check::Inputs& inputs, const Outcome& compiled, int samples) {
  const check::Comparison comparison = check::compare(
      check::bound(graph, interface, inputs, samples), check::tensors_of(compiled, interface));
  for (const std::string& line : comparison.mismatches) std::cout << line << "  MISMATCH\n";
  std::cout << fmt::format("{} elements compared, {} more are undetermined\n",
                           comparison.elements - comparison.undetermined, comparison.undetermined);
  return static_cast<int>(comparison.mismatches.size());
}

int run(const RunCommandOptions& options) {
  const ir::Graph graph = read_graph(options.file);
  const Interface interface = check::read_interface(graph, options.memory);
  const check::Inputs inputs = check::random_inputs(graph, interface, options.seed);

  const detail::Device device = detail::find_device(options.device);

  const Stopwatch compiling;
  const std::shared_ptr<detail::KernelCache> cache = detail::kernel_cache();
  compiler::CompileOptions compile_options;
  compile_options.fuse = options.fuse;
  compile_options.cache = cache.get();
  compile_options.threads = options.threads;
  compile_options.gpu = device.gpu;
  detail::MeasuredChoice::answer(compile_options, device, cache);
  compiler::Compilation compilation = compiler::compile(graph, compile_options);
  const double compile_seconds = compiling.seconds();
  const std::size_t kernels = compilation.plan.kernels.size();

  const Stopwatch running;
  const Outcome compiled =
      check::run_compiled(std::move(compilation.plan), interface, inputs,
                          {.threads = options.threads, .device = device.index});
  const double run_seconds = running.seconds();
  const Stopwatch evaluating;
  const Outcome reference = check::run_reference(graph, inputs);
  const double reference_seconds = evaluating.seconds();

  const std::string times =
      fmt::format("{} kernels; compiled in {:.3f} s, ran in {:.3f} s, reference in {:.3f} s\n",
                  kernels, compile_seconds, run_seconds, reference_seconds);
  if (options.samples > 0) {
    const int mismatches = compare_elements(graph, interface, inputs, compiled, options.samples);
    std::cout << times;
    return mismatches == 0 ? 0 : 1;
  }
  Report report(options.tolerance);
  compare_norms(report, graph, interface, compiled, reference);
  std::cout << times
            << fmt::format("{} of {} results agree\n", report.compared() - report.mismatches(),
                           report.compared());
  return report.mismatches() == 0 ? 0 : 1;
}

}  // namespace

void add_run(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<RunCommandOptions>();
  CLI::App* command = app.add_subcommand(
      "run", "Run a graph on random values, compiled and by the reference evaluation, and compare");
  command->add_option("FILE", options->file, "The graph's text; '-' is the standard input")
      ->required();
  command->add_option("--seed", options->seed, "Of the random values (default 0)");
  command->add_option("--device", options->device, device_help);
  command
      ->add_option("--tolerance", options->tolerance,
                   "Largest relative error, norm-wise; default: from the roundings on the way")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--samples", options->samples,
                   "Compare each element, with tolerances from so many evaluations with random "
                   "rounding (default 0: norms)")
      ->check(CLI::Range(0, 1000));
  command->add_option("--threads", options->threads, "Default: as many as cores")
      ->check(CLI::Range(0, 1024));
  command->add_flag("!--no-fuse", options->fuse, "Every op is a kernel of its own");
  command->add_option("--memory", options->memory, "GiB that the values may take (default 4)")
      ->check(CLI::Range(1, 1 << 20));
  command->callback([options, &chosen] { chosen = [options] { return run(*options); }; });
}

}  // namespace weft::command
