#include <fmt/format.h>

#include "tests/ptx/machine/access.h"

namespace weft::ptx {
namespace {

[[noreturn]] void misaligned(std::uint64_t address, std::int64_t bytes, int lane) {
  throw Fault(fmt::format("address 0x{:x} is not aligned to {} bytes", address, bytes), lane);
}

[[noreturn]] void outside(std::string_view space, std::uint64_t address, std::int64_t bytes,
                          std::size_t all, int lane) {
  throw Fault(fmt::format("{} bytes at 0x{:x} are outside the {} bytes of {} memory", bytes,
                          address, all, space),
              lane);
}

/// Of one lane, in a state space of its own or in the generic one.
std::byte* locate_one(Warp& warp, Space space, std::uint64_t address, std::int64_t bytes,
                      bool writes, int lane) {
  if (address % static_cast<std::uint64_t>(bytes) != 0) misaligned(address, bytes, lane);
  Block& block = *warp.block;
  const auto count = static_cast<std::uint64_t>(bytes);
  if (space == Space::generic) {
    if (address - kSharedWindow < kWindowBytes) {
      return locate_one(warp, Space::shared, address - kSharedWindow, bytes, writes, lane);
    }
    if (address - kLocalWindow < kWindowBytes) {
      return locate_one(warp, Space::local, address - kLocalWindow, bytes, writes, lane);
    }
    const auto parameters = reinterpret_cast<std::uintptr_t>(block.parameters.data());
    if (!writes && address - parameters < block.parameters.size()) {
      return locate_one(warp, Space::param, address - parameters, bytes, writes, lane);
    }
  }
  switch (space) {
    case Space::shared: {
      const std::size_t all = block.shared.size();
      if (address > all || count > all - address) outside("shared", address, bytes, all, lane);
      return block.shared.data() + address;
    }
    case Space::local: {
      const auto all = static_cast<std::uint64_t>(warp.program->local_bytes);
      if (address > all || count > all - address) outside("local", address, bytes, all, lane);
      return warp.local + static_cast<std::uint64_t>(lane) * all + address;
    }
    case Space::param: {
      const std::size_t all = block.parameters.size();
      if (writes) throw Fault("parameters cannot be written", lane);
      if (address > all || count > all - address) outside("parameter", address, bytes, all, lane);
      return const_cast<std::byte*>(block.parameters.data() + address);
    }
    case Space::generic:
    case Space::global:
    case Space::constant:
      break;
  }
  if (writes && space == Space::constant) throw Fault("constants cannot be written", lane);
  if (!block.global->contains(address, address + count)) {
    throw Fault(fmt::format("{} bytes at 0x{:x} are no global memory", bytes, address), lane);
  }
  return reinterpret_cast<std::byte*>(address);
}

}  // namespace

void addresses(Warp& warp, const Instruction& i, std::array<std::uint64_t, kWarpThreads>& result) {
  const auto offset = static_cast<std::uint64_t>(i.immediate);
  if (i.wide_address) {
    const auto* a = warp.lanes<const std::uint64_t>(i.a);
    for (int lane = 0; lane < kWarpThreads; ++lane) result[lane] = a[lane] + offset;
  } else {
    const auto* a = warp.lanes<const std::uint32_t>(i.a);
    for (int lane = 0; lane < kWarpThreads; ++lane) result[lane] = a[lane] + offset;
  }
}

void locate(Warp& warp, const Instruction& i, std::uint32_t mask, std::int64_t bytes, bool writes,
            Pointers& pointers) {
  alignas(64) std::array<std::uint64_t, kWarpThreads> address;
  addresses(warp, i, address);
  const int first = std::countr_zero(mask);
  if (mask != kAllLanes) {
    const std::uint64_t instead = address[static_cast<std::size_t>(first)];
    for (int lane = 0; lane < kWarpThreads; ++lane) {
      address[lane] = (mask & kLaneBits.wide[lane]) != 0 ? address[lane] : instead;
    }
  }
  if (Counts* counts = warp.block->counts; counts != nullptr) {
    if (i.space == Space::global) {
      count_global(counts->instructions[warp.pc], address.data(), mask, bytes);
    } else if (i.space == Space::shared) {
      count_shared(counts->instructions[warp.pc], address.data(), mask, bytes);
    }
  }
  if (i.space == Space::global || i.space == Space::shared) {
    std::uint64_t all = 0;
    std::uint64_t least = address[0];
    std::uint64_t greatest = address[0];
    for (int lane = 0; lane < kWarpThreads; ++lane) {
      all |= address[lane];
      least = address[lane] < least ? address[lane] : least;
      greatest = address[lane] > greatest ? address[lane] : greatest;
    }
    const std::uint64_t end = greatest + static_cast<std::uint64_t>(bytes);
    const bool aligned = (all & static_cast<std::uint64_t>(bytes - 1)) == 0;
    const std::span<std::byte> shared = warp.block->shared;
    if (aligned && end >= greatest) {
      if (i.space == Space::shared && end <= shared.size()) {
        for (int lane = 0; lane < kWarpThreads; ++lane)
          pointers[lane] = shared.data() + address[lane];
        return;
      }
      if (i.space == Space::global && warp.block->global->contains(least, end)) {
        for (int lane = 0; lane < kWarpThreads; ++lane) {
          pointers[lane] = reinterpret_cast<std::byte*>(address[lane]);
        }
        return;
      }
    }
  }
  // Lane by lane, for the spaces of which each thread has its own, and to find what is wrong.
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    if (in(mask, lane)) {
      pointers[lane] = locate_one(warp, i.space, address[lane], bytes, writes, lane);
    }
  }
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    if (!in(mask, lane)) pointers[lane] = pointers[first];
  }
}

