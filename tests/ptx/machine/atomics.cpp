#include <algorithm>

#include "tests/ptx/machine/access.h"
#include "tests/ptx/machine/numbers.h"

namespace weft::ptx {
namespace {

struct Add {
  template <class T>
  static T apply(T old, T a, T) {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(static_cast<Unsigned<T>>(old) + static_cast<Unsigned<T>>(a));
    } else if constexpr (std::is_arithmetic_v<T>) {
      return canonical(old + a);
    } else {
      return from_odd<T>(add_odd(to_double(old), to_double(a)));
    }
  }
  template <class F>
  static Pair<F> apply(Pair<F> old, Pair<F> a, Pair<F>) {
    return {apply(old.first, a.first, a.first), apply(old.second, a.second, a.second)};
  }
};
/// In global memory, float sums flush subnormal numbers.
struct FlushingAdd {
  static float apply(float old, float a, float) { return flush(canonical(flush(old) + flush(a))); }
};
struct Minimum {
  template <class T>
  static T apply(T old, T a, T) {
    return std::min(old, a);
  }
};
struct Maximum {
  template <class T>
  static T apply(T old, T a, T) {
    return std::max(old, a);
  }
};
struct And {
  template <class T>
  static T apply(T old, T a, T) {
    return old & a;
  }
};
struct Or {
  template <class T>
  static T apply(T old, T a, T) {
    return old | a;
  }
};
struct ExclusiveOr {
  template <class T>
  static T apply(T old, T a, T) {
    return old ^ a;
  }
};
struct Exchange {
  template <class T>
  static T apply(T, T a, T) {
    return a;
  }
};
struct CompareAndSwap {
  template <class T>
  static T apply(T old, T a, T b) {
    return old == a ? b : old;
  }
};
struct Increment {
  static std::uint32_t apply(std::uint32_t old, std::uint32_t a, std::uint32_t) {
    return old >= a ? 0 : old + 1;
  }
};
struct Decrement {
  static std::uint32_t apply(std::uint32_t old, std::uint32_t a, std::uint32_t) {
    return old == 0 || old > a ? a : old - 1;
  }
};

/// One lane after the other, which lane is first is drawn.
template <class Operation, class T>
Flow atomic(Warp& warp, const Instruction& i, std::uint32_t mask) {
  Pointers pointers;
  locate(warp, i, mask, sizeof(T), true, pointers);
  const auto* b = warp.lanes<const Slot<T>>(i.b);
  const auto* c = warp.lanes<const Slot<T>>(i.c != kNone ? i.c : i.b);
  Slot<T>* d = warp.lanes<Slot<T>>(i.d);
  const int first = static_cast<int>(warp.block->random->below(kWarpThreads));
  for (int k = 0; k < kWarpThreads; ++k) {
    const int lane = (first + k) % kWarpThreads;
    if (!in(mask, lane)) continue;
    T old;
    std::memcpy(&old, pointers[lane], sizeof old);
    const T value = Operation::apply(old, get<T>(b[lane]), get<T>(c[lane]));
    std::memcpy(pointers[lane], &value, sizeof value);
    d[lane] = put<T>(old);
  }
  return Flow::next;
}

template <class Operation>
Execute of_integer(Decode& decode, Type type) {
  switch (type) {
    case Type::u32:
      return atomic<Operation, std::uint32_t>;
    case Type::s32:
      return atomic<Operation, std::int32_t>;
    case Type::u64:
      return atomic<Operation, std::uint64_t>;
    case Type::s64:
      return atomic<Operation, std::int64_t>;
    default:
      decode.refuse(type);
  }
}
template <class Operation>
Execute of_bits(Decode& decode, Type type) {
  switch (type) {
    case Type::b32:
      return atomic<Operation, std::uint32_t>;
    case Type::b64:
      return atomic<Operation, std::uint64_t>;
    default:
      decode.refuse(type);
  }
}
Execute sum(Decode& decode, Type type, Space space) {
  switch (type) {
    case Type::f32:
      return space == Space::shared ? atomic<Add, float> : atomic<FlushingAdd, float>;
    case Type::f64:
      return atomic<Add, double>;
    case Type::f16:
      return atomic<Add, Half>;
    case Type::bf16:
      return atomic<Add, BFloat>;
    case Type::f16x2:
      return atomic<Add, Pair<Half>>;
    case Type::bf16x2:
      return atomic<Add, Pair<BFloat>>;
    default:
      return of_integer<Add>(decode, type);
  }
}

template <bool kReturns>
void decode_atomic(Decode& decode) {
  decode.take_one({"relaxed", "acquire", "release", "acq_rel"});
  decode.take_one({"cta", "cluster", "gpu", "sys"});
  Instruction i;
  i.space = take_space(decode);
  if (i.space != Space::generic && i.space != Space::global && i.space != Space::shared) {
    decode.fail("only global and shared memory have atomic operations");
  }
  const std::string_view operation = decode.next();
  decode.take("noftz");
  const Type type = decode.type();
  const bool swaps = operation == "cas";
  const int first = kReturns ? 1 : 0;
  decode.expect(first + (swaps ? 3 : 2));
  if (operation == "add") {
    i.execute = sum(decode, type, i.space);
  } else if (operation == "min") {
    i.execute = of_integer<Minimum>(decode, type);
  } else if (operation == "max") {
    i.execute = of_integer<Maximum>(decode, type);
  } else if (operation == "and") {
    i.execute = of_bits<And>(decode, type);
  } else if (operation == "or") {
    i.execute = of_bits<Or>(decode, type);
  } else if (operation == "xor") {
    i.execute = of_bits<ExclusiveOr>(decode, type);
  } else if (operation == "inc" && type == Type::u32) {
    i.execute = atomic<Increment, std::uint32_t>;
  } else if (operation == "dec" && type == Type::u32) {
    i.execute = atomic<Decrement, std::uint32_t>;
  } else if (operation == "exch" && kReturns) {
    i.execute = of_bits<Exchange>(decode, type);
  } else if (swaps && kReturns) {
    i.execute = type == Type::b16 ? atomic<CompareAndSwap, std::uint16_t>
                                  : of_bits<CompareAndSwap>(decode, type);
  } else {
    decode.fail("an unknown operation");
  }
  decode.address(first, i);
  i.b = decode.source(first + 1, type);
  if (swaps) i.c = decode.source(first + 2, type);
  i.d = kReturns ? decode.destination(0, type) : decode.builder().scratch();
  decode.emit(i);
}

}  // namespace

void add_atomics(Decoders& decoders) {
  decoders["atom"] = decode_atomic<true>;
  decoders["red"] = decode_atomic<false>;
}

}  // namespace weft::ptx
