#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/plan/error.h"

/// Tokens of the text form (docs/ir.md).
namespace weft::ir {

struct Token {
  enum Kind : std::uint8_t { end, identifier, value, string, number, punctuation } kind = end;
  std::string_view spelling;  ///< as in the text
  std::uint32_t line = 1;
  std::uint32_t column = 1;  ///< in bytes, from 1

  std::string text;      ///< string: what is between the quotes; value: the name, "" for a number
  std::string key;       ///< value: equal for equal values, whichever way they are spelled
  std::string base_key;  ///< value: the key without the number of the result
  int result = -1;       ///< value: the number after '#', or -1

  bool is(char c) const { return kind == punctuation && spelling[0] == c; }
  bool is_word(std::string_view word) const { return kind == identifier && spelling == word; }
};

class Lexer {
 public:
  Lexer(std::string_view text, std::string_view file_name) : text_(text), file_name_(file_name) {}

  /// The next token, without taking it.
  const Token& peek();
  Token take();
  std::string_view file_name() const { return file_name_; }

  /// Throws "NAME:line:column: message", at the token.
  [[noreturn]] void fail(const Token& at, std::string_view message) const;

 private:
  Token scan();
  void scan_string(Token& token);
  void scan_number();
  void scan_value(Token& token);
  int scan_suffix(const Token& token, char sign);
  void skip_blank();
  bool at_end() const { return position_ == text_.size(); }
  char current() const { return at_end() ? '\0' : text_[position_]; }
  void advance();

  std::string_view text_;
  std::string file_name_;
  std::size_t position_ = 0;
  std::uint32_t line_ = 1;
  std::uint32_t column_ = 1;
  Token ahead_;
  bool has_ahead_ = false;
};

/// The token as messages show it, shortened.
std::string describe(const Token& token);
/// `name` itself where it can stand without quotes after '%' or '@', or else quoted.
std::string bare_or_quoted(std::string_view name);

}  // namespace weft::ir
