#include <fmt/format.h>

#include <algorithm>

#include "tests/ptx/machine/access.h"
#include "tests/ptx/machine/mbarrier.h"
#include "tests/ptx/machine/tensor_copy.h"

namespace weft::ptx {
namespace {

// cp.async: copies of 4, 8 or 16 bytes from global to shared memory. They happen when a wait
// demands it.

/// i.a: shared memory, i.b: global memory, i.c: bytes that are taken, or a predicate (mode 1) that
/// none are; i.list: bytes.
Flow copy(Warp& warp, const Instruction& i, std::uint32_t mask) {
  AsyncCopy result;
  result.mask = mask;
  result.pc = warp.pc;
  result.bytes = static_cast<std::int32_t>(i.list);
  Pointers shared;
  locate(warp, i, mask, result.bytes, true, shared);
  const auto* global = warp.lanes<const std::uint64_t>(i.b);
  if (Counts* counts = warp.block->counts; counts != nullptr) {
    count_global(counts->instructions[warp.pc], global, mask, result.bytes);
  }
  const auto* taken = warp.lanes<const std::uint32_t>(i.c != kNone ? i.c : i.b);
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    result.shared[lane] = static_cast<std::uint32_t>(shared[lane] - warp.block->shared.data());
    result.global[lane] = global[lane];
    result.group[lane] = warp.committed[lane];
    result.taken[lane] = result.bytes;
    if (i.mode == 1) {
      if (in(warp.predicate(i.c), lane)) result.taken[lane] = 0;
    } else if (i.c != kNone) {
      if (taken[lane] > i.list) {
        throw Fault(fmt::format("{} bytes are taken of {}", taken[lane], i.list), lane);
      }
      result.taken[lane] = static_cast<std::int32_t>(taken[lane]);
    }
    if (global[lane] % i.list != 0) {
      throw Fault(fmt::format("address 0x{:x} is not aligned to {} bytes", global[lane], i.list),
                  lane);
    }
    const auto bytes = static_cast<std::uint64_t>(result.taken[lane]);
    if (bytes != 0 && !warp.block->global->contains(global[lane], global[lane] + bytes)) {
      throw Fault(fmt::format("{} bytes at 0x{:x} are no global memory", bytes, global[lane]),
                  lane);
    }
  }
  warp.copies.push_back(result);
  return Flow::next;
}

Flow commit_copies(Warp& warp, const Instruction&, std::uint32_t mask) {
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    warp.committed[lane] += in(mask, lane) ? 1 : 0;
  }
  return Flow::next;
}

/// All but the last i.immediate groups happen; less than 0: copies without a group too.
Flow wait_copies(Warp& warp, const Instruction& i, std::uint32_t mask) {
  for (AsyncCopy& each : warp.copies) {
    std::uint32_t now = 0;
    for (std::uint32_t rest = each.mask & mask; rest != 0; rest &= rest - 1) {
      const int lane = std::countr_zero(rest);
      if (i.immediate >= 0 &&
          std::int64_t{each.group[lane]} + i.immediate >= std::int64_t{warp.committed[lane]}) {
        continue;
      }
      now |= std::uint32_t{1} << lane;
      std::byte* shared = warp.block->shared.data() + each.shared[lane];
      std::memset(shared, 0, static_cast<std::size_t>(each.bytes));
      if (each.taken[lane] != 0) {
        std::memcpy(shared, reinterpret_cast<const std::byte*>(each.global[lane]),
                    static_cast<std::size_t>(each.taken[lane]));
      }
    }
    each.mask &= ~now;
  }
  std::erase_if(warp.copies, [](const AsyncCopy& each) { return each.mask == 0; });
  return Flow::next;
}

void decode_copy(Decode& decode) {
  const int cached = decode.take_one({"ca", "cg"});
  if (cached < 0 || (!decode.take("shared") && !decode.take("shared::cta")) ||
      !decode.take("global")) {
    decode.fail(".ca or .cg, .shared.global is missing");
  }
  decode.take_one({"L2::64B", "L2::128B", "L2::256B"});
  decode.expect(3, 4);
  const std::int64_t bytes = decode.integer(2);
  const bool known = cached == 1 ? bytes == 16 : bytes == 4 || bytes == 8 || bytes == 16;
  if (!known) decode.fail(fmt::format("{} bytes cannot be copied", bytes));
  Instruction i;
  i.execute = copy;
  i.list = static_cast<std::uint32_t>(bytes);
  if (decode.operands() == 4) {
    const Operand& last = decode.operand(3);
    const std::optional<Register> found =
        last.kind == Operand::Kind::name ? decode.builder().find_register(last.name) : std::nullopt;
    if (found && found->type == Type::pred) {
      i.mode = 1;
      i.c = found->offset;
    } else {
      i.c = decode.source(3, Type::u32);
    }
  }
  i.b = address_register(decode, decode.operand(1), Space::global);
  i.space = Space::shared;
  decode.address(0, i);
  decode.emit(i);
}

