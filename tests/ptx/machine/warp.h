#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "tests/ptx/machine/machine.h"
#include "tests/ptx/machine/program.h"

namespace weft::ptx {

constexpr int kWarpThreads = 32;
constexpr std::uint32_t kAllLanes = 0xffffffff;

/// What an instruction does that it may not; the place is added to it.
class Fault : public std::runtime_error {
 public:
  explicit Fault(const std::string& what, int at_lane = -1)
      : std::runtime_error(what), lane(at_lane) {}
  int lane;  ///< -1: the first that executes the instruction
};

/// Generic addresses of shared and local memory; all others are those of the host.
constexpr std::uint64_t kSharedWindow = 0x0100'0000'0000'0000;
constexpr std::uint64_t kLocalWindow = 0x0200'0000'0000'0000;
constexpr std::uint64_t kWindowBytes = 0x0000'0001'0000'0000;

/// Random numbers of a launch (splitmix64).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t bound) { return next() % bound; }

 private:
  std::uint64_t state_;
};

/// Global memory that may be accessed, as far as has been asked.
class GlobalMemory {
 public:
  GlobalMemory(const Device& device, const Variables* variables);
  bool contains(std::uint64_t begin, std::uint64_t end) {
    const Range& last = ranges_[last_];
    return (last.begin <= begin && end <= last.end) || find(begin, end);
  }

 private:
  struct Range {
    std::uint64_t begin = 1;
    std::uint64_t end = 0;
  };
  bool find(std::uint64_t begin, std::uint64_t end);

  const Device& device_;
  std::array<Range, 16> ranges_{};
  std::vector<Range> variables_;
  std::size_t last_ = 0;
  std::size_t oldest_ = 0;
};

/// Threads of a warp that are at the same instruction.
struct Group {
  std::uint32_t pc = 0;
  std::uint32_t mask = 0;
  bool waiting = false;  ///< for an event
  bool arrived = false;  ///< at the barrier of the instruction, in phase `phase` of it
  std::uint64_t phase = 0;
};

/// cp.async of the threads of a warp that has not happened yet.
struct AsyncCopy {
  std::uint32_t mask = 0;
  std::uint32_t pc = 0;
  std::int32_t bytes = 0;
  std::array<std::uint32_t, kWarpThreads> shared{};
  std::array<std::uint64_t, kWarpThreads> global{};
  std::array<std::int32_t, kWarpThreads> taken{};  ///< bytes; what is left of `bytes` is zero
  std::array<std::uint32_t, kWarpThreads> group{};
};

/// A matrix product that a warp has issued with the others of its warpgroup.
struct GroupIssue {
  const Instruction* instruction = nullptr;
  std::uint32_t pc = 0;
  std::uint64_t descriptor_a = 0;
  std::uint64_t descriptor_b = 0;
  bool scale_d = false;
  std::uint32_t group = 0;  ///< number of the warp's committed group that it belongs to
};

struct Block;

struct Warp {
  std::byte* registers = nullptr;
  Block* block = nullptr;
  const Program* program = nullptr;
  std::uint32_t index = 0;    ///< in the block
  std::uint32_t exists = 0;   ///< lanes that are threads of the block
  std::uint32_t target = 0;   ///< of Flow::jump
  std::uint32_t jumping = 0;  ///< lanes of Flow::jump
  std::uint32_t pc = 0;       ///< of the instruction that is being executed
  Group* group = nullptr;     ///< that executes it
  const char* reason = "";    ///< what Flow::wait waits for
  std::array<Group, kWarpThreads> groups{};
  int group_count = 0;
  bool stalled = false;  ///< until an event
  std::uint64_t seen_events = 0;
  std::byte* local = nullptr;

  // cp.async
  std::vector<AsyncCopy> copies;
  std::array<std::uint32_t, kWarpThreads> committed{};  ///< groups of each thread

  // wgmma
  std::vector<GroupIssue> issues;
  std::uint32_t committed_products = 0;  ///< groups
  std::uint32_t demanded_products = 0;   ///< groups that the warp waits for
  std::uint32_t completed_products = 0;
  bool fenced = false;

  template <class T>
  T* lanes(std::uint32_t offset) {
    return reinterpret_cast<T*>(registers + offset);
  }
  std::uint32_t& predicate(std::uint32_t offset) {
    return *reinterpret_cast<std::uint32_t*>(registers + offset);
  }
};

/// A copy of a box of a tensor that has not happened yet.
struct TensorCopy {
  const TensorMap* map = nullptr;
  std::array<std::int32_t, 5> coordinates{};
  int dimensions = 0;
  std::uint32_t shared = 0;
  std::uint32_t barrier = 0;
  std::uint32_t warp = 0;
  std::uint32_t pc = 0;
  int lane = 0;
};

