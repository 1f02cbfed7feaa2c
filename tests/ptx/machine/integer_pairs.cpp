// Arithmetic on pairs of 16-bit integers in a register of 32 bits: .u16x2 and .s16x2 (PTX ISA 8.0).
#include <algorithm>

#include "tests/ptx/machine/decode.h"
#include "tests/ptx/machine/integer_operations.h"
#include "tests/ptx/machine/warp.h"

namespace weft::ptx {
namespace {

using integers::Add;
using integers::Maximum;
using integers::Minimum;

template <class T>
T half(std::uint32_t pair, int which) {
  return static_cast<T>(pair >> (16 * which));
}

template <class Operation, class T>
struct OfHalves {
  static std::uint32_t apply(std::uint32_t a, std::uint32_t b) {
    std::uint32_t result = 0;
    for (int i = 0; i < 2; ++i) {
      const T value = Operation::template apply<T>(half<T>(a, i), half<T>(b, i));
      result |= std::uint32_t{static_cast<std::uint16_t>(value)} << (16 * i);
    }
    return result;
  }
};

template <class Operation, class T>
Execute of_pairs() {
  return binary<OfHalves<Operation, T>, std::uint32_t, std::uint32_t, std::uint32_t>;
}

template <class T>
Execute of_operation(Decode& decode, std::string_view operation) {
  if (operation == "add") return of_pairs<Add, T>();
  if (operation == "min") return of_pairs<Minimum, T>();
  if (operation == "max") return of_pairs<Maximum, T>();
  decode.fail("there is no such operation on pairs");
}

}  // namespace

bool decode_integer_pairs(Decode& decode, std::string_view operation) {
  const bool is_signed = decode.take("s16x2");
  if (!is_signed && !decode.take("u16x2")) return false;
  const Execute execute = is_signed ? of_operation<std::int16_t>(decode, operation)
                                    : of_operation<std::uint16_t>(decode, operation);
  decode.emit_lanes(execute, Type::b32, {Type::b32, Type::b32});
  return true;
}

}  // namespace weft::ptx
