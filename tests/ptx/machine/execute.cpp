#include <fmt/format.h>

#include <algorithm>
#include <cfenv>
#include <cstdlib>
#include <memory>
#include <new>

#include "tests/ptx/machine/warp.h"

namespace weft::ptx {
namespace {

constexpr std::int64_t kAlignment = 1024;
constexpr std::uint64_t kMostSlice = 8;  // slices have up to 2^7 instructions

/// Memory of bytes that begins at a multiple of kAlignment.
class Memory {
 public:
  explicit Memory(std::int64_t bytes)
      : bytes_(static_cast<std::size_t>(bytes)),
        data_(static_cast<std::byte*>(
            ::operator new(std::max<std::size_t>(bytes_, 1), std::align_val_t{kAlignment}))) {
    std::memset(data_.get(), 0xff, bytes_);
  }
  std::byte* data() const { return data_.get(); }
  std::span<std::byte> span() const { return {data_.get(), bytes_}; }

 private:
  struct Delete {
    void operator()(std::byte* data) const {
      ::operator delete(data, std::align_val_t{kAlignment});
    }
  };
  std::size_t bytes_;
  std::unique_ptr<std::byte, Delete> data_;
};

/// The default rounding and subnormal numbers, whatever the caller has set.
class FloatingEnvironment {
 public:
  FloatingEnvironment() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~FloatingEnvironment() { std::fesetenv(&before_); }
  FloatingEnvironment(const FloatingEnvironment&) = delete;
  FloatingEnvironment& operator=(const FloatingEnvironment&) = delete;

 private:
  std::fenv_t before_{};
};

std::string place(const std::array<std::uint32_t, 3>& extents, std::uint64_t index) {
  if (extents[1] == 1 && extents[2] == 1) return fmt::format("{}", index);
  return fmt::format("{} ({}, {}, {})", index, index % extents[0], index / extents[0] % extents[1],
                     index / extents[0] / extents[1]);
}

[[noreturn]] void fail(const Block& block, const Warp& warp, std::uint32_t pc, int lane,
                       const std::string& what) {
  const Source& source = warp.program->sources[pc];
  const std::uint64_t thread =
      std::uint64_t{warp.index} * kWarpThreads + static_cast<std::uint64_t>(std::max(lane, 0));
  throw Error(fmt::format("kernel {}: line {}: {}: block {}, thread {}: {}", warp.program->name,
                          source.line, source.text, place(block.launch->grid, block.index),
                          place(block.launch->block, thread), what));
}

void check(const Entry& entry, const Launch& launch) {
  const auto refuse = [&](const std::string& what) {
    throw Error(fmt::format("kernel {}: {}", entry.name, what));
  };
  std::uint64_t threads = 1;
  for (std::size_t i = 0; i < 3; ++i) {
    if (launch.grid[i] == 0 || launch.block[i] == 0) refuse("a grid or block without threads");
    threads *= launch.block[i];
    if (threads > 1024) refuse("more than 1024 threads in a block");
    if (entry.required_threads[0] != 0 && entry.required_threads[i] != launch.block[i]) {
      refuse(fmt::format("blocks of {} x {} x {} threads where .reqntid is {} x {} x {}",
                         launch.block[0], launch.block[1], launch.block[2],
                         entry.required_threads[0], entry.required_threads[1],
                         entry.required_threads[2]));
    }
  }
  if (launch.grid[1] > 65535 || launch.grid[2] > 65535 || launch.grid[0] > 0x7fffffff) {
    refuse("a grid of too many blocks");
  }
  if (static_cast<std::int64_t>(launch.parameters.size()) != entry.parameter_bytes) {
    refuse(fmt::format("{} bytes of parameters where it takes {}", launch.parameters.size(),
                       entry.parameter_bytes));
  }
  constexpr std::int64_t kMostShared = 227 * 1024;
  if (launch.dynamic_shared_bytes < 0 ||
      launch.dynamic_shared_bytes + entry.static_shared_bytes > kMostShared) {
    refuse(fmt::format("{} bytes of static and {} of dynamic shared memory, more than {}",
                       entry.static_shared_bytes, launch.dynamic_shared_bytes, kMostShared));
  }
}

/// Runs the blocks of a launch.
class Run {
 public:
  Run(const Entry& entry, const Launch& launch, const Device& device);
  void blocks();

