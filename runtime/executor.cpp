#include "runtime/executor.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "runtime/float_mode.h"
#include "runtime/plan/error.h"

namespace weft::runtime {
namespace {

/// What a kernel takes on one core, about; 0 where it says nothing of its work.
double estimated_seconds(const plan::Kernel& kernel) {
  // What fits the core's own cache is most likely there already.
  constexpr double cache_bytes = 1 << 20;
  const double bytes =
      static_cast<double>(kernel.bytes_read) + static_cast<double>(kernel.bytes_written);
  const double bytes_a_second = bytes < cache_bytes ? 80e9 : 20e9;
  constexpr double operations_a_second = 60e9;
  return std::max(bytes / bytes_a_second,
                  static_cast<double>(kernel.operations) / operations_a_second);
}

/// Sharing work takes a microsecond, and moves what one core has in its cache to another's, and
/// back where the next kernel divides it otherwise: less work than this is done sooner alone, and
/// does not wait for a worker that something else keeps from running.
constexpr double sharing_seconds = 15e-6;

}  // namespace

Executor::Executor(const plan::Plan& plan, const PlanInfo& info, const Code& code,
                   Transfers& transfers)
    : plan_(plan), info_(info), transfers_(transfers) {
  for (const plan::Kernel& kernel : plan.kernels) {
    BoundKernel& bound = kernels_.emplace_back();
    bound.seconds = estimated_seconds(kernel);
    for (const plan::Phase& phase : kernel.phases) {
      const PhaseFunction function = code.find(phase.symbol);
      if (function == nullptr) {
        throw Error(fmt::format("plan \"{}\": kernel {}: the code has no symbol {}", plan.name,
                                kernel.name, phase.symbol));
      }
      bound.phases.push_back({function, phase.grid});
    }
    times_.push_back({kernel.name, 0, 0});
  }
}

void Executor::bind(std::span<void* const> addresses) {
  top_ = bind_steps(plan_.steps, addresses, true);
}

Executor::Body Executor::bind_steps(const std::vector<plan::Step>& steps,
                                    std::span<void* const> addresses, bool top) {
  Body body;
  body.operations.reserve(steps.size());
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const plan::Step& step = steps[i];
    Operation& operation = body.operations.emplace_back();
    operation.kind = step.kind;
    operation.index = step.index;
    for (const std::uint32_t buffer : step.buffers) {
      operation.addresses.push_back(addresses[buffer]);
    }
    switch (step.kind) {
      case plan::StepKind::launch:
      case plan::StepKind::together:
        bind_launches(step, addresses, operation);
        break;
      case plan::StepKind::copy:
        operation.bytes = plan_.buffers[step.buffers[0]].type.bytes();
        break;
      case plan::StepKind::feed:
        operation.bytes = plan_.feeders[step.index].type.bytes();
        body.feeders.push_back(transfers_.feeders[step.index].get());
        break;
      case plan::StepKind::receive:
        body.receivers.push_back(transfers_.receivers[step.index].get());
        break;
      case plan::StepKind::loop:
        operation.count = step.count;
        operation.bounded_by_run = top && info_.only_loop == i;
        operation.body = bind_steps(step.body, addresses, false);
        body.receivers.insert(body.receivers.end(), operation.body.receivers.begin(),
                              operation.body.receivers.end());
        break;
    }
  }
  if (top) {
    // What fails outside of all loops stops the outermost ones.
    for (Operation& operation : body.operations) operation.body.receivers = body.receivers;
  }
  return body;
}

void Executor::bind_launches(const plan::Step& step, std::span<void* const> addresses,
                             Operation& operation) {
  const auto bind_one = [&](const plan::Step& one) {
    Launch& launch = operation.launches.emplace_back();
    launch.kernel = one.index;
    for (const std::uint32_t buffer : one.buffers) launch.addresses.push_back(addresses[buffer]);
  };
  if (step.kind == plan::StepKind::launch) {
    bind_one(step);
  } else {
    for (const plan::Step& one : step.body) bind_one(one);
  }
  double seconds = 0;
  bool known = true;
  for (const Launch& launch : operation.launches) {
    const BoundKernel& kernel = kernels_[launch.kernel];
    seconds += kernel.seconds;
    known = known && kernel.seconds > 0;
    const plan::Kernel& described = plan_.kernels[launch.kernel];
    operation.moved += described.bytes_read + described.bytes_written;
    operation.operations += described.operations;
    if (operation.phases.size() < kernel.phases.size()) {
      operation.phases.resize(kernel.phases.size());
    }
    for (std::size_t i = 0; i < kernel.phases.size(); ++i) {
      // The addresses stay where they are when the launch is moved.
      operation.phases[i].push_back(
          {kernel.phases[i].function, launch.addresses.data(), kernel.phases[i].grid});
    }
  }
  operation.worth_sharing = !known || seconds > sharing_seconds;
  if (operation.launches.empty()) return;
  operation.label = plan_.kernels[operation.launches[0].kernel].name;
  if (const std::size_t others = operation.launches.size() - 1; others > 0) {
    operation.label = *labels_.insert(fmt::format("{} + {} more", operation.label, others)).first;
  }
}

