#include "tests/ptx/machine/scan.h"

#include <fmt/format.h>

#include <bit>
#include <cctype>
#include <charconv>

#include "tests/ptx/machine/machine.h"

namespace weft::ptx {
namespace {

bool begins_name(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$' || c == '%';
}
bool continues_name(char c) { return begins_name(c) || (c >= '0' && c <= '9'); }

bool digits(std::string_view text, int base, std::uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc{} && end == text.data() + text.size();
}

}  // namespace

void Scanner::advance() {
  last_end_ = position_;
  for (;;) {
    while (position_ < text_.size() &&
           std::isspace(static_cast<unsigned char>(text_[position_])) != 0) {
      position_line_ += text_[position_++] == '\n' ? 1 : 0;
    }
    if (text_.substr(position_, 2) == "//") {
      position_ = std::min(text_.find('\n', position_), text_.size());
    } else if (text_.substr(position_, 2) == "/*") {
      const std::size_t end = text_.find("*/", position_ + 2);
      if (end == std::string_view::npos) fail("a comment does not end");
      for (; position_ < end + 2; ++position_) position_line_ += text_[position_] == '\n' ? 1 : 0;
    } else {
      break;
    }
  }
  begin_ = position_;
  line_ = position_line_;
  if (position_ >= text_.size()) {
    kind_ = Token::end;
    word_ = {};
    return;
  }
  const char first = text_[position_];
  std::size_t end = position_ + 1;
  if (begins_name(first) || (first == '.' && end < text_.size() && begins_name(text_[end]))) {
    kind_ = first == '.' ? Token::directive : Token::word;
    // The modifiers of an instruction belong to its word: ld.global.L1::evict_last.f32.
    while (end < text_.size()) {
      const char c = text_[end];
      if (continues_name(c) || (c == '.' && kind_ == Token::word)) {
        ++end;
      } else if (c == ':' && end + 2 < text_.size() && text_[end + 1] == ':' &&
                 continues_name(text_[end + 2])) {
        end += 2;
      } else {
        break;
      }
    }
  } else if (first >= '0' && first <= '9') {
    kind_ = Token::number;
    while (end < text_.size()) {
      const char c = text_[end];
      const bool exponent =
          (c == '+' || c == '-') && (text_[end - 1] == 'e' || text_[end - 1] == 'E') &&
          text_.substr(position_, 2) != "0x" && text_.substr(position_, 2) != "0f" &&
          text_.substr(position_, 2) != "0d" && text_.substr(position_, 2) != "0X" &&
          text_.substr(position_, 2) != "0F" && text_.substr(position_, 2) != "0D";
      if (!continues_name(c) && c != '.' && !exponent) break;
      ++end;
    }
  } else if (first == '"') {
    kind_ = Token::string;
    end = text_.find('"', end);
    if (end == std::string_view::npos) fail("a string does not end");
    ++end;
  } else {
    kind_ = Token::sign;
  }
  word_ = text_.substr(position_, end - position_);
  position_ = end;
}

bool Scanner::take(char sign) {
  if (!is(sign)) return false;
  advance();
  return true;
}

void Scanner::expect(char sign) {
  if (!take(sign)) fail(fmt::format("'{}' is expected, not '{}'", sign, word_));
}

std::string_view Scanner::expect_word() {
  if (kind_ != Token::word) fail(fmt::format("a name is expected, not '{}'", word_));
  const std::string_view word = word_;
  advance();
  return word;
}

std::int64_t Scanner::expect_integer() {
  const bool negative = take('-');
  Number number;
  if (kind_ != Token::number || !parse_number(word_, number) || number.real) {
    fail(fmt::format("an integer is expected, not '{}'", word_));
  }
  advance();
  return static_cast<std::int64_t>(negative ? 0 - number.integer : number.integer);
}

void Scanner::skip_line() {
  position_ = std::min(text_.find('\n', begin_), text_.size());
  advance();
}

void Scanner::fail(const std::string& what) const {
  throw Error(fmt::format("line {}: {}", line_, what));
}

bool parse_number(std::string_view word, Number& number) {
  const std::string_view prefix = word.substr(0, 2);
  if (prefix == "0f" || prefix == "0F") {
    std::uint64_t pattern = 0;
    if (word.size() != 10 || !digits(word.substr(2), 16, pattern)) return false;
    number = {true, pattern, std::bit_cast<float>(static_cast<std::uint32_t>(pattern))};
    return true;
  }
  if (prefix == "0d" || prefix == "0D") {
    std::uint64_t pattern = 0;
    if (word.size() != 18 || !digits(word.substr(2), 16, pattern)) return false;
    number = {true, pattern, std::bit_cast<double>(pattern)};
    return true;
  }
  if (word.find('.') != std::string_view::npos ||
      (prefix != "0x" && prefix != "0X" && word.find_first_of("eE") != std::string_view::npos)) {
    number.real = true;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number.value);
    number.integer = std::bit_cast<std::uint64_t>(number.value);
    return error == std::errc{} && end == word.data() + word.size();
  }
  if (word.back() == 'U') word.remove_suffix(1);
  number.real = false;
  if (prefix == "0x" || prefix == "0X") return digits(word.substr(2), 16, number.integer);
  if (prefix == "0b" || prefix == "0B") return digits(word.substr(2), 2, number.integer);
  if (word.size() > 1 && word[0] == '0') return digits(word, 8, number.integer);
  return digits(word, 10, number.integer);
}

}  // namespace weft::ptx