/// A barrier of bar.sync and the like.
struct NamedBarrier {
  std::uint32_t arrived = 0;  ///< threads
  std::uint32_t expected = 0;
  std::uint64_t phase = 0;
  std::array<std::uint32_t, 3> reduction{};       ///< popc, and, or of the phase
  std::array<std::uint32_t, 3> last_reduction{};  ///< of the phase before
};

/// The block that runs.
struct Block {
  const Entry* entry = nullptr;
  const Launch* launch = nullptr;
  const Device* device = nullptr;
  GlobalMemory* global = nullptr;
  Random* random = nullptr;
  std::span<std::byte> shared;
  std::span<const std::byte> parameters;  ///< aligned to 128
  std::array<std::uint32_t, 3> position{};
  std::uint64_t index = 0;
  std::uint32_t threads = 0;
  std::span<Warp> warps;
  std::array<NamedBarrier, 16> barriers{};
  std::vector<TensorCopy> copies;
  Counts* counts = nullptr;  ///< nullptr: nothing is counted
  std::uint64_t events = 1;  ///< what waits may go on after
};

/// Completes a tensor copy of the block. Throws Fault.
void complete(Block& block, std::size_t copy);
/// Completes a group of matrix products of a warpgroup, where no warp can go on otherwise. Returns
/// whether there was one.
bool force_products(Block& block);

// Lanes of registers. Types of up to 32 bits have 32-bit lanes, their upper bits are 0.

template <class T>
using Slot = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;

template <std::size_t kBytes>
struct UnsignedOf;
template <>
struct UnsignedOf<1> {
  using Type = std::uint8_t;
};
template <>
struct UnsignedOf<2> {
  using Type = std::uint16_t;
};
template <>
struct UnsignedOf<4> {
  using Type = std::uint32_t;
};
template <>
struct UnsignedOf<8> {
  using Type = std::uint64_t;
};
template <class T>
using Unsigned = typename UnsignedOf<sizeof(T)>::Type;

template <class T>
inline T get(Slot<T> slot) {
  return std::bit_cast<T>(static_cast<Unsigned<T>>(slot));
}
template <class T>
inline Slot<T> put(T value) {
  return std::bit_cast<Unsigned<T>>(value);
}

struct LaneBits {
  alignas(64) std::array<std::uint32_t, kWarpThreads> narrow{};
  alignas(64) std::array<std::uint64_t, kWarpThreads> wide{};
  constexpr LaneBits() {
    for (int i = 0; i < kWarpThreads; ++i) narrow[i] = wide[i] = std::uint32_t{1} << i;
  }
};
inline constexpr LaneBits kLaneBits;

inline bool in(std::uint32_t mask, int lane) { return (mask >> lane & 1) != 0; }

/// Writes the lanes of `mask`.
template <class S>
inline void write(S* registers, const S* values, std::uint32_t mask) {
  if (mask == kAllLanes) {
    std::memcpy(registers, values, sizeof(S) * kWarpThreads);
    return;
  }
  for (int i = 0; i < kWarpThreads; ++i) {
    if constexpr (sizeof(S) == 8) {
      registers[i] = (mask & kLaneBits.wide[i]) != 0 ? values[i] : registers[i];
    } else {
      registers[i] = (mask & kLaneBits.narrow[i]) != 0 ? values[i] : registers[i];
    }
  }
}

/// Writes what `value(lane)` gives, a D, into the lanes of `mask` of register `d`.
template <class D, class Value>
inline void assign(Warp& warp, std::uint32_t d, std::uint32_t mask, const Value& value) {
  alignas(64) Slot<D> values[kWarpThreads];
  for (int i = 0; i < kWarpThreads; ++i) values[i] = put<D>(value(i));
  write(warp.lanes<Slot<D>>(d), values, mask);
}

// Instructions that compute each lane of the result from the same lane of their operands with
// Operation::apply.

template <class Operation, class D, class A>
Flow unary(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto* a = warp.lanes<const Slot<A>>(i.a);
  assign<D>(warp, i.d, mask, [=](int lane) { return Operation::apply(get<A>(a[lane])); });
  return Flow::next;
}
template <class Operation, class D, class A, class B>
Flow binary(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto* a = warp.lanes<const Slot<A>>(i.a);
  const auto* b = warp.lanes<const Slot<B>>(i.b);
  assign<D>(warp, i.d, mask,
            [=](int lane) { return Operation::apply(get<A>(a[lane]), get<B>(b[lane])); });
  return Flow::next;
}
template <class Operation, class D, class A, class B, class C>
Flow ternary(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto* a = warp.lanes<const Slot<A>>(i.a);
  const auto* b = warp.lanes<const Slot<B>>(i.b);
  const auto* c = warp.lanes<const Slot<C>>(i.c);
  assign<D>(warp, i.d, mask, [=](int lane) {
    return Operation::apply(get<A>(a[lane]), get<B>(b[lane]), get<C>(c[lane]));
  });
  return Flow::next;
}

}  // namespace weft::ptx
