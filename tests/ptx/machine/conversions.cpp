#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "tests/ptx/machine/decode.h"
#include "tests/ptx/machine/numbers.h"
#include "tests/ptx/machine/warp.h"

namespace weft::ptx {
namespace {

// What an instruction's mode says of a conversion.
constexpr std::uint16_t kFlush = 8;
constexpr std::uint16_t kSaturate = 16;
constexpr std::uint16_t kIntegral = 32;  ///< rounds to an integer
constexpr std::uint16_t kClamp = 64;     ///< .relu

// Between integers.

template <class D, class S, bool kSaturating>
struct Integer {
  static D apply(S a) {
    if constexpr (kSaturating) {
      using Limits = std::numeric_limits<D>;
      if (std::cmp_less(a, Limits::min())) return Limits::min();
      if (std::cmp_greater(a, Limits::max())) return Limits::max();
    }
    return static_cast<D>(a);
  }
};

template <class D, bool kSaturating>
Execute from_integer(Decode& decode, Type source) {
  switch (source) {
    case Type::u8:
      return unary<Integer<D, std::uint8_t, kSaturating>, D, std::uint8_t>;
    case Type::u16:
      return unary<Integer<D, std::uint16_t, kSaturating>, D, std::uint16_t>;
    case Type::u32:
      return unary<Integer<D, std::uint32_t, kSaturating>, D, std::uint32_t>;
    case Type::u64:
      return unary<Integer<D, std::uint64_t, kSaturating>, D, std::uint64_t>;
    case Type::s8:
      return unary<Integer<D, std::int8_t, kSaturating>, D, std::int8_t>;
    case Type::s16:
      return unary<Integer<D, std::int16_t, kSaturating>, D, std::int16_t>;
    case Type::s32:
      return unary<Integer<D, std::int32_t, kSaturating>, D, std::int32_t>;
    case Type::s64:
      return unary<Integer<D, std::int64_t, kSaturating>, D, std::int64_t>;
    default:
      decode.refuse(source);
  }
}

template <bool kSaturating>
Execute between_integers(Decode& decode, Type result, Type source) {
  switch (result) {
    case Type::u8:
      return from_integer<std::uint8_t, kSaturating>(decode, source);
    case Type::u16:
      return from_integer<std::uint16_t, kSaturating>(decode, source);
    case Type::u32:
      return from_integer<std::uint32_t, kSaturating>(decode, source);
    case Type::u64:
      return from_integer<std::uint64_t, kSaturating>(decode, source);
    case Type::s8:
      return from_integer<std::int8_t, kSaturating>(decode, source);
    case Type::s16:
      return from_integer<std::int16_t, kSaturating>(decode, source);
    case Type::s32:
      return from_integer<std::int32_t, kSaturating>(decode, source);
    case Type::s64:
      return from_integer<std::int64_t, kSaturating>(decode, source);
    default:
      decode.refuse(result);
  }
}

// Of and to floating numbers: any, by the types in `count` and `list` and the rounding in `mode`.

long double read(Type type, std::uint64_t slot, bool flushes) {
  const auto narrow = static_cast<std::uint32_t>(slot);
  switch (type) {
    case Type::u8:
      return get<std::uint8_t>(narrow);
    case Type::u16:
      return get<std::uint16_t>(narrow);
    case Type::u32:
      return narrow;
    case Type::u64:
      return static_cast<long double>(slot);
    case Type::s8:
      return get<std::int8_t>(narrow);
    case Type::s16:
      return get<std::int16_t>(narrow);
    case Type::s32:
      return get<std::int32_t>(narrow);
    case Type::s64:
      return static_cast<long double>(static_cast<std::int64_t>(slot));
    case Type::f16:
      return to_float(get<Half>(narrow));
    case Type::bf16:
      return to_float(get<BFloat>(narrow));
    case Type::f32:
      return flushes ? flush(get<float>(narrow)) : get<float>(narrow);
    case Type::f64:
      return get<double>(slot);
    default:
      return 0;
  }
}

template <class F>
std::uint64_t floating(long double value, std::uint16_t mode, Rounding rounding) {
  value = (mode & kIntegral) != 0 ? to_integer(value, rounding) : round_to<F>(value, rounding);
  if ((mode & kClamp) != 0 && value < 0) value = 0;
  F result = exactly<F>(value);
  if constexpr (std::is_same_v<F, float>) {
    if ((mode & kFlush) != 0) result = flush(result);
  }
  if ((mode & kSaturate) != 0) result = saturate(result);
  return put<F>(result);
}

template <class T>
std::uint64_t integer(long double value, Rounding rounding, bool wide) {
  using Limits = std::numeric_limits<T>;
  if (std::isnan(value)) return wide ? Unsigned<T>{1} << (sizeof(T) * 8 - 1) : 0;
  const long double rounded = to_integer(value, rounding);
  if (rounded <= static_cast<long double>(Limits::min())) return put<T>(Limits::min());
  if (rounded >= static_cast<long double>(Limits::max())) return put<T>(Limits::max());
  return put<T>(static_cast<T>(rounded));
}

std::uint64_t convert(Type result, Type source, long double value, std::uint16_t mode) {
  const auto rounding = static_cast<Rounding>(mode & 7);
  // A NaN of double, or for 64 bits, becomes 1 << (bits - 1), else 0.
  const bool wide = source == Type::f64 || bits(result) == 64;
  switch (result) {
    case Type::u8:
      return integer<std::uint8_t>(value, rounding, wide);
    case Type::u16:
      return integer<std::uint16_t>(value, rounding, wide);
    case Type::u32:
      return integer<std::uint32_t>(value, rounding, wide);
    case Type::u64:
      return integer<std::uint64_t>(value, rounding, wide);
    case Type::s8:
      return integer<std::int8_t>(value, rounding, wide);
    case Type::s16:
      return integer<std::int16_t>(value, rounding, wide);
    case Type::s32:
      return integer<std::int32_t>(value, rounding, wide);
    case Type::s64:
      return integer<std::int64_t>(value, rounding, wide);
    case Type::f16:
      return floating<Half>(value, mode, rounding);
    case Type::bf16:
      return floating<BFloat>(value, mode, rounding);
    case Type::f32:
      return floating<float>(value, mode, rounding);
    case Type::f64:
      return floating<double>(value, mode, rounding);
    default:
      return 0;
  }
}

Flow any_conversion(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto source = static_cast<Type>(i.count);
  const auto result = static_cast<Type>(i.list);
  const bool flushes = (i.mode & kFlush) != 0;
  alignas(64) std::uint64_t values[kWarpThreads];
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    const std::uint64_t slot = bits(source) == 64 ? warp.lanes<const std::uint64_t>(i.a)[lane]
                                                  : warp.lanes<const std::uint32_t>(i.a)[lane];
    values[lane] = convert(result, source, read(source, slot, flushes), i.mode);
  }
  if (bits(result) == 64) {
    write(warp.lanes<std::uint64_t>(i.d), values, mask);
  } else {
    assign<std::uint32_t>(warp, i.d, mask,
                          [&](int lane) { return static_cast<std::uint32_t>(values[lane]); });
  }
  return Flow::next;
}

// The frequent ones, to the nearest or exact.

template <class F, bool kFlushes>
F flushed(F value) {
  if constexpr (kFlushes && std::is_same_v<F, float>) return flush(value);
  return value;
}
template <bool kFlushes>
struct Direct {
  template <class D, class S>
  static D convert(S a) {
    const S source = flushed<S, kFlushes>(a);
    if constexpr (std::is_arithmetic_v<S>) {
      return flushed<D, kFlushes>(static_cast<D>(source));
    } else {
      return static_cast<D>(to_float(source));
    }
  }
};
template <class D, class S, bool kFlushes>
struct DirectTo {
  static D apply(S a) { return canonical(Direct<kFlushes>::template convert<D, S>(a)); }
};
template <bool kFlushes>
struct ToHalf {
  static Half apply(float a) { return to_half(flushed<float, kFlushes>(a)); }
};
template <bool kFlushes>
struct ToBFloat {
  static BFloat apply(float a) { return to_bfloat(flushed<float, kFlushes>(a)); }
};

template <class D, bool kFlushes>
Execute direct_to(Type source) {
  switch (source) {
    case Type::u16:
      return unary<DirectTo<D, std::uint16_t, kFlushes>, D, std::uint16_t>;
    case Type::u32:
      return unary<DirectTo<D, std::uint32_t, kFlushes>, D, std::uint32_t>;
    case Type::u64:
      return unary<DirectTo<D, std::uint64_t, kFlushes>, D, std::uint64_t>;
    case Type::s16:
      return unary<DirectTo<D, std::int16_t, kFlushes>, D, std::int16_t>;
    case Type::s32:
      return unary<DirectTo<D, std::int32_t, kFlushes>, D, std::int32_t>;
    case Type::s64:
      return unary<DirectTo<D, std::int64_t, kFlushes>, D, std::int64_t>;
    case Type::f16:
      return unary<DirectTo<D, Half, kFlushes>, D, Half>;
    case Type::bf16:
      return unary<DirectTo<D, BFloat, kFlushes>, D, BFloat>;
    case Type::f32:
      return unary<DirectTo<D, float, kFlushes>, D, float>;
    case Type::f64:
      return unary<DirectTo<D, double, kFlushes>, D, double>;
    default:
      return nullptr;
  }
}

/// nullptr: any_conversion has to serve.
Execute direct(Type result, Type source, std::uint16_t mode) {
  if ((mode & ~kFlush) != static_cast<int>(Rounding::nearest)) return nullptr;
  const bool flushes = (mode & kFlush) != 0;
  if (result == Type::f32) {
    return flushes ? direct_to<float, true>(source) : direct_to<float, false>(source);
  }
  if (result == Type::f64) {
    return flushes ? direct_to<double, true>(source) : direct_to<double, false>(source);
  }
  if (source != Type::f32) return nullptr;
  if (result == Type::f16) {
    return flushes ? unary<ToHalf<true>, Half, float> : unary<ToHalf<false>, Half, float>;
  }
  if (result == Type::bf16) {
    return flushes ? unary<ToBFloat<true>, BFloat, float> : unary<ToBFloat<false>, BFloat, float>;
  }
  return nullptr;
}

/// Two numbers of F in 32 bits, the second operand in the lower ones.
template <class F>
Flow pair_conversion(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto* a = warp.lanes<const std::uint32_t>(i.a);
  const auto* b = warp.lanes<const std::uint32_t>(i.b);
  const auto rounding = static_cast<Rounding>(i.mode & 7);
  const std::uint16_t mode = i.mode;
  const auto one = [&](std::uint32_t slot) -> std::uint32_t {
    if (mode == 0) {
      if constexpr (std::is_same_v<F, Half>) return to_half(get<float>(slot)).bits;
      return to_bfloat(get<float>(slot)).bits;
    }
    return static_cast<std::uint32_t>(
        floating<F>(read(Type::f32, slot, (mode & kFlush) != 0), mode, rounding));
  };
  assign<std::uint32_t>(warp, i.d, mask,
                        [&](int lane) { return one(a[lane]) << 16 | one(b[lane]); });
  return Flow::next;
}

/// To 10 bits after the point; the 13 lowest bits of the result are 0.
Flow tensor_float(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto* a = warp.lanes<const std::uint32_t>(i.a);
  const auto rounding = static_cast<Rounding>(i.mode & 7);
  const bool clamps = (i.mode & kClamp) != 0;
  assign<std::uint32_t>(warp, i.d, mask, [=](int lane) {
    const std::uint32_t bits = a[lane];
    if ((bits & 0x7fffffff) > 0x7f800000) return kNan32;
    if (clamps && (bits & 0x80000000) != 0) return std::uint32_t{0};
    std::uint32_t more = 0;
    if (rounding == Rounding::away) more = 0x1000;
    if (rounding == Rounding::nearest) more = 0xfff + (bits >> 13 & 1);
    if ((bits & 0x7fffffff) == 0x7f800000) more = 0;
    return (bits + more) & 0xffffe000;
  });
  return Flow::next;
}

bool takes_part(Type type) {
  return type != Type::pred && !is_untyped(type) && type != Type::f16x2;
}

void decode_pair(Decode& decode, Type result, std::uint16_t mode) {
  decode.expect(3);
  Instruction i;
  i.execute = result == Type::f16x2 ? pair_conversion<Half> : pair_conversion<BFloat>;
  i.mode = mode;
  i.a = decode.source(1, Type::f32);
  i.b = decode.source(2, Type::f32);
  i.d = decode.destination(0, result);
  decode.emit(i);
}

void decode_conversion(Decode& decode) {
  std::uint16_t mode = 0;
  const int integral = decode.take_one({"rni", "rzi", "rmi", "rpi"});
  if (integral >= 0) mode = static_cast<std::uint16_t>(integral | kIntegral);
  const int rounding = decode.take_one({"rn", "rz", "rm", "rp", "rna"});
  if (rounding >= 0) mode = static_cast<std::uint16_t>(mode | rounding);
  for (;;) {
    if (decode.take("ftz")) {
      mode |= kFlush;
    } else if (decode.take("sat")) {
      mode |= kSaturate;
    } else if (decode.take("relu")) {
      mode |= kClamp;
    } else {
      break;
    }
  }
  const Type result = decode.type();
  const Type source = decode.type();
  if (result == Type::f16x2 || result == Type::bf16x2) {
    if (source != Type::f32 || rounding < 0) decode.fail("the rounding or .f32 is missing");
    return decode_pair(decode, result, mode);
  }
  decode.expect(2);
  Instruction i;
  i.mode = mode;
  if (result == Type::tf32) {
    if (source != Type::f32 || rounding < 0) decode.fail("the rounding or .f32 is missing");
    i.execute = tensor_float;
    i.a = decode.source(1, Type::f32);
    i.d = decode.destination(0, Type::b32);
    return decode.emit(i);
  }
  if (!takes_part(result) || !takes_part(source)) decode.refuse(result);

  // What is rounded has to say how, and nothing else may.
  const bool from_float = is_float(source);
  const bool to_float_type = is_float(result);
  if (from_float && !to_float_type && integral < 0)
    decode.fail("a rounding to an integer is missing");
  const bool narrows = to_float_type && (!from_float || bits(result) < bits(source));
  if (narrows && rounding < 0) decode.fail("the rounding is missing");
  if (!from_float && !to_float_type && (integral >= 0 || rounding >= 0)) {
    decode.fail("conversions of integers to integers do not round");
  }
  if (integral >= 0 && to_float_type && result != source) {
    decode.fail("only conversions to the same type round to an integer");
  }

  // Wider registers are taken and given through intermediate values.
  Register a = decode.wide_source(decode.operand(1), source);
  const Register d = decode.wide_destination(decode.operand(0), result);
  if (bits(a.type) < bits(source) || bits(d.type) < bits(result)) {
    decode.fail("a register has fewer bits than its type");
  }
  if (bits(a.type) == 64 && bits(source) < 64) {
    Instruction lower;
    lower.execute = between_integers<false>(decode, Type::u32, Type::u64);
    lower.a = a.offset;
    lower.d = a.offset = decode.builder().temporary(false);
    decode.emit(lower);
  }
  i.a = a.offset;
  const bool widens = is_integer(result) && bits(d.type) > bits(result);
  i.d = widens ? decode.builder().temporary(bits(result) == 64) : d.offset;
  if (!widens && bits(d.type) != bits(result)) decode.fail("the result's register is too wide");
  if (!from_float && !to_float_type) {
    i.execute = (mode & kSaturate) != 0 ? between_integers<true>(decode, result, source)
                                        : between_integers<false>(decode, result, source);
  } else {
    i.execute = direct(result, source, mode);
    if (i.execute == nullptr) {
      i.execute = any_conversion;
      i.count = static_cast<std::uint8_t>(source);
      i.list = static_cast<std::uint32_t>(result);
    }
  }
  decode.emit(i);
  if (widens) {
    constexpr Type kSigned[] = {Type::s16, Type::s32, Type::s64};
    constexpr Type kUnsigned[] = {Type::u16, Type::u32, Type::u64};
    const int size = bits(d.type) == 16 ? 0 : bits(d.type) == 32 ? 1 : 2;
    Instruction extend;
    extend.execute = between_integers<false>(
        decode, is_signed(result) ? kSigned[size] : kUnsigned[size], result);
    extend.a = i.d;
    extend.d = d.offset;
    decode.emit(extend);
  }
}

}  // namespace

void add_conversions(Decoders& decoders) { decoders["cvt"] = decode_conversion; }

}  // namespace weft::ptx
