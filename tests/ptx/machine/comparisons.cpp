#include <fmt/format.h>

#include <optional>

#include "tests/ptx/machine/decode.h"
#include "tests/ptx/machine/numbers.h"
#include "tests/ptx/machine/warp.h"

namespace weft::ptx {
namespace {

// Relations that hold for numbers only; the others are these of exchanged operands, or negated.
struct Equal {
  template <class T>
  static bool holds(T a, T b) {
    return a == b;
  }
};
struct Less {
  template <class T>
  static bool holds(T a, T b) {
    return a < b;
  }
};
struct LessOrEqual {
  template <class T>
  static bool holds(T a, T b) {
    return a <= b;
  }
};
struct Different {
  template <class T>
  static bool holds(T a, T b) {
    return a < b || a > b;
  }
};
struct Numbers {
  template <class T>
  static bool holds(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) return !is_nan(a) && !is_nan(b);
    return true;
  }
};

enum class Relation : std::uint8_t { equal, less, less_or_equal, different, numbers };

struct Comparison {
  Relation relation = Relation::equal;
  bool exchanged = false;
  bool negated = false;
};

// What an instruction's mode says: how the comparison is combined with a predicate, and negations.
constexpr std::uint16_t kCombine = 3;  ///< none, and, or, xor
constexpr std::uint16_t kNegated = 4;
constexpr std::uint16_t kNegatedOperand = 8;

template <class T, bool kFlush>
auto number(T value) {
  if constexpr (std::is_arithmetic_v<T>) {
    if constexpr (kFlush) return flush(value);
    return value;
  } else {
    if constexpr (kFlush) return to_float(flush(value));
    return to_float(value);
  }
}

template <class R, class T, bool kFlush>
std::uint32_t compare(Warp& warp, const Instruction& i) {
  const auto* a = warp.lanes<const Slot<T>>(i.a);
  const auto* b = warp.lanes<const Slot<T>>(i.b);
  alignas(32) std::uint8_t holds[kWarpThreads];
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    holds[lane] =
        R::holds(number<T, kFlush>(get<T>(a[lane])), number<T, kFlush>(get<T>(b[lane]))) ? 1 : 0;
  }
  // Eight bytes of 0 or 1 become eight bits.
  std::uint32_t result = 0;
  for (int k = 0; k < 4; ++k) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, holds + 8 * k, sizeof eight);
    result |= static_cast<std::uint32_t>((eight * 0x0102040810204080) >> 56) << (8 * k);
  }
  return (i.mode & kNegated) != 0 ? ~result : result;
}

std::uint32_t combine(Warp& warp, const Instruction& i, std::uint32_t result) {
  if ((i.mode & kCombine) == 0) return result;
  const std::uint32_t c = warp.predicate(i.c) ^ ((i.mode & kNegatedOperand) != 0 ? kAllLanes : 0);
  return (i.mode & kCombine) == 1 ? result & c : (i.mode & kCombine) == 2 ? result | c : result ^ c;
}

template <class R, class T, bool kFlush>
Flow set_predicate(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const std::uint32_t result = compare<R, T, kFlush>(warp, i);
  const std::uint32_t first = combine(warp, i, result);
  // The second predicate is that of the negated comparison.
  if (i.count != 0) {
    const std::uint32_t second = combine(warp, i, ~result);
    std::uint32_t& q = warp.predicate(i.list);
    q = (q & ~mask) | (second & mask);
  }
  std::uint32_t& d = warp.predicate(i.d);
  d = (d & ~mask) | (first & mask);
  return Flow::next;
}

/// Writes i.immediate where the comparison holds, else 0.
template <class R, class T, bool kFlush>
Flow set_register(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const std::uint32_t result = combine(warp, i, compare<R, T, kFlush>(warp, i));
  const auto value = static_cast<std::uint32_t>(i.immediate);
  assign<std::uint32_t>(warp, i.d, mask,
                        [=](int lane) { return in(result, lane) ? value : std::uint32_t{0}; });
  return Flow::next;
}