void Executor::start_transfers(std::int64_t from, std::int64_t to, const RunOptions& options) {
  transfers_.failure.reset();
  for (std::size_t i = 0; i < transfers_.receivers.size(); ++i) {
    if (!info_.receivers[i].used) continue;
    transfers_.receivers[i]->start(options.queue, options.synchronous);
  }
  for (std::size_t i = 0; i < transfers_.feeders.size(); ++i) {
    if (!info_.feeders[i].used) continue;
    const TransferUse::Range range = info_.feeders[i].range(from, to);
    transfers_.feeders[i]->start(range.first, range.last, options.synchronous);
  }
}

void Executor::finish_transfers() noexcept {
  for (const auto& feeder : transfers_.feeders) feeder->stop();
  for (const auto& receiver : transfers_.receivers) receiver->finish();
}

void Executor::run(std::int64_t from, std::int64_t to, ThreadPool& pool,
                   const RunOptions& options) {
  pool_ = &pool;
  from_ = from;
  to_ = to;
  try {
    // Before denormals are flushed here: new threads inherit the mode of the one that starts them.
    start_transfers(from, to, options);
    const FloatMode mode(FloatMode::flushing(FloatMode::current()));
    run_all();
  } catch (...) {
    transfers_.failure.set(std::current_exception());
  }
  finish_transfers();
  transfers_.failure.rethrow();
}

bool Executor::run_all() {
  if (info_.only_loop) return run_body(top_, 0);
  for (std::int64_t number = from_; number < to_; ++number) {
    if (!may_go_on(top_)) return false;
    const TraceSpan span(track_, "execution", "loop", number);
    if (!run_body(top_, number)) return false;
  }
  return true;
}

bool Executor::may_go_on(const Body& body) const {
  if (!transfers_.failure.any()) return true;
  for (const ReceiverChannel* receiver : body.receivers) {
    if (receiver->failed()) return false;
  }
  return true;
}

bool Executor::run_loop(const Operation& loop, std::int64_t number) {
  const std::int64_t begin = loop.bounded_by_run ? from_ : 0;
  const std::int64_t end = loop.bounded_by_run ? to_ : loop.count;
  auto* index = static_cast<std::int64_t*>(loop.addresses[0]);
  for (std::int64_t i = begin; i < end; ++i) {
    if (!may_go_on(loop.body)) return false;
    *index = i;
    const TraceSpan span(track_, "iteration", "loop", i);
    if (!run_body(loop.body, number * loop.count + i)) return false;
  }
  return true;
}

bool Executor::run_body(const Body& body, std::int64_t number) {
  // All of an iteration's data before its first kernel, so that none runs where a feeder fails.
  for (FeederChannel* feeder : body.feeders) {
    const TraceSpan span(track_, "wait for feeder", "transfer", number);
    feeder->await(number);
  }
  for (const Operation& operation : body.operations) {
    switch (operation.kind) {
      case plan::StepKind::launch:
      case plan::StepKind::together:
        if (profiling_) {
          launch_timed(operation);
        } else {
          launch(operation);
        }
        break;
      case plan::StepKind::copy: {
        const TraceSpan span(track_, "copy", "transfer");
        pool_->set_label("copy");
        pool_->copy(operation.addresses[1], operation.addresses[0], operation.bytes);
        break;
      }
      case plan::StepKind::feed: {
        const TraceSpan span(track_, "feed", "transfer", number);
        pool_->set_label("feed");
        FeederChannel& feeder = *transfers_.feeders[operation.index];
        pool_->copy(operation.addresses[0], feeder.staged(number), operation.bytes);
        feeder.release(number);
        break;
      }
      case plan::StepKind::receive: {
        ReceiverChannel& receiver = *transfers_.receivers[operation.index];
        if (!receiver.wants(number)) break;
        const TraceSpan span(track_, "deliver", "transfer", number);
        pool_->set_label("deliver");
        receiver.deliver(number, operation.addresses, *pool_);
        break;
      }
      case plan::StepKind::loop:
        if (!run_loop(operation, number)) return false;
        break;
    }
  }
  return true;
}

void Executor::run_phase(std::span<const Segment> segments, bool share) {
  if (share) {
    pool_->run(segments);
  } else {
    pool_->run_alone(segments);
  }
}

void Executor::launch(const Operation& operation) {
  TraceSpan span(track_, operation.label, "kernel");
  span.set_work(operation.moved, operation.operations);
  pool_->set_label(operation.label);
  for (const std::vector<Segment>& phase : operation.phases) {
    run_phase(phase, operation.worth_sharing);
  }
}

/// One kernel after the other, so that each has a time of its own.
void Executor::launch_timed(const Operation& operation) {
  for (const Launch& launch : operation.launches) {
    const BoundKernel& kernel = kernels_[launch.kernel];
    const bool share = kernel.seconds <= 0 || kernel.seconds > sharing_seconds;
    const plan::Kernel& described = plan_.kernels[launch.kernel];
    TraceSpan span(track_, described.name, "kernel");
    span.set_work(described.bytes_read + described.bytes_written, described.operations);
    pool_->set_label(described.name);
    const auto start = std::chrono::steady_clock::now();
    for (const BoundPhase& phase : kernel.phases) {
      const Segment segment{phase.function, launch.addresses.data(), phase.grid};
      run_phase({&segment, 1}, share);
    }
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    KernelTime& time = times_[launch.kernel];
    ++time.launches;
    time.seconds += taken.count();
  }
}

void Executor::set_profiling(bool on) {
  if (on && !profiling_) {
    for (KernelTime& time : times_) time = {time.kernel, 0, 0};
  }
  profiling_ = on;
}

}  // namespace weft::runtime
