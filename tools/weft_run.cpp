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
#include "ops/evaluate.h"
#include "runtime/executable.h"
#include "runtime/state.h"
#include "tools/command.h"
#include "tools/random_inputs.h"
#include "tools/rounding.h"

namespace weft::command {

namespace {

struct RunCommandOptions {
  std::string file;
  std::uint64_t seed = 0;
  double tolerance = 0;
  int threads = 0;
  bool fuse = true;
  std::int64_t memory = 4;
};

/// Beyond this a comparison says nothing.
constexpr double largest_tolerance = 0.1;
/// Values a bound may be off by: errors that a badly conditioned op magnifies.
constexpr double safety = 16;

/// What receivers got, in order of arrival.
struct Received {
  std::int64_t iteration;
  std::vector<std::vector<double>> tensors;
};
using ReceivedByName = std::map<std::string, std::vector<Received>>;

struct Interface {
  std::map<std::string, Type> states;
  std::map<std::string, Type> feeders;
  std::map<std::string, ir::Value> written;                 ///< the value that a state gets
  std::map<std::string, std::vector<ir::Value>> receivers;  ///< the values that it receives
};

void add_once(std::map<std::string, Type>& types, const ir::Node& node) {
  const std::string& name = node.attributes.text("name");
  const auto [entry, added] = types.emplace(name, node.results[0]);
  if (!added && !(entry->second == node.results[0])) {
    throw Error(fmt::format("{} '{}' has two types: {} and {}", node.op->name, name,
                            entry->second.text(), node.results[0].text()));
  }
}

/// States, feeders and receivers of the graph; Error where its tensors need more than `gibibytes`
/// together, as nothing else keeps a text of a few lines from asking for all of the memory.
Interface read_interface(const ir::Graph& graph, std::int64_t gibibytes) {
  Interface interface;
  double bytes = 0;
  ir::walk(graph.body(), [&](const ir::Node& node) {
    for (const Type& type : node.results) {
      double size = static_cast<double>(size_of(type.dtype));
      for (const std::int64_t extent : type.shape.extents()) size *= static_cast<double>(extent);
      bytes += size;
    }
    if (node.is("state")) {
      add_once(interface.states, node);
    } else if (node.is("feeder")) {
      add_once(interface.feeders, node);
    } else if (node.is("state_write")) {
      interface.written[node.attributes.text("name")] = node.operands[0];
    } else if (node.is("receiver")) {
      interface.receivers[node.attributes.text("name")] = node.operands;
    }
  });
  constexpr double gibibyte = 1024.0 * 1024 * 1024;
  // The reference evaluation keeps doubles of every value beside it.
  if (3 * bytes > static_cast<double>(gibibytes) * gibibyte) {
    throw Error(
        fmt::format("the graph's values take about {:.3g} GiB, above the limit of {} GiB "
                    "(--memory)",
                    3 * bytes / gibibyte, gibibytes));
  }
  for (const auto& [name, value] : interface.written) {
    interface.states.emplace(name, value.type());
  }
  return interface;
}

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

Difference compare(const Type& type, const std::vector<double>& compiled,
                   const std::vector<double>& reference) {
  Difference difference;
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
      difference.add(
          compare(values[i].type(), compiled[call].tensors[i], reference[call].tensors[i]));
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

int run(const RunCommandOptions& options) {
  const ir::Graph graph = read_graph(options.file);
  const Interface interface = read_interface(graph, options.memory);
  const std::map<std::string, Range> ranges = input_ranges(graph);
  const auto values_of = [&](const std::string& name, const Type& type, std::int64_t iteration) {
    const auto range = ranges.find(name);
    return random_values(type, range == ranges.end() ? Range{} : range->second, options.seed, name,
                         iteration);
  };

  const Stopwatch compiling;
  compiler::CompileOptions compile_options;
  compile_options.fuse = options.fuse;
  compile_options.threads = options.threads;
  compiler::Compilation compilation = compiler::compile(graph, compile_options);
  const double compile_seconds = compiling.seconds();
  const std::size_t kernels = compilation.plan.kernels.size();

  State state;
  ops::Environment environment;
  for (const auto& [name, type] : interface.states) {
    const std::vector<double> values = values_of(name, type, 0);
    state.add(name, type);
    state.set_values(name, values);
    environment.state[name] = to_array(type, values);
  }

  runtime::Executable executable(std::move(compilation.plan), {.threads = options.threads});
  executable.bind(state);
  for (const auto& [name, type] : interface.feeders) {
    executable.set_feeder(
        name, [&values_of, name = name, type = type](std::int64_t i, std::span<std::byte> to) {
          from_doubles(type.dtype, values_of(name, type, i).data(), type.elements(), to.data());
        });
  }
  ReceivedByName compiled;
  ReceivedByName reference;
  for (const auto& [name, values] : interface.receivers) {
    // Made here, as receivers call back on threads of their own.
    std::vector<Received>& calls = compiled[name];
    executable.set_receiver(
        name, [&calls](std::int64_t iteration, std::span<const runtime::TensorView> tensors) {
          Received& call = calls.emplace_back();
          call.iteration = iteration;
          for (const runtime::TensorView& view : tensors) {
            const std::int64_t n = view.type.elements();
            std::vector<double> elements(
                static_cast<std::size_t>(is_complex(view.type.dtype) ? 2 * n : n));
            to_doubles(view.type.dtype, view.bytes.data(), n, elements.data());
            call.tensors.push_back(std::move(elements));
          }
        });
  }
  const Stopwatch running;
  executable.run();
  const double run_seconds = running.seconds();

  environment.feed = [&](const std::string& name, const Type& type, std::int64_t iteration) {
    return to_array(type, values_of(name, type, iteration));
  };
  environment.receive = [&](const std::string& name, std::int64_t iteration,
                            std::span<const ops::Array> tensors) {
    Received& call = reference[name].emplace_back();
    call.iteration = iteration;
    for (const ops::Array& tensor : tensors) call.tensors.push_back(to_values(tensor));
  };
  const Stopwatch evaluating;
  ops::evaluate(graph, environment);
  const double reference_seconds = evaluating.seconds();

  const RoundingBound bound(graph);
  Report report(options.tolerance);
  for (const auto& [name, value] : interface.written) {
    const Type& type = value.type();
    report.add("state " + name, type.text(),
               compare(type, state.values(name), to_values(environment.state.at(name))),
               bound(value));
  }
  for (const auto& [name, values] : interface.receivers) {
    compare_received(report, name, values, bound, compiled[name], reference[name]);
  }
  std::cout << fmt::format(
      "{} kernels; compiled in {:.3f} s, ran in {:.3f} s, reference in {:.3f} s\n"
      "{} of {} results agree\n",
      kernels, compile_seconds, run_seconds, reference_seconds,
      report.compared() - report.mismatches(), report.compared());
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
  command
      ->add_option("--tolerance", options->tolerance,
                   "Largest relative error, norm-wise; default: from the roundings on the way")
      ->check(CLI::PositiveNumber);
  command->add_option("--threads", options->threads, "Default: as many as cores")
      ->check(CLI::Range(0, 1024));
  command->add_flag("!--no-fuse", options->fuse, "Every op is a kernel of its own");
  command->add_option("--memory", options->memory, "GiB that the values may take (default 4)")
      ->check(CLI::Range(1, 1 << 20));
  command->callback([options, &chosen] { chosen = [options] { return run(*options); }; });
}

}  // namespace weft::command
