#include "runtime/executable.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <string_view>
#include <utility>

#include "runtime/cuda/runner.h"
#include "runtime/plan/error.h"
#include "runtime/plan_check.h"
#include "runtime/runner.h"
#include "runtime/tracer.h"
#include "runtime/transfers.h"

namespace weft::runtime {
namespace {

/// Index of the entry of that name; throws Error listing the names that there are.
template <typename Entry>
std::size_t find_named(const plan::Plan& plan, const std::vector<Entry>& entries,
                       std::string_view what, const std::string& name) {
  std::vector<std::string_view> names;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].name == name) return i;
    names.push_back(entries[i].name);
  }
  if (names.empty()) {
    throw Error(fmt::format("plan \"{}\": no {} \"{}\": it has none", plan.name, what, name));
  }
  throw Error(fmt::format("plan \"{}\": no {} \"{}\"; it has \"{}\"", plan.name, what, name,
                          fmt::join(names, "\", \"")));
}

}  // namespace

struct Executable::Impl {
  Impl(plan::Plan the_plan, const RunOptions& options, std::unique_ptr<Code> code);

  Transfers& transfers() const { return runner->transfers(); }
  void look_up_states();
  void forbid_while_running(std::string_view what) const;
  void run(std::int64_t from, std::int64_t to);
  void check_run(std::int64_t from, std::int64_t to) const;

  plan::Plan plan;
  int device = 0;
  PlanInfo info;
  std::optional<State> state;
  std::uint64_t state_version = 0;
  std::unique_ptr<Tracer> tracer;
  std::unique_ptr<Runner> runner;  ///< its threads use the tracer
  std::atomic<bool> running{false};
};

Executable::Impl::Impl(plan::Plan the_plan, const RunOptions& options, std::unique_ptr<Code> code)
    : plan(std::move(the_plan)), device(options.device), info(check_plan(plan, code == nullptr)) {
  if (options.queue < 1) throw Error(fmt::format("queue: {}; should be 1 or more", options.queue));
  if (plan.target.starts_with(cuda::architecture)) {
    runner = cuda::make_runner(plan, info, options);
  } else {
    runner = make_host_runner(plan, info, options, std::move(code));
  }
}

void Executable::Impl::look_up_states() {
  std::vector<std::string> missing;
  std::vector<std::string> wrong;
  for (const plan::Buffer& buffer : plan.buffers) {
    if (buffer.kind != plan::BufferKind::state) continue;
    const std::string text = fmt::format("\"{}\" {}", buffer.name, buffer.type.text());
    if (!state->has(buffer.name)) {
      if (std::find(missing.begin(), missing.end(), text) == missing.end()) missing.push_back(text);
    } else if (!(state->type(buffer.name) == buffer.type)) {
      wrong.push_back(fmt::format("{} is {}", text, state->type(buffer.name).text()));
    }
  }
  std::string message;
  if (!missing.empty()) message = fmt::format(": it lacks {}", fmt::join(missing, ", "));
  if (!wrong.empty()) {
    message += fmt::format("{} of another type: {}", message.empty() ? ":" : "; and has",
                           fmt::join(wrong, ", "));
  }
  if (!message.empty()) {
    throw Error(fmt::format("plan \"{}\": the State does not fit{}", plan.name, message));
  }
  runner->bind(*state);
  state_version = state->version();
}

void Executable::Impl::forbid_while_running(std::string_view what) const {
  if (running.load()) {
    throw Error(fmt::format("plan \"{}\": {} while it runs", plan.name, what));
  }
}

void Executable::Impl::check_run(std::int64_t from, std::int64_t to) const {
  if (from < 0 || to < from) {
    throw Error(fmt::format("plan \"{}\": run({}, {}): no such range", plan.name, from, to));
  }
  if (info.only_loop) {
    const std::int64_t count = plan.steps[*info.only_loop].count;
    if (to > count) {
      throw Error(fmt::format("plan \"{}\": run({}, {}): its loop has {} iterations", plan.name,
                              from, to, count));
    }
  }
  std::int64_t last = 0;
  if (__builtin_mul_overflow(to, info.deepest, &last)) {
    throw Error(fmt::format("plan \"{}\": run({}, {}): more iterations than can be counted",
                            plan.name, from, to));
  }
  std::vector<std::string> unset;
  for (std::size_t i = 0; i < plan.feeders.size(); ++i) {
    if (info.feeders[i].used && !transfers().feeders[i]->fill) {
      unset.push_back(fmt::format("\"{}\" {}", plan.feeders[i].name, plan.feeders[i].type.text()));
    }
  }
  if (!unset.empty()) {
    throw Error(fmt::format("plan \"{}\": no function set for feeder {}", plan.name,
                            fmt::join(unset, ", ")));
  }
}

