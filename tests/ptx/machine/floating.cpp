#include <cfenv>

#include "tests/ptx/machine/decode.h"
#include "tests/ptx/machine/numbers.h"
#include "tests/ptx/machine/warp.h"

namespace weft::ptx {
namespace {

template <class F>
constexpr bool kNarrow = sizeof(F) == 2;

// To the nearest. Numbers of 16 bits are computed as double, rounded to odd, and rounded again.
struct Add {
  template <class F>
  static F apply(F a, F b) {
    if constexpr (kNarrow<F>) {
      return from_odd<F>(add_odd(to_double(a), to_double(b)));
    } else {
      return a + b;
    }
  }
};
struct Subtract {
  template <class F>
  static F apply(F a, F b) {
    if constexpr (kNarrow<F>) {
      return from_odd<F>(add_odd(to_double(a), -to_double(b)));
    } else {
      return a - b;
    }
  }
};
struct Multiply {
  template <class F>
  static F apply(F a, F b) {
    if constexpr (kNarrow<F>) {
      return from_odd<F>(to_double(a) * to_double(b));
    } else {
      return a * b;
    }
  }
};
struct MultiplyAdd {
  template <class F>
  static F apply(F a, F b, F c) {
    if constexpr (sizeof(F) == 8) {
      return std::fma(a, b, c);
    } else {
      return from_odd<F>(fma_odd(to_double(a), to_double(b), to_double(c)));
    }
  }
};
struct Divide {
  template <class F>
  static F apply(F a, F b) {
    return a / b;
  }
};
struct Reciprocal {
  template <class F>
  static F apply(F a) {
    return F{1} / a;
  }
};
struct SquareRoot {
  template <class F>
  static F apply(F a) {
    return std::sqrt(a);
  }
};

template <class F>
Unsigned<F> bits_of(F value) {
  return std::bit_cast<Unsigned<F>>(value);
}
template <class F>
F from_bits(Unsigned<F> bits) {
  return std::bit_cast<F>(bits);
}
template <class F>
constexpr Unsigned<F> kSign = static_cast<Unsigned<F>>(Unsigned<F>{1} << (sizeof(F) * 8 - 1));

inline float comparable(Half value) { return to_float(value); }
inline float comparable(BFloat value) { return to_float(value); }
inline float comparable(float value) { return value; }
inline double comparable(double value) { return value; }

/// -0 is less than +0. A NaN gives way to a number, or is kept.
template <bool kMaximum, bool kNan>
struct Extreme {
  template <class F>
  static F apply(F a, F b) {
    const auto x = comparable(a);
    const auto y = comparable(b);
    const bool first = kMaximum ? x > y : x < y;
    // Equal numbers that differ are zeros.
    const auto zero =
        static_cast<Unsigned<F>>(kMaximum ? bits_of(a) & bits_of(b) : bits_of(a) | bits_of(b));
    Unsigned<F> result = first ? bits_of(a) : bits_of(b);
    result = x == y ? zero : result;
    if constexpr (kNan) {
      result = is_nan(x) || is_nan(y) ? bits_of(nan_of<F>()) : result;
    } else {
      result = is_nan(y) ? bits_of(is_nan(x) ? nan_of<F>() : a) : result;
    }
    return from_bits<F>(result);
  }
};
struct Absolute {
  template <class F>
  static F apply(F a) {
    return from_bits<F>(static_cast<Unsigned<F>>(bits_of(a) & ~kSign<F>));
  }
};
struct Negate {
  template <class F>
  static F apply(F a) {
    return from_bits<F>(static_cast<Unsigned<F>>(bits_of(a) ^ kSign<F>));
  }
};
struct CopySign {
  template <class F>
  static F apply(F a, F b) {
    return from_bits<F>(
        static_cast<Unsigned<F>>((bits_of(b) & ~kSign<F>) | (bits_of(a) & kSign<F>)));
  }
};

/// An operation with what its modifiers add to it.
template <class Operation, bool kFlush, bool kSaturate, bool kCanonical>
struct Modified {
  template <class F>
  static F finish(F value) {
    if constexpr (kCanonical) value = canonical(value);
    if constexpr (kFlush) value = flush(value);
    if constexpr (kSaturate) value = saturate(value);
    return value;
  }
  template <class F>
  static F start(F value) {
    if constexpr (kFlush) return flush(value);
    return value;
  }
  template <class F, class... More>
  static F apply(F a, More... more) {
    return finish(Operation::template apply<F>(start(a), start(more)...));
  }
  template <class F, class... More>
  static Pair<F> apply(Pair<F> a, More... more) {
    return {apply(a.first, more.first...), apply(a.second, more.second...)};
  }
};

template <class Operation, class F, int kOperands>
Flow lanes(Warp& warp, const Instruction& i, std::uint32_t mask) {
  if constexpr (kOperands == 1) return unary<Operation, F, F>(warp, i, mask);
  if constexpr (kOperands == 2) return binary<Operation, F, F, F>(warp, i, mask);
  if constexpr (kOperands == 3) return ternary<Operation, F, F, F, F>(warp, i, mask);
}

struct Modifiers {
  bool flushes = false;
  bool saturates = false;
  bool keeps_nan = false;
  Rounding rounding = Rounding::nearest;
  bool rounds = false;  ///< a rounding is written
  Type type{};
};

#if defined(__x86_64__)
/// The most frequent instruction of all, with the processor's own where it has one.
template <bool kFlush, bool kSaturate>
__attribute__((target("avx2,fma"))) Flow fused(Warp& warp, const Instruction& i,
                                               std::uint32_t mask) {
  const auto* a = warp.lanes<const std::uint32_t>(i.a);
  const auto* b = warp.lanes<const std::uint32_t>(i.b);
  const auto* c = warp.lanes<const std::uint32_t>(i.c);
  alignas(64) std::uint32_t values[kWarpThreads];
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    const float x = std::bit_cast<float>(kFlush ? flush_bits(a[lane]) : a[lane]);
    const float y = std::bit_cast<float>(kFlush ? flush_bits(b[lane]) : b[lane]);
    const float z = std::bit_cast<float>(kFlush ? flush_bits(c[lane]) : c[lane]);
    const float result = __builtin_fmaf(x, y, z);
    std::uint32_t bits = std::bit_cast<std::uint32_t>(result);
    bits = result != result ? kNan32 : bits;
    bits = kFlush ? flush_bits(bits) : bits;
    values[lane] = kSaturate ? bits_of(saturate(std::bit_cast<float>(bits))) : bits;
  }
  write(warp.lanes<std::uint32_t>(i.d), values, mask);
  return Flow::next;
}
Execute fused_where_possible(const Modifiers& modifiers) {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return nullptr;
  if (modifiers.flushes) return modifiers.saturates ? fused<true, true> : fused<true, false>;
  return modifiers.saturates ? fused<false, true> : fused<false, false>;
}
#else
Execute fused_where_possible(const Modifiers&) { return nullptr; }
#endif

/// Rounds in another direction, which the processor does. The volatile numbers keep operations
/// between the changes of the direction.
template <class Operation, class F, int kOperands>
Flow directed(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto* a = warp.lanes<const Slot<F>>(i.a);
  const auto* b = warp.lanes<const Slot<F>>(kOperands > 1 ? i.b : i.a);
  const auto* c = warp.lanes<const Slot<F>>(kOperands > 2 ? i.c : i.a);
  const auto rounding = static_cast<Rounding>(i.mode & 7);
  const bool flushes = (i.mode & 8) != 0;
  const bool saturates = (i.mode & 16) != 0;
  const int direction = rounding == Rounding::zero   ? FE_TOWARDZERO
                        : rounding == Rounding::down ? FE_DOWNWARD
                                                     : FE_UPWARD;
  const auto start = [&](Slot<F> slot) { return flushes ? flush(get<F>(slot)) : get<F>(slot); };
  assign<F>(warp, i.d, mask, [&](int lane) {
    volatile F x = start(a[lane]);
    volatile F y = start(b[lane]);
    volatile F z = start(c[lane]);
    std::fesetround(direction);
    volatile F result = 0;
    if constexpr (kOperands == 1) result = Operation::template apply<F>(x);
    if constexpr (kOperands == 2) result = Operation::template apply<F>(x, y);
    if constexpr (kOperands == 3) result = std::fma(F{x}, F{y}, F{z});
    std::fesetround(FE_TONEAREST);
    F value = canonical(F{result});
    if (flushes) value = flush(value);
    return saturates ? saturate(value) : value;
  });
  return Flow::next;
}
Modifiers take(Decode& decode) {
  Modifiers result;
  for (;;) {
    const int rounding = decode.take_one({"rn", "rz", "rm", "rp"});
    if (rounding >= 0) {
      result.rounding = static_cast<Rounding>(rounding);
      result.rounds = true;
    } else if (decode.take("ftz")) {
      result.flushes = true;
    } else if (decode.take("sat")) {
      result.saturates = true;
    } else if (decode.take("NaN")) {
      result.keeps_nan = true;
    } else {
      break;
    }
  }
  result.type = decode.type();
  if (result.flushes && result.type != Type::f32 && result.type != Type::f16 &&
      result.type != Type::f16x2) {
    decode.fail(".ftz is for .f32 and .f16 only");
  }
  if (result.saturates &&
      (result.type == Type::f64 || result.type == Type::bf16 || result.type == Type::bf16x2)) {
    decode.fail(".sat is for .f32 and .f16 only");
  }
  return result;
}

template <class Operation, int kOperands, bool kFlush, bool kSaturate, bool kCanonical>
Execute of_type(Decode& decode, Type type) {
  using M = Modified<Operation, kFlush, kSaturate, kCanonical>;
  switch (type) {
    case Type::f32:
      return lanes<M, float, kOperands>;
    case Type::f16:
      return lanes<M, Half, kOperands>;
    case Type::f16x2:
      return lanes<M, Pair<Half>, kOperands>;
    case Type::f64:
      if constexpr (!kFlush && !kSaturate) return lanes<M, double, kOperands>;
      break;
    case Type::bf16:
      if constexpr (!kFlush && !kSaturate) return lanes<M, BFloat, kOperands>;
      break;
    case Type::bf16x2:
      if constexpr (!kFlush && !kSaturate) return lanes<M, Pair<BFloat>, kOperands>;
      break;
    default:
      break;
  }
  decode.refuse(type);
}

/// Instances with and without .ftz and .sat.
template <class Operation, int kOperands, bool kCanonical = true>
Execute pick(Decode& decode, const Modifiers& modifiers) {
  const Type type = modifiers.type;
  if (modifiers.flushes) {
    return modifiers.saturates
               ? of_type<Operation, kOperands, true, true, kCanonical>(decode, type)
               : of_type<Operation, kOperands, true, false, kCanonical>(decode, type);
  }
  return modifiers.saturates
             ? of_type<Operation, kOperands, false, true, kCanonical>(decode, type)
             : of_type<Operation, kOperands, false, false, kCanonical>(decode, type);
}

void emit(Decode& decode, Execute execute, const Modifiers& modifiers, int operands) {
  decode.expect(operands + 1);
  Instruction i;
  i.execute = execute;
  i.mode = static_cast<std::uint16_t>(static_cast<int>(modifiers.rounding) |
                                      (modifiers.flushes ? 8 : 0) | (modifiers.saturates ? 16 : 0));
  i.a = decode.source(1, modifiers.type);
  if (operands > 1) i.b = decode.source(2, modifiers.type);
  if (operands > 2) i.c = decode.source(3, modifiers.type);
  i.d = decode.destination(0, modifiers.type);
  decode.emit(i);
}

/// Operations that round.
template <class Operation, int kOperands>
void decode_rounded(Decode& decode) {
  const Modifiers modifiers = take(decode);
  if (modifiers.keeps_nan) decode.fail(".NaN is not known here");
  if (modifiers.rounding == Rounding::nearest) {
    if constexpr (kOperands == 3) {
      const Execute execute = fused_where_possible(modifiers);
      if (modifiers.type == Type::f32 && execute != nullptr) {
        return emit(decode, execute, modifiers, kOperands);
      }
    }
    return emit(decode, pick<Operation, kOperands>(decode, modifiers), modifiers, kOperands);
  }
  if (modifiers.type != Type::f32 && modifiers.type != Type::f64) decode.refuse(modifiers.type);
  emit(decode,
       modifiers.type == Type::f32 ? directed<Operation, float, kOperands>
                                   : directed<Operation, double, kOperands>,
       modifiers, kOperands);
}

/// Those of f32 and f64 only, whose rounding has to be written.
template <class Operation, int kOperands>
void decode_division(Decode& decode) {
  const Modifiers modifiers = take(decode);
  if (!modifiers.rounds || modifiers.saturates || modifiers.keeps_nan) {
    decode.fail("the rounding is missing, or other modifiers are there");
  }
  if (modifiers.type != Type::f32 && modifiers.type != Type::f64) decode.refuse(modifiers.type);
  Execute execute = nullptr;
  if (modifiers.rounding != Rounding::nearest) {
    execute = modifiers.type == Type::f32 ? directed<Operation, float, kOperands>
                                          : directed<Operation, double, kOperands>;
  } else if (modifiers.type == Type::f64) {
    execute = lanes<Modified<Operation, false, false, true>, double, kOperands>;
  } else if (modifiers.flushes) {
    execute = lanes<Modified<Operation, true, false, true>, float, kOperands>;
  } else {
    execute = lanes<Modified<Operation, false, false, true>, float, kOperands>;
  }
  emit(decode, execute, modifiers, kOperands);
}

template <bool kMaximum>
void decode_extreme(Decode& decode) {
  const Modifiers modifiers = take(decode);
  if (modifiers.rounds || modifiers.saturates) decode.fail("an unknown modifier");
  if (modifiers.keeps_nan && modifiers.type == Type::f64) decode.fail(".NaN is not for .f64");
  emit(decode,
       modifiers.keeps_nan ? pick<Extreme<kMaximum, true>, 2, false>(decode, modifiers)
                           : pick<Extreme<kMaximum, false>, 2, false>(decode, modifiers),
       modifiers, 2);
}

template <class Operation, int kOperands>
void decode_sign(Decode& decode) {
  const Modifiers modifiers = take(decode);
  if (modifiers.rounds || modifiers.saturates || modifiers.keeps_nan) {
    decode.fail("an unknown modifier");
  }
  emit(decode, pick<Operation, kOperands, false>(decode, modifiers), modifiers, kOperands);
}

/// Whether the last modifier is such a type; names are shared with integers.
bool floating(const Decode& decode) {
  const std::optional<Type> type = decode.last_type();
  return type && is_float(*type);
}

template <class F>
Flow test_property(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto* a = warp.lanes<const Slot<F>>(i.a);
  std::uint32_t result = 0;
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    const int kind = std::fpclassify(get<F>(a[lane]));
    bool holds = false;
    switch (i.mode) {
      case 0:
        holds = kind != FP_NAN && kind != FP_INFINITE;
        break;
      case 1:
        holds = kind == FP_INFINITE;
        break;
      case 2:
        holds = kind != FP_NAN;
        break;
      case 3:
        holds = kind == FP_NAN;
        break;
      case 4:
        holds = kind == FP_NORMAL;
        break;
      default:
        holds = kind == FP_SUBNORMAL;
        break;
    }
    if (holds) result |= std::uint32_t{1} << lane;
  }
  std::uint32_t& d = warp.predicate(i.d);
  d = (d & ~mask) | (result & mask);
  return Flow::next;
}

