#include "runtime/cuda/runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <deque>
#include <optional>
#include <utility>

#include "runtime/cuda/code.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/program.h"
#include "runtime/cuda/single_step.h"
#include "runtime/cuda/tensor_map.h"
#include "runtime/cuda/timer.h"
#include "runtime/plan/batches.h"
#include "runtime/plan/error.h"

namespace weft::runtime::cuda {
namespace {

/// Snapshots up to this size are double-buffered on the device; of larger ones there is one, and
/// the next iteration that takes one waits until it has been copied out.
constexpr std::int64_t double_buffered_bytes = std::int64_t{16} << 20;

/// The way of a feeder's data: its ring in pinned memory, one of two slots on the device through
/// the stream of copies, and from there by the graph that reads them to where the plan has them.
struct FeederLane {
  static constexpr std::int64_t slots = 2;

  std::int64_t bytes = 0;
  DeviceMemory memory;
  std::vector<Event> filled;            ///< by slot: the copy to the device
  std::vector<Event> consumed;          ///< by slot: the graph that reads it
  std::optional<std::int64_t> copying;  ///< the number whose place in the ring is not given back

  FeederLane(const plan::Plan& plan, const plan::Feeder& feeder, const DeviceHandle& device)
      : bytes(feeder.type.bytes()),
        memory(device, slots * align_up(bytes),
               fmt::format("feeder \"{}\" of plan \"{}\"", feeder.name, plan.name)) {
    for (std::int64_t i = 0; i < slots; ++i) {
      filled.emplace_back(device);
      consumed.emplace_back(device);
    }
  }
  static std::size_t slot(std::int64_t number) { return static_cast<std::size_t>(number % slots); }
  CUdeviceptr address(std::size_t slot) const {
    return memory.address() + slot * static_cast<std::size_t>(align_up(bytes));
  }
};

/// The way back: the graph copies to a slot on the device, another stream from there to a snapshot.
struct ReceiverLane {
  std::int64_t bytes = 0;  ///< of a snapshot
  std::int64_t every = 1;
  std::size_t slots = 1;
  DeviceMemory memory;
  Event taken;                ///< the graph that filled a slot
  std::vector<Event> copied;  ///< of as many snapshots as can be on their way; used in turn
  std::size_t next = 0;
  std::array<const Event*, 2> emptied{};  ///< by slot: when it may be filled again

  ReceiverLane(const plan::Plan& plan, const plan::Receiver& receiver,
               const ReceiverChannel& channel, int queue, const DeviceHandle& device)
      : bytes(channel.bytes()),
        every(receiver.every),
        slots(bytes <= double_buffered_bytes ? 2 : 1),
        memory(device, static_cast<std::int64_t>(slots) * bytes,
               fmt::format("receiver \"{}\" of plan \"{}\"", receiver.name, plan.name)),
        taken(device) {
    // Waiting ones, the one with the callback, and the one being made. The callback's thread has
    // nothing else to do, and others may want its core.
    for (int i = 0; i < queue + 2; ++i) copied.emplace_back(device, Event::Kind::patient);
  }
  std::size_t slot(std::int64_t number) const {
    return static_cast<std::size_t>(number / every) % slots;
  }
  CUdeviceptr address(std::size_t slot) const {
    return memory.address() + slot * static_cast<std::size_t>(bytes);
  }
};

class CudaRunner : public Runner {
 public:
  CudaRunner(const plan::Plan& plan, const PlanInfo& info, const RunOptions& options)
      : plan_(plan),
        info_(info),
        options_(options),
        device_(Device::number(options.device)),
        main_(device_),
        copies_in_(device_),
        copies_out_(device_),
        code_(plan, device_),
        memory_(plan, device_, main_),
        tensor_maps_(plan, device_),
        transfers_(plan,
                   [device = device_](std::int64_t bytes) { return pinned_memory(device, bytes); }),
        program_(plan, info),
        counters_(device_, static_cast<std::int64_t>(program_.counters * sizeof(std::int64_t)),
                  fmt::format("the loops of plan \"{}\"", plan.name)) {
    for (std::size_t i = 0; i < plan.feeders.size(); ++i) {
      feeders_.emplace_back(plan, plan.feeders[i], device_);
    }
    for (std::size_t i = 0; i < plan.receivers.size(); ++i) {
      receivers_.emplace_back(plan, plan.receivers[i], *transfers_.receivers[i], options.queue,
                              device_);
    }
    if (const char* check = std::getenv("WEFT_CUDA_CHECK"); check != nullptr && *check == '1') {
      single_step_.emplace(plan_, device_, main_);
    }
  }

