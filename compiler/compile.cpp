#include "compiler/compile.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "compiler/codegen/cached.h"
#include "compiler/codegen/codegen.h"
#include "compiler/fusion/fuse.h"
#include "compiler/fusion/gather.h"
#include "compiler/fusion/report.h"
#include "compiler/ir/text.h"
#include "compiler/loop/accesses.h"
#include "compiler/passes/autocast.h"
#include "compiler/passes/batch.h"
#include "compiler/passes/cse.h"
#include "compiler/passes/dead_code.h"
#include "compiler/passes/decompose.h"
#include "compiler/passes/hoist.h"
#include "compiler/passes/lift_states.h"
#include "compiler/passes/lower_scan.h"
#include "compiler/passes/plan_memory.h"
#include "compiler/passes/simplify.h"
#include "compiler/schedules/schedule.h"

namespace weft::compiler {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Pass {
  const char* name;
  bool (*run)(ir::Graph& graph);
};

constexpr Pass passes[] = {
    {"lift_states", lift_states},
    {"simplify", simplify},
    {"cse", common_subexpressions},
    {"dead_code", dead_code},
    {"lower_scan", lower_scan},
    {"decompose", [](ir::Graph& graph) { return decompose(graph, has_host_schedule); }},
    {"autocast_bf16", [](ir::Graph& graph) { return autocast(graph, DType::bf16); }},
    {"autocast_f16", [](ir::Graph& graph) { return autocast(graph, DType::f16); }},
    {"hoist", [](ir::Graph& graph) { return hoist_invariants(graph); }},
};

/// What compile() runs, in order: composites are simplified as such first, then as primitives.
constexpr const char* pipeline[] = {"lift_states", "simplify", "cse", "dead_code", "lower_scan",
                                    "decompose",   "simplify", "cse", "hoist",     "dead_code"};

const Pass& find_pass(std::string_view name) {
  for (const Pass& pass : passes) {
    if (name == pass.name) return pass;
  }
  throw Error(fmt::format("no pass \"{}\"; there are {}", name, fmt::join(pass_names(), ", ")));
}

/// Runs `work(i)` for i in [0, count) on several threads; the first exception comes out.
void parallel(std::size_t count, int threads, const std::function<void(std::size_t)>& work) {
  if (threads <= 0) threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  std::atomic<std::size_t> next{0};
  std::exception_ptr failure;
  std::mutex mutex;
  const auto run = [&] {
    for (std::size_t i = next++; i < count; i = next++) {
      try {
        work(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        next = count;
      }
    }
  };
  std::vector<std::thread> pool;
  for (int i = 1; i < threads && static_cast<std::size_t>(i) < count; ++i) pool.emplace_back(run);
  run();
  for (std::thread& thread : pool) thread.join();
  if (failure) std::rethrow_exception(failure);
}

class Compiler {
 public:
  Compiler(const ir::Graph& graph, const CompileOptions& options)
      : options_(options), graph_(graph.clone()), target_(options.target.value_or(host_target())) {
    if (!options.gpu.empty()) device_ = device_target(options.gpu);
  }

  Compilation run() {
    if (options_.verify) ir::verify(graph_, "tracing");
    for (const char* name : pipeline) {
      if ((!options_.composites || device_) && std::string_view(name) == "decompose") {
        const Clock::time_point start = Clock::now();
        if (options_.composites) {
          decompose(graph_, has_device_schedule);
        } else {
          decompose(graph_);
        }
        finish_pass(name, start);
      } else {
        pass(name);
      }
      // Products are all in sight once composites are decomposed.
      if (options_.autocast && std::string_view(name) == "decompose") {
        const Clock::time_point start = Clock::now();
        autocast(graph_, *options_.autocast);
        finish_pass("autocast", start);
      }
    }
    // Dense numbers, without what the passes dropped, for the dumps.
    graph_ = graph_.clone();
    out_.simplified = ir::print(graph_);
    timed("fuse", [&] {
      fused_ = fuse(graph_, options_.fuse);
      if (device_ && options_.fuse) gather_equal(fused_.body);
    });
    out_.refusals = report_refusals(fused_, options_.fuse);
    out_.sibling_refusals = report_sibling_refusals(fused_);
    out_.fused = print_fused(fused_, graph_.name);
    out_.states = state_names(graph_);
    timed("schedule", [&] { schedule(); });
    timed("plan_memory", [&] { plan(); });
    timed("codegen", [&] { generate(); });
    if (options_.keep_kernels) {
      for (ScheduledKernel& scheduled : scheduled_) {
        out_.loop_kernels.push_back(std::move(scheduled.kernel));
      }
    }
    return std::move(out_);
  }

 private:
  void pass(const char* name) {
    const Clock::time_point start = Clock::now();
    run_pass(graph_, name);
    finish_pass(name, start);
  }

  void finish_pass(const char* name, Clock::time_point start) {
    const double seconds = seconds_since(start);
    out_.passes.push_back({name, seconds, true});
    if (options_.after_pass) options_.after_pass(name, graph_, seconds);
    if (options_.verify) ir::verify(graph_, name);
  }

  void timed(const char* name, const std::function<void()>& step) {
    const Clock::time_point start = Clock::now();
    step();
    out_.passes.push_back({name, seconds_since(start)});
  }

  void schedule() {
    scheduled_.resize(fused_.groups.size());
    const DeviceOptions device_options{.target = device_.value_or(DeviceTarget{}),
                                       .strict = options_.strict,
                                       .tf32 = options_.tf32,
                                       .tensor_copies = options_.tensor_copies,
                                       .library_transform = options_.library_transform,
                                       .tno_by_products = options_.tno_by_products};
    parallel(fused_.groups.size(), options_.threads, [&](std::size_t i) {
      scheduled_[i] = device_ ? schedule_device(fused_.groups[i], device_options)
                              : schedule_host(fused_.groups[i], target_, options_.strict);
    });
  }

  void plan() {
    std::vector<std::int64_t> workspace;
    for (const ScheduledKernel& kernel : scheduled_) workspace.push_back(kernel.workspace_bytes);
    out_.plan.name = graph_.name;
    // Code for an older processor of the family runs on this machine as well.
    const std::string host = runs_here(target_) ? host_target().name() : target_.name();
    out_.plan.target = device_ ? device_->name() : host;
    plan_memory(fused_, workspace, out_.plan);
  }

  /// Equal kernels, of different layers say, share one object. Its symbol follows from the kernel,
  /// so that code can be kept from one compilation to the next.
  void generate() {
    struct Distinct {
      const loop::Kernel* kernel;
      std::string canonical;
      std::string symbol;
      bool cached = false;
    };
    std::vector<std::string> canonical(scheduled_.size());
    parallel(scheduled_.size(), options_.threads,
             [&](std::size_t i) { canonical[i] = loop::canonical(*scheduled_[i].kernel); });
    std::unordered_map<std::string, std::uint32_t> known;
    std::unordered_map<std::string, int> symbols;
    std::vector<Distinct> distinct;
    std::vector<std::uint32_t> object(scheduled_.size());
    for (std::size_t i = 0; i < scheduled_.size(); ++i) {
      const auto [found, added] =
          known.try_emplace(canonical[i], static_cast<std::uint32_t>(distinct.size()));
      object[i] = found->second;
      if (!added) continue;
      std::string symbol = fmt::format("weft_{:016x}", std::hash<std::string>{}(canonical[i]));
      // Different kernels of one hash, should there be any, still have names of their own.
      if (const int before = symbols[symbol]++; before > 0) symbol += fmt::format("_{}", before);
      distinct.push_back({scheduled_[i].kernel.get(), std::move(canonical[i]), std::move(symbol)});
    }
    std::vector<GeneratedCode> code(distinct.size());
    std::vector<std::int64_t> shared_bytes(distinct.size());
    std::vector<std::int64_t> batches(distinct.size(), 1);
    if (device_) {
      std::vector<const loop::Kernel*> kernels;
      for (const Distinct& one : distinct) kernels.push_back(one.kernel);
      batches = batches_of(out_.plan, object, kernels);
    }
    parallel(distinct.size(), options_.threads, [&](std::size_t i) {
      Distinct& one = distinct[i];
      if (!options_.generate_code) return;
      CodegenOptions options;
      options.assembly = options_.keep_assembly;
      options.batch = batches[i];
      if (device_) {
        GeneratedDeviceCode generated = generate_device_cached(
            *one.kernel, one.canonical, one.symbol, *device_, options, options_.cache, one.cached);
        shared_bytes[i] = generated.shared_bytes;
        if (options.assembly) code[i].assembly = generated.ptx;
        code[i].object.bytes = std::move(generated.ptx);
        return;
      }
      code[i] = generate_cached(*one.kernel, one.canonical, one.symbol, target_, options,
                                options_.cache, one.cached);
    });
    out_.distinct_kernels = static_cast<std::int64_t>(distinct.size());
    out_.cached_kernels = std::count_if(distinct.begin(), distinct.end(),
                                        [](const Distinct& one) { return one.cached; });
    for (GeneratedCode& generated : code) {
      out_.plan.objects.push_back(std::move(generated.object));
    }
    for (std::size_t i = 0; i < scheduled_.size(); ++i) {
      const Group& group = fused_.groups[i];
      KernelReport r = report(group);
      plan::Kernel kernel;
      kernel.name = group.name;
      kernel.kind = group.kind;
      if (!r.locations.empty()) kernel.location = r.locations.front();
      kernel.object = object[i];
      const auto& phases = scheduled_[i].kernel->phases;
      for (std::size_t p = 0; p < phases.size(); ++p) {
        const std::string& symbol = distinct[object[i]].symbol;
        kernel.phases.push_back(
            {.symbol = device_ ? device_phase_symbol(symbol, p) : phase_symbol(symbol, p),
             .grid = phases[p].grid,
             .threads = phases[p].threads,
             .shared_bytes = shared_bytes[object[i]],
             .transform = phases[p].transform,
             .accesses = device_ ? loop::argument_accesses(*scheduled_[i].kernel, p)
                                 : std::vector<plan::Phase::Access>{}});
        r.grid = std::max(r.grid, phases[p].grid);
      }
      for (const loop::TensorView& view : scheduled_[i].kernel->tensor_maps) {
        kernel.tensor_maps.push_back(loop::tensor_map(view));
      }
      kernel.batch = batches[object[i]];
      kernel.scratch_bytes = code[object[i]].scratch_bytes;
      kernel.bytes_read = r.bytes_read;
      kernel.bytes_written = r.bytes_written;
      kernel.operations = r.operations;
      out_.plan.kernels.push_back(std::move(kernel));
      if (options_.keep_assembly) {
        r.loops = loop::print(*scheduled_[i].kernel);
        r.assembly = code[object[i]].assembly;
      }
      out_.kernels.push_back(std::move(r));
    }
  }

  const CompileOptions& options_;
  ir::Graph graph_;
  HostTarget target_;
  std::optional<DeviceTarget> device_;
  FusedGraph fused_;
  std::vector<ScheduledKernel> scheduled_;
  Compilation out_;
};

}  // namespace

Compilation compile(const ir::Graph& graph, const CompileOptions& options) {
  return Compiler(graph, options).run();
}

void run_pass(ir::Graph& graph, std::string_view pass) { find_pass(pass).run(graph); }

std::vector<std::string> pass_names() {
  std::vector<std::string> names;
  for (const Pass& pass : passes) names.emplace_back(pass.name);
  return names;
}

}  // namespace weft::compiler
