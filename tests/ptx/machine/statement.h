#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace weft::ptx {

/// An operand as it is written.
struct Operand {
  enum class Kind : std::uint8_t {
    name,  ///< of a register, variable or label; %p|%q: two
    integer,
    real,     ///< 0f..., 0d..., 1.5
    address,  ///< [name + offset], [name, {coordinates}]
    vector,   ///< {a, b}
    sink,     ///< _
  };
  Kind kind = Kind::sink;
  bool negated = false;       ///< !%p
  std::string_view name;      ///< empty: of an address that is a number
  std::string_view second;    ///< of a pair
  std::uint64_t integer = 0;  ///< or the offset of an address, or the bits of a real
  double real = 0;
  std::vector<Operand> elements;  ///< of a vector, coordinates of an address
};

/// An instruction as it is written.
struct Statement {
  std::int32_t line = 0;
  std::string_view text;
  std::string_view guard;  ///< empty: none
  bool guard_negated = false;
  std::string_view mnemonic;  ///< with modifiers
  std::vector<Operand> operands;
};

}  // namespace weft::ptx