template <bool kRegister, class R, class T, bool kFlush>
Execute instance() {
  if constexpr (kRegister) {
    return set_register<R, T, kFlush>;
  } else {
    return set_predicate<R, T, kFlush>;
  }
}
template <bool kRegister, class R>
Execute of_type(Decode& decode, Type type, bool flushes) {
  switch (type) {
    case Type::b16:
    case Type::u16:
      return instance<kRegister, R, std::uint16_t, false>();
    case Type::b32:
    case Type::u32:
      return instance<kRegister, R, std::uint32_t, false>();
    case Type::b64:
    case Type::u64:
      return instance<kRegister, R, std::uint64_t, false>();
    case Type::s16:
      return instance<kRegister, R, std::int16_t, false>();
    case Type::s32:
      return instance<kRegister, R, std::int32_t, false>();
    case Type::s64:
      return instance<kRegister, R, std::int64_t, false>();
    case Type::f16:
      return flushes ? instance<kRegister, R, Half, true>() : instance<kRegister, R, Half, false>();
    case Type::bf16:
      return instance<kRegister, R, BFloat, false>();
    case Type::f32:
      return flushes ? instance<kRegister, R, float, true>()
                     : instance<kRegister, R, float, false>();
    case Type::f64:
      return instance<kRegister, R, double, false>();
    default:
      decode.refuse(type);
  }
}
template <bool kRegister>
Execute of_relation(Decode& decode, Relation relation, Type type, bool flushes) {
  switch (relation) {
    case Relation::equal:
      return of_type<kRegister, Equal>(decode, type, flushes);
    case Relation::less:
      return of_type<kRegister, Less>(decode, type, flushes);
    case Relation::less_or_equal:
      return of_type<kRegister, LessOrEqual>(decode, type, flushes);
    case Relation::different:
      return of_type<kRegister, Different>(decode, type, flushes);
    case Relation::numbers:
      return of_type<kRegister, Numbers>(decode, type, flushes);
  }
  return nullptr;
}

std::optional<Comparison> comparison(std::string_view name, Type type) {
  using R = Relation;
  struct Row {
    std::string_view name;
    Comparison comparison;
    bool of_floats_only;
    bool of_integers_only;
  };
  static constexpr Row kRows[] = {
      {"eq", {R::equal, false, false}, false, false},
      {"ne", {R::different, false, false}, false, false},
      {"lt", {R::less, false, false}, false, false},
      {"le", {R::less_or_equal, false, false}, false, false},
      {"gt", {R::less, true, false}, false, false},
      {"ge", {R::less_or_equal, true, false}, false, false},
      {"lo", {R::less, false, false}, false, true},
      {"ls", {R::less_or_equal, false, false}, false, true},
      {"hi", {R::less, true, false}, false, true},
      {"hs", {R::less_or_equal, true, false}, false, true},
      {"equ", {R::different, false, true}, true, false},
      {"neu", {R::equal, false, true}, true, false},
      {"ltu", {R::less_or_equal, true, true}, true, false},
      {"leu", {R::less, true, true}, true, false},
      {"gtu", {R::less_or_equal, false, true}, true, false},
      {"geu", {R::less, false, true}, true, false},
      {"num", {R::numbers, false, false}, true, false},
      {"nan", {R::numbers, false, true}, true, false},
  };
  for (const Row& row : kRows) {
    if (row.name != name) continue;
    if (row.of_floats_only && !is_float(type)) return std::nullopt;
    if (row.of_integers_only && !is_unsigned(type)) return std::nullopt;
    if (is_untyped(type) && name != "eq" && name != "ne") return std::nullopt;
    return row.comparison;
  }
  return std::nullopt;
}