std::uint32_t address_register(Decode& decode, const Operand& operand, Space space) {
  Instruction i;
  i.space = space;
  decode.address(operand, i);
  if (i.wide_address && i.immediate == 0) return i.a;
  i.execute = [](Warp& warp, const Instruction& instruction, std::uint32_t mask) {
    std::array<std::uint64_t, kWarpThreads> values;
    addresses(warp, instruction, values);
    write(warp.lanes<std::uint64_t>(instruction.d), values.data(), mask);
    return Flow::next;
  };
  i.d = decode.builder().temporary(true);
  decode.emit(i);
  return i.d;
}

Space take_space(Decode& decode) {
  constexpr Space kSpaces[] = {Space::global, Space::shared,   Space::shared, Space::shared,
                               Space::local,  Space::constant, Space::param,  Space::param};
  const int which = decode.take_one({"global", "shared", "shared::cta", "shared::cluster", "local",
                                     "const", "param", "param::entry"});
  return which < 0 ? Space::generic : kSpaces[which];
}

namespace {

/// Memory of type T into registers of type R, which may be wider.
template <class T, class R>
Flow load(Warp& warp, const Instruction& i, std::uint32_t mask) {
  Pointers pointers;
  locate(warp, i, mask, static_cast<std::int64_t>(sizeof(T)) * i.count, false, pointers);
  for (int k = 0; k < i.count; ++k) {
    const std::uint32_t d =
        i.count == 1 ? i.d : warp.program->lists[i.list + static_cast<std::uint32_t>(k)];
    const std::size_t offset = sizeof(T) * static_cast<std::size_t>(k);
    assign<R>(warp, d, mask, [&](int lane) {
      T value;
      std::memcpy(&value, pointers[lane] + offset, sizeof value);
      return static_cast<R>(value);
    });
  }
  return Flow::next;
}

template <class T, class R>
Flow store(Warp& warp, const Instruction& i, std::uint32_t mask) {
  Pointers pointers;
  locate(warp, i, mask, static_cast<std::int64_t>(sizeof(T)) * i.count, true, pointers);
  for (int k = 0; k < i.count; ++k) {
    const std::uint32_t a =
        i.count == 1 ? i.d : warp.program->lists[i.list + static_cast<std::uint32_t>(k)];
    const std::size_t offset = sizeof(T) * static_cast<std::size_t>(k);
    const auto* values = warp.lanes<const Slot<R>>(a);
    if (mask == kAllLanes) {
      for (int lane = 0; lane < kWarpThreads; ++lane) {
        const T value = static_cast<T>(get<R>(values[lane]));
        std::memcpy(pointers[lane] + offset, &value, sizeof value);
      }
    } else {
      for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
        const int lane = std::countr_zero(rest);
        const T value = static_cast<T>(get<R>(values[lane]));
        std::memcpy(pointers[lane] + offset, &value, sizeof value);
      }
    }
  }
  return Flow::next;
}

template <class T>
Execute loads(int register_bits) {
  using S = std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>;
  if constexpr (sizeof(T) <= 2) {
    if (register_bits <= 16) {
      return load<T, std::conditional_t<std::is_signed_v<T>, std::int16_t, std::uint16_t>>;
    }
  }
  if constexpr (sizeof(T) <= 4) {
    if (register_bits == 32) {
      return load<T, std::conditional_t<std::is_signed_v<T>, std::int32_t, std::uint32_t>>;
    }
  }
  return load<T, S>;
}
template <class T>
Execute stores(int register_bits) {
  if constexpr (sizeof(T) <= 4) {
    if (register_bits <= 32) return store<T, std::uint32_t>;
  }
  return store<T, std::uint64_t>;
}

