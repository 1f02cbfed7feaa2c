#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "tests/ptx/machine/access.h"
#include "tests/ptx/machine/integer_operations.h"

namespace weft::ptx {

bool whole_warp(Warp& warp, std::uint32_t mask) {
  if (mask == warp.exists) return true;
  warp.reason = "for all threads of its warp";
  return false;
}

namespace {

using integers::Add;
using integers::And;
using integers::ExclusiveOr;
using integers::Maximum;
using integers::Minimum;
using integers::Or;

/// Whether all threads that the member masks name are here. Throws Fault where a mask does not name
/// its own thread, or threads disagree.
bool members_are_here(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto* members = warp.lanes<const std::uint32_t>(i.c);
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const std::uint32_t all = members[lane];
    if (!in(all, lane)) {
      throw Fault(fmt::format("the member mask 0x{:08x} does not name the thread", all), lane);
    }
    if ((all & warp.exists & ~mask) != 0) {
      warp.reason = "for the threads of its member mask";
      return false;
    }
    if (members[std::countr_zero(all & mask)] != all) {
      throw Fault("threads of one member mask have another", lane);
    }
  }
  return true;
}

void write_predicate(Warp& warp, std::uint32_t d, std::uint32_t mask, std::uint32_t value) {
  std::uint32_t& predicate = warp.predicate(d);
  predicate = (predicate & ~mask) | (value & mask);
}

enum class Shuffle : std::uint8_t { up, down, butterfly, index };

Flow shuffle(Warp& warp, const Instruction& i, std::uint32_t mask) {
  if (!members_are_here(warp, i, mask)) return Flow::wait;
  alignas(64) std::uint32_t a[kWarpThreads];
  std::memcpy(a, warp.lanes<const std::uint32_t>(i.a), sizeof a);
  const auto* b = warp.lanes<const std::uint32_t>(i.b);
  const auto* clamp = warp.lanes<const std::uint32_t>(warp.program->lists[i.list]);
  const auto kind = static_cast<Shuffle>(i.mode);
  alignas(64) std::uint32_t values[kWarpThreads] = {};
  std::uint32_t inside = 0;
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    const int segment = static_cast<int>(clamp[lane] >> 8 & 31);
    const int bound = static_cast<int>(clamp[lane] & 31);
    const int amount = static_cast<int>(b[lane] & 31);
    const int last = (lane & segment) | (bound & ~segment);
    int from = lane;
    bool holds = false;
    switch (kind) {
      case Shuffle::up:
        from = lane - amount;
        holds = from >= last;
        break;
      case Shuffle::down:
        from = lane + amount;
        holds = from <= last;
        break;
      case Shuffle::butterfly:
        from = lane ^ amount;
        holds = from <= last;
        break;
      case Shuffle::index:
        from = (lane & segment) | (amount & ~segment);
        holds = from <= last;
        break;
    }
    if (!holds) from = lane;
    // What a thread that is not here has is undefined.
    values[lane] = in(mask, from) ? a[from] : 0xffffffff;
    if (holds) inside |= std::uint32_t{1} << lane;
  }
  write(warp.lanes<std::uint32_t>(i.d), values, mask);
  if (i.count != 0) write_predicate(warp, warp.program->lists[i.list + 1], mask, inside);
  return Flow::next;
}

void decode_shuffle(Decode& decode) {
  if (!decode.take("sync")) decode.fail(".sync is missing");
  const int kind = decode.take_one({"up", "down", "bfly", "idx"});
  if (kind < 0) decode.fail(".up, .down, .bfly or .idx is missing");
  const Type type = decode.type();
  if (type != Type::b32) decode.refuse(type);
  decode.expect(5);
  Instruction i;
  i.execute = shuffle;
  i.collective = true;
  i.mode = static_cast<std::uint16_t>(kind);
  i.a = decode.source(1, type);
  i.b = decode.source(2, type);
  i.c = decode.source(4, type);
  std::vector<std::uint32_t> list = {decode.source(3, type)};
  Operand target = decode.operand(0);
  if (!target.second.empty()) {
    list.push_back(decode.predicate(target.second));
    i.count = 1;
    target.second = {};
  }
  i.list = decode.builder().list(list);
  i.d = decode.destination(target, type);
  decode.emit(i);
}

enum class Vote : std::uint8_t { all, any, uniform, ballot };

