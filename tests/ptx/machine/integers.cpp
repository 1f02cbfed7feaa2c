#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "tests/ptx/machine/decode.h"
#include "tests/ptx/machine/warp.h"

namespace weft::ptx {
namespace {

/// What arithmetic modulo 2^n is done in: unsigned and not promoted.
template <class T>
using Wrap = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
template <class T>
using Doubled =
    std::conditional_t<sizeof(T) == 2,
                       std::conditional_t<std::is_signed_v<T>, std::int32_t, std::uint32_t>,
                       std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>>;
__extension__ using Wide128 = __int128;
__extension__ using UnsignedWide128 = unsigned __int128;

template <class T>
constexpr int kBits = int{sizeof(T)} * 8;

struct Add {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(static_cast<Wrap<T>>(a) + static_cast<Wrap<T>>(b));
  }
};
struct Subtract {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(static_cast<Wrap<T>>(a) - static_cast<Wrap<T>>(b));
  }
};
struct SaturatingAdd {
  static std::int32_t apply(std::int32_t a, std::int32_t b) {
    return static_cast<std::int32_t>(
        std::clamp<std::int64_t>(std::int64_t{a} + b, INT32_MIN, INT32_MAX));
  }
};
struct SaturatingSubtract {
  static std::int32_t apply(std::int32_t a, std::int32_t b) {
    return static_cast<std::int32_t>(
        std::clamp<std::int64_t>(std::int64_t{a} - b, INT32_MIN, INT32_MAX));
  }
};
struct MultiplyLow {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(static_cast<Wrap<T>>(a) * static_cast<Wrap<T>>(b));
  }
};
struct MultiplyHigh {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (sizeof(T) == 8) {
      using Product = std::conditional_t<std::is_signed_v<T>, Wide128, UnsignedWide128>;
      return static_cast<T>((static_cast<Product>(a) * static_cast<Product>(b)) >> 64);
    } else {
      return static_cast<T>((std::int64_t{a} * std::int64_t{b}) >> kBits<T>);
    }
  }
};
template <>
inline std::uint32_t MultiplyHigh::apply(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::uint32_t>((std::uint64_t{a} * b) >> 32);
}
struct MultiplyWide {
  template <class T>
  static Doubled<T> apply(T a, T b) {
    return static_cast<Doubled<T>>(static_cast<Doubled<T>>(a) * static_cast<Doubled<T>>(b));
  }
};
struct MultiplyWideUnsigned16 {
  static std::uint32_t apply(std::uint16_t a, std::uint16_t b) {
    return std::uint32_t{a} * std::uint32_t{b};
  }
};
struct Multiply24 {
  template <class T>
  static T apply(T a, T b) {
    const auto extend = [](T value) {
      return static_cast<std::int64_t>(static_cast<T>(static_cast<Wrap<T>>(value) << 8) >> 8);
    };
    return static_cast<T>(static_cast<std::uint64_t>(extend(a)) *
                          static_cast<std::uint64_t>(extend(b)));
  }
};
struct MultiplyAddLow {
  template <class T>
  static T apply(T a, T b, T c) {
    return Add::apply<T>(MultiplyLow::apply<T>(a, b), c);
  }
};
struct MultiplyAddHigh {
  template <class T>
  static T apply(T a, T b, T c) {
    return Add::apply<T>(MultiplyHigh::apply<T>(a, b), c);
  }
};
struct MultiplyAddWide {
  template <class T, class C>
  static C apply(T a, T b, C c) {
    return Add::apply<C>(static_cast<C>(static_cast<C>(a) * static_cast<C>(b)), c);
  }
};
// Division by zero gives what the ISA leaves open: all bits set, as the machines do.
struct Divide {
  template <class T>
  static T apply(T a, T b) {
    if (b == 0) return static_cast<T>(~Wrap<T>{0});
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return Subtract::apply<T>(0, a);
    }
    return static_cast<T>(a / b);
  }
};
struct Remainder {
  template <class T>
  static T apply(T a, T b) {
    if (b == 0) return static_cast<T>(~Wrap<T>{0});
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return 0;
    }
    return static_cast<T>(a % b);
  }
};
struct Minimum {
  template <class T>
  static T apply(T a, T b) {
    return a < b ? a : b;
  }
};
struct Maximum {
  template <class T>
  static T apply(T a, T b) {
    return a > b ? a : b;
  }
};
struct Absolute {
  template <class T>
  static T apply(T a) {
    return a < 0 ? Subtract::apply<T>(0, a) : a;
  }
};
struct Negate {
  template <class T>
  static T apply(T a) {
    return Subtract::apply<T>(0, a);
  }
};
struct And {
  template <class T>
  static T apply(T a, T b) {
    return a & b;
  }
};
struct Or {
  template <class T>
  static T apply(T a, T b) {
    return a | b;
  }
};
struct ExclusiveOr {
  template <class T>
  static T apply(T a, T b) {
    return a ^ b;
  }
};
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
struct AbsoluteDifference {
  template <class T>
  static T apply(T a, T b, T c) {
    return Add::apply<T>(a < b ? Subtract::apply<T>(b, a) : Subtract::apply<T>(a, b), c);
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

// Which instance serves a type.

template <class Operation>
Execute of_integers(Decode& decode, Type type) {
  switch (type) {
    case Type::u16:
      return binary<Operation, std::uint16_t, std::uint16_t, std::uint16_t>;
    case Type::s16:
      return binary<Operation, std::int16_t, std::int16_t, std::int16_t>;
    case Type::u32:
      return binary<Operation, std::uint32_t, std::uint32_t, std::uint32_t>;
    case Type::s32:
      return binary<Operation, std::int32_t, std::int32_t, std::int32_t>;
    case Type::u64:
      return binary<Operation, std::uint64_t, std::uint64_t, std::uint64_t>;
    case Type::s64:
      return binary<Operation, std::int64_t, std::int64_t, std::int64_t>;
    default:
      decode.refuse(type);
  }
}
template <class Operation>
Execute of_three_integers(Decode& decode, Type type) {
  switch (type) {
    case Type::u16:
      return ternary<Operation, std::uint16_t, std::uint16_t, std::uint16_t, std::uint16_t>;
    case Type::s16:
      return ternary<Operation, std::int16_t, std::int16_t, std::int16_t, std::int16_t>;
    case Type::u32:
      return ternary<Operation, std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>;
    case Type::s32:
      return ternary<Operation, std::int32_t, std::int32_t, std::int32_t, std::int32_t>;
    case Type::u64:
      return ternary<Operation, std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t>;
    case Type::s64:
      return ternary<Operation, std::int64_t, std::int64_t, std::int64_t, std::int64_t>;
    default:
      decode.refuse(type);
  }
}
template <class Operation>
Execute of_signed(Decode& decode, Type type) {
  switch (type) {
    case Type::s16:
      return unary<Operation, std::int16_t, std::int16_t>;
    case Type::s32:
      return unary<Operation, std::int32_t, std::int32_t>;
    case Type::s64:
      return unary<Operation, std::int64_t, std::int64_t>;
    default:
      decode.refuse(type);
  }
}

void emit_binary(Decode& decode, Execute execute, Type d, Type a, Type b) {
  decode.expect(3);
  Instruction i;
  i.execute = execute;
  i.a = decode.source(1, a);
  i.b = decode.source(2, b);
  i.d = decode.destination(0, d);
  decode.emit(i);
}
void emit_unary(Decode& decode, Execute execute, Type d, Type a) {
  decode.expect(2);
  Instruction i;
  i.execute = execute;
  i.a = decode.source(1, a);
  i.d = decode.destination(0, d);
  decode.emit(i);
}
void emit_ternary(Decode& decode, Execute execute, Type d, Type a, Type b, Type c) {
  decode.expect(4);
  Instruction i;
  i.execute = execute;
  i.a = decode.source(1, a);
  i.b = decode.source(2, b);
  i.c = decode.source(3, c);
  i.d = decode.destination(0, d);
  decode.emit(i);
}

Type doubled(Decode& decode, Type type) {
  switch (type) {
    case Type::u16:
      return Type::u32;
    case Type::s16:
      return Type::s32;
    case Type::u32:
      return Type::u64;
    case Type::s32:
      return Type::s64;
    default:
      decode.refuse(type);
  }
}

void decode_multiply(Decode& decode) {
  const int part = decode.take_one({"lo", "hi", "wide"});
  if (part < 0) decode.fail(".lo, .hi or .wide is missing");
  const Type type = decode.type();
  if (part < 2) {
    const Execute execute = part == 0 ? of_integers<MultiplyLow>(decode, type)
                                      : of_integers<MultiplyHigh>(decode, type);
    return emit_binary(decode, execute, type, type, type);
  }
  const Type result = doubled(decode, type);
  Execute execute = nullptr;
  switch (type) {
    case Type::u16:
      execute = binary<MultiplyWideUnsigned16, std::uint32_t, std::uint16_t, std::uint16_t>;
      break;
    case Type::s16:
      execute = binary<MultiplyWide, std::int32_t, std::int16_t, std::int16_t>;
      break;
    case Type::u32:
      execute = binary<MultiplyWide, std::uint64_t, std::uint32_t, std::uint32_t>;
      break;
    default:
      execute = binary<MultiplyWide, std::int64_t, std::int32_t, std::int32_t>;
      break;
  }
  emit_binary(decode, execute, result, type, type);
}

void decode_multiply_add(Decode& decode) {
  const int part = decode.take_one({"lo", "hi", "wide"});
  if (part < 0) decode.fail(".lo, .hi or .wide is missing");
  const Type type = decode.type();
  if (part < 2) {
    const Execute execute = part == 0 ? of_three_integers<MultiplyAddLow>(decode, type)
                                      : of_three_integers<MultiplyAddHigh>(decode, type);
    return emit_ternary(decode, execute, type, type, type, type);
  }
  const Type result = doubled(decode, type);
  Execute execute = nullptr;
  switch (type) {
    case Type::u16:
      execute =
          ternary<MultiplyAddWide, std::uint32_t, std::uint16_t, std::uint16_t, std::uint32_t>;
      break;
    case Type::s16:
      execute = ternary<MultiplyAddWide, std::int32_t, std::int16_t, std::int16_t, std::int32_t>;
      break;
    case Type::u32:
      execute =
          ternary<MultiplyAddWide, std::uint64_t, std::uint32_t, std::uint32_t, std::uint64_t>;
      break;
    default:
      execute = ternary<MultiplyAddWide, std::int64_t, std::int32_t, std::int32_t, std::int64_t>;
      break;
  }
  emit_ternary(decode, execute, result, type, type, result);
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
    return emit_binary(decode, of_bits<Operation>(decode, type), type, type, type);
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
      return emit_unary(decode, unary<Not, std::uint16_t, std::uint16_t>, type, type);
    case Type::b32:
      return emit_unary(decode, unary<Not, std::uint32_t, std::uint32_t>, type, type);
    case Type::b64:
      return emit_unary(decode, unary<Not, std::uint64_t, std::uint64_t>, type, type);
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
      return emit_unary(decode, unary<LogicalNot, std::uint16_t, std::uint16_t>, type, type);
    case Type::b32:
      return emit_unary(decode, unary<LogicalNot, std::uint32_t, std::uint32_t>, type, type);
    case Type::b64:
      return emit_unary(decode, unary<LogicalNot, std::uint64_t, std::uint64_t>, type, type);
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
  emit_binary(decode, execute, type, type, Type::u32);
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
  emit_ternary(decode, execute, type, type, type, Type::u32);
}

template <class Operation>
void decode_count(Decode& decode) {
  const Type type = decode.type();
  if (type == Type::b32) {
    return emit_unary(decode, unary<Operation, std::uint32_t, std::uint32_t>, Type::u32, type);
  }
  if (type != Type::b64) decode.refuse(type);
  emit_unary(decode, unary<Operation, std::uint32_t, std::uint64_t>, Type::u32, type);
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
  emit_unary(decode, shift ? find_highest<true>(decode, type) : find_highest<false>(decode, type),
             Type::u32, type);
}

void decode_reverse(Decode& decode) {
  const Type type = decode.type();
  if (type == Type::b32) {
    return emit_unary(decode, unary<Reverse, std::uint32_t, std::uint32_t>, type, type);
  }
  if (type != Type::b64) decode.refuse(type);
  emit_unary(decode, unary<Reverse, std::uint64_t, std::uint64_t>, type, type);
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
  emit_ternary(decode, execute, type, type, Type::u32, Type::u32);
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
  emit_ternary(decode, ternary<Permute, U, U, U, U>, type, type, type, type);
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

void decode_absolute_difference(Decode& decode) {
  const Type type = decode.type();
  emit_ternary(decode, of_three_integers<AbsoluteDifference>(decode, type), type, type, type, type);
}

}  // namespace

void decode_integer_arithmetic(Decode& decode, std::string_view operation) {
  if (operation == "mul") return decode_multiply(decode);
  if (operation == "mad") return decode_multiply_add(decode);
  const bool saturate = decode.take("sat");
  const Type type = decode.type();
  Execute execute = nullptr;
  if (saturate && type != Type::s32) decode.refuse(type);
  if (operation == "add") {
    execute = saturate ? binary<SaturatingAdd, std::int32_t, std::int32_t, std::int32_t>
                       : of_integers<Add>(decode, type);
  } else if (operation == "sub") {
    execute = saturate ? binary<SaturatingSubtract, std::int32_t, std::int32_t, std::int32_t>
                       : of_integers<Subtract>(decode, type);
  } else if (saturate) {
    decode.fail(".sat is not known here");
  } else if (operation == "div") {
    execute = of_integers<Divide>(decode, type);
  } else if (operation == "rem") {
    execute = of_integers<Remainder>(decode, type);
  } else if (operation == "min") {
    execute = of_integers<Minimum>(decode, type);
  } else if (operation == "max") {
    execute = of_integers<Maximum>(decode, type);
  } else {
    return emit_unary(
        decode,
        operation == "abs" ? of_signed<Absolute>(decode, type) : of_signed<Negate>(decode, type),
        type, type);
  }
  emit_binary(decode, execute, type, type, type);
}

void add_integers(Decoders& decoders) {
  decoders["rem"] = [](Decode& decode) { decode_integer_arithmetic(decode, "rem"); };
  decoders["mul24"] = [](Decode& decode) {
    if (!decode.take("lo")) decode.fail(".lo is missing");
    const Type type = decode.type();
    if (type != Type::u32 && type != Type::s32) decode.refuse(type);
    emit_binary(decode,
                type == Type::u32 ? binary<Multiply24, std::uint32_t, std::uint32_t, std::uint32_t>
                                  : binary<Multiply24, std::int32_t, std::int32_t, std::int32_t>,
                type, type, type);
  };
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
  decoders["sad"] = decode_absolute_difference;
}

}  // namespace weft::ptx
