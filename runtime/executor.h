#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/executable.h"
#include "runtime/plan.h"
#include "runtime/plan_check.h"
#include "runtime/thread_pool.h"
#include "runtime/transfers.h"

namespace weft::runtime {

/// Walks a checked plan's steps. All lookups are done before: a step holds addresses and functions.
class Executor {
 public:
  /// The arguments must outlive it. Throws Error where `code` lacks a symbol.
  Executor(const plan::Plan& plan, const PlanInfo& info, const Code& code, Transfers& transfers);

  /// Takes the address of each of the plan's buffers.
  void bind(std::span<void* const> addresses);
  /// See Executable::run. Throws what a feeder or receiver threw.
  void run(std::int64_t from, std::int64_t to, ThreadPool& pool, const RunOptions& options);

  /// The calling thread's track; nullptr: none.
  void set_track(TraceTrack* track) { track_ = track; }
  void set_profiling(bool on);
  std::vector<KernelTime> profile() const { return times_; }

 private:
  struct BoundPhase {
    PhaseFunction function = nullptr;
    std::int64_t grid = 0;
  };
  struct BoundKernel {
    std::vector<BoundPhase> phases;
    double seconds = 0;  ///< about, on one core; 0: not known
  };
  /// One kernel with its arguments.
  struct Launch {
    std::uint32_t kernel = 0;
    std::vector<void*> addresses;
  };
  struct Operation;
  /// Steps that one iteration runs, in order.
  struct Body {
    std::vector<Operation> operations;
    std::vector<FeederChannel*> feeders;      ///< of feed steps right in this body
    std::vector<ReceiverChannel*> receivers;  ///< of receive steps here or in loops in here
  };
  struct Operation {
    plan::StepKind kind = plan::StepKind::launch;
    std::uint32_t index = 0;
    std::vector<void*> addresses;
    std::vector<Launch> launches;
    std::vector<std::vector<Segment>> phases;  ///< of all launches; their k-th phases run together
    bool worth_sharing = true;
    std::string_view label;       ///< launch: in traces
    std::int64_t moved = 0;       ///< launch: bytes, in traces
    std::int64_t operations = 0;  ///< launch: in traces
    std::int64_t bytes = 0;       ///< copy, feed
    std::int64_t count = 0;       ///< loop
    bool bounded_by_run = false;
    Body body;
  };

  Body bind_steps(const std::vector<plan::Step>& steps, std::span<void* const> addresses, bool top);
  void start_transfers(std::int64_t from, std::int64_t to, const RunOptions& options);
  void finish_transfers() noexcept;
  /// These say whether to go on: not after a receiver's failure.
  bool run_all();
  bool run_body(const Body& body, std::int64_t number);
  bool run_loop(const Operation& loop, std::int64_t number);
  bool may_go_on(const Body& body) const;
  void bind_launches(const plan::Step& step, std::span<void* const> addresses,
                     Operation& operation);
  void launch(const Operation& operation);
  void launch_timed(const Operation& operation);
  void run_phase(std::span<const Segment> segments, bool share);

  const plan::Plan& plan_;
  const PlanInfo& info_;
  Transfers& transfers_;
  std::vector<BoundKernel> kernels_;
  Body top_;
  std::vector<KernelTime> times_;
  bool profiling_ = false;
  TraceTrack* track_ = nullptr;
  std::set<std::string> labels_;  ///< of launches of several kernels; they stay where they are
  // Of the run under way.
  ThreadPool* pool_ = nullptr;
  std::int64_t from_ = 0;
  std::int64_t to_ = 0;
};

}  // namespace weft::runtime