// Copies of boxes of tensors, which happen at any later time.

/// i.a: shared memory, i.b: the map, i.c: the mbarrier; i.list: the coordinates.
Flow tensor_copy(Warp& warp, const Instruction& i, std::uint32_t mask) {
  Block& block = *warp.block;
  const auto* maps = warp.lanes<const std::uint64_t>(i.b);
  const auto* barriers = warp.lanes<const std::uint64_t>(i.c);
  std::array<std::uint64_t, kWarpThreads> shared;
  addresses(warp, i, shared);
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    constexpr std::uint64_t kMapBytes = 128;
    const std::uint64_t address = maps[lane];
    const auto parameters = reinterpret_cast<std::uintptr_t>(block.parameters.data());
    const bool parameter = address - parameters < block.parameters.size() &&
                           kMapBytes <= block.parameters.size() - (address - parameters);
    if (address % 64 != 0 ||
        (!parameter && !block.global->contains(address, address + kMapBytes))) {
      throw Fault(fmt::format("there is no tensor map at 0x{:x}", address), lane);
    }
    TensorCopy result;
    if (block.device->tensor_map) {
      result.map = block.device->tensor_map(reinterpret_cast<const std::byte*>(address));
    }
    if (result.map == nullptr) {
      throw Fault(fmt::format("what is at 0x{:x} is no tensor map", address), lane);
    }
    if (static_cast<int>(result.map->extents.size()) != i.count) {
      throw Fault(
          fmt::format("{} coordinates of a tensor of {} axes", i.count, result.map->extents.size()),
          lane);
    }
    if (shared[lane] >= block.shared.size() || barriers[lane] % 8 != 0 ||
        barriers[lane] + 8 > block.shared.size()) {
      throw Fault(
          "the address of the box or of the mbarrier is outside of shared memory, or "
          "misaligned",
          lane);
    }
    result.dimensions = i.count;
    for (int k = 0; k < i.count; ++k) {
      const std::uint32_t coordinate = warp.program->lists[i.list + static_cast<std::uint32_t>(k)];
      result.coordinates[static_cast<std::size_t>(k)] =
          warp.lanes<const std::int32_t>(coordinate)[lane];
    }
    result.shared = static_cast<std::uint32_t>(shared[lane]);
    result.barrier = static_cast<std::uint32_t>(barriers[lane]);
    result.warp = warp.index;
    result.pc = warp.pc;
    result.lane = lane;
    block.copies.push_back(result);
  }
  return Flow::next;
}

void decode_tensor_copy(Decode& decode) {
  const int dimensions = decode.take_one({"1d", "2d", "3d", "4d", "5d"}) + 1;
  if (dimensions == 0 || (!decode.take("shared::cluster") && !decode.take("shared::cta")) ||
      !decode.take("global")) {
    decode.fail("only copies of 1 to 5 axes from global to shared memory are supported");
  }
  decode.take("tile");
  if (!decode.take("mbarrier::complete_tx::bytes")) decode.fail("the completion is missing");
  decode.expect(3);
  const Operand& from = decode.operand(1);
  if (static_cast<int>(from.elements.size()) != dimensions) {
    decode.fail(fmt::format("{} coordinates of {} axes", from.elements.size(), dimensions));
  }
  Instruction i;
  i.execute = tensor_copy;
  i.count = static_cast<std::uint8_t>(dimensions);
  std::vector<std::uint32_t> coordinates;
  for (const Operand& coordinate : from.elements) {
    coordinates.push_back(decode.source(coordinate, Type::s32));
  }
  i.list = decode.builder().list(coordinates);
  i.b = address_register(decode, from, Space::generic);
  i.c = address_register(decode, decode.operand(2), Space::shared);
  i.space = Space::shared;
  decode.address(0, i);
  decode.emit(i);
}

void decode_asynchronous_copy(Decode& decode) {
  if (!decode.take("async")) decode.fail(".async is missing");
  if (decode.take("bulk")) {
    if (!decode.take("tensor")) decode.fail("of bulk copies only those of tensors are supported");
    return decode_tensor_copy(decode);
  }
  Instruction i;
  if (decode.take("commit_group")) {
    i.execute = commit_copies;
    decode.expect(0);
  } else if (decode.take("wait_group")) {
    i.execute = wait_copies;
    decode.expect(1);
    i.immediate = decode.integer(0);
    if (i.immediate < 0) decode.fail("a negative number of groups");
  } else if (decode.take("wait_all")) {
    i.execute = wait_copies;
    decode.expect(0);
    i.immediate = -1;
  } else {
    return decode_copy(decode);
  }
  decode.emit(i);
}