 private:
  void start(std::uint64_t index);
  std::uint32_t special(Special special, const Warp& warp, int lane) const;
  void finish_block();
  bool slice(Warp& warp, std::uint64_t instructions);
  int pick(Warp& warp);
  static void add(Warp& warp, std::uint32_t pc, std::uint32_t mask);
  static void remove(Warp& warp, int group);
  void force();
  void poll();
  [[noreturn]] void deadlock();

  const Entry& entry_;
  const Launch& launch_;
  const Program& program_;
  GlobalMemory global_;
  Random random_;
  Memory shared_;
  Memory parameters_;
  std::int64_t stride_;  ///< bytes of a warp's registers
  Memory image_;         ///< a warp's registers as they begin
  Memory registers_;
  Memory local_;
  std::vector<Warp> warps_;
  Block block_;
  std::uint64_t polled_events_ = 0;
  std::uint64_t polls_ = 0;
};

std::int64_t warps_of(const Launch& launch) {
  return (std::int64_t{launch.block[0]} * launch.block[1] * launch.block[2] + kWarpThreads - 1) /
         kWarpThreads;
}

Run::Run(const Entry& entry, const Launch& launch, const Device& device)
    : entry_(entry),
      launch_(launch),
      program_(*entry.program),
      global_(device, program_.variables.get()),
      random_(launch.seed),
      shared_(program_.static_shared_bytes + launch.dynamic_shared_bytes),
      parameters_(program_.parameter_bytes),
      stride_((program_.register_bytes + 127) / 128 * 128),
      image_(stride_),
      registers_(stride_ * warps_of(launch)),
      local_(program_.local_bytes * kWarpThreads * warps_of(launch)),
      warps_(static_cast<std::size_t>(warps_of(launch))) {
  std::copy(launch.parameters.begin(), launch.parameters.end(), parameters_.data());
  for (const Constant& constant : program_.constants) {
    for (int lane = 0; lane < kWarpThreads; ++lane) {
      if (constant.wide) {
        reinterpret_cast<std::uint64_t*>(image_.data() + constant.offset)[lane] = constant.value;
      } else {
        reinterpret_cast<std::uint32_t*>(image_.data() + constant.offset)[lane] =
            static_cast<std::uint32_t>(constant.value);
      }
    }
  }
  block_.entry = &entry;
  block_.launch = &launch;
  block_.device = &device;
  block_.global = &global_;
  block_.random = &random_;
  block_.shared = shared_.span();
  block_.parameters = parameters_.span();
  block_.threads = launch.block[0] * launch.block[1] * launch.block[2];
  block_.warps = warps_;
  block_.counts = launch.counts;
  if (block_.counts != nullptr && block_.counts->instructions.empty()) {
    for (const Source& source : program_.sources) {
      block_.counts->instructions.push_back({.line = source.line, .text = source.text});
    }
  }
  for (std::size_t i = 0; i < warps_.size(); ++i) {
    Warp& warp = warps_[i];
    warp.registers = registers_.data() + stride_ * static_cast<std::int64_t>(i);
    warp.block = &block_;
    warp.program = &program_;
    warp.index = static_cast<std::uint32_t>(i);
    warp.local = local_.data() + program_.local_bytes * kWarpThreads * static_cast<std::int64_t>(i);
    const std::uint32_t threads = block_.threads - static_cast<std::uint32_t>(i) * kWarpThreads;
    warp.exists = threads >= kWarpThreads ? kAllLanes : (std::uint32_t{1} << threads) - 1;
  }
}

std::uint32_t Run::special(Special special, const Warp& warp, int lane) const {
  const std::uint32_t thread = warp.index * kWarpThreads + static_cast<std::uint32_t>(lane);
  const std::uint32_t bit = std::uint32_t{1} << lane;
  const auto& block = launch_.block;
  switch (special) {
    case Special::tid_x:
      return thread % block[0];
    case Special::tid_y:
      return thread / block[0] % block[1];
    case Special::tid_z:
      return thread / block[0] / block[1];
    case Special::ntid_x:
      return block[0];
    case Special::ntid_y:
      return block[1];
    case Special::ntid_z:
      return block[2];
    case Special::ctaid_x:
      return block_.position[0];
    case Special::ctaid_y:
      return block_.position[1];
    case Special::ctaid_z:
      return block_.position[2];
    case Special::nctaid_x:
      return launch_.grid[0];
    case Special::nctaid_y:
      return launch_.grid[1];
    case Special::nctaid_z:
      return launch_.grid[2];
    case Special::laneid:
      return static_cast<std::uint32_t>(lane);
    case Special::warpid:
      return warp.index;
    case Special::nwarpid:
      return static_cast<std::uint32_t>(warps_.size());
    case Special::lanemask_eq:
      return bit;
    case Special::lanemask_le:
      return bit | (bit - 1);
    case Special::lanemask_lt:
      return bit - 1;
    case Special::lanemask_ge:
      return ~(bit - 1);
    case Special::lanemask_gt:
      return ~(bit | (bit - 1));
    case Special::dynamic_smem_size:
      return static_cast<std::uint32_t>(launch_.dynamic_shared_bytes);
    case Special::total_smem_size:
      return static_cast<std::uint32_t>(block_.shared.size());
    case Special::zero:
      return 0;
    case Special::one:
      return 1;
  }
  return 0;
}

void Run::start(std::uint64_t index) {
  block_.index = index;
  block_.position = {static_cast<std::uint32_t>(index % launch_.grid[0]),
                     static_cast<std::uint32_t>(index / launch_.grid[0] % launch_.grid[1]),
                     static_cast<std::uint32_t>(index / launch_.grid[0] / launch_.grid[1])};
  std::fill(block_.shared.begin(), block_.shared.end(), std::byte{0xff});
  block_.barriers.fill({});
  block_.copies.clear();
  for (Warp& warp : warps_) {
    std::memcpy(warp.registers, image_.data(), static_cast<std::size_t>(stride_));
    for (const SpecialRegister& each : program_.specials) {
      auto* lanes = warp.lanes<std::uint32_t>(each.offset);
      for (int lane = 0; lane < kWarpThreads; ++lane)
        lanes[lane] = special(each.special, warp, lane);
    }
    std::memset(warp.local, 0xff, static_cast<std::size_t>(program_.local_bytes) * kWarpThreads);
    warp.groups[0] = {};
    warp.groups[0].mask = warp.exists;
    warp.group_count = 1;
    warp.stalled = false;
    warp.copies.clear();
    warp.committed.fill(0);
    warp.issues.clear();
    warp.committed_products = warp.demanded_products = warp.completed_products = 0;
    warp.fenced = false;
  }
}

void Run::blocks() {
  const std::uint64_t count = std::uint64_t{launch_.grid[0]} * launch_.grid[1] * launch_.grid[2];
  std::vector<std::uint32_t> ready;
  const std::uint64_t runs =
      launch_.most_blocks == 0 ? count : std::min(count, launch_.most_blocks);
  if (block_.counts != nullptr) block_.counts->blocks += runs;
  for (std::uint64_t number = 0; number < runs; ++number) {
    start(number * count / runs);
    // How late copies are, on average: after that many slices.
    const std::uint64_t lateness = std::uint64_t{1} << random_.below(7);
    for (;;) {
      ready.clear();
      bool alive = false;
      for (const Warp& warp : warps_) {
        alive |= warp.group_count > 0;
        if (warp.group_count > 0 && (!warp.stalled || warp.seen_events != block_.events)) {
          ready.push_back(warp.index);
        }
      }
      if (!alive) break;
      if (ready.empty()) {
        if (block_.copies.empty()) {
          force();
          continue;
        }
      } else {
        Warp& warp = warps_[ready[random_.below(ready.size())]];
        slice(warp, std::uint64_t{1} << random_.below(kMostSlice));
      }
      if (!block_.copies.empty() && (ready.empty() || random_.below(lateness) == 0)) {
        const std::size_t copy = random_.below(block_.copies.size());
        const TensorCopy what = block_.copies[copy];
        try {
          complete(block_, copy);
        } catch (const std::exception& error) {
          fail(block_, warps_[what.warp], what.pc, what.lane, error.what());
        }
      }
    }
    finish_block();
  }
}

/// No warp goes on by itself, and there is no copy to wait for.
void Run::force() {
  try {
    if (!force_products(block_)) deadlock();
  } catch (const Fault& fault) {
    for (const Warp& warp : warps_) {
      if (warp.demanded_products > warp.completed_products) {
        fail(block_, warp, warp.pc, 0, fault.what());
      }
    }
    throw;
  }
}

void Run::finish_block() {
  if (!block_.copies.empty()) {
    const TensorCopy& copy = block_.copies.front();
    fail(block_, warps_[copy.warp], copy.pc, copy.lane,
         "the block has ended before the copy into its shared memory");
  }
  for (const Warp& warp : warps_) {
    if (!warp.issues.empty()) {
      fail(block_, warp, warp.issues.front().pc, 0,
           "the block has ended before a wait for the matrix product");
    }
  }
}

void Run::add(Warp& warp, std::uint32_t pc, std::uint32_t mask) {
  Group& group = warp.groups[static_cast<std::size_t>(warp.group_count++)];
  group = {};
  group.pc = pc;
  group.mask = mask;
}

void Run::remove(Warp& warp, int group) {
  --warp.group_count;
  warp.groups[static_cast<std::size_t>(group)] =
      warp.groups[static_cast<std::size_t>(warp.group_count)];
}

/// The group that goes on: of those that do not wait, the one whose instruction comes first in the
/// text. Threads at the same instruction join. -1: all wait.
int Run::pick(Warp& warp) {
  int best = -1;
  for (int i = 0; i < warp.group_count; ++i) {
    const Group& group = warp.groups[static_cast<std::size_t>(i)];
    if (!group.waiting && (best < 0 || group.pc < warp.groups[static_cast<std::size_t>(best)].pc)) {
      best = i;
    }
  }
  if (best < 0) return -1;
  for (int i = 0; i < warp.group_count;) {
    const Group& group = warp.groups[static_cast<std::size_t>(i)];
    Group& into = warp.groups[static_cast<std::size_t>(best)];
    if (i == best || group.pc != into.pc || group.arrived || into.arrived) {
      ++i;
      continue;
    }
    into.mask |= group.mask;
    if (best == warp.group_count - 1) best = i;
    remove(warp, i);
    i = 0;
  }
  return best;
}

/// Runs a warp for so many instructions, or until all its threads wait or have ended. Returns
/// whether it may go on at once.
bool Run::slice(Warp& warp, std::uint64_t instructions) {
  const Instruction* const code = program_.code.data();
  if (warp.stalled) {
    for (int i = 0; i < warp.group_count; ++i)
      warp.groups[static_cast<std::size_t>(i)].waiting = false;
    warp.stalled = false;
  }
  warp.seen_events = block_.events;
  try {
    while (warp.group_count > 0) {
      const int picked = pick(warp);
      if (picked < 0) {
        warp.stalled = true;
        if (warp.seen_events == block_.events) return false;
        // An event of the warp's own.
        warp.seen_events = block_.events;
        warp.stalled = false;
        for (int i = 0; i < warp.group_count; ++i) {
          warp.groups[static_cast<std::size_t>(i)].waiting = false;
        }
        continue;
      }
      Group& group = warp.groups[static_cast<std::size_t>(picked)];
      warp.group = &group;
      std::uint32_t pc = group.pc;
      const std::uint32_t active = group.mask;
      std::uint32_t join = kNone;  // where another group is
      for (int i = 0; i < warp.group_count; ++i) {
        const std::uint32_t other = warp.groups[static_cast<std::size_t>(i)].pc;
        if (other > pc) join = std::min(join, other);
      }
      for (;;) {
        if (instructions-- == 0) {
          group.pc = pc;
          return true;
        }
        const Instruction& instruction = code[pc];
        std::uint32_t mask = active;
        if (instruction.guard != kNone) {
          const std::uint32_t guard = warp.predicate(instruction.guard);
          mask &= instruction.guard_negated ? ~guard : guard;
          if (instruction.collective && mask != active && mask != 0) {
            group.pc = pc;
            group.mask = mask;
            add(warp, pc + 1, active & ~mask);
            break;
          }
        }
        Flow flow = Flow::next;
        if (mask != 0) {
          warp.pc = pc;
          flow = instruction.execute(warp, instruction, mask);
        }
        if (block_.counts != nullptr && flow != Flow::wait) {
          Counts::Instruction& counts = block_.counts->instructions[pc];
          ++counts.warps;
          counts.threads += static_cast<std::uint64_t>(std::popcount(mask));
        }
        if (flow == Flow::next) {
          if (++pc != join) continue;
          group.pc = pc;
          break;
        }
        if (flow == Flow::jump) {
          const std::uint32_t jumping = warp.jumping;
          if (jumping == active && warp.group_count == 1) {
            pc = warp.target;
            continue;
          }
          group.pc = warp.target;
          if (jumping != active) {
            group.mask = jumping;
            // Lanes that a table sends elsewhere stay; the others are not branching.
            add(warp, mask == jumping ? pc + 1 : pc, active & ~jumping);
          }
          break;
        }
        group.pc = flow == Flow::wait ? pc : pc + 1;
        if (flow == Flow::yield) {
          poll();
          return true;
        }
        if (flow == Flow::wait) group.waiting = true;
        if (flow == Flow::exit) {
          ++block_.events;
          group.mask &= ~mask;
          if (group.mask == 0) remove(warp, picked);
        }
        break;
      }
    }
  } catch (const Fault& fault) {
    int lane = fault.lane;
    if (lane < 0) lane = std::countr_zero(warp.group->mask);
    fail(block_, warp, warp.pc, lane, fault.what());
  } catch (const Error&) {
    throw;
  } catch (const std::logic_error& error) {
    fail(block_, warp, warp.pc, std::countr_zero(warp.group->mask), error.what());
  }
  return false;
}

/// Counts turns that warps gave away while nothing else happened.
void Run::poll() {
  constexpr std::uint64_t kMostPolls = 1 << 24;
  if (polled_events_ != block_.events) {
    polled_events_ = block_.events;
    polls_ = 0;
  }
  if (++polls_ > kMostPolls && block_.copies.empty()) {
    throw Fault("deadlock: it has asked many times for what does not happen");
  }
}

void Run::deadlock() {
  const Warp* first = nullptr;
  const Group* waits = nullptr;
  for (const Warp& warp : warps_) {
    for (int i = 0; i < warp.group_count; ++i) {
      const Group& group = warp.groups[static_cast<std::size_t>(i)];
      // A part of a warp where all of it is needed is the cause rather than the effect.
      const bool part = !group.arrived && group.mask != warp.exists;
      if (waits == nullptr || (part && waits->mask == first->exists)) {
        first = &warp;
        waits = &group;
      }
    }
  }
  // What a wait is for is asked of the instruction again.
  Warp& warp = warps_[first->index];
  warp.pc = waits->pc;
  warp.group = &warp.groups[static_cast<std::size_t>(waits - first->groups.data())];
  const Instruction& instruction = program_.code[waits->pc];
  try {
    instruction.execute(warp, instruction, waits->mask);
  } catch (const std::exception& error) {
    fail(block_, warp, waits->pc, std::countr_zero(waits->mask), error.what());
  }
  fail(block_, warp, waits->pc, std::countr_zero(waits->mask),
       fmt::format("deadlock: it waits {}", warp.reason));
}

}  // namespace

GlobalMemory::GlobalMemory(const Device& device, const Variables* variables) : device_(device) {
  if (variables == nullptr) return;
  for (const Variables::Variable& variable : variables->variables) {
    const auto begin = reinterpret_cast<std::uintptr_t>(variable.data);
    variables_.push_back({begin, begin + static_cast<std::uint64_t>(variable.bytes)});
  }
}

bool GlobalMemory::find(std::uint64_t begin, std::uint64_t end) {
  if (end < begin) return false;
  const auto inside = [&](const Range& range) { return range.begin <= begin && end <= range.end; };
  for (std::size_t i = 0; i < ranges_.size(); ++i) {
    if (inside(ranges_[i])) {
      last_ = i;
      return true;
    }
  }
  if (std::any_of(variables_.begin(), variables_.end(), inside)) return true;
  if (!device_.is_global || !device_.is_global(begin, static_cast<std::int64_t>(end - begin))) {
    return false;
  }
  // Kept with what is around it, which is likely to be asked for next.
  constexpr std::uint64_t kAround = 1 << 12;
  Range found{begin, end};
  if (device_.is_global(begin, static_cast<std::int64_t>(end + kAround - begin))) {
    found.end = end + kAround;
  }
  if (begin > kAround &&
      device_.is_global(begin - kAround, static_cast<std::int64_t>(found.end - begin + kAround))) {
    found.begin = begin - kAround;
  }
  std::size_t place = oldest_;
  for (std::size_t i = 0; i < ranges_.size(); ++i) {
    if (ranges_[i].begin <= found.end && found.begin <= ranges_[i].end) {
      found.begin = std::min(found.begin, ranges_[i].begin);
      found.end = std::max(found.end, ranges_[i].end);
      place = i;
      break;
    }
  }
  if (place == oldest_) oldest_ = (oldest_ + 1) % ranges_.size();
  ranges_[place] = found;
  last_ = place;
  return true;
}

void run(const Entry& entry, const Launch& launch, const Device& device) {
  check(entry, launch);
  const FloatingEnvironment environment;
  Run(entry, launch, device).blocks();
}

}  // namespace weft::ptx
