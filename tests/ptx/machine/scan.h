#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace weft::ptx {

/// What a word of PTX is.
enum class Token : std::uint8_t {
  end,
  word,       ///< names, registers, labels, instructions with their modifiers: add.s32
  directive,  ///< .reg
  number,     ///< 12, 0x1f, 0f3F800000, 1.5
  string,
  sign,  ///< one character of , ; : [ ] { } ( ) + - ! | @ = < >
};

/// Takes a text of PTX apart. Comments are skipped.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) { advance(); }

  Token kind() const { return kind_; }
  std::string_view word() const { return word_; }
  std::int32_t line() const { return line_; }
  bool is(char sign) const { return kind_ == Token::sign && word_[0] == sign; }
  bool is(std::string_view word) const { return kind_ != Token::string && word_ == word; }
  /// Offsets in the text of the token and of the end of the one before.
  std::size_t begin() const { return begin_; }
  std::size_t last_end() const { return last_end_; }
  std::string_view slice(std::size_t first, std::size_t end) const {
    return text_.substr(first, end - first);
  }

  void advance();
  bool take(char sign);
  /// These throw Error where something else follows.
  void expect(char sign);
  std::string_view expect_word();
  std::int64_t expect_integer();
  /// To the end of the line.
  void skip_line();

  [[noreturn]] void fail(const std::string& what) const;

 private:
  std::string_view text_;
  std::size_t position_ = 0;
  std::int32_t position_line_ = 1;
  std::size_t begin_ = 0;
  std::size_t last_end_ = 0;
  std::int32_t line_ = 1;
  Token kind_ = Token::end;
  std::string_view word_;
};

/// A number as it is written; the bits of a literal 0f or 0d as a double. Returns whether it is
/// one.
struct Number {
  bool real = false;
  std::uint64_t integer = 0;
  double value = 0;
};
bool parse_number(std::string_view word, Number& number);

}  // namespace weft::ptx