  Transfers& transfers() override { return transfers_; }
  int threads() const override { return 1; }

  void bind(State& state) override {
    if (!memory_.bind(state)) return;
    program_.forget_graphs();
    tensor_maps_.forget();
  }

  void set_scalar(std::size_t buffer, std::span<const std::byte> value) override {
    memory_.set_scalar(buffer, value);
  }

  void run(std::int64_t from, std::int64_t to) override {
    const Device::Scope scope(*device_);
    from_ = from;
    to_ = to;
    transfers_.failure.reset();
    try {
      memory_.upload_scalars(main_);
      memory_.take_states();
      start_transfers();
      run_all();
      if (profiling_) timer_->collect();
    } catch (...) {
      transfers_.failure.set(explained(std::current_exception()));
    }
    // Everything that is on its way, also where something failed: nothing may use memory later.
    for (const Stream* stream : {&main_, &copies_in_, &copies_out_}) {
      try {
        stream->wait();
      } catch (...) {
        transfers_.failure.set(explained(std::current_exception()));
      }
    }
    for (const auto& feeder : transfers_.feeders) feeder->stop();
    for (const auto& receiver : transfers_.receivers) receiver->finish();
    for (FeederLane& lane : feeders_) lane.copying.reset();
    transfers_.failure.rethrow();
  }

  void set_tracks(TraceTrack* run, std::vector<TraceTrack*>) override { track_ = run; }

  void set_profiling(bool on) override {
    if (on && !profiling_) timer_.emplace(plan_, device_);
    profiling_ = on;
  }
  std::vector<KernelTime> profile() const override {
    return timer_ ? timer_->times() : Timer(plan_, device_).times();
  }

 private:
  /// An error of the driver's with how to find out which kernel it comes from.
  std::exception_ptr explained(const std::exception_ptr& failure) const;
  void start_transfers();
  bool run_all();
  bool run_body(Body& body, std::int64_t number, std::int64_t iterations);
  bool run_loop(Loop& loop, std::int64_t number);
  bool may_go_on(const Body& body) const;

  /// Waits for a feeder's data and sends them to the device.
  void send(std::uint32_t feeder, std::int64_t number);
  void launch_segment(Segment& segment, std::int64_t number, std::int64_t iterations);
  /// Fetches what the segment's graph took for a receiver.
  void fetch(std::uint32_t receiver, std::int64_t number);

  void launch_graph(Segment& segment, const Variant& variant, std::int64_t number);
  void add_steps(Work& work, const Segment& segment, const Variant& variant);
  void add_iteration(Work& work, const Segment& segment, const Variant& variant);
  void add_step(Work& work, const plan::Step& step);
  /// Launches that do not depend on each other: as few as the kernels' batches allow.
  void add_together(Work& work, const plan::Step& step);
  /// One launch of each phase, of the executions that the launch steps are: of one object, not
  /// more than its batch.
  void add_kernel(Work& work, std::span<const plan::Step* const> executions);
  /// The memory that a launch's phase uses.
  std::vector<Touch> touches(const plan::Step& step, const plan::Phase& phase) const;
  void set_index(Work& work, CUdeviceptr index, std::int64_t value);
  /// Gives a loop's number to its index, and advances it.
  void next_index(Work& work, CUdeviceptr number, CUdeviceptr index);
  CUdeviceptr counter(const Loop& loop) const {
    return counters_.address() + loop.counter * sizeof(std::int64_t);
  }

