#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/executable.h"
#include "runtime/plan.h"
#include "runtime/plan_check.h"
#include "runtime/state.h"
#include "runtime/tracer.h"
#include "runtime/transfers.h"

namespace weft::runtime {

/// Runs a checked plan on one kind of device, in memory that it has there; Executable is what users
/// see of it. Not to be used by two threads at once.
class Runner {
 public:
  virtual ~Runner() = default;

  virtual Transfers& transfers() = 0;
  virtual int threads() const = 0;  ///< of the host's that kernels run on; at least the caller's
  /// Takes the addresses of the plan's states, which are in `state` and of the plan's types.
  virtual void bind(State& state) = 0;
  /// `value` is what kernels find in that scalar from the next run on.
  virtual void set_scalar(std::size_t buffer, std::span<const std::byte> value) = 0;
  /// See Executable::run. Bound, if there are states. Throws what a feeder or receiver threw.
  virtual void run(std::int64_t from, std::int64_t to) = 0;
  /// Tracks of the calling thread and of workers, the caller first; nullptr and empty: none.
  virtual void set_tracks(TraceTrack* run, std::vector<TraceTrack*> workers) = 0;
  virtual void set_profiling(bool on) = 0;
  virtual std::vector<KernelTime> profile() const = 0;
};

/// On this machine's processor. `plan` and `info` must outlive it; `code` null: what the plan's
/// objects hold. Throws Error where the plan is for another machine.
std::unique_ptr<Runner> make_host_runner(const plan::Plan& plan, const PlanInfo& info,
                                         const RunOptions& options, std::unique_ptr<Code> code);

}  // namespace weft::runtime