// Barriers in shared memory.

enum class Arrival : std::uint8_t { plain, expect, no_complete, drop, drop_expect };

std::uint64_t read(const std::byte* place) {
  std::uint64_t object = 0;
  std::memcpy(&object, place, sizeof object);
  return object;
}

/// Calls change(object, lane) with the mbarrier of each lane.
template <class Change>
void for_each(Warp& warp, const Instruction& i, std::uint32_t mask, const Change& change) {
  Pointers pointers;
  locate(warp, i, mask, sizeof(std::uint64_t), true, pointers);
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    std::uint64_t object = read(pointers[lane]);
    try {
      change(object, lane);
    } catch (const std::logic_error& error) {
      throw Fault(error.what(), lane);
    }
    std::memcpy(pointers[lane], &object, sizeof object);
  }
  ++warp.block->events;
}

Flow initialise(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto* count = warp.lanes<const std::uint32_t>(i.b);
  for_each(warp, i, mask,
           [&](std::uint64_t& object, int lane) { mbarrier::init(object, count[lane]); });
  return Flow::next;
}
Flow invalidate(Warp& warp, const Instruction& i, std::uint32_t mask) {
  for_each(warp, i, mask, [](std::uint64_t& object, int) { mbarrier::invalidate(object); });
  return Flow::next;
}
template <bool kComplete>
Flow transfer(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto* bytes = warp.lanes<const std::uint32_t>(i.b);
  for_each(warp, i, mask, [&](std::uint64_t& object, int lane) {
    kComplete ? mbarrier::complete_tx(object, bytes[lane])
              : mbarrier::expect_tx(object, bytes[lane]);
  });
  return Flow::next;
}
Flow arrive(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto* amount = warp.lanes<const std::uint32_t>(i.b);
  auto* states = warp.lanes<std::uint64_t>(i.d);
  for_each(warp, i, mask, [&](std::uint64_t& object, int lane) {
    switch (static_cast<Arrival>(i.mode)) {
      case Arrival::expect:
        mbarrier::expect_tx(object, amount[lane]);
        states[lane] = mbarrier::arrive(object, 1);
        break;
      case Arrival::plain:
        states[lane] = mbarrier::arrive(object, amount[lane]);
        break;
      case Arrival::no_complete:
        states[lane] = mbarrier::arrive_no_complete(object, amount[lane]);
        break;
      case Arrival::drop:
        states[lane] = mbarrier::arrive_drop(object, amount[lane]);
        break;
      case Arrival::drop_expect:
        mbarrier::expect_tx(object, amount[lane]);
        states[lane] = mbarrier::arrive_drop(object, 1);
        break;
    }
  });
  return Flow::next;
}

constexpr std::uint16_t kParity = 1;
constexpr std::uint16_t kMayWait = 2;

Flow wait(Warp& warp, const Instruction& i, std::uint32_t mask) {
  Pointers pointers;
  locate(warp, i, mask, sizeof(std::uint64_t), false, pointers);
  std::uint32_t complete_lanes = 0;
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const std::uint64_t object = read(pointers[lane]);
    try {
      const bool done =
          (i.mode & kParity) != 0
              ? mbarrier::test_parity(object, (warp.lanes<const std::uint32_t>(i.b)[lane] & 1) != 0)
              : mbarrier::test_state(object, warp.lanes<const std::uint64_t>(i.b)[lane]);
      if (done) complete_lanes |= std::uint32_t{1} << lane;
    } catch (const std::logic_error& error) {
      throw Fault(error.what(), lane);
    }
  }
  // try_wait may give up at any time, and does now and then.
  constexpr std::uint64_t kPatience = 8;
  if (complete_lanes == 0 && (i.mode & kMayWait) != 0 &&
      warp.block->random->below(kPatience) != 0) {
    warp.reason = "for a phase of an mbarrier";
    return Flow::wait;
  }
  std::uint32_t& d = warp.predicate(i.d);
  d = (d & ~mask) | complete_lanes;
  return complete_lanes == mask ? Flow::next : Flow::yield;
}

Flow pending(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto* states = warp.lanes<const std::uint64_t>(i.a);
  alignas(64) std::uint32_t values[kWarpThreads] = {};
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    if (in(mask, lane)) values[lane] = mbarrier::pending_count(states[lane]);
  }
  write(warp.lanes<std::uint32_t>(i.d), values, mask);
  return Flow::next;
}

