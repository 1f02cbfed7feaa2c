#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "runtime/executor.h"
#include "runtime/memory.h"
#include "runtime/plan/error.h"
#include "runtime/runner.h"
#include "runtime/thread_pool.h"

namespace weft::runtime {
namespace {

constexpr int most_threads = 1024;

int thread_count(const RunOptions& options) {
  if (options.threads < 0 || options.threads > most_threads) {
    throw Error(fmt::format("threads: {}; should be 0 to {}", options.threads, most_threads));
  }
  if (options.threads > 0) return options.threads;
  if (const char* text = std::getenv("WEFT_THREADS"); text != nullptr && *text != '\0') {
    const std::string_view view(text);
    int threads = 0;
    const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), threads);
    if (error != std::errc() || end != view.data() + view.size() || threads < 1 ||
        threads > most_threads) {
      throw Error(fmt::format("WEFT_THREADS is \"{}\"; should be 1 to {}", view, most_threads));
    }
    return threads;
  }
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, most_threads);
}

/// `code`, or where there is none what the plan's objects hold; throws Error where it is for
/// another machine.
std::unique_ptr<Code> code_for(const plan::Plan& plan, std::unique_ptr<Code> code) {
  // The architecture before loading: a loader's message about foreign code is less clear.
  check_target(plan, "");
  if (!code) code = load_objects(plan);
  check_target(plan, code->target());
  return code;
}

class HostRunner : public Runner {
 public:
  HostRunner(const plan::Plan& plan, const PlanInfo& info, const RunOptions& options,
             std::unique_ptr<Code> code)
      : plan_(plan),
        options_(options),
        threads_(thread_count(options)),
        code_(code_for(plan, std::move(code))),
        arena_(plan.arena_bytes),
        transfers_(plan),
        executor_(plan, info, *code_, transfers_) {
    make_owned_buffers();
    executor_.bind(addresses_);
  }

  Transfers& transfers() override { return transfers_; }
  int threads() const override { return threads_; }

  void bind(State& state) override {
    on_devices_.clear();
    for (std::size_t i = 0; i < plan_.buffers.size(); ++i) {
      const plan::Buffer& buffer = plan_.buffers[i];
      if (buffer.kind == plan::BufferKind::state) {
        addresses_[i] = state.bytes(buffer.name).data();
        if (state.device_tensor(buffer.name) != nullptr) on_devices_.push_back(buffer.name);
      }
    }
    executor_.bind(addresses_);
    state_ = state;
  }

  void set_scalar(std::size_t buffer, std::span<const std::byte> value) override {
    std::memcpy(owned_[buffer].data(), value.data(), value.size());
  }

  void run(std::int64_t from, std::int64_t to) override {
    if (!pool_) {
      std::int64_t scratch = 0;
      for (const plan::Kernel& kernel : plan_.kernels) {
        scratch = std::max(scratch, kernel.scratch_bytes);
      }
      pool_.emplace(threads_, scratch);
    }
    // A device may have changed them since, and is to take what changes here.
    for (const std::string& name : on_devices_) state_->bytes(name);
    pool_->set_tracks(worker_tracks_);
    executor_.run(from, to, *pool_, options_);
  }

  void set_tracks(TraceTrack* run, std::vector<TraceTrack*> workers) override {
    executor_.set_track(run);
    worker_tracks_ = std::move(workers);
  }
  void set_profiling(bool on) override { executor_.set_profiling(on); }
  std::vector<KernelTime> profile() const override { return executor_.profile(); }

 private:
  void make_owned_buffers() {
    owned_.resize(plan_.buffers.size());
    addresses_.resize(plan_.buffers.size());
    for (std::size_t i = 0; i < plan_.buffers.size(); ++i) {
      const plan::Buffer& buffer = plan_.buffers[i];
      if (buffer.kind == plan::BufferKind::state) continue;
      if (buffer.kind == plan::BufferKind::arena) {
        addresses_[i] = arena_.data() + buffer.offset;
        continue;
      }
      owned_[i] = AlignedBuffer(static_cast<std::int64_t>(buffer.data.size()));
      std::memcpy(owned_[i].data(), buffer.data.data(), buffer.data.size());
      addresses_[i] = owned_[i].data();
    }
  }

  const plan::Plan& plan_;
  RunOptions options_;
  int threads_;
  std::unique_ptr<Code> code_;
  AlignedBuffer arena_;
  std::vector<AlignedBuffer> owned_;  ///< of constants and scalars, by buffer
  std::vector<void*> addresses_;      ///< by buffer; of states null until they are bound
  std::optional<State> state_;
  std::vector<std::string> on_devices_;  ///< states that have a copy on a device
  Transfers transfers_;
  Executor executor_;
  std::vector<TraceTrack*> worker_tracks_;
  std::optional<ThreadPool> pool_;  ///< made by the first run; its workers use the tracks
};

}  // namespace

std::unique_ptr<Runner> make_host_runner(const plan::Plan& plan, const PlanInfo& info,
                                         const RunOptions& options, std::unique_ptr<Code> code) {
  return std::make_unique<HostRunner>(plan, info, options, std::move(code));
}

}  // namespace weft::runtime
