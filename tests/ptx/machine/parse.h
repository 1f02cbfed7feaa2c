#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/ptx/machine/builder.h"
#include "tests/ptx/machine/machine.h"
#include "tests/ptx/machine/scan.h"

namespace weft::ptx {

/// Reads a module: its variables and entries.
class Parser {
 public:
  explicit Parser(std::string_view text) : scan_(text), variables_(std::make_shared<Variables>()) {}

  /// Throws Error.
  void module();

  std::vector<Entry>& entries() { return entries_; }
  const Builder::Globals& globals() const { return globals_; }

 private:
  struct Declaration {
    std::string_view name;
    Type type{};
    std::int64_t bytes = 0;  ///< -1: an array without a size
    std::int64_t alignment = 1;
  };
  /// What follows the state space: .align 8 .v2 .b8 name[4][2].
  Declaration declaration();
  void global(Space space);
  void initialise(std::byte* data, std::int64_t bytes, Type type, std::int64_t& offset,
                  int depth = 0);
  void entry();
  void parameters(Entry& entry, Builder& builder);
  void performance(Entry& entry);
  void body(Builder& builder);
  void body_directive(Builder& builder);
  void registers(Builder& builder);
  void statement(Builder& builder);
  Operand operand(int depth = 0);
  Operand number();
  void skip_braces();

  Scanner scan_;
  std::shared_ptr<Variables> variables_;
  Builder::Globals globals_;
  std::vector<Entry> entries_;
};

}  // namespace weft::ptx