Flow vote(Warp& warp, const Instruction& i, std::uint32_t mask) {
  if (!members_are_here(warp, i, mask)) return Flow::wait;
  const std::uint32_t a = warp.predicate(i.a) ^ (i.count != 0 ? kAllLanes : 0);
  const auto* members = warp.lanes<const std::uint32_t>(i.c);
  alignas(64) std::uint32_t values[kWarpThreads] = {};
  std::uint32_t holds = 0;
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    const std::uint32_t all = members[lane] & mask;
    const std::uint32_t votes = a & all;
    values[lane] = votes;
    bool result = false;
    switch (static_cast<Vote>(i.mode)) {
      case Vote::all:
        result = votes == all;
        break;
      case Vote::any:
        result = votes != 0;
        break;
      case Vote::uniform:
        result = votes == 0 || votes == all;
        break;
      case Vote::ballot:
        break;
    }
    if (result) holds |= std::uint32_t{1} << lane;
  }
  if (static_cast<Vote>(i.mode) == Vote::ballot) {
    write(warp.lanes<std::uint32_t>(i.d), values, mask);
  } else {
    write_predicate(warp, i.d, mask, holds);
  }
  return Flow::next;
}

void decode_vote(Decode& decode) {
  if (!decode.take("sync")) decode.fail(".sync is missing");
  const int kind = decode.take_one({"all", "any", "uni", "ballot"});
  const Type type = decode.type();
  if (kind < 0 || type != (kind == 3 ? Type::b32 : Type::pred)) decode.refuse(type);
  decode.expect(3);
  Instruction i;
  bool negated = false;
  i.execute = vote;
  i.collective = true;
  i.mode = static_cast<std::uint16_t>(kind);
  i.a = decode.source_predicate(1, negated);
  i.count = negated ? 1 : 0;
  i.c = decode.source(2, Type::b32);
  i.d = kind == 3 ? decode.destination(0, type) : decode.predicate(decode.operand(0).name);
  decode.emit(i);
}

template <class Operation, class T>
Flow reduce(Warp& warp, const Instruction& i, std::uint32_t mask) {
  if (!members_are_here(warp, i, mask)) return Flow::wait;
  const auto* a = warp.lanes<const std::uint32_t>(i.a);
  const auto* members = warp.lanes<const std::uint32_t>(i.c);
  assign<T>(warp, i.d, mask, [&](int lane) {
    T result{};
    bool first = true;
    for (std::uint32_t rest = members[lane] & mask; rest != 0; rest &= rest - 1) {
      const T value = get<T>(a[std::countr_zero(rest)]);
      result = first ? value : Operation::apply(result, value);
      first = false;
    }
    return result;
  });
  return Flow::next;
}

void decode_reduce(Decode& decode) {
  if (!decode.take("sync")) decode.fail(".sync is missing");
  const int operation = decode.take_one({"add", "min", "max", "and", "or", "xor"});
  const Type type = decode.type();
  const bool bitwise = operation > 2;
  const bool known =
      bitwise ? type == Type::b32 : operation >= 0 && (type == Type::u32 || type == Type::s32);
  if (!known) decode.refuse(type);
  decode.expect(3);
  using U = std::uint32_t;
  using S = std::int32_t;
  const bool sign = type == Type::s32;
  Instruction i;
  switch (operation) {
    case 0:
      i.execute = sign ? reduce<Add, S> : reduce<Add, U>;
      break;
    case 1:
      i.execute = sign ? reduce<Minimum, S> : reduce<Minimum, U>;
      break;
    case 2:
      i.execute = sign ? reduce<Maximum, S> : reduce<Maximum, U>;
      break;
    case 3:
      i.execute = reduce<And, U>;
      break;
    case 4:
      i.execute = reduce<Or, U>;
      break;
    default:
      i.execute = reduce<ExclusiveOr, U>;
      break;
  }
  i.collective = true;
  i.a = decode.source(1, type);
  i.c = decode.source(2, Type::b32);
  i.d = decode.destination(0, type);
  decode.emit(i);
}

/// Which members have the same value; of .all: all if they do.
template <class T>
Flow match(Warp& warp, const Instruction& i, std::uint32_t mask) {
  if (!members_are_here(warp, i, mask)) return Flow::wait;
  alignas(64) Slot<T> a[kWarpThreads];
  std::memcpy(a, warp.lanes<const Slot<T>>(i.a), sizeof a);
  const auto* members = warp.lanes<const std::uint32_t>(i.c);
  const bool all = i.mode != 0;
  alignas(64) std::uint32_t values[kWarpThreads] = {};
  std::uint32_t holds = 0;
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    const std::uint32_t others = members[lane] & mask;
    for (std::uint32_t rest = others; rest != 0; rest &= rest - 1) {
      if (a[std::countr_zero(rest)] == a[lane]) values[lane] |= rest & (0 - rest);
    }
    if (values[lane] == others) holds |= std::uint32_t{1} << lane;
    if (all && values[lane] != others) values[lane] = 0;
  }
  write(warp.lanes<std::uint32_t>(i.d), values, mask);
  if (i.count != 0) write_predicate(warp, i.list, mask, holds);
  return Flow::next;
}