void Executable::Impl::run(std::int64_t from, std::int64_t to) {
  if (running.exchange(true)) {
    throw Error(fmt::format("plan \"{}\": run while it runs", plan.name));
  }
  const std::unique_ptr<std::atomic<bool>, void (*)(std::atomic<bool>*)> finally(
      &running, [](std::atomic<bool>* flag) { flag->store(false); });
  check_run(from, to);
  if (!state) {
    for (const plan::Buffer& buffer : plan.buffers) {
      if (buffer.kind != plan::BufferKind::state) continue;
      throw Error(fmt::format("plan \"{}\": run before a State is bound: it needs \"{}\" {}",
                              plan.name, buffer.name, buffer.type.text()));
    }
  } else if (state->version() != state_version) {
    look_up_states();
  }
  runner->run(from, to);
}

Executable::Executable(plan::Plan plan, RunOptions options, std::unique_ptr<Code> code)
    : impl_(std::make_unique<Impl>(std::move(plan), options, std::move(code))) {}
Executable::~Executable() = default;
Executable::Executable(Executable&&) noexcept = default;
Executable& Executable::operator=(Executable&&) noexcept = default;

const plan::Plan& Executable::plan() const { return impl_->plan; }

int Executable::threads() const { return impl_->runner->threads(); }

int Executable::device() const { return impl_->device; }

void Executable::bind(State state) {
  impl_->forbid_while_running("bind");
  std::optional<State> before = std::exchange(impl_->state, std::move(state));
  try {
    impl_->look_up_states();
  } catch (...) {
    impl_->state = std::move(before);
    throw;
  }
}

void Executable::set_feeder(const std::string& name, FeedFunction fill) {
  impl_->forbid_while_running("set_feeder");
  const std::size_t index = find_named(impl_->plan, impl_->plan.feeders, "feeder", name);
  impl_->transfers().feeders[index]->fill = std::move(fill);
}

void Executable::set_receiver(const std::string& name, ReceiveFunction callback) {
  impl_->forbid_while_running("set_receiver");
  const std::size_t index = find_named(impl_->plan, impl_->plan.receivers, "receiver", name);
  impl_->transfers().receivers[index]->callback = std::move(callback);
}

void Executable::set_scalar(const std::string& name, double value) {
  impl_->forbid_while_running("set_scalar");
  std::vector<plan::Buffer> scalars;
  bool found = false;
  for (std::size_t i = 0; i < impl_->plan.buffers.size(); ++i) {
    const plan::Buffer& buffer = impl_->plan.buffers[i];
    if (buffer.kind != plan::BufferKind::scalar) continue;
    scalars.push_back(buffer);
    if (buffer.name != name) continue;
    const double complex_pair[2] = {value, 0};
    std::array<std::byte, 16> bytes{};
    from_doubles(buffer.type.dtype, complex_pair, 1, bytes.data());
    impl_->runner->set_scalar(i, {bytes.data(), size_of(buffer.type.dtype)});
    found = true;
  }
  if (!found) find_named(impl_->plan, scalars, "scalar", name);
}

std::int64_t Executable::iterations() const {
  return impl_->info.only_loop ? impl_->plan.steps[*impl_->info.only_loop].count : 1;
}

void Executable::run() { impl_->run(0, iterations()); }

void Executable::run(std::int64_t from, std::int64_t to) { impl_->run(from, to); }

void Executable::set_profiling(bool on) {
  impl_->forbid_while_running("set_profiling");
  impl_->runner->set_profiling(on);
}

void Executable::set_tracing(bool on) {
  impl_->forbid_while_running("set_tracing");
  const plan::Plan& plan = impl_->plan;
  TraceTrack* run = nullptr;
  std::vector<TraceTrack*> workers;
  std::vector<TraceTrack*> feeders(plan.feeders.size());
  std::vector<TraceTrack*> receivers(plan.receivers.size());
  if (on) {
    impl_->tracer = std::make_unique<Tracer>();
    Tracer& tracer = *impl_->tracer;
    run = &tracer.track("run");
    workers.push_back(run);
    for (int i = 1; i < impl_->runner->threads(); ++i) {
      workers.push_back(&tracer.track(fmt::format("worker {}", i)));
    }
    for (std::size_t i = 0; i < feeders.size(); ++i) {
      feeders[i] = &tracer.track(fmt::format("feeder {}", plan.feeders[i].name));
    }
    for (std::size_t i = 0; i < receivers.size(); ++i) {
      receivers[i] = &tracer.track(fmt::format("receiver {}", plan.receivers[i].name));
    }
  }
  impl_->runner->set_tracks(run, std::move(workers));
  for (std::size_t i = 0; i < feeders.size(); ++i)
    impl_->transfers().feeders[i]->track = feeders[i];
  for (std::size_t i = 0; i < receivers.size(); ++i) {
    impl_->transfers().receivers[i]->track = receivers[i];
  }
}

std::string Executable::trace() const {
  impl_->forbid_while_running("trace");
  if (impl_->tracer == nullptr) {
    throw Error(fmt::format("plan \"{}\": no trace: tracing has not been on", impl_->plan.name));
  }
  return impl_->tracer->json(fmt::format("weft {}", impl_->plan.name));
}

std::vector<KernelTime> Executable::profile() const {
  impl_->forbid_while_running("profile");
  return impl_->runner->profile();
}

}  // namespace weft::runtime
