#include "compiler/ir/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "compiler/ir/text.h"

namespace weft::ir {

namespace {

// <cctype> depends on the locale.
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_name(char c) { return is_letter(c) || is_digit(c) || c == '.'; }
bool all_digits(std::string_view text) { return std::all_of(text.begin(), text.end(), is_digit); }

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string shortened(std::string_view text) {
  constexpr std::size_t maximum = 40;
  if (text.size() <= maximum) return std::string(text);
  return std::string(text.substr(0, maximum)) + "...";
}

}  // namespace

std::string bare_or_quoted(std::string_view name) {
  const bool bare = !all_digits(name) && std::all_of(name.begin(), name.end(), is_name);
  return bare ? std::string(name) : quote(name);
}

std::string describe(const Token& token) {
  if (token.kind == Token::end) return "the end of the text";
  if (token.kind == Token::string || token.kind == Token::value) return shortened(token.spelling);
  return fmt::format("'{}'", shortened(token.spelling));
}

void Lexer::fail(const Token& at, std::string_view message) const {
  throw Error(fmt::format("{}:{}:{}: {}", file_name_, at.line, at.column, message));
}

const Token& Lexer::peek() {
  if (!has_ahead_) {
    ahead_ = scan();
    has_ahead_ = true;
  }
  return ahead_;
}

Token Lexer::take() {
  peek();
  has_ahead_ = false;
  return std::move(ahead_);
}

void Lexer::advance() {
  if (text_[position_] == '\n') {
    ++line_;
    column_ = 1;
  } else {
    ++column_;
  }
  ++position_;
}

void Lexer::skip_blank() {
  while (!at_end()) {
    const char c = current();
    if (c == '/' && text_.substr(position_, 2) == "//") {
      while (!at_end() && current() != '\n') advance();
    } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
      advance();
    } else {
      return;
    }
  }
}

Token Lexer::scan() {
  skip_blank();
  Token token;
  token.line = line_;
  token.column = column_;
  const std::size_t start = position_;
  if (at_end()) return token;
  const char c = current();
  if (is_letter(c)) {
    token.kind = Token::identifier;
    while (is_name(current())) advance();
  } else if (c == '%') {
    token.kind = Token::value;
    scan_value(token);
  } else if (c == '"') {
    token.kind = Token::string;
    scan_string(token);
  } else if (is_digit(c) || c == '-') {
    token.kind = Token::number;
    scan_number();
  } else if (std::string_view("@{}()[],:=").find(c) != std::string_view::npos) {
    token.kind = Token::punctuation;
    advance();
  } else {
    fail(token, fmt::format("unexpected character {}", quote(text_.substr(position_, 1))));
  }
  token.spelling = text_.substr(start, position_ - start);
  return token;
}

void Lexer::scan_number() {
  // Too wide on purpose ("1.2.3", "-inf", "0x7f"): the parser says what is wrong with the whole.
  char previous = current();
  advance();
  while (is_name(current()) ||
         ((previous == 'e' || previous == 'E') && (current() == '+' || current() == '-'))) {
    previous = current();
    advance();
  }
}

void Lexer::scan_string(Token& token) {
  advance();
  while (true) {
    if (at_end() || current() == '\n') fail(token, "unterminated string");
    char c = current();
    Token here = token;
    here.line = line_;
    here.column = column_;
    advance();
    if (c == '"') return;
    if (c == '\\') {
      const char escape = current();
      if (at_end()) fail(token, "unterminated string");
      advance();
      if (escape == 'n') {
        c = '\n';
      } else if (escape == 't') {
        c = '\t';
      } else if (escape == '"' || escape == '\\') {
        c = escape;
      } else if (escape == 'x' && position_ + 1 < text_.size() &&
                 hex_digit(text_[position_]) >= 0 && hex_digit(text_[position_ + 1]) >= 0) {
        c = static_cast<char>(16 * hex_digit(text_[position_]) + hex_digit(text_[position_ + 1]));
        advance();
        advance();
      } else {
        fail(here, "unknown escape in a string");
      }
    }
    token.text += c;
  }
}

int Lexer::scan_suffix(const Token& token, char sign) {
  const std::size_t start = position_ + 1;
  advance();
  while (is_digit(current())) advance();
  int number = 0;
  const char* last = text_.data() + position_;
  const auto [end, error] = std::from_chars(text_.data() + start, last, number);
  if (error != std::errc{} || end != last) {
    fail(token, fmt::format("expected a number after '{}'", sign));
  }
  return number;
}

void Lexer::scan_value(Token& token) {
  advance();
  if (current() == '"') {
    scan_string(token);
    if (token.text.empty()) fail(token, "a value needs a name");
    token.base_key = bare_or_quoted(token.text);
  } else {
    const std::size_t start = position_;
    while (is_name(current())) advance();
    const std::string_view name = text_.substr(start, position_ - start);
    if (name.empty()) fail(token, "expected a name or a number after '%'");
    if (!all_digits(name)) token.text = name;
    token.base_key = name;
  }
  if (current() == '~') token.base_key += fmt::format("~{}", scan_suffix(token, '~'));
  token.key = token.base_key;
  if (current() == '#') {
    token.result = scan_suffix(token, '#');
    token.key += fmt::format("#{}", token.result);
  }
}

}  // namespace weft::ir
