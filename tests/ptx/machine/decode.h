#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tests/ptx/machine/builder.h"

namespace weft::ptx {

/// An instruction that is being decoded: its modifiers are taken one by one, in the order of the
/// ISA, its operands by number. All members that end in failure throw Error with what is wrong.
class Decode {
 public:
  Decode(const Statement& statement, Builder& builder);

  /// The next modifier, if it is that one.
  bool take(std::string_view modifier);
  /// Which of them the next modifier is; -1: none.
  int take_one(std::initializer_list<std::string_view> modifiers);
  std::string_view peek() const;
  std::string_view next();
  Type type();
  /// The last modifier, which is a type in most instructions; nullopt: it is none.
  std::optional<Type> last_type() const;
  [[noreturn]] void fail(const std::string& what) const;
  /// The instruction knows the type no further.
  [[noreturn]] void refuse(Type type) const;

  int operands() const { return static_cast<int>(statement_.operands.size()); }
  const Operand& operand(int index) const;
  /// Fails unless there are that many and all modifiers have been taken.
  void expect(int count) const { expect(count, count); }
  void expect(int least, int most) const;

  /// Registers or immediate operands of as many bits as the type has; offsets as in Instruction.
  std::uint32_t source(const Operand& operand, Type type);
  std::uint32_t source(int index, Type type) { return source(operand(index), type); }
  std::uint32_t destination(const Operand& operand, Type type);
  std::uint32_t destination(int index, Type type) { return destination(operand(index), type); }
  std::uint32_t predicate(std::string_view name);
  /// A source predicate; whether it is negated is added to `negated`. May be an integer: true or
  /// false for all lanes.
  std::uint32_t source_predicate(int index, bool& negated);
  /// Registers that may have more bits than the type, as loads, stores and conversions take them.
  Register wide_source(const Operand& operand, Type type);
  Register wide_destination(const Operand& operand, Type type);
  std::int64_t integer(int index) const;
  /// Sets the address in `a`, wide_address and immediate.
  void address(int index, Instruction& instruction);
  void address(const Operand& operand, Instruction& instruction);
  /// The elements of a vector, or the operand itself.
  std::vector<Operand> elements(int index) const;

  Builder& builder() { return builder_; }
  void emit(const Instruction& instruction) { builder_.emit(instruction); }
  /// Emits an instruction of a result and one to three operands of these types.
  void emit_lanes(Execute execute, Type result, std::initializer_list<Type> types);

 private:
  Register find(std::string_view name);

  const Statement& statement_;
  Builder& builder_;
  std::string_view rest_;  ///< modifiers that have not been taken
};

template <class... Types>
void emit_lanes(Decode& decode, Execute execute, Type result, Types... types) {
  decode.emit_lanes(execute, result, {types...});
}

using Decoder = void (*)(Decode&);
using Decoders = std::unordered_map<std::string_view, Decoder>;

/// The families of instructions add their decoders by the first part of the mnemonic.
void add_moves(Decoders& decoders);
void add_integers(Decoders& decoders);
void add_bits(Decoders& decoders);
void add_floating(Decoders& decoders);
void add_approximations(Decoders& decoders);
void add_conversions(Decoders& decoders);
void add_comparisons(Decoders& decoders);
void add_memory(Decoders& decoders);
void add_atomics(Decoders& decoders);
void add_control(Decoders& decoders);
void add_collectives(Decoders& decoders);
void add_asynchronous(Decoders& decoders);
void add_matrix_units(Decoders& decoders);

/// Of mnemonics that more than one family have.
void decode_integer_arithmetic(Decode& decode, std::string_view operation);
/// Of .u16x2 and .s16x2; false: it is of another type.
bool decode_integer_pairs(Decode& decode, std::string_view operation);
void decode_approximation(Decode& decode, std::string_view operation);

/// Decodes a statement into instructions of the builder.
void decode(const Statement& statement, Builder& builder);

}  // namespace weft::ptx