void decode_test_property(Decode& decode) {
  const int property =
      decode.take_one({"finite", "infinite", "number", "notanumber", "normal", "subnormal"});
  if (property < 0) decode.fail("the property is missing");
  const Type type = decode.type();
  if (type != Type::f32 && type != Type::f64) decode.refuse(type);
  decode.expect(2);
  Instruction i;
  i.execute = type == Type::f32 ? test_property<float> : test_property<double>;
  i.mode = static_cast<std::uint16_t>(property);
  i.a = decode.source(1, type);
  i.d = decode.predicate(decode.operand(0).name);
  decode.emit(i);
}

}  // namespace

void add_floating(Decoders& decoders) {
  decoders["add"] = [](Decode& decode) {
    floating(decode) ? decode_rounded<Add, 2>(decode) : decode_integer_arithmetic(decode, "add");
  };
  decoders["sub"] = [](Decode& decode) {
    floating(decode) ? decode_rounded<Subtract, 2>(decode)
                     : decode_integer_arithmetic(decode, "sub");
  };
  decoders["mul"] = [](Decode& decode) {
    floating(decode) ? decode_rounded<Multiply, 2>(decode)
                     : decode_integer_arithmetic(decode, "mul");
  };
  decoders["mad"] = [](Decode& decode) {
    floating(decode) ? decode_rounded<MultiplyAdd, 3>(decode)
                     : decode_integer_arithmetic(decode, "mad");
  };
  decoders["fma"] = decode_rounded<MultiplyAdd, 3>;
  decoders["div"] = [](Decode& decode) {
    if (decode.peek() == "approx" || decode.peek() == "full")
      return decode_approximation(decode, "div");
    floating(decode) ? decode_division<Divide, 2>(decode)
                     : decode_integer_arithmetic(decode, "div");
  };
  decoders["rcp"] = [](Decode& decode) {
    if (decode.peek() == "approx") return decode_approximation(decode, "rcp");
    decode_division<Reciprocal, 1>(decode);
  };
  decoders["sqrt"] = [](Decode& decode) {
    if (decode.peek() == "approx") return decode_approximation(decode, "sqrt");
    decode_division<SquareRoot, 1>(decode);
  };
  decoders["min"] = [](Decode& decode) {
    floating(decode) ? decode_extreme<false>(decode) : decode_integer_arithmetic(decode, "min");
  };
  decoders["max"] = [](Decode& decode) {
    floating(decode) ? decode_extreme<true>(decode) : decode_integer_arithmetic(decode, "max");
  };
  decoders["abs"] = [](Decode& decode) {
    floating(decode) ? decode_sign<Absolute, 1>(decode) : decode_integer_arithmetic(decode, "abs");
  };
  decoders["neg"] = [](Decode& decode) {
    floating(decode) ? decode_sign<Negate, 1>(decode) : decode_integer_arithmetic(decode, "neg");
  };
  decoders["copysign"] = decode_sign<CopySign, 2>;
  decoders["testp"] = decode_test_property;
}

}  // namespace weft::ptx
