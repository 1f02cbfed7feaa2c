#include "tests/ptx/machine/decode.h"

#include <fmt/format.h>

#include <bit>

#include "tests/ptx/machine/machine.h"

namespace weft::ptx {
namespace {

const Decoders& decoders() {
  static const Decoders all = [] {
    Decoders result;
    add_moves(result);
    add_integers(result);
    add_bits(result);
    add_floating(result);
    add_approximations(result);
    add_conversions(result);
    add_comparisons(result);
    add_memory(result);
    add_atomics(result);
    add_control(result);
    add_collectives(result);
    add_asynchronous(result);
    add_matrix_units(result);
    return result;
  }();
  return all;
}

}  // namespace

Decode::Decode(const Statement& statement, Builder& builder)
    : statement_(statement), builder_(builder) {
  const std::size_t dot = statement.mnemonic.find('.');
  rest_ = dot == std::string_view::npos ? std::string_view() : statement.mnemonic.substr(dot + 1);
}

std::string_view Decode::peek() const { return rest_.substr(0, rest_.find('.')); }

std::string_view Decode::next() {
  if (rest_.empty()) fail("a modifier is missing");
  const std::string_view result = peek();
  rest_.remove_prefix(std::min(rest_.size(), result.size() + 1));
  return result;
}

bool Decode::take(std::string_view modifier) {
  if (rest_.empty() || peek() != modifier) return false;
  next();
  return true;
}

int Decode::take_one(std::initializer_list<std::string_view> modifiers) {
  int index = 0;
  for (const std::string_view modifier : modifiers) {
    if (take(modifier)) return index;
    ++index;
  }
  return -1;
}

Type Decode::type() {
  const std::string_view word = next();
  const std::optional<Type> result = parse_type(word);
  if (!result) fail(fmt::format(".{} is no type", word));
  return *result;
}

std::optional<Type> Decode::last_type() const {
  const std::size_t dot = rest_.rfind('.');
  return parse_type(dot == std::string_view::npos ? rest_ : rest_.substr(dot + 1));
}

void Decode::fail(const std::string& what) const { throw Error(what); }

void Decode::refuse(Type type) const {
  fail(fmt::format("type .{} is not known for this instruction", name(type)));
}

const Operand& Decode::operand(int index) const {
  if (index >= operands()) fail(fmt::format("operand {} is missing", index + 1));
  return statement_.operands[static_cast<std::size_t>(index)];
}

void Decode::expect(int least, int most) const {
  if (!rest_.empty()) fail(fmt::format("modifier .{} is not known here", rest_));
  if (operands() < least || operands() > most) {
    fail(fmt::format("{} operands where {} are needed", operands(), least));
  }
}

Register Decode::find(std::string_view name) {
  const std::optional<Register> found = builder_.find_register(name);
  if (!found) fail(fmt::format("there is no register {}", name));
  return *found;
}

Register Decode::wide_source(const Operand& operand, Type type) {
  const bool wide = bits(type) == 64;
  const Type untyped = wide ? Type::b64 : bits(type) == 16 ? Type::b16 : Type::b32;
  switch (operand.kind) {
    case Operand::Kind::name: {
      if (operand.negated || !operand.second.empty()) fail("a register is expected");
      if (const auto special = builder_.special(operand.name)) return *special;
      if (const auto found = builder_.find_register(operand.name)) return *found;
      const Variable* variable = builder_.find_variable(operand.name);
      if (variable == nullptr) fail(fmt::format("there is no register {}", operand.name));
      return {builder_.address_of(*variable, wide), untyped};
    }
    case Operand::Kind::integer: {
      std::uint64_t value = operand.integer;
      if (bits(type) < 64) value &= (std::uint64_t{1} << bits(type)) - 1;
      if (type == Type::f64) value = std::bit_cast<std::uint64_t>(static_cast<double>(value));
      return {builder_.constant(value, wide), untyped};
    }
    case Operand::Kind::real: {
      if (type != Type::f32 && type != Type::b32 && type != Type::f64 && type != Type::b64) {
        fail(fmt::format("a floating number where .{} is needed", name(type)));
      }
      const auto value = wide ? std::bit_cast<std::uint64_t>(operand.real)
                              : std::bit_cast<std::uint32_t>(static_cast<float>(operand.real));
      return {builder_.constant(value, wide), untyped};
    }
    default:
      fail("a register or a number is expected");
  }
}

std::uint32_t Decode::source(const Operand& operand, Type type) {
  const Register found = wide_source(operand, type);
  if (bits(found.type) != bits(type)) {
    fail(fmt::format("{} has {} bits, .{} needs {}", operand.name, bits(found.type), name(type),
                     bits(type)));
  }
  return found.offset;
}

Register Decode::wide_destination(const Operand& operand, Type type) {
  if (operand.kind == Operand::Kind::sink) return {builder_.scratch(), type};
  if (operand.kind != Operand::Kind::name || operand.negated || !operand.second.empty()) {
    fail("a register is expected for the result");
  }
  return find(operand.name);
}

std::uint32_t Decode::destination(const Operand& operand, Type type) {
  const Register found = wide_destination(operand, type);
  if (bits(found.type) != bits(type)) {
    fail(fmt::format("{} has {} bits, .{} needs {}", operand.name, bits(found.type), name(type),
                     bits(type)));
  }
  return found.offset;
}

std::uint32_t Decode::predicate(std::string_view name) {
  if (name == "_") return builder_.scratch();
  const Register found = find(name);
  if (found.type != Type::pred) fail(fmt::format("{} is no predicate", name));
  return found.offset;
}

std::uint32_t Decode::source_predicate(int index, bool& negated) {
  const Operand& each = operand(index);
  if (each.kind == Operand::Kind::integer) {
    return builder_.constant(each.integer != 0 ? 0xffffffff : 0, false);
  }
  if (each.kind != Operand::Kind::name) fail("a predicate is expected");
  negated ^= each.negated;
  return predicate(each.name);
}

std::int64_t Decode::integer(int index) const {
  const Operand& each = operand(index);
  if (each.kind != Operand::Kind::integer) fail(fmt::format("operand {} is no integer", index + 1));
  return static_cast<std::int64_t>(each.integer);
}

void Decode::address(int index, Instruction& instruction) { address(operand(index), instruction); }

void Decode::address(const Operand& operand, Instruction& instruction) {
  if (operand.kind != Operand::Kind::address) fail("an address is expected");
  instruction.immediate = static_cast<std::int64_t>(operand.integer);
  instruction.wide_address = true;
  if (operand.name.empty()) {
    instruction.a = builder_.constant(0, true);
  } else if (const auto found = builder_.find_register(operand.name)) {
    if (bits(found->type) != 64 && bits(found->type) != 32) {
      fail(fmt::format("{} has {} bits, an address 32 or 64", operand.name, bits(found->type)));
    }
    instruction.a = found->offset;
    instruction.wide_address = bits(found->type) == 64;
  } else if (const Variable* variable = builder_.find_variable(operand.name)) {
    if (instruction.space != variable->space && instruction.space != Space::generic) {
      fail(fmt::format("{} is in another state space", operand.name));
    }
    instruction.a = builder_.address_of(*variable, true);
  } else {
    fail(fmt::format("there is no register or variable {}", operand.name));
  }
}

void Decode::emit_lanes(Execute execute, Type result, std::initializer_list<Type> types) {
  expect(static_cast<int>(types.size()) + 1);
  Instruction i;
  i.execute = execute;
  std::uint32_t* const places[] = {&i.a, &i.b, &i.c};
  int index = 0;
  for (const Type each : types) {
    *places[index] = source(index + 1, each);
    ++index;
  }
  i.d = destination(0, result);
  emit(i);
}

std::vector<Operand> Decode::elements(int index) const {
  const Operand& each = operand(index);
  if (each.kind == Operand::Kind::vector) return each.elements;
  return {each};
}

void decode(const Statement& statement, Builder& builder) {
  const std::string_view name = statement.mnemonic.substr(0, statement.mnemonic.find('.'));
  const auto found = decoders().find(name);
  if (found == decoders().end()) throw Error(fmt::format("instruction {} is not known", name));
  Decode instruction(statement, builder);
  found->second(instruction);
}

}  // namespace weft::ptx