void decode_match(Decode& decode) {
  const int kind = decode.take_one({"any", "all"});
  if (kind < 0 || !decode.take("sync")) decode.fail(".any.sync or .all.sync is missing");
  const Type type = decode.type();
  if (type != Type::b32 && type != Type::b64) decode.refuse(type);
  decode.expect(3);
  Instruction i;
  i.execute = type == Type::b32 ? match<std::uint32_t> : match<std::uint64_t>;
  i.collective = true;
  i.mode = static_cast<std::uint16_t>(kind);
  i.a = decode.source(1, type);
  i.c = decode.source(2, Type::b32);
  Operand target = decode.operand(0);
  if (!target.second.empty()) {
    if (kind == 0) decode.fail("match.any has no predicate");
    i.count = 1;
    i.list = decode.predicate(target.second);
    target.second = {};
  }
  i.d = decode.destination(target, Type::b32);
  decode.emit(i);
}

/// One of the members is elected: here the first.
Flow elect(Warp& warp, const Instruction& i, std::uint32_t mask) {
  if (!members_are_here(warp, i, mask)) return Flow::wait;
  const auto* members = warp.lanes<const std::uint32_t>(i.c);
  std::uint32_t elected = 0;
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const std::uint32_t others = members[std::countr_zero(rest)] & mask;
    elected |= others & (0 - others);
  }
  assign<std::uint32_t>(warp, i.d, mask, [&](int lane) {
    return static_cast<std::uint32_t>(std::countr_zero(members[lane] & mask));
  });
  write_predicate(warp, i.list, mask, elected);
  return Flow::next;
}

void decode_elect(Decode& decode) {
  if (!decode.take("sync")) decode.fail(".sync is missing");
  decode.expect(2);
  Operand target = decode.operand(0);
  if (target.second.empty()) decode.fail("the predicate is missing");
  Instruction i;
  i.execute = elect;
  i.collective = true;
  i.list = decode.predicate(target.second);
  target.second = {};
  i.d = target.name == "_" ? decode.builder().scratch() : decode.destination(target, Type::b32);
  i.c = decode.source(1, Type::b32);
  decode.emit(i);
}

Flow active_mask(Warp& warp, const Instruction& i, std::uint32_t mask) {
  assign<std::uint32_t>(warp, i.d, mask, [=](int) { return mask; });
  return Flow::next;
}

void decode_active_mask(Decode& decode) {
  if (!decode.take("b32")) decode.fail(".b32 is missing");
  decode.expect(1);
  Instruction i;
  i.execute = active_mask;
  i.d = decode.destination(0, Type::b32);
  decode.emit(i);
}

// Barriers of a block.

constexpr std::uint16_t kArrive = 1;
constexpr std::uint16_t kAligned = 2;
constexpr std::uint16_t kNegated = 4;
constexpr std::uint16_t kReduction = 8;  ///< and twice and three times that: popc, and, or

std::uint32_t uniform(Warp& warp, std::uint32_t offset, std::uint32_t mask, const char* what) {
  const auto* values = warp.lanes<const std::uint32_t>(offset);
  const std::uint32_t first = values[std::countr_zero(mask)];
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    if (in(mask, lane) && values[lane] != first) {
      throw Fault(fmt::format("threads of a warp name different {}", what), lane);
    }
  }
  return first;
}

/// The threads of a warp come to a barrier.
void arrive(Warp& warp, const Instruction& i, std::uint32_t mask, NamedBarrier& barrier) {
  const std::uint32_t all = static_cast<std::uint32_t>(warp.block->warps.size()) * kWarpThreads;
  std::uint32_t expected = all;
  if (i.b != kNone) {
    expected = uniform(warp, i.b, mask, "counts of threads");
    if (expected == 0 || expected % kWarpThreads != 0) {
      throw Fault(
          fmt::format("{} threads at a barrier are no multiple of {}", expected, kWarpThreads));
    }
  }
  if (barrier.arrived != 0 && barrier.expected != expected) {
    throw Fault(fmt::format("it expects {} threads at the barrier, those before {}", expected,
                            barrier.expected));
  }
  barrier.expected = expected;
  // A warp counts as 32 threads, however many the block's last one has.
  auto count = static_cast<std::uint32_t>(std::popcount(mask));
  const int last = std::bit_width(warp.exists) - 1;
  if (in(mask, last))
    count += kWarpThreads - static_cast<std::uint32_t>(std::popcount(warp.exists));
  if (i.c != kNone) {
    const std::uint32_t holds =
        (warp.predicate(i.c) ^ ((i.mode & kNegated) != 0 ? kAllLanes : 0)) & mask;
    if (barrier.arrived == 0) barrier.reduction = {0, 1, 0};
    barrier.reduction[0] += static_cast<std::uint32_t>(std::popcount(holds));
    barrier.reduction[1] &= holds == mask ? 1 : 0;
    barrier.reduction[2] |= holds != 0 ? 1 : 0;
  }
  barrier.arrived += count;
  if (barrier.arrived > expected) {
    throw Fault(fmt::format("{} threads have come to the barrier, it expects {}", barrier.arrived,
                            expected));
  }
  if (barrier.arrived == expected) {
    barrier.arrived = 0;
    barrier.last_reduction = barrier.reduction;
    ++barrier.phase;
    ++warp.block->events;
  }
}

