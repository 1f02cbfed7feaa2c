#include <algorithm>
#include <chrono>
#include <fstream>
#include <optional>

#include "compiler/compile.h"
#include "compiler/dump.h"
#include "compiler/ir/text.h"
#include "compiler/passes/simplify.h"
#include "device.h"
#include "dump_files.h"
#include "kernel_cache.h"
#include "load_hook.h"
#include "measured_choice.h"
#include "roof.h"
#include "runtime/cuda/runner.h"
#include "runtime/executable.h"
#include "runtime/plan/batches.h"
#include "trace.h"

namespace weft {

namespace {

compiler::DumpFormat dump_format(Format format) {
  switch (format) {
    case Format::text:
      return compiler::DumpFormat::text;
    case Format::dot:
      return compiler::DumpFormat::dot;
    case Format::json:
      return compiler::DumpFormat::json;
  }
  throw Error("dump: no such format");
}

compiler::CompileOptions compiler_options(const CompileOptions& options) {
  compiler::CompileOptions result;
  if (!options.cpu.empty()) result.target = compiler::target_for(options.cpu);
  result.fuse = options.fuse;
  result.composites = options.composites;
  result.threads = options.compile_threads;
  result.verify = options.verify;
  result.strict = options.strict;
  result.autocast = options.autocast;
  result.tf32 = options.tf32;
  result.tensor_copies = options.tensor_copies;
  result.keep_assembly = options.keep_assembly;
  if (detail::log_enabled("passes")) {
    result.after_pass = [](std::string_view pass, const ir::Graph& graph, double seconds) {
      std::size_t nodes = 0;
      ir::walk(graph.body(), [&](const ir::Node&) { ++nodes; });
      detail::log("passes", "{}: {} nodes, {:.3f} ms", pass, nodes, seconds * 1e3);
      if (detail::log_enabled("graphs")) detail::log_line("graphs", ir::print(graph));
    };
  }
  return result;
}

detail::Device find_device(const std::string& program, const std::string& device) {
  try {
    return detail::find_device(device);
  } catch (const Error& error) {
    throw Error(fmt::format("program '{}' cannot be compiled for device \"{}\": {}", program,
                            device, error.what()));
  }
}

/// A GPU has a launch for each phase, and for each batch of a `together` step.
std::int64_t launches(const plan::Plan& plan, const std::vector<plan::Step>& steps) {
  const bool device = plan.target.starts_with(runtime::cuda::architecture);
  const auto of_kernel = [&](const plan::Step& launch) {
    if (!device) return std::int64_t{1};
    const std::vector<plan::Phase>& phases = plan.kernels[launch.index].phases;
    return std::int64_t{std::count_if(phases.begin(), phases.end(), [](const auto& phase) {
      return phase.transform || phase.grid > 0;
    })};
  };
  std::int64_t count = 0;
  for (const plan::Step& step : steps) {
    if (step.kind == plan::StepKind::launch) count += of_kernel(step);
    if (step.kind == plan::StepKind::loop) count += step.count * launches(plan, step.body);
    if (step.kind != plan::StepKind::together) continue;
    if (!device) {
      ++count;
      continue;
    }
    for (const auto& executions : plan::batches(plan, step)) count += of_kernel(*executions[0]);
  }
  return count;
}

/// Of one iteration of the top-level loop, or of the whole plan where it has not one.
std::int64_t launches_of_step(const plan::Plan& plan) {
  const auto is_loop = [](const plan::Step& step) { return step.kind == plan::StepKind::loop; };
  const auto loops = std::count_if(plan.steps.begin(), plan.steps.end(), is_loop);
  if (loops != 1) return launches(plan, plan.steps);
  return launches(plan, std::find_if(plan.steps.begin(), plan.steps.end(), is_loop)->body);
}

runtime::ReceiveFunction receive_function(ReceiveCallback callback) {
  return [callback = std::move(callback)](std::int64_t iteration,
                                          std::span<const runtime::TensorView> views) {
    std::vector<HostTensor> tensors;
    tensors.reserve(views.size());
    for (const runtime::TensorView& view : views) {
      tensors.emplace_back(view.type, std::vector<std::byte>(view.bytes.begin(), view.bytes.end()));
    }
    callback(iteration, tensors);
  };
}

}  // namespace

// ---- Program ------------------------------------------------------------------------------------

const std::string& Program::name() const { return impl_->graph.name; }
const ir::Graph& Program::graph() const { return impl_->graph; }
State& Program::state() { return impl_->state; }

std::string Program::dump(std::string_view stage, Format format) const {
  if (stage == "traced") return compiler::dump(impl_->graph, dump_format(format));
  if (stage == "simplified" && format != Format::text) {
    // Straight from the graph, which still knows the user's lines.
    ir::Graph graph = impl_->graph.clone();
    compiler::simplify(graph);
    return compiler::dump(graph, dump_format(format));
  }
  const std::shared_ptr<detail::KernelCache> cache = detail::kernel_cache();
  compiler::CompileOptions options;
  options.cache = cache.get();
  options.keep_assembly = compiler::needs_assembly(stage);
  return compiler::dump(compiler::compile(impl_->graph, options), stage, dump_format(format));
}

// ---- Executable ---------------------------------------------------------------------------------

struct Executable::Impl {
  std::shared_ptr<Program::Impl> program;
  compiler::Compilation compilation;
  std::unique_ptr<runtime::Executable> executable;
  Statistics statistics;