// How accesses are ordered and hints, which change nothing here.
void take_order(Decode& decode) {
  decode.take_one({"weak", "volatile", "relaxed", "acquire", "release", "mmio"});
  decode.take_one({"cta", "cluster", "gpu", "sys"});
}
void take_cache_hints(Decode& decode) {
  while (decode.take_one({"ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc", "L1::evict_normal",
                          "L1::evict_unchanged", "L1::evict_first", "L1::evict_last",
                          "L1::no_allocate", "L2::evict_normal", "L2::evict_first",
                          "L2::evict_last", "L2::64B", "L2::128B", "L2::256B"}) >= 0) {
  }
}

template <bool kLoads>
void decode_access(Decode& decode) {
  Instruction i;
  take_order(decode);
  i.space = take_space(decode);
  take_cache_hints(decode);
  const int vector = decode.take_one({"v2", "v4", "v8"});
  const Type type = decode.type();
  decode.expect(2);
  if (type == Type::pred || type == Type::f16x2 || type == Type::bf16x2 || type == Type::f16 ||
      type == Type::bf16 || type == Type::tf32) {
    decode.refuse(type);
  }
  const int values = kLoads ? 0 : 1;
  const std::vector<Operand> elements = decode.elements(values);
  const int count = vector < 0 ? 1 : 2 << vector;
  if (static_cast<int>(elements.size()) != count ||
      (vector < 0) == (decode.operand(values).kind == Operand::Kind::vector)) {
    decode.fail(fmt::format("{} elements where there are {}", elements.size(), count));
  }
  if (count * bits(type) > 256) decode.fail("a vector of more than 256 bits");
  int register_bits = 0;
  std::vector<std::uint32_t> list;
  for (const Operand& element : elements) {
    Register found =
        kLoads ? decode.wide_destination(element, type) : decode.wide_source(element, type);
    if (bits(found.type) < bits(type) || (is_float(type) && bits(found.type) != bits(type))) {
      decode.fail(fmt::format("{} has {} bits, .{} needs {}", element.name, bits(found.type),
                              name(type), bits(type)));
    }
    if (element.kind == Operand::Kind::sink && register_bits != 0) {
      list.push_back(found.offset);
      continue;
    }
    if (register_bits != 0 && bits(found.type) != register_bits) {
      decode.fail("registers of different sizes in one vector");
    }
    register_bits = bits(found.type);
    list.push_back(found.offset);
  }
  const bool wide = register_bits == 64;
  const auto of = [&]<class T>(T) {
    return kLoads ? loads<T>(register_bits) : stores<T>(wide ? 64 : 32);
  };
  switch (type) {
    case Type::b8:
    case Type::u8:
      i.execute = of(std::uint8_t{});
      break;
    case Type::s8:
      i.execute = of(std::int8_t{});
      break;
    case Type::b16:
    case Type::u16:
      i.execute = of(std::uint16_t{});
      break;
    case Type::s16:
      i.execute = of(std::int16_t{});
      break;
    case Type::s32:
      i.execute = of(std::int32_t{});
      break;
    case Type::b32:
    case Type::u32:
    case Type::f32:
      i.execute = of(std::uint32_t{});
      break;
    case Type::s64:
      i.execute = of(std::int64_t{});
      break;
    default:
      i.execute = of(std::uint64_t{});
      break;
  }
  i.count = static_cast<std::uint8_t>(count);
  i.d = list[0];
  if (count > 1) i.list = decode.builder().list(list);
  decode.address(kLoads ? 1 : 0, i);
  decode.emit(i);
}

/// Asks for memory to be brought nearer, which does nothing here.
void decode_prefetch(Decode& decode) {
  Instruction i;
  i.execute = [](Warp&, const Instruction&, std::uint32_t) { return Flow::next; };
  i.space = take_space(decode);
  if (decode.take_one({"L1", "L2", "tensormap"}) < 0) decode.fail("the level is missing");
  decode.expect(1);
  decode.address(0, i);
  decode.emit(i);
}

}  // namespace

void add_memory(Decoders& decoders) {
  decoders["ld"] = decode_access<true>;
  decoders["ldu"] = decode_access<true>;
  decoders["st"] = decode_access<false>;
  decoders["prefetch"] = decode_prefetch;
  decoders["prefetchu"] = decode_prefetch;
}

}  // namespace weft::ptx