Flow barrier(Warp& warp, const Instruction& i, std::uint32_t mask) {
  if ((i.mode & kAligned) != 0 && !whole_warp(warp, mask)) return Flow::wait;
  const std::uint32_t number = uniform(warp, i.a, mask, "barriers");
  Block& block = *warp.block;
  if (number >= block.barriers.size()) throw Fault(fmt::format("there is no barrier {}", number));
  NamedBarrier& state = block.barriers[number];
  Group& group = *warp.group;
  if (!group.arrived) {
    group.phase = state.phase;
    arrive(warp, i, mask, state);
    if ((i.mode & kArrive) != 0) return Flow::next;
    group.arrived = true;
  }
  if (state.phase == group.phase) {
    warp.reason = "for other threads at the barrier";
    return Flow::wait;
  }
  group.arrived = false;
  const int reduction = i.mode / kReduction;
  if (reduction != 0) {
    const std::uint32_t value = state.last_reduction[static_cast<std::size_t>(reduction - 1)];
    if (reduction == 1) {
      assign<std::uint32_t>(warp, i.d, mask, [=](int) { return value; });
    } else {
      write_predicate(warp, i.d, mask, value != 0 ? kAllLanes : 0);
    }
  }
  return Flow::next;
}

Flow warp_barrier(Warp& warp, const Instruction& i, std::uint32_t mask) {
  return members_are_here(warp, i, mask) ? Flow::next : Flow::wait;
}

void decode_barrier(Decode& decode, bool aligned) {
  Instruction i;
  i.collective = true;
  if (decode.take("warp")) {
    if (!decode.take("sync")) decode.fail(".sync is missing");
    decode.expect(1);
    i.execute = warp_barrier;
    i.c = decode.source(0, Type::b32);
    return decode.emit(i);
  }
  i.execute = barrier;
  decode.take("cta");
  const int kind = decode.take_one({"sync", "arrive", "red"});
  if (kind < 0) decode.fail(".sync, .arrive or .red is missing");
  int first = 0;
  int reduction = 0;
  if (kind == 2) {
    reduction = decode.take_one({"popc", "and", "or"}) + 1;
    if (reduction == 0) decode.fail(".popc, .and or .or is missing");
    first = 1;
  }
  if (decode.take("aligned")) aligned = true;
  i.mode = static_cast<std::uint16_t>((kind == 1 ? kArrive : 0) | (aligned ? kAligned : 0) |
                                      reduction * kReduction);
  if (kind == 2) {
    const Type type = decode.type();
    if (type != (reduction == 1 ? Type::u32 : Type::pred)) decode.refuse(type);
    decode.expect(3, 4);
    bool negated = false;
    i.c = decode.source_predicate(decode.operands() - 1, negated);
    if (negated) i.mode |= kNegated;
    i.d = reduction == 1 ? decode.destination(0, type) : decode.predicate(decode.operand(0).name);
    if (decode.operands() == 4) i.b = decode.source(2, Type::b32);
  } else {
    decode.expect(kind == 1 ? 2 : 1, 2);
    if (decode.operands() == 2) i.b = decode.source(1, Type::b32);
  }
  i.a = decode.source(first, Type::b32);
  decode.emit(i);
}

}  // namespace

void add_collectives(Decoders& decoders) {
  decoders["shfl"] = decode_shuffle;
  decoders["vote"] = decode_vote;
  decoders["redux"] = decode_reduce;
  decoders["match"] = decode_match;
  decoders["elect"] = decode_elect;
  decoders["activemask"] = decode_active_mask;
  decoders["bar"] = [](Decode& decode) { decode_barrier(decode, true); };
  decoders["barrier"] = [](Decode& decode) { decode_barrier(decode, false); };
}

}  // namespace weft::ptx
