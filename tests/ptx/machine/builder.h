#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tests/ptx/machine/program.h"
#include "tests/ptx/machine/statement.h"
#include "tests/ptx/machine/types.h"

namespace weft::ptx {

/// A register that an operand names.
struct Register {
  std::uint32_t offset = 0;
  Type type{};
};

/// A variable that an operand names.
struct Variable {
  Space space{};
  std::uint64_t address = 0;
  std::int64_t bytes = 0;
  bool dynamic_shared = false;  ///< begins where static shared memory ends
  std::int64_t alignment = 1;
};

/// Builds the program of an entry: scopes with their registers, variables and labels, constants and
/// instructions. Errors are thrown as Error without the place, which the caller adds.
class Builder {
 public:
  /// Variables of the module by name; these must outlive the builder.
  using Globals = std::map<std::string, Variable, std::less<>>;
  Builder(std::string name, const Globals& globals);

  void open_scope();
  void close_scope();
  /// `count` < 0: one register of that name, else `name`0, `name`1, ...
  void declare_register(std::string_view name, Type type, std::int64_t count);
  /// Static shared and local memory; `bytes` < 0: the dynamic shared memory.
  void declare_memory(std::string_view name, Space space, std::int64_t bytes,
                      std::int64_t alignment);
  void declare_parameter(std::string_view name, std::int64_t offset, std::int64_t bytes);
  void label(std::string_view name);
  void instruction(const Statement& statement);
  /// A table of labels for brx.idx.
  void declare_targets(std::string_view name, std::vector<std::string_view> labels);

  /// Adds the end of the last path and places dynamic shared memory.
  std::shared_ptr<const Program> finish(std::int64_t parameter_bytes,
                                        std::shared_ptr<const Variables> variables);

  // What the decoders of instructions use.

  /// nullopt: no register has that name.
  std::optional<Register> find_register(std::string_view name);
  const Variable* find_variable(std::string_view name) const;
  /// The register of a special register; nullopt: there is none of that name.
  std::optional<Register> special(std::string_view name);
  std::uint32_t constant(std::uint64_t value, bool wide);
  /// The address of a variable, as a register of 64 or of 32 bits.
  std::uint32_t address_of(const Variable& variable, bool wide);
  std::uint32_t scratch() const { return program_->scratch; }
  /// A register for an intermediate value of the statement that is being decoded.
  std::uint32_t temporary(bool wide) {
    const Type type = wide ? Type::b64 : Type::b32;
    temporaries_.push_back({allocate(type, 0), type});
    return temporaries_.back().offset;
  }
  std::uint32_t list(const std::vector<std::uint32_t>& operands);
  /// Emits an instruction of the statement that is being decoded.
  void emit(const Instruction& instruction);
  /// Of the branch that is emitted next; for a table, which entry of Program::lists is the target.
  void branch_to(std::string_view label, std::uint32_t entry = kNone);
  std::vector<std::string_view> targets(std::string_view name) const;

 private:
  struct Range {
    Type type{};
    std::vector<std::uint32_t> offsets;  ///< kNone: not used yet
  };
  struct Name {
    Type type{};
    std::uint32_t offset = kNone;
  };
  struct Jump {
    std::string_view label;
    std::uint32_t at = 0;  ///< instruction
    std::int32_t line = 0;
    std::uint32_t entry = kNone;  ///< in Program::lists, for a table
  };
  struct Scope {
    std::unordered_map<std::string_view, Name> names;
    std::unordered_map<std::string_view, Range> ranges;
    std::unordered_map<std::string_view, Variable> variables;
    std::unordered_map<std::string_view, std::uint32_t> labels;
    std::unordered_map<std::string_view, std::vector<std::string_view>> targets;
    std::vector<Jump> jumps;
    std::vector<Register> used;  ///< registers of the scope, free at its end
  };
  enum class Pool : std::uint8_t { narrow, wide, predicate };

  static Pool pool(Type type);
  std::uint32_t allocate(Type type, std::size_t level);
  void resolve(Scope& scope);

  std::shared_ptr<Program> program_;
  const Globals& globals_;
  std::vector<Scope> scopes_;
  /// Registers of each pool that are free again: 0: temporaries, 1: the body's, 2: of the scopes in
  /// it, ... Only what lives as briefly may have them: the body's registers live around loops, in
  /// which statements that came before are executed again.
  std::vector<std::array<std::vector<std::uint32_t>, 3>> free_;
  std::map<std::pair<std::uint64_t, bool>, std::uint32_t> constants_;
  std::map<std::string, Register, std::less<>> specials_;
  /// Constants that the start of dynamic shared memory is added to.
  std::vector<std::size_t> dynamic_;
  std::map<std::pair<std::uint64_t, bool>, std::uint32_t> dynamic_offsets_;
  std::int64_t dynamic_alignment_ = 1;
  std::int64_t static_shared_ = 0;
  const Statement* statement_ = nullptr;
  std::vector<Register> temporaries_;  ///< of the statement
};

}  // namespace weft::ptx
