#include <fmt/format.h>

#include <algorithm>

#include "tests/ptx/machine/decode.h"
#include "tests/ptx/machine/integer_operations.h"
#include "tests/ptx/machine/warp.h"

namespace weft::ptx {
namespace {

using integers::And;
using integers::ExclusiveOr;
using integers::Or;

template <class T>
constexpr int kBits = int{sizeof(T)} * 8;

using integers::Wrap;

struct Not {
  template <class T>
  static T apply(T a) {
    return static_cast<T>(~a);
  }
};
struct LogicalNot {
  template <class T>
  static T apply(T a) {
    return a == 0 ? 1 : 0;
  }
};
// Amounts past the width shift all bits out.
struct ShiftLeft {
  template <class T>
  static T apply(T a, std::uint32_t b) {
    return b < static_cast<std::uint32_t>(kBits<T>) ? static_cast<T>(static_cast<Wrap<T>>(a) << b)
                                                    : T{0};
  }
};
struct ShiftRight {
  template <class T>
  static T apply(T a, std::uint32_t b) {
    const std::uint32_t last = kBits<T> - 1;
    if constexpr (std::is_signed_v<T>) {
      return static_cast<T>(a >> std::min(b, last));
    } else {
      return b <= last ? static_cast<T>(a >> b) : T{0};
    }
  }
};
template <bool kLeft, bool kWrap>
struct FunnelShift {
  static std::uint32_t apply(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
    const std::uint32_t amount = kWrap ? c & 31 : std::min<std::uint32_t>(c, 32);
    const std::uint64_t both = std::uint64_t{b} << 32 | a;
    if constexpr (kLeft) {
      return amount == 32 ? a : static_cast<std::uint32_t>((both << amount) >> 32);
    } else {
      return static_cast<std::uint32_t>(both >> amount);
    }
  }
};
struct PopulationCount {
  template <class T>
  static std::uint32_t apply(T a) {
    return static_cast<std::uint32_t>(std::popcount(a));
  }
};
struct LeadingZeros {
  template <class T>
  static std::uint32_t apply(T a) {
    return static_cast<std::uint32_t>(std::countl_zero(a));
  }
};
template <bool kShift>
struct FindHighest {
  template <class T>
  static std::uint32_t apply(T a) {
    Unsigned<T> bits = static_cast<Unsigned<T>>(a);
    if (std::is_signed_v<T> && a < 0) bits = ~bits;
    if (bits == 0) return 0xffffffff;
    const int zeros = std::countl_zero(bits);
    return static_cast<std::uint32_t>(kShift ? zeros : kBits<T> - 1 - zeros);
  }
};
struct Reverse {
  template <class T>
  static T apply(T a) {
    T result = 0;
    for (int k = 0; k < kBits<T>; ++k) result = static_cast<T>(result << 1 | (a >> k & 1));
    return result;
  }
};
struct ExtractBits {
  template <class T>
  static T apply(T a, std::uint32_t b, std::uint32_t c) {
    const std::uint32_t position = b & 0xff;
    const std::uint32_t length = c & 0xff;
    constexpr std::uint32_t kLast = kBits<T> - 1;
    const auto bits = static_cast<Unsigned<T>>(a);
    // Above the last bit of the input, and above the field, its sign is repeated.
    Unsigned<T> sign = 0;
    if constexpr (std::is_signed_v<T>) {
      if (length > 0) sign = bits >> std::min(position + length - 1, kLast) & 1;
    }
    const Unsigned<T> fill = sign != 0 ? static_cast<Unsigned<T>>(~Unsigned<T>{0}) : 0;
    if (length == 0) return 0;
    const std::uint32_t there = position > kLast ? 0 : std::min(length, kLast + 1 - position);
    if (there == 0) return static_cast<T>(fill);
    Unsigned<T> result = bits >> position;
    if (there <= kLast) {
      const Unsigned<T> field = (Unsigned<T>{1} << there) - 1;
      result = (result & field) | (fill & ~field);
    }
    return static_cast<T>(result);
  }
};
template <class T>
Flow insert_bits(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto* a = warp.lanes<const Slot<T>>(i.a);
  const auto* b = warp.lanes<const Slot<T>>(i.b);
  const auto* position = warp.lanes<const std::uint32_t>(i.c);
  const auto* length = warp.lanes<const std::uint32_t>(warp.program->lists[i.list]);
  assign<T>(warp, i.d, mask, [=](int lane) {
    const std::uint32_t first = position[lane] & 0xff;
    const std::uint32_t count = length[lane] & 0xff;
    if (first >= static_cast<std::uint32_t>(kBits<T>) || count == 0) return static_cast<T>(b[lane]);
    const T ones = static_cast<T>(~T{0});
    const T field = static_cast<T>(
        (count >= static_cast<std::uint32_t>(kBits<T>) ? ones : (T{1} << count) - 1) << first);
    return static_cast<T>((static_cast<T>(a[lane] << first) & field) |
                          (static_cast<T>(b[lane]) & ~field));
  });
  return Flow::next;
}
struct Permute {
  static std::uint32_t apply(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
    const std::uint64_t both = std::uint64_t{b} << 32 | a;
    std::uint32_t result = 0;
    for (int k = 0; k < 4; ++k) {
      const std::uint32_t select = c >> (4 * k) & 15;
      std::uint32_t byte = static_cast<std::uint32_t>(both >> (8 * (select & 7))) & 0xff;
      if ((select & 8) != 0) byte = (byte & 0x80) != 0 ? 0xff : 0;
      result |= byte << (8 * k);
    }
    return result;
  }
};
Flow look_up(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto* a = warp.lanes<const std::uint32_t>(i.a);
  const auto* b = warp.lanes<const std::uint32_t>(i.b);
  const auto* c = warp.lanes<const std::uint32_t>(i.c);
  const std::uint32_t table = i.mode;
  assign<std::uint32_t>(warp, i.d, mask, [=](int lane) {
    std::uint32_t result = 0;
    for (std::uint32_t k = 0; k < 8; ++k) {
      if ((table >> k & 1) == 0) continue;
      result |= ((k & 4) != 0 ? a[lane] : ~a[lane]) & ((k & 2) != 0 ? b[lane] : ~b[lane]) &
                ((k & 1) != 0 ? c[lane] : ~c[lane]);
    }
    return result;
  });
  return Flow::next;
}

/// and, or, xor of predicates (mode 0 to 2), each maybe negated (8 and 16), and not (4).
Flow predicate_logic(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const std::uint32_t a = warp.predicate(i.a) ^ ((i.mode & 8) != 0 ? kAllLanes : 0);
  std::uint32_t result = ~a;
  if ((i.mode & 4) == 0) {
    const std::uint32_t b = warp.predicate(i.b) ^ ((i.mode & 16) != 0 ? kAllLanes : 0);
    result = (i.mode & 3) == 0 ? a & b : (i.mode & 3) == 1 ? a | b : a ^ b;
  }
  std::uint32_t& d = warp.predicate(i.d);
  d = (d & ~mask) | (result & mask);
  return Flow::next;
}
template <class Operation>
Execute of_bits(Decode& decode, Type type) {
  switch (type) {
    case Type::b16:
      return binary<Operation, std::uint16_t, std::uint16_t, std::uint16_t>;
    case Type::b32:
      return binary<Operation, std::uint32_t, std::uint32_t, std::uint32_t>;
    case Type::b64:
      return binary<Operation, std::uint64_t, std::uint64_t, std::uint64_t>;
    default:
      decode.refuse(type);
  }
}

template <class Operation, int kMode>
void decode_logic(Decode& decode) {
  const Type type = decode.type();
  if (type != Type::pred) {
    return emit_lanes(decode, of_bits<Operation>(decode, type), type, type, type);
  }
  decode.expect(3);
  Instruction i;
  bool negated_a = false;
  bool negated_b = false;
  i.execute = predicate_logic;
  i.a = decode.source_predicate(1, negated_a);
  i.b = decode.source_predicate(2, negated_b);
  i.d = decode.predicate(decode.operand(0).name);
  i.mode = static_cast<std::uint16_t>(kMode | (negated_a ? 8 : 0) | (negated_b ? 16 : 0));
  decode.emit(i);
}

void decode_not(Decode& decode) {
  const Type type = decode.type();
  switch (type) {
    case Type::b16:
      return emit_lanes(decode, unary<Not, std::uint16_t, std::uint16_t>, type, type);
    case Type::b32:
      return emit_lanes(decode, unary<Not, std::uint32_t, std::uint32_t>, type, type);
    case Type::b64:
      return emit_lanes(decode, unary<Not, std::uint64_t, std::uint64_t>, type, type);
    case Type::pred:
      break;
    default:
      decode.refuse(type);
  }
  decode.expect(2);
  Instruction i;
  bool negated = false;
  i.execute = predicate_logic;
  i.a = decode.source_predicate(1, negated);
  i.d = decode.predicate(decode.operand(0).name);
  i.mode = static_cast<std::uint16_t>(4 | (negated ? 8 : 0));
  decode.emit(i);
}

void decode_logical_not(Decode& decode) {
  const Type type = decode.type();
  switch (type) {
    case Type::b16:
      return emit_lanes(decode, unary<LogicalNot, std::uint16_t, std::uint16_t>, type, type);
    case Type::b32:
      return emit_lanes(decode, unary<LogicalNot, std::uint32_t, std::uint32_t>, type, type);
    case Type::b64:
      return emit_lanes(decode, unary<LogicalNot, std::uint64_t, std::uint64_t>, type, type);
    default:
      decode.refuse(type);
  }
}

template <class Operation>
void decode_shift(Decode& decode) {
  const Type type = decode.type();
  Execute execute = nullptr;
  switch (type) {
    case Type::b16:
    case Type::u16:
      execute = binary<Operation, std::uint16_t, std::uint16_t, std::uint32_t>;
      break;
    case Type::b32:
    case Type::u32:
      execute = binary<Operation, std::uint32_t, std::uint32_t, std::uint32_t>;
      break;
    case Type::b64:
    case Type::u64:
      execute = binary<Operation, std::uint64_t, std::uint64_t, std::uint32_t>;
      break;
    case Type::s16:
      execute = binary<Operation, std::int16_t, std::int16_t, std::uint32_t>;
      break;
    case Type::s32:
      execute = binary<Operation, std::int32_t, std::int32_t, std::uint32_t>;
      break;
    case Type::s64:
      execute = binary<Operation, std::int64_t, std::int64_t, std::uint32_t>;
      break;
    default:
      decode.refuse(type);
  }
  emit_lanes(decode, execute, type, type, Type::u32);
}

void decode_funnel_shift(Decode& decode) {
  const int side = decode.take_one({"l", "r"});
  const int mode = decode.take_one({"clamp", "wrap"});
  const Type type = decode.type();
  if (side < 0 || mode < 0) decode.fail("the direction or .wrap or .clamp is missing");
  if (type != Type::b32) decode.refuse(type);
  using U = std::uint32_t;
  const Execute execute = side == 0 ? (mode == 0 ? ternary<FunnelShift<true, false>, U, U, U, U>
                                                 : ternary<FunnelShift<true, true>, U, U, U, U>)
                                    : (mode == 0 ? ternary<FunnelShift<false, false>, U, U, U, U>
                                                 : ternary<FunnelShift<false, true>, U, U, U, U>);
  emit_lanes(decode, execute, type, type, type, Type::u32);
}

template <class Operation>
void decode_count(Decode& decode) {
  const Type type = decode.type();
  if (type == Type::b32) {
    return emit_lanes(decode, unary<Operation, std::uint32_t, std::uint32_t>, Type::u32, type);
  }
  if (type != Type::b64) decode.refuse(type);
  emit_lanes(decode, unary<Operation, std::uint32_t, std::uint64_t>, Type::u32, type);
}

template <bool kShift>
Execute find_highest(Decode& decode, Type type) {
  switch (type) {
    case Type::u32:
      return unary<FindHighest<kShift>, std::uint32_t, std::uint32_t>;
    case Type::s32:
      return unary<FindHighest<kShift>, std::uint32_t, std::int32_t>;
    case Type::u64:
      return unary<FindHighest<kShift>, std::uint32_t, std::uint64_t>;
    case Type::s64:
      return unary<FindHighest<kShift>, std::uint32_t, std::int64_t>;
    default:
      decode.refuse(type);
  }
}
void decode_find_highest(Decode& decode) {
  const bool shift = decode.take("shiftamt");
  const Type type = decode.type();
  emit_lanes(decode, shift ? find_highest<true>(decode, type) : find_highest<false>(decode, type),
             Type::u32, type);
}

void decode_reverse(Decode& decode) {
  const Type type = decode.type();
  if (type == Type::b32) {
    return emit_lanes(decode, unary<Reverse, std::uint32_t, std::uint32_t>, type, type);
  }
  if (type != Type::b64) decode.refuse(type);
  emit_lanes(decode, unary<Reverse, std::uint64_t, std::uint64_t>, type, type);
}

void decode_extract(Decode& decode) {
  const Type type = decode.type();
  using U = std::uint32_t;
  Execute execute = nullptr;
  switch (type) {
    case Type::u32:
      execute = ternary<ExtractBits, U, U, U, U>;
      break;
    case Type::s32:
      execute = ternary<ExtractBits, std::int32_t, std::int32_t, U, U>;
      break;
    case Type::u64:
      execute = ternary<ExtractBits, std::uint64_t, std::uint64_t, U, U>;
      break;
    case Type::s64:
      execute = ternary<ExtractBits, std::int64_t, std::int64_t, U, U>;
      break;
    default:
      decode.refuse(type);
  }
  emit_lanes(decode, execute, type, type, Type::u32, Type::u32);
}

void decode_insert(Decode& decode) {
  const Type type = decode.type();
  if (type != Type::b32 && type != Type::b64) decode.refuse(type);
  decode.expect(5);
  Instruction i;
  i.execute = type == Type::b32 ? insert_bits<std::uint32_t> : insert_bits<std::uint64_t>;
  i.a = decode.source(1, type);
  i.b = decode.source(2, type);
  i.c = decode.source(3, Type::u32);
  i.list = decode.builder().list({decode.source(4, Type::u32)});
  i.d = decode.destination(0, type);
  decode.emit(i);
}

void decode_permute(Decode& decode) {
  const Type type = decode.type();
  if (type != Type::b32) decode.refuse(type);
  using U = std::uint32_t;
  emit_lanes(decode, ternary<Permute, U, U, U, U>, type, type, type, type);
}

void decode_look_up(Decode& decode) {
  const Type type = decode.type();
  if (type != Type::b32) decode.refuse(type);
  decode.expect(5);
  Instruction i;
  i.execute = look_up;
  i.a = decode.source(1, type);
  i.b = decode.source(2, type);
  i.c = decode.source(3, type);
  i.mode = static_cast<std::uint16_t>(decode.integer(4));
  if (i.mode > 255) decode.fail("the table has 8 bits");
  i.d = decode.destination(0, type);
  decode.emit(i);
}

}  // namespace

void add_bits(Decoders& decoders) {
  decoders["and"] = decode_logic<And, 0>;
  decoders["or"] = decode_logic<Or, 1>;
  decoders["xor"] = decode_logic<ExclusiveOr, 2>;
  decoders["not"] = decode_not;
  decoders["cnot"] = decode_logical_not;
  decoders["shl"] = decode_shift<ShiftLeft>;
  decoders["shr"] = decode_shift<ShiftRight>;
  decoders["shf"] = decode_funnel_shift;
  decoders["popc"] = decode_count<PopulationCount>;
  decoders["clz"] = decode_count<LeadingZeros>;
  decoders["bfind"] = decode_find_highest;
  decoders["brev"] = decode_reverse;
  decoders["bfe"] = decode_extract;
  decoders["bfi"] = decode_insert;
  decoders["prmt"] = decode_permute;
  decoders["lop3"] = decode_look_up;
}

}  // namespace weft::ptx
