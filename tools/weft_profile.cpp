#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>

#include "compiler/compile.h"
#include "compiler/dump.h"
#include "frontend/device.h"
#include "frontend/kernel_cache.h"
#include "frontend/measured_choice.h"
#include "frontend/roof.h"
#include "runtime/executable.h"
#include "tools/check/run.h"
#include "tools/command.h"

namespace weft::command {

namespace {

struct ProfileOptions {
  std::string file;
  std::string device = "cpu";
  std::string trace;
  std::string format = "text";
  std::int64_t iterations = 10;
  std::uint64_t seed = 0;
  int threads = 0;
  bool fuse = true;
  std::int64_t memory = 4;
};

/// So many iterations of the only loop, from its beginning again where it has fewer; or so many
/// executions of the whole.
void run_iterations(runtime::Executable& executable, bool loop, std::int64_t iterations) {
  if (!loop) return executable.run(0, iterations);
  for (std::int64_t left = iterations; left > 0;) {
    const std::int64_t now = std::min(left, executable.iterations());
    executable.run(0, now);
    left -= now;
  }
}

bool has_one_loop(const plan::Plan& plan) {
  return std::count_if(plan.steps.begin(), plan.steps.end(), [](const plan::Step& step) {
           return step.kind == plan::StepKind::loop && step.count > 0;
         }) == 1;
}

int profile(const ProfileOptions& options) {
  const ir::Graph graph = read_graph(options.file);
  std::ofstream trace;
  if (!options.trace.empty()) {
    trace.open(options.trace, std::ios::binary);
    if (!trace) throw Error(fmt::format("{}: cannot be written", options.trace));
  }
  const check::Interface interface = check::read_interface(graph, options.memory);
  const check::Inputs inputs = check::random_inputs(graph, interface, options.seed);
  const std::shared_ptr<detail::KernelCache> cache = detail::kernel_cache();
  const detail::Device device = detail::find_device(options.device);
  compiler::CompileOptions compile_options;
  compile_options.gpu = device.gpu;
  compile_options.fuse = options.fuse;
  compile_options.cache = cache.get();
  detail::MeasuredChoice::answer(compile_options, device, cache);
  compiler::Compilation compilation = compiler::compile(graph, compile_options);
  runtime::Executable executable(compilation.plan,
                                 {.threads = options.threads, .device = device.index});
  const State state = check::bind_inputs(executable, interface, inputs);
  const bool loop = has_one_loop(executable.plan()) && executable.iterations() > 0;

  run_iterations(executable, loop, 1);  // what happens once only: pages, threads, caches
  executable.set_profiling(true);
  run_iterations(executable, loop, options.iterations);
  detail::add_times(compilation, executable);
  executable.set_profiling(false);
  std::cout << compiler::dump(compilation, "kernels", *compiler::parse_dump_format(options.format));
  if (options.trace.empty()) return 0;
  executable.set_tracing(true);
  run_iterations(executable, loop, options.iterations);
  trace << executable.trace();
  trace.close();
  if (!trace) throw Error(fmt::format("{}: cannot be written", options.trace));
  return 0;
}

}  // namespace

void add_profile(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<ProfileOptions>();
  CLI::App* command = app.add_subcommand(
      "profile", "What a graph's kernels take on random values, beside what the machine could do");
  command->add_option("FILE", options->file, "The graph's text; '-' is the standard input")
      ->required();
  command
      ->add_option("--iterations", options->iterations,
                   "Of the top-level loop, or of the whole where there is not one (default 10)")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40));
  command->add_option("--device", options->device, device_help);
  command->add_option("--trace", options->trace,
                      "A file for a trace of another run, as JSON for ui.perfetto.dev");
  command->add_option("--format", options->format, "text (default) or json")
      ->check(CLI::IsMember({"text", "json"}));
  command->add_option("--seed", options->seed, "Of the random values (default 0)");
  command->add_option("--threads", options->threads, "Default: as many as cores")
      ->check(CLI::Range(0, 1024));
  command->add_flag("!--no-fuse", options->fuse, "Every op is a kernel of its own");
  command->add_option("--memory", options->memory, "GiB that the values may take (default 4)")
      ->check(CLI::Range(1, 1 << 20));
  command->callback([options, &chosen] { chosen = [options] { return profile(*options); }; });
}

}  // namespace weft::command