void take_order(Decode& decode) {
  decode.take_one({"acquire", "release", "relaxed"});
  decode.take_one({"cta", "cluster"});
}

void take_barrier_space(Decode& decode, Instruction& i) {
  i.space = take_space(decode);
  if (i.space != Space::shared && i.space != Space::generic) {
    decode.fail("an mbarrier is in shared memory");
  }
  if (!decode.take("b64")) decode.fail(".b64 is missing");
}

void decode_arrival(Decode& decode, bool drops) {
  Instruction i;
  i.execute = arrive;
  bool expects = decode.take("expect_tx");
  bool no_complete = !drops && decode.take("noComplete");
  take_order(decode);
  take_barrier_space(decode, i);
  const bool returns = decode.operand(0).kind != Operand::Kind::address;
  const int first = returns ? 1 : 0;
  decode.expect(first + (expects || no_complete ? 2 : 1), first + 2);
  i.mode = static_cast<std::uint16_t>(expects ? (drops ? Arrival::drop_expect : Arrival::expect)
                                      : no_complete ? Arrival::no_complete
                                      : drops       ? Arrival::drop
                                                    : Arrival::plain);
  i.d = returns ? decode.destination(0, Type::b64) : decode.builder().scratch();
  decode.address(first, i);
  i.b = decode.operands() > first + 1 ? decode.source(first + 1, Type::u32)
                                      : decode.builder().constant(1, false);
  decode.emit(i);
}

void decode_mbarrier(Decode& decode) {
  Instruction i;
  const std::string_view operation = decode.next();
  if (operation == "arrive") return decode_arrival(decode, false);
  if (operation == "arrive_drop") return decode_arrival(decode, true);
  if (operation == "init" || operation == "inval") {
    take_barrier_space(decode, i);
    decode.expect(operation == "init" ? 2 : 1);
    i.execute = operation == "init" ? initialise : invalidate;
    if (operation == "init") i.b = decode.source(1, Type::u32);
    decode.address(0, i);
  } else if (operation == "expect_tx" || operation == "complete_tx") {
    take_order(decode);
    take_barrier_space(decode, i);
    decode.expect(2);
    i.execute = operation == "expect_tx" ? transfer<false> : transfer<true>;
    i.b = decode.source(1, Type::u32);
    decode.address(0, i);
  } else if (operation == "test_wait" || operation == "try_wait") {
    const bool may_wait = operation == "try_wait";
    const bool parity = decode.take("parity");
    take_order(decode);
    take_barrier_space(decode, i);
    decode.expect(3, may_wait ? 4 : 3);
    i.execute = wait;
    i.collective = true;
    i.mode = static_cast<std::uint16_t>((parity ? kParity : 0) | (may_wait ? kMayWait : 0));
    i.b = decode.source(2, parity ? Type::u32 : Type::b64);
    i.d = decode.predicate(decode.operand(0).name);
    decode.address(1, i);
  } else if (operation == "pending_count") {
    if (!decode.take("b64")) decode.fail(".b64 is missing");
    decode.expect(2);
    i.execute = pending;
    i.a = decode.source(1, Type::b64);
    i.d = decode.destination(0, Type::u32);
  } else {
    decode.fail(fmt::format("mbarrier.{} is not known", operation));
  }
  decode.emit(i);
}

}  // namespace

void complete(Block& block, std::size_t copy) {
  const TensorCopy what = block.copies[copy];
  block.copies.erase(block.copies.begin() + static_cast<std::ptrdiff_t>(copy));
  const std::uint64_t address = what.map->address;
  const auto bytes = static_cast<std::uint64_t>(tensor_bytes(*what.map));
  if (!block.global->contains(address, address + bytes)) {
    throw Fault(
        fmt::format("the tensor of {} bytes at 0x{:x} is no global memory", bytes, address));
  }
  copy_box(*what.map, {what.coordinates.data(), static_cast<std::size_t>(what.dimensions)},
           block.shared, what.shared);
  std::uint64_t object = read(block.shared.data() + what.barrier);
  mbarrier::complete_tx(object, static_cast<std::uint32_t>(box_bytes(*what.map)));
  std::memcpy(block.shared.data() + what.barrier, &object, sizeof object);
  ++block.events;
}

void add_asynchronous(Decoders& decoders) {
  decoders["cp"] = decode_asynchronous_copy;
  decoders["mbarrier"] = decode_mbarrier;
}

}  // namespace weft::ptx