  const plan::Plan& plan_;
  const PlanInfo& info_;
  RunOptions options_;
  DeviceHandle device_;
  Stream main_;
  Stream copies_in_;
  Stream copies_out_;
  PlanCode code_;
  PlanMemory memory_;
  TensorMaps tensor_maps_;
  Transfers transfers_;
  Program program_;
  DeviceMemory counters_;
  std::deque<FeederLane> feeders_;
  std::deque<ReceiverLane> receivers_;
  TraceTrack* track_ = nullptr;
  std::optional<SingleStep> single_step_;  ///< where WEFT_CUDA_CHECK asks for it
  std::optional<Timer> timer_;             ///< since profiling was last turned on
  bool profiling_ = false;
  // Of the run under way.
  std::int64_t from_ = 0;
  std::int64_t to_ = 0;
};

std::exception_ptr CudaRunner::explained(const std::exception_ptr& failure) const {
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    if (single_step_ || !std::string_view(error.what()).starts_with("CUDA: ")) return failure;
    return std::make_exception_ptr(Error(
        fmt::format("plan \"{}\": {} (WEFT_CUDA_CHECK=1 in the environment runs kernels one by "
                    "one and names the one that fails)",
                    plan_.name, error.what())));
  } catch (...) {
    return failure;
  }
}

void CudaRunner::start_transfers() {
  for (std::size_t i = 0; i < transfers_.receivers.size(); ++i) {
    receivers_[i].emptied = {};
    if (info_.receivers[i].used) {
      transfers_.receivers[i]->start(options_.queue, options_.synchronous);
    }
  }
  for (std::size_t i = 0; i < transfers_.feeders.size(); ++i) {
    if (!info_.feeders[i].used) continue;
    const TransferUse::Range range = info_.feeders[i].range(from_, to_);
    transfers_.feeders[i]->start(range.first, range.last, options_.synchronous);
  }
}

bool CudaRunner::run_all() {
  if (info_.only_loop) return run_body(program_.top, 0, 1);
  for (std::int64_t number = from_; number < to_; ++number) {
    if (!may_go_on(program_.top)) return false;
    const TraceSpan span(track_, "execution", "loop", number);
    if (!run_body(program_.top, number, 1)) return false;
  }
  return true;
}

bool CudaRunner::may_go_on(const Body& body) const {
  if (!transfers_.failure.any()) return true;
  for (const std::uint32_t receiver : body.receivers) {
    if (transfers_.receivers[receiver]->failed()) return false;
  }
  return true;
}

bool CudaRunner::run_loop(Loop& loop, std::int64_t number) {
  const std::int64_t begin = loop.bounded_by_run ? from_ : 0;
  const std::int64_t end = loop.bounded_by_run ? to_ : loop.count;
  if (begin == end) return true;
  if (loop.reads_index) {
    const std::array<std::uint64_t, 2> arguments = {counter(loop),
                                                    static_cast<std::uint64_t>(begin)};
    KernelLaunch set;
    set.function = &code_.set_index();
    set.arguments = arguments;
    launch(*device_, main_, set);
  }
  for (std::int64_t i = begin; i < end;) {
    if (!may_go_on(loop.body)) return false;
    const std::int64_t iterations = end - i >= loop.iterations ? loop.iterations : 1;
    const TraceSpan span(track_, "iteration", "loop", i);
    if (!run_body(loop.body, number * loop.count + i, iterations)) return false;
    i += iterations;
  }
  return true;
}

bool CudaRunner::run_body(Body& body, std::int64_t number, std::int64_t iterations) {
  // All of an iteration's data before its first kernel, so that none runs where a feeder fails.
  for (const std::uint32_t feeder : body.feeders) send(feeder, number);
  for (auto& part : body.parts) {
    if (auto* segment = std::get_if<Segment>(&part)) {
      launch_segment(*segment, number, iterations);
    } else if (!run_loop(*std::get<std::unique_ptr<Loop>>(part), number)) {
      return false;
    }
  }
  return true;
}

void CudaRunner::send(std::uint32_t feeder, std::int64_t number) {
  FeederChannel& channel = *transfers_.feeders[feeder];
  FeederLane& lane = feeders_[feeder];
  if (lane.copying) {
    lane.filled[FeederLane::slot(*lane.copying)].wait();
    channel.release(*lane.copying);
    lane.copying.reset();
  }
  {
    const TraceSpan span(track_, "wait for feeder", "transfer", number);
    channel.await(number);
  }
  const std::size_t slot = FeederLane::slot(number);
  copies_in_.wait_for(lane.consumed[slot]);
  copies_in_.upload(lane.address(slot),
                    {channel.staged(number), static_cast<std::size_t>(lane.bytes)});
  copies_in_.mark(lane.filled[slot]);
  lane.copying = number;
  main_.wait_for(lane.filled[slot]);
}

void CudaRunner::launch_segment(Segment& segment, std::int64_t number, std::int64_t iterations) {
  Variant variant = {iterations};
  for (std::size_t i = 0; i < segment.feeders.size(); ++i) {
    variant.push_back(static_cast<std::int64_t>(FeederLane::slot(number)) + 1);
  }
  for (const std::uint32_t receiver : segment.receivers) {
    if (!transfers_.receivers[receiver]->wants(number)) {
      variant.push_back(0);
      continue;
    }
    const std::size_t slot = receivers_[receiver].slot(number);
    variant.push_back(static_cast<std::int64_t>(slot) + 1);
    if (receivers_[receiver].emptied[slot] != nullptr) {
      main_.wait_for(*receivers_[receiver].emptied[slot]);
    }
  }
  if (profiling_) {
    timer_->use(main_);
    add_steps(*timer_, segment, variant);
  } else if (single_step_) {
    add_steps(*single_step_, segment, variant);
  } else {
    launch_graph(segment, variant, number);
  }
  for (const std::uint32_t feeder : segment.feeders) {
    main_.mark(feeders_[feeder].consumed[FeederLane::slot(number)]);
  }
  for (const std::uint32_t receiver : segment.receivers) {
    if (transfers_.receivers[receiver]->wants(number)) fetch(receiver, number);
  }
}

void CudaRunner::launch_graph(Segment& segment, const Variant& variant, std::int64_t number) {
  auto found = segment.graphs.find(variant);
  if (found == segment.graphs.end()) {
    const TraceSpan span(track_, "build a graph", "graph");
    GraphBuilder graph(device_);
    add_steps(graph, segment, variant);
    std::optional<GraphExecutable> built;
    if (graph.nodes() > 0) built = graph.build(main_);
    found = segment.graphs.emplace(variant, std::move(built)).first;
  }
  if (!found->second) return;
  const TraceSpan span(track_, "launch a graph", "graph", number);
  found->second->launch(main_, plan_.name);
}

void CudaRunner::fetch(std::uint32_t receiver, std::int64_t number) {
  ReceiverLane& lane = receivers_[receiver];
  const std::size_t slot = lane.slot(number);
  main_.mark(lane.taken);
  const TraceSpan span(track_, "deliver", "transfer", number);
  transfers_.receivers[receiver]->deliver(number, [&](std::byte* snapshot) {
    const Event& copied = lane.copied[lane.next];
    lane.next = (lane.next + 1) % lane.copied.size();
    copies_out_.wait_for(lane.taken);
    copies_out_.download({snapshot, static_cast<std::size_t>(lane.bytes)}, lane.address(slot));
    copies_out_.mark(copied);
    lane.emptied[slot] = &copied;
    return std::function<void()>([&copied] { copied.wait(); });
  });
}

void CudaRunner::add_steps(Work& work, const Segment& segment, const Variant& variant) {
  for (std::int64_t i = 0; i < variant[0]; ++i) add_iteration(work, segment, variant);
}

void CudaRunner::add_iteration(Work& work, const Segment& segment, const Variant& variant) {
  if (segment.counts != nullptr) {
    next_index(work, counter(*segment.counts), memory_.addresses()[segment.counts->index]);
  }
  std::size_t feeders = 1;
  std::size_t receivers = 1 + segment.feeders.size();
  for (const plan::Step* step : segment.steps) {
    if (step->kind == plan::StepKind::feed) {
      const FeederLane& lane = feeders_[step->index];
      const auto slot = static_cast<std::size_t>(variant[feeders++] - 1);
      work.copy(lane.address(slot), memory_.addresses()[step->buffers[0]], lane.bytes);
    } else if (step->kind == plan::StepKind::receive) {
      const std::int64_t choice = variant[receivers++];
      if (choice == 0) continue;
      const CUdeviceptr to = receivers_[step->index].address(static_cast<std::size_t>(choice - 1));
      const std::span<const std::int64_t> offsets = transfers_.receivers[step->index]->offsets();
      for (std::size_t i = 0; i < step->buffers.size(); ++i) {
        work.copy(memory_.addresses()[step->buffers[i]], to + static_cast<CUdeviceptr>(offsets[i]),
                  plan_.buffers[step->buffers[i]].type.bytes());
      }
    } else {
      add_step(work, *step);
    }
  }
}

void CudaRunner::add_step(Work& work, const plan::Step& step) {
  switch (step.kind) {
    case plan::StepKind::launch:
      return add_kernel(work, std::array{&step});
    case plan::StepKind::together:
      return add_together(work, step);
    case plan::StepKind::copy:
      return work.copy(memory_.addresses()[step.buffers[0]], memory_.addresses()[step.buffers[1]],
                       plan_.buffers[step.buffers[0]].type.bytes());
    case plan::StepKind::loop: {
      const bool reads_index = use_buffer(plan_, step.body, step.buffers[0]);
      for (std::int64_t i = 0; i < step.count; ++i) {
        if (reads_index) {
          set_index(work, memory_.addresses()[step.buffers[0]], i);
        }
        for (const plan::Step& part : step.body) add_step(work, part);
      }
      return;
    }
    case plan::StepKind::feed:
    case plan::StepKind::receive:
      return;  // only right in a segment; add_steps() has them
  }
}

void CudaRunner::add_together(Work& work, const plan::Step& step) {
  if (work.takes_batches()) {
    for (const auto& executions : plan::batches(plan_, step)) add_kernel(work, executions);
  } else {
    for (const plan::Step& part : step.body) add_kernel(work, std::array{&part});
  }
}

void CudaRunner::add_kernel(Work& work, std::span<const plan::Step* const> executions) {
  const std::uint32_t number = executions.front()->index;
  const plan::Kernel& kernel = plan_.kernels[number];
  std::vector<std::uint64_t> arguments;
  for (const plan::Step* step : executions) {
    for (const std::uint32_t buffer : step->buffers) {
      arguments.push_back(memory_.addresses()[buffer]);
    }
  }
  arguments.resize(executions.front()->buffers.size() * static_cast<std::size_t>(kernel.batch));
  const std::span<const CUtensorMap> maps = tensor_maps_.of(*executions.front(), arguments);
  const std::vector<PlanCode::Phase>& phases = code_.phases(number);
  work.begin_kernel(number);
  for (std::size_t i = 0; i < phases.size(); ++i) {
    const PlanCode::Phase& phase = phases[i];
    if (phase.fourier_plan != nullptr) {
      const plan::Transform& transform = phase.transform;
      const auto touch = [&](const plan::Transform::Side& side, std::int64_t end, bool writes) {
        return Touch{arguments[side.argument] + static_cast<std::uint64_t>(side.offset),
                     end - side.offset, writes};
      };
      const std::array<Touch, 3> touches = {
          touch(transform.from, transform.from_end(),
                transform.kind == plan::Transform::Kind::to_real),
          touch(transform.to, transform.to_end(), true),
          Touch{code_.fourier_workspace(), phase.fourier_plan->workspace_bytes(), true}};
      work.transform({phase.fourier_plan.get(), code_.fourier_workspace(), touches[0].address,
                      touches[1].address, touches});
      continue;
    }
    if (phase.grid == 0) continue;
    std::vector<Touch> touched;
    for (const plan::Step* step : executions) {
      const std::vector<Touch> own = touches(*step, kernel.phases[i]);
      touched.insert(touched.end(), own.begin(), own.end());
    }
    const auto blocks = static_cast<std::uint32_t>(phase.grid * executions.size());
    work.kernel({&phase.function, blocks, phase.threads, phase.shared_bytes, arguments, maps,
                 touched, kernel.batch > 1});
  }
  work.end_kernel();
}

std::vector<Touch> CudaRunner::touches(const plan::Step& step, const plan::Phase& phase) const {
  std::vector<Touch> touched;
  for (std::size_t i = 0; i < step.buffers.size(); ++i) {
    const plan::Buffer& buffer = plan_.buffers[step.buffers[i]];
    const bool constant =
        buffer.kind == plan::BufferKind::constant || buffer.kind == plan::BufferKind::scalar;
    const plan::Phase::Access access =
        i < phase.accesses.size() ? phase.accesses[i] : plan::Phase::Access{true, !constant};
    if (!access.reads && !access.writes) continue;
    touched.push_back({memory_.addresses()[step.buffers[i]], buffer.type.bytes(), access.writes});
  }
  return touched;
}

void CudaRunner::set_index(Work& work, CUdeviceptr index, std::int64_t value) {
  const std::array<std::uint64_t, 2> arguments = {index, static_cast<std::uint64_t>(value)};
  const std::array<Touch, 1> touches = {Touch{index, sizeof value, true}};
  work.kernel({&code_.set_index(), 1, 1, 0, arguments, {}, touches});
}

void CudaRunner::next_index(Work& work, CUdeviceptr number, CUdeviceptr index) {
  const std::array<std::uint64_t, 2> arguments = {number, index};
  const std::array<Touch, 2> touches = {Touch{number, sizeof(std::int64_t), true},
                                        Touch{index, sizeof(std::int64_t), true}};
  work.kernel({&code_.next_index(), 1, 1, 0, arguments, {}, touches});
}

}  // namespace

std::unique_ptr<Runner> make_runner(const plan::Plan& plan, const PlanInfo& info,
                                    const RunOptions& options) {
  return std::make_unique<CudaRunner>(plan, info, options);
}

}  // namespace weft::runtime::cuda