template <bool kRegister>
void decode_comparison(Decode& decode) {
  const std::string_view name = decode.next();
  const int combination = decode.take_one({"and", "or", "xor"}) + 1;
  const bool flushes = decode.take("ftz");
  const Type result = kRegister ? decode.type() : Type::pred;
  const Type type = decode.type();
  const std::optional<Comparison> found = comparison(name, type);
  if (!found) decode.fail(fmt::format(".{} is no comparison of .{}", name, weft::ptx::name(type)));
  if (flushes && type != Type::f32 && type != Type::f16) decode.fail(".ftz is for .f32 and .f16");
  decode.expect(combination == 0 ? 3 : 4);
  Instruction i;
  i.execute = of_relation<kRegister>(decode, found->relation, type, flushes);
  i.a = decode.source(found->exchanged ? 2 : 1, type);
  i.b = decode.source(found->exchanged ? 1 : 2, type);
  i.mode = static_cast<std::uint16_t>(combination | (found->negated ? kNegated : 0));
  if (combination != 0) {
    bool negated = false;
    i.c = decode.source_predicate(3, negated);
    if (negated) i.mode |= kNegatedOperand;
  }
  if (kRegister) {
    if (result != Type::u32 && result != Type::s32 && result != Type::f32) decode.refuse(result);
    i.immediate = result == Type::f32 ? 0x3f800000 : 0xffffffff;
    i.d = decode.destination(0, result);
  } else {
    const Operand& target = decode.operand(0);
    i.d = target.kind == Operand::Kind::sink ? decode.builder().scratch()
                                             : decode.predicate(target.name);
    if (!target.second.empty()) {
      i.count = 1;
      i.list = decode.predicate(target.second);
    }
  }
  decode.emit(i);
}

template <class S>
Flow select(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const S* a = warp.lanes<const S>(i.a);
  const S* b = warp.lanes<const S>(i.b);
  const std::uint32_t c = warp.predicate(i.c) ^ (i.mode != 0 ? kAllLanes : 0);
  assign<S>(warp, i.d, mask, [=](int lane) {
    if constexpr (sizeof(S) == 8) {
      return (c & kLaneBits.wide[lane]) != 0 ? a[lane] : b[lane];
    } else {
      return (c & kLaneBits.narrow[lane]) != 0 ? a[lane] : b[lane];
    }
  });
  return Flow::next;
}

void decode_select(Decode& decode) {
  const Type type = decode.type();
  if (type == Type::pred || bits(type) < 16) decode.refuse(type);
  decode.expect(4);
  Instruction i;
  bool negated = false;
  i.execute = bits(type) == 64 ? select<std::uint64_t> : select<std::uint32_t>;
  i.a = decode.source(1, type);
  i.b = decode.source(2, type);
  i.c = decode.source_predicate(3, negated);
  i.mode = negated ? 1 : 0;
  i.d = decode.destination(0, type);
  decode.emit(i);
}

/// a where c >= 0, else b; a NaN is not.
template <class S, class C>
Flow select_by_sign(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const S* a = warp.lanes<const S>(i.a);
  const S* b = warp.lanes<const S>(i.b);
  const auto* c = warp.lanes<const std::uint32_t>(i.c);
  const bool flushes = i.mode != 0;
  assign<S>(warp, i.d, mask, [=](int lane) {
    C value = get<C>(c[lane]);
    if constexpr (std::is_same_v<C, float>) {
      if (flushes) value = flush(value);
    }
    return value >= 0 ? a[lane] : b[lane];
  });
  return Flow::next;
}

void decode_select_by_sign(Decode& decode) {
  const bool flushes = decode.take("ftz");
  const Type type = decode.type();
  const Type by = decode.type();
  if (by != Type::s32 && by != Type::f32) decode.refuse(by);
  decode.expect(4);
  Instruction i;
  if (bits(type) == 64) {
    i.execute = by == Type::s32 ? select_by_sign<std::uint64_t, std::int32_t>
                                : select_by_sign<std::uint64_t, float>;
  } else {
    i.execute = by == Type::s32 ? select_by_sign<std::uint32_t, std::int32_t>
                                : select_by_sign<std::uint32_t, float>;
  }
  i.mode = flushes ? 1 : 0;
  i.a = decode.source(1, type);
  i.b = decode.source(2, type);
  i.c = decode.source(3, by);
  i.d = decode.destination(0, type);
  decode.emit(i);
}

}  // namespace

void add_comparisons(Decoders& decoders) {
  decoders["setp"] = decode_comparison<false>;
  decoders["set"] = decode_comparison<true>;
  decoders["selp"] = decode_select;
  decoders["slct"] = decode_select_by_sign;
}

}  // namespace weft::ptx
