#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "tests/ptx/machine/decode.h"
#include "tests/ptx/machine/integer_operations.h"
#include "tests/ptx/machine/warp.h"

namespace weft::ptx {
namespace {

using integers::Add;
using integers::Maximum;
using integers::Minimum;

using integers::Wrap;
template <class T>
using Doubled =
    std::conditional_t<sizeof(T) == 2,
                       std::conditional_t<std::is_signed_v<T>, std::int32_t, std::uint32_t>,
                       std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>>;
__extension__ using Wide128 = __int128;
__extension__ using UnsignedWide128 = unsigned __int128;

template <class T>
constexpr int kBits = int{sizeof(T)} * 8;

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
struct AbsoluteDifference {
  template <class T>
  static T apply(T a, T b, T c) {
    return Add::apply<T>(a < b ? Subtract::apply<T>(b, a) : Subtract::apply<T>(a, b), c);
  }
};

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
    return emit_lanes(decode, execute, type, type, type);
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
  emit_lanes(decode, execute, result, type, type);
}

void decode_multiply_add(Decode& decode) {
  const int part = decode.take_one({"lo", "hi", "wide"});
  if (part < 0) decode.fail(".lo, .hi or .wide is missing");
  const Type type = decode.type();
  if (part < 2) {
    const Execute execute = part == 0 ? of_three_integers<MultiplyAddLow>(decode, type)
                                      : of_three_integers<MultiplyAddHigh>(decode, type);
    return emit_lanes(decode, execute, type, type, type, type);
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
  emit_lanes(decode, execute, result, type, type, result);
}

void decode_absolute_difference(Decode& decode) {
  const Type type = decode.type();
  emit_lanes(decode, of_three_integers<AbsoluteDifference>(decode, type), type, type, type, type);
}

}  // namespace

void decode_integer_arithmetic(Decode& decode, std::string_view operation) {
  if (decode_integer_pairs(decode, operation)) return;
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
    return emit_lanes(
        decode,
        operation == "abs" ? of_signed<Absolute>(decode, type) : of_signed<Negate>(decode, type),
        type, type);
  }
  emit_lanes(decode, execute, type, type, type);
}

void add_integers(Decoders& decoders) {
  decoders["rem"] = [](Decode& decode) { decode_integer_arithmetic(decode, "rem"); };
  decoders["mul24"] = [](Decode& decode) {
    if (!decode.take("lo")) decode.fail(".lo is missing");
    const Type type = decode.type();
    if (type != Type::u32 && type != Type::s32) decode.refuse(type);
    emit_lanes(decode,
               type == Type::u32 ? binary<Multiply24, std::uint32_t, std::uint32_t, std::uint32_t>
                                 : binary<Multiply24, std::int32_t, std::int32_t, std::int32_t>,
               type, type, type);
  };
  decoders["sad"] = decode_absolute_difference;
}

}  // namespace weft::ptx
