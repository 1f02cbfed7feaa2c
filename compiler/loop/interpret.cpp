#include "compiler/loop/interpret.h"

#include <fmt/format.h>

#include <deque>
#include <vector>

#include "compiler/loop/interpret_transform.h"
#include "compiler/loop/interpret_warp.h"

namespace weft::loop {
namespace {

using interpreter::Machine;
using interpreter::Warp;

/// All warps have ended.
void end_block(Machine& machine, const std::deque<Warp>& warps, std::int64_t block) {
  machine.mbarriers.end_block();
  constexpr std::size_t group = 4;
  for (std::size_t w = 0; w < warps.size(); ++w) {
    const Warp& first = warps[w - w % group];
    const bool whole = w - w % group + group <= warps.size();
    if (warps[w].registers() == first.registers() && (whole || first.registers().empty())) continue;
    const Statement* statement =
        warps[w].registers().empty() ? first.registers().back() : warps[w].registers().back();
    machine.reports.add(Report::Kind::partial_warp, statement, block, warps[w].first_thread(),
                        "not all warps of this group of four have called the same");
  }
}

/// Runs the warps of a block until all have ended, or some wait for what will not come.
void run_block(Machine& machine, std::deque<Warp>& warps, std::int64_t block) {
  machine.memory.begin_block();
  machine.mbarriers.begin_block();
  for (Warp& warp : warps) warp.start(block);
  std::vector<Warp*> ready;
  while (true) {
    ready.clear();
    Warp* waits = nullptr;
    bool suspended = false;
    const Warp* ended = nullptr;
    for (Warp& warp : warps) {
      if (warp.finished()) {
        ended = &warp;
      } else if (warp.waits_for_phase()) {
        suspended = true;
      } else if (warp.waiting()) {
        waits = &warp;
      } else {
        ready.push_back(&warp);
      }
    }
    const bool any_order = machine.options.seed != 0;
    if (any_order && machine.mbarriers.copies_under_way() && machine.random() % 16 == 0) {
      machine.mbarriers.land(&machine.random);
      continue;
    }
    if (!ready.empty()) {
      ready[machine.random() % ready.size()]->resume();
      continue;
    }
    if (suspended) {
      // At the latest now.
      if (machine.mbarriers.land(any_order ? &machine.random : nullptr)) continue;
      return machine.mbarriers.report_stuck();
    }
    if (!waits) return end_block(machine, warps, block);
    const auto complain = [&](const Warp& other, const char* what) {
      machine.reports.add(Report::Kind::barrier, waits->waiting(), block, other.first_thread(),
                          what);
    };
    if (ended) return complain(*ended, "is not reached by this warp, which has ended");
    for (const Warp& warp : warps) {
      if (warp.waiting() != waits->waiting()) {
        return complain(warp, "is not reached by this warp, which waits at another barrier");
      }
    }
    machine.memory.barrier();
    for (Warp& warp : warps) warp.pass_barrier();
  }
}

}  // namespace

std::string_view name(Report::Kind kind) {
  switch (kind) {
    case Report::Kind::out_of_range:
      return "out of range";
    case Report::Kind::uninitialised:
      return "uninitialised";
    case Report::Kind::race:
      return "race";
    case Report::Kind::race_of_blocks:
      return "race of blocks";
    case Report::Kind::in_flight:
      return "in flight";
    case Report::Kind::barrier:
      return "barrier";
    case Report::Kind::partial_warp:
      return "partial warp";
    case Report::Kind::misaligned:
      return "misaligned";
    case Report::Kind::proxy:
      return "proxy";
    case Report::Kind::mbarrier:
      return "mbarrier";
    case Report::Kind::stuck:
      return "stuck";
  }
  return "?";
}

std::string print(const Report& report) {
  return fmt::format("kernel {}, phase {}, block {}, warp {}, lane {}: {}: {} ({} times): {}",
                     report.kernel, report.phase, report.block, report.warp, report.lane,
                     name(report.kind), report.text, report.count, report.statement);
}

std::vector<Report> interpret(const Kernel& kernel, std::span<const std::span<std::byte>> arguments,
                              const InterpretOptions& options) {
  interpreter::Reports reports(kernel);
  interpreter::Memory memory(kernel, arguments, options, reports);
  std::vector<Traffic> unused;
  interpreter::TrafficCounter traffic(kernel, options.traffic ? *options.traffic : unused);
  for (std::size_t i = 0; i < kernel.phases.size(); ++i) {
    if (options.only_phase.value_or(i) != i) continue;
    const Phase& phase = kernel.phases[i];
    if (phase.transform) {
      interpreter::run(*phase.transform, arguments);
      continue;
    }
    interpreter::Program program = interpreter::compile(kernel, phase, memory);
    reports.phase = i;
    memory.begin_phase(phase, program.written, program.clocks, program.asynchronous);
    interpreter::Mbarriers mbarriers(kernel, memory, reports, options.traffic ? &traffic : nullptr);
    traffic.phase = i;
    Machine machine{phase,
                    program,
                    memory,
                    mbarriers,
                    reports,
                    options,
                    std::mt19937_64(options.seed + i),
                    options.traffic ? &traffic : nullptr};
    std::deque<Warp> warps;
    const std::int64_t threads = std::max<std::int64_t>(phase.threads, 1);
    for (int warp = 0; warp * warp_lanes < threads; ++warp) warps.emplace_back(machine, warp);
    for (std::int64_t block = 0; block < phase.grid; ++block) run_block(machine, warps, block);
  }
  return reports.take();
}

}  // namespace weft::loop
