#include <fmt/format.h>

#include "tests/ptx/machine/access.h"

namespace weft::ptx {
namespace {

template <class T>
Flow move(Warp& warp, const Instruction& i, std::uint32_t mask) {
  write(warp.lanes<Slot<T>>(i.d), warp.lanes<const Slot<T>>(i.a), mask);
  return Flow::next;
}

Flow move_predicate(Warp& warp, const Instruction& i, std::uint32_t mask) {
  std::uint32_t& d = warp.predicate(i.d);
  const std::uint32_t a = warp.predicate(i.a) ^ (i.mode != 0 ? kAllLanes : 0);
  d = (d & ~mask) | (a & mask);
  return Flow::next;
}

/// Elements of type E, the first in the lowest bits, become one T.
template <class T, class E>
Flow pack(Warp& warp, const Instruction& i, std::uint32_t mask) {
  alignas(64) Slot<T> values[kWarpThreads] = {};
  for (int k = 0; k < i.count; ++k) {
    const auto* element =
        warp.lanes<const Slot<E>>(warp.program->lists[i.list + static_cast<std::uint32_t>(k)]);
    for (int lane = 0; lane < kWarpThreads; ++lane) {
      values[lane] |= static_cast<Slot<T>>(get<E>(element[lane])) << (k * int{sizeof(E)} * 8);
    }
  }
  write(warp.lanes<Slot<T>>(i.d), values, mask);
  return Flow::next;
}

template <class T, class E>
Flow unpack(Warp& warp, const Instruction& i, std::uint32_t mask) {
  alignas(64) Slot<T> values[kWarpThreads];
  std::memcpy(values, warp.lanes<const Slot<T>>(i.a), sizeof values);
  for (int k = 0; k < i.count; ++k) {
    const std::uint32_t d = warp.program->lists[i.list + static_cast<std::uint32_t>(k)];
    assign<E>(warp, d, mask,
              [&](int lane) { return static_cast<E>(values[lane] >> (k * int{sizeof(E)} * 8)); });
  }
  return Flow::next;
}

template <class T>
Execute packing(bool packs, int element_bits) {
  switch (element_bits) {
    case 8:
      return packs ? pack<T, std::uint8_t> : unpack<T, std::uint8_t>;
    case 16:
      return packs ? pack<T, std::uint16_t> : unpack<T, std::uint16_t>;
    case 32:
      return packs ? pack<T, std::uint32_t> : unpack<T, std::uint32_t>;
    default:
      return nullptr;
  }
}

Type untyped(int bits) {
  return bits == 8 ? Type::b8 : bits == 16 ? Type::b16 : bits == 32 ? Type::b32 : Type::b64;
}

void decode_packing(Decode& decode, Type type, bool packs) {
  const std::vector<Operand> elements = decode.elements(packs ? 1 : 0);
  const int element_bits = bits(type) / static_cast<int>(elements.size());
  Instruction i;
  i.execute = bits(type) == 64   ? packing<std::uint64_t>(packs, element_bits)
              : bits(type) == 32 ? packing<std::uint32_t>(packs, element_bits)
                                 : packing<std::uint16_t>(packs, element_bits);
  if (i.execute == nullptr || element_bits * static_cast<int>(elements.size()) != bits(type)) {
    decode.fail(fmt::format("{} elements in {} bits", elements.size(), bits(type)));
  }
  std::vector<std::uint32_t> list;
  for (const Operand& element : elements) {
    list.push_back(packs ? decode.source(element, untyped(element_bits))
                         : decode.destination(element, untyped(element_bits)));
  }
  i.count = static_cast<std::uint8_t>(list.size());
  i.list = decode.builder().list(list);
  if (packs) {
    i.d = decode.destination(0, type);
  } else {
    i.a = decode.source(1, type);
  }
  decode.emit(i);
}

void decode_move(Decode& decode) {
  const Type type = decode.type();
  decode.expect(2);
  Instruction i;
  if (type == Type::pred) {
    bool negated = false;
    i.execute = move_predicate;
    i.d = decode.predicate(decode.operand(0).name);
    i.a = decode.source_predicate(1, negated);
    i.mode = negated ? 1 : 0;
    decode.emit(i);
    return;
  }
  if (decode.operand(1).kind == Operand::Kind::vector) return decode_packing(decode, type, true);
  if (decode.operand(0).kind == Operand::Kind::vector) return decode_packing(decode, type, false);
  i.execute = bits(type) == 64 ? move<std::uint64_t> : move<std::uint32_t>;
  i.d = decode.destination(0, type);
  i.a = decode.source(1, type);
  decode.emit(i);
}

/// Adds a multiple of the generic window of a state space to an address of it, or subtracts it.
Flow convert_address(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto* a = warp.lanes<const std::uint64_t>(i.a);
  std::uint64_t offset = 0;
  if (i.space == Space::shared) offset = kSharedWindow;
  if (i.space == Space::local) offset = kLocalWindow;
  if (i.space == Space::param) {
    offset = reinterpret_cast<std::uintptr_t>(warp.block->parameters.data());
  }
  if (i.mode != 0) offset = 0 - offset;
  assign<std::uint64_t>(warp, i.d, mask, [=](int lane) { return a[lane] + offset; });
  return Flow::next;
}

void decode_convert_address(Decode& decode) {
  Instruction i;
  i.execute = convert_address;
  i.mode = decode.take("to") ? 1 : 0;
  i.space = take_space(decode);
  if (i.space == Space::generic) decode.fail("a state space is missing");
  const Type type = decode.type();
  if (type != Type::u64) decode.refuse(type);
  decode.expect(2);
  i.d = decode.destination(0, type);
  i.a = decode.source(1, type);
  decode.emit(i);
}

Flow is_space(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto* a = warp.lanes<const std::uint64_t>(i.a);
  std::uint32_t result = 0;
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    const Space space = a[lane] - kSharedWindow < kWindowBytes  ? Space::shared
                        : a[lane] - kLocalWindow < kWindowBytes ? Space::local
                                                                : Space::global;
    if (space == i.space) result |= std::uint32_t{1} << lane;
  }
  std::uint32_t& d = warp.predicate(i.d);
  d = (d & ~mask) | (result & mask);
  return Flow::next;
}

void decode_is_space(Decode& decode) {
  Instruction i;
  i.execute = is_space;
  i.space = take_space(decode);
  if (i.space != Space::global && i.space != Space::shared && i.space != Space::local) {
    decode.fail(".global, .shared or .local is missing");
  }
  decode.expect(2);
  i.d = decode.predicate(decode.operand(0).name);
  i.a = decode.source(1, Type::u64);
  decode.emit(i);
}

}  // namespace

void add_moves(Decoders& decoders) {
  decoders["mov"] = decode_move;
  decoders["cvta"] = decode_convert_address;
  decoders["isspacep"] = decode_is_space;
}

}  // namespace weft::ptx