  const plan::Plan& plan() const { return executable->plan(); }
  // What nothing needs is in the program, but not in the plan.
  bool has_feeder(const std::string& name) const {
    const auto& feeders = plan().feeders;
    return std::any_of(feeders.begin(), feeders.end(),
                       [&](const plan::Feeder& feeder) { return feeder.name == name; });
  }
  /// Not of one in a loop that never runs.
  bool has_receiver(const std::string& name) const {
    const auto& receivers = plan().receivers;
    return std::any_of(receivers.begin(), receivers.end(),
                       [&](const plan::Receiver& receiver) { return receiver.name == name; });
  }
  bool has_scalar(const std::string& name) const {
    const auto& buffers = plan().buffers;
    return std::any_of(buffers.begin(), buffers.end(), [&](const plan::Buffer& buffer) {
      return buffer.kind == plan::BufferKind::scalar && buffer.name == name;
    });
  }
};

Executable Program::compile(const CompileOptions& options) const {
  const detail::Device device = find_device(name(), options.device);
  const auto start = std::chrono::steady_clock::now();
  auto impl = std::make_unique<Executable::Impl>();
  impl->program = impl_;
  compiler::CompileOptions compiler_settings = compiler_options(options);
  compiler_settings.gpu = device.gpu;
  const detail::LoadHook& hook = detail::load_hook();
  compiler_settings.keep_kernels = hook != nullptr;
  const std::unique_ptr<detail::DumpFiles> files = detail::DumpFiles::open(name());
  if (files != nullptr) {
    files->graph("traced", impl_->graph);
    compiler_settings.keep_assembly = true;
    compiler_settings.after_pass = [&, log = compiler_settings.after_pass](std::string_view pass,
                                                                           const ir::Graph& graph,
                                                                           double seconds) {
      files->graph(pass, graph);
      if (log) log(pass, graph, seconds);
    };
  }
  const std::shared_ptr<detail::KernelCache> cache =
      options.cache ? detail::kernel_cache() : nullptr;
  compiler_settings.cache = cache.get();
  using Transforms = CompileOptions::Transforms;
  if (options.transforms != Transforms::measured) {
    const bool by_library = options.transforms == Transforms::library;
    compiler_settings.library_transform = [by_library](const ir::Node&) { return by_library; };
  }
  using Toeplitz = CompileOptions::Toeplitz;
  if (options.toeplitz != Toeplitz::measured) {
    const bool by_products = options.toeplitz == Toeplitz::products;
    compiler_settings.tno_by_products = [by_products](const ir::Node&) { return by_products; };
  }
  detail::MeasuredChoice::answer(compiler_settings, device, cache);
  impl->compilation = compiler::compile(impl_->graph, compiler_settings);
  if (files != nullptr) files->compilation(impl->compilation);
  if (hook) hook(impl->compilation);
  impl->compilation.loop_kernels.clear();
  plan::Plan plan = std::move(impl->compilation.plan);
  // Dumps name the plan and count its steps, but do not need the machine code again.
  impl->compilation.plan = plan;
  impl->compilation.plan.objects.clear();
  runtime::RunOptions run;
  run.threads = options.threads;
  run.synchronous = options.synchronous;
  run.queue = options.queue;
  run.device = device.index;
  const auto loading = std::chrono::steady_clock::now();
  impl->executable = std::make_unique<runtime::Executable>(std::move(plan), run);
  const std::chrono::duration<double> load = std::chrono::steady_clock::now() - loading;
  impl->compilation.passes.push_back({"load", load.count()});
  impl->executable->bind(impl_->state);
  for (const auto& [name, feeder] : impl_->feeders) {
    if (impl->has_feeder(name)) impl->executable->set_feeder(name, feeder.second);
  }
  for (const auto& [name, callback] : impl_->receivers) {
    if (!impl->has_receiver(name)) continue;
    impl->executable->set_receiver(name, receive_function(callback));
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  Statistics& statistics = impl->statistics;
  ir::walk(impl_->graph.body(), [&](const ir::Node&) { ++statistics.nodes; });
  statistics.kernels = static_cast<std::int64_t>(impl->plan().kernels.size());
  statistics.distinct_kernels = impl->compilation.distinct_kernels;
  statistics.cached_kernels = impl->compilation.cached_kernels;
  statistics.launches_per_step = launches_of_step(impl->plan());
  statistics.arena_bytes = impl->plan().arena_bytes;
  statistics.live_bytes = impl->plan().live_bytes;
  statistics.state_bytes = impl_->state.total_bytes();
  statistics.compile_seconds = seconds.count();
  for (const compiler::PassTime& pass : impl->compilation.passes) {
    if (pass.graph) continue;  // logged as it ended
    detail::log("passes", "'{}' {}: {:.3f} ms", name(), pass.pass, pass.seconds * 1e3);
  }
  detail::log("compile",
              "'{}': {} nodes, {} kernels ({} distinct, {} of them cached), {} launches a step, "
              "arena {} bytes, {:.1f} ms",
              name(), statistics.nodes, statistics.kernels, statistics.distinct_kernels,
              statistics.cached_kernels, statistics.launches_per_step, statistics.arena_bytes,
              seconds.count() * 1e3);
  return Executable(std::move(impl));
}

Executable::Executable(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Executable::~Executable() = default;
Executable::Executable(Executable&&) noexcept = default;
Executable& Executable::operator=(Executable&&) noexcept = default;

void Executable::run() { impl_->executable->run(); }
void Executable::run(std::int64_t from, std::int64_t to) { impl_->executable->run(from, to); }
std::int64_t Executable::iterations() const { return impl_->executable->iterations(); }

void Executable::set_scalar(const std::string& name, double value) {
  if (!impl_->has_scalar(name) && impl_->program->scalars.contains(name)) return;
  impl_->executable->set_scalar(name, value);
}

void Executable::set_feeder(const std::string& name, const Fill& fill) {
  const auto found = impl_->program->feeders.find(name);
  if (found == impl_->program->feeders.end()) {
    throw Error(fmt::format("set_feeder: there is no feeder '{}'", name));
  }
  const Type& type = found->second.first;
  if (!fill.accepts(type.dtype)) {
    throw Error(fmt::format("set_feeder: the function does not fill '{}' {}", name, type.text()));
  }
  if (impl_->has_feeder(name)) impl_->executable->set_feeder(name, fill.function());
}

void Executable::set_receiver(const std::string& name, ReceiveCallback callback) {
  if (callback == nullptr) {
    throw Error(fmt::format("set_receiver: '{}' without a function", name));
  }
  if (!impl_->has_receiver(name) && impl_->program->receivers.contains(name)) return;
  impl_->executable->set_receiver(name, receive_function(std::move(callback)));
}

void Executable::bind(const State& state) { impl_->executable->bind(state); }

void Executable::set_profiling(bool on) { impl_->executable->set_profiling(on); }

void Executable::set_tracing(bool on) { impl_->executable->set_tracing(on); }

void Executable::write_trace(const std::string& path) const {
  const std::string text = impl_->executable->trace();
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) throw Error(fmt::format("write_trace: {} cannot be written", path));
}

std::vector<KernelProfile> Executable::profile() const {
  std::vector<KernelProfile> result;
  const auto& kernels = impl_->plan().kernels;
  for (const runtime::KernelTime& time : impl_->executable->profile()) {
    KernelProfile entry{time.kernel, time.launches, time.seconds, 0, 0};
    const auto kernel = std::find_if(kernels.begin(), kernels.end(), [&](const auto& candidate) {
      return candidate.name == time.kernel;
    });
    if (kernel != kernels.end()) {
      entry.bytes = kernel->bytes_read + kernel->bytes_written;
      entry.operations = kernel->operations;
    }
    result.push_back(std::move(entry));
  }
  return result;
}

const Statistics& Executable::statistics() const { return impl_->statistics; }

std::string Executable::dump(std::string_view stage, Format format) const {
  if (stage == "traced") return compiler::dump(impl_->program->graph, dump_format(format));
  if (stage == "kernels") detail::add_times(impl_->compilation, *impl_->executable);
  return compiler::dump(impl_->compilation, stage, dump_format(format));
}

runtime::Executable& Executable::implementation() { return *impl_->executable; }

}  // namespace weft
