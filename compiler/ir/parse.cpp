#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <unordered_map>

#include "compiler/ir/check.h"
#include "compiler/ir/lexer.h"
#include "compiler/ir/text.h"

namespace weft::ir {

namespace {

/// Regions nest recursively in the parser and in every pass: a limit that no model reaches.
constexpr std::size_t maximum_depth = 64;

class Parser {
 public:
  Parser(std::string_view text, const OpTable& table, std::string_view file_name)
      : lexer_(text, file_name), table_(table), file_(intern(file_name)) {}

  Graph graph() {
    expect_word("graph");
    expect('@');
    const Token name = lexer_.take();
    if (name.kind == Token::string) {
      graph_.name = name.text;
    } else if (name.kind == Token::identifier ||
               (name.kind == Token::number &&
                name.spelling.find_first_of("+-") == std::string_view::npos)) {
      graph_.name = name.spelling;
    } else {
      fail(name, "expected the graph's name, not {}", describe(name));
    }
    if (lexer_.peek().is('(')) fail(lexer_.peek(), "the top level has no arguments");
    region_lines(graph_.body());
    const Token& rest = lexer_.peek();
    if (rest.kind != Token::end) fail(rest, "{} after the end of the graph", describe(rest));
    return std::move(graph_);
  }

 private:
  template <typename... Arguments>
  [[noreturn]] void fail(const Token& at, fmt::format_string<Arguments...> format,
                         Arguments&&... arguments) const {
    lexer_.fail(at, fmt::format(format, std::forward<Arguments>(arguments)...));
  }

  /// Runs a check that knows no position, and adds `at` to what it throws.
  template <typename Check>
  auto guard(const Token& at, std::string_view subject, const Check& check) const {
    try {
      return check();
    } catch (const Error& error) {
      if (subject.empty()) fail(at, "{}", error.what());
      fail(at, "{}: {}", subject, error.what());
    }
  }

  // ---- tokens -----------------------------------------------------------------------------------

  void expect(char c) {
    const Token token = lexer_.take();
    if (!token.is(c)) fail(token, "expected '{}', not {}", c, describe(token));
  }
  void expect_word(std::string_view word) {
    const Token token = lexer_.take();
    if (!token.is_word(word)) fail(token, "expected '{}', not {}", word, describe(token));
  }
  Token expect(Token::Kind kind, std::string_view what) {
    Token token = lexer_.take();
    if (token.kind != kind) fail(token, "expected {}, not {}", what, describe(token));
    return token;
  }
  bool accept(char c) {
    if (!lexer_.peek().is(c)) return false;
    lexer_.take();
    return true;
  }

  /// Items between two brackets, with commas between them.
  template <typename Item>
  void bracketed(char open, char close, const Item& item) {
    expect(open);
    if (accept(close)) return;
    do item();
    while (accept(','));
    expect(close);
  }

  // ---- numbers ----------------------------------------------------------------------------------

  static bool looks_integer(const Token& token) {
    if (token.kind != Token::number) return false;
    const std::string_view digits = token.spelling.substr(token.spelling[0] == '-' ? 1 : 0);
    return digits.find_first_not_of("0123456789") == std::string_view::npos;
  }

  std::int64_t integer(const Token& token) const {
    std::int64_t number = 0;
    const char* last = token.spelling.data() + token.spelling.size();
    const auto [end, error] = std::from_chars(token.spelling.data(), last, number);
    if (error == std::errc::result_out_of_range) {
      fail(token, "{} does not fit into 64 bits", describe(token));
    }
    if (error != std::errc{} || end != last) {
      fail(token, "expected an integer, not {}", describe(token));
    }
    return number;
  }
  std::int64_t integer() { return integer(expect(Token::number, "an integer")); }

  static bool is_real(const Token& token) {
    return token.kind == Token::number || token.is_word("inf") || token.is_word("nan");
  }

  double real(const Token& token) {
    if (token.is_word("inf")) return std::numeric_limits<double>::infinity();
    if (token.is_word("nan")) return nan();
    if (token.spelling == "-inf") return -std::numeric_limits<double>::infinity();
    const std::string_view text = token.spelling;
    const char* last = text.data() + text.size();
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), last, number);
    if (error == std::errc::result_out_of_range) fail(token, "{} is out of range", describe(token));
    if (error != std::errc{} || end != last || !std::isfinite(number)) {
      fail(token, "expected a real, not {}", describe(token));
    }
    return number;
  }

  /// After the word: nothing, or its bits in parentheses.
  double nan() {
    if (!accept('(')) return std::numeric_limits<double>::quiet_NaN();
    const Token token = expect(Token::number, "the bits of a nan");
    expect(')');
    std::uint64_t bits = 0;
    if (token.spelling.substr(0, 2) == "0x") {
      const char* last = token.spelling.data() + token.spelling.size();
      const auto [end, error] = std::from_chars(token.spelling.data() + 2, last, bits, 16);
      if (error != std::errc{} || end != last) bits = 0;
    }
    const auto number = std::bit_cast<double>(bits);
    if (!std::isnan(number)) fail(token, "{} are not the bits of a nan", describe(token));
    return number;
  }

  // ---- types and attributes ---------------------------------------------------------------------

  Type type() {
    const Token start = expect(Token::identifier, "a type");
    const std::optional<DType> dtype = parse_dtype(start.spelling);
    if (!dtype) fail(start, "{} is not a dtype", describe(start));
    std::vector<std::int64_t> extents;
    bracketed('[', ']', [&] { extents.push_back(integer()); });
    return guard(start, "", [&] {
      const Type result{*dtype, Shape(std::span<const std::int64_t>(extents))};
      check::type(result);
      return result;
    });
  }

  /// A list of numbers; of integers, where `kind` allows those and all are.
  AttributeValue list(AttributeSpec::Kind kind) {
    std::vector<std::int64_t> integers;
    std::vector<double> reals;
    bool whole = kind != AttributeSpec::reals;
    bracketed('[', ']', [&] {
      const Token token = lexer_.take();
      if (!is_real(token)) fail(token, "expected a number, not {}", describe(token));
      whole = whole && (kind == AttributeSpec::integers || looks_integer(token));
      if (whole) integers.push_back(integer(token));
      if (kind != AttributeSpec::integers) reals.push_back(real(token));
    });
    if (whole) return integers;
    return reals;
  }

  AttributeValue attribute(const OpInfo& op, const AttributeSpec& spec) {
    using enum AttributeSpec::Kind;
    const AttributeSpec::Kind kind = spec.kind;
    const bool is_list = lexer_.peek().is('[');
    if (is_list && (kind == integers || kind == reals || kind == numbers)) return list(kind);
    const Token token = lexer_.take();
    const bool is_number = token.kind == Token::number;
    if (kind == text && token.kind == Token::string) return token.text;
    if (kind == flag && token.is_word("true")) return true;
    if (kind == flag && token.is_word("false")) return false;
    if (is_number && (kind == integer || (kind == number && looks_integer(token)))) {
      return this->integer(token);
    }
    if ((kind == real || kind == number) && is_real(token)) return this->real(token);
    if (kind == dtype && token.kind == Token::identifier) {
      if (const auto parsed = parse_dtype(token.spelling)) return *parsed;
      fail(token, "{} is not a dtype", describe(token));
    }
    fail(token, "attribute '{}' of {} needs {}, not {}", spec.name, op.name, check::describe(kind),
         is_list ? "a list" : describe(token));
  }

  void attributes(Node& node) {
    const auto& specs = node.op->attributes;
    bracketed('{', '}', [&] {
      const Token name = expect(Token::identifier, "an attribute");
      const auto spec = std::find_if(specs.begin(), specs.end(), [&](const AttributeSpec& row) {
        return row.name == name.spelling;
      });
      if (spec == specs.end()) {
        fail(name, "{} has no attribute {}", node.op->name, describe(name));
      }
      if (node.attributes.has(spec->name)) fail(name, "{} is given twice", describe(name));
      expect('=');
      node.attributes.set(spec->name, attribute(*node.op, *spec));
    });
  }

  // ---- values -----------------------------------------------------------------------------------

  void define(const Token& token, Value value) {
    const auto [place, fresh] = values_.try_emplace(token.key, Definition{value, token.line});
    if (!fresh) {
      fail(token, "{} is defined already, on line {}", describe(token), place->second.line);
    }
  }

  Value use() {
    const Token token = expect(Token::value, "a value");
    const auto found = values_.find(token.key);
    if (found == values_.end()) fail(token, "{} is not defined", describe(token));
    const Value value = found->second.value;
    for (const Region* open : open_) {
      if (open == value.node->parent) return value;
    }
    fail(token, "{} belongs to a region that does not enclose its use", describe(token));
  }

  // ---- nodes and regions ------------------------------------------------------------------------

  /// The node's name from those of its results: the one that they share, or "".
  static std::string shared_name(const std::vector<Token>& results) {
    if (results.size() == 1) return results[0].text;
    for (std::size_t i = 0; i < results.size(); ++i) {
      const bool shared = results[i].base_key == results[0].base_key &&
                          results[i].result == static_cast<std::int64_t>(i);
      if (!shared) return {};
    }
    return results.empty() ? std::string() : results[0].text;
  }

  const OpInfo& find_op(const Token& token) const {
    const OpInfo* op = table_.find(token.spelling);
    if (op == nullptr) fail(token, "unknown op {}", describe(token));
    return *op;
  }

  void node(Region& region) {
    std::vector<Token> results;
    if (lexer_.peek().kind == Token::value) {
      do results.push_back(expect(Token::value, "a value"));
      while (accept(','));
      expect('=');
    }
    const Token start = expect(Token::identifier, "an op");
    const OpInfo& op = find_op(start);
    if (op.is("argument")) fail(start, "an argument stands in a region's parentheses");

    Node& node = *graph_.new_node(&op);
    node.parent = &region;
    node.location = {file_, start.line};
    node.name = shared_name(results);
    // A value on the next line is a result of the next node.
    if (lexer_.peek().kind == Token::value && lexer_.peek().line == start.line) {
      do node.operands.push_back(use());
      while (accept(','));
    }
    if (lexer_.peek().is('{')) attributes(node);
    guard(start, op.name, [&] {
      for (int i = 0; i < op.regions; ++i) node.regions.push_back(nullptr);
      check::interface(node);
    });
    for (Region*& nested : node.regions) {
      nested = graph_.new_region(&node);
      nested_region(*nested);
    }
    node.results = guard(start, ir::describe(node), [&] {
      check::body(node);
      return check::infer(node);
    });
    result_types(node, start);
    if (accept('@')) location(node);
    guard(start, ir::describe(node), [&] { states_.visit(node, region.owner == nullptr); });

    if (results.size() != node.results.size()) {
      fail(results.empty() ? start : results[0], "{} has {} results, {} are named", op.name,
           node.results.size(), results.size());
    }
    for (std::uint32_t i = 0; i < results.size(); ++i) define(results[i], node.result(i));
    region.nodes.push_back(&node);
  }

  /// Compares the printed types with those that the shape rule gave.
  void result_types(const Node& node, const Token& start) {
    std::vector<Type> printed;
    Token at = start;
    if (lexer_.peek().is(':')) {
      lexer_.take();
      at = lexer_.peek();
      do printed.push_back(type());
      while (accept(','));
    }
    if (printed != node.results) {
      fail(at, "{} gives {}, the text says {}", ir::describe(node), check::describe(node.results),
           check::describe(printed));
    }
  }

  void location(Node& node) {
    const Token file = expect(Token::string, "a file name");
    expect(':');
    const Token line = expect(Token::number, "a line");
    const std::int64_t number = integer(line);
    if (number < 0 || number > std::numeric_limits<std::uint32_t>::max()) {
      fail(line, "{} is not a line", describe(line));
    }
    node.location = {intern(file.text), static_cast<std::uint32_t>(number)};
  }

  void nested_region(Region& region) {
    bracketed('(', ')', [&] {
      const Token name = expect(Token::value, "an argument");
      const OpInfo* op = table_.find("argument");
      if (op == nullptr) fail(name, "the op table has no 'argument'");
      expect(':');
      Node& argument = *graph_.new_node(op);
      argument.parent = &region;
      argument.location = {file_, name.line};
      argument.name = name.text;
      argument.results = {type()};
      guard(name, "argument", [&] { check::interface(argument); });
      define(name, argument.result());
      region.arguments.push_back(&argument);
    });
    region_lines(region);
  }

  void region_lines(Region& region) {
    if (open_.size() > maximum_depth) {
      fail(lexer_.peek(), "regions nest deeper than {}", maximum_depth);
    }
    expect('{');
    open_.push_back(&region);
    while (!lexer_.peek().is('}')) {
      const Token& next = lexer_.peek();
      if (next.kind == Token::end) fail(next, "expected a node or '}}', not the end of the text");
      if (next.is_word("yield")) {
        yields(region);
        break;
      }
      node(region);
    }
    expect('}');
    open_.pop_back();
  }

  void yields(Region& region) {
    const Token start = lexer_.take();
    if (region.owner == nullptr) fail(start, "the top level yields nothing");
    if (lexer_.peek().kind != Token::value) return;
    do region.yields.push_back(use());
    while (accept(','));
  }

  struct Definition {
    Value value;
    std::uint32_t line;
  };

  Lexer lexer_;
  const OpTable& table_;
  const char* file_;
  Graph graph_;
  std::unordered_map<std::string, Definition> values_;  ///< by Token::key
  std::vector<const Region*> open_;                     ///< the regions around the current position
  check::States states_;
};

}  // namespace

Graph parse(std::string_view text, const OpTable& table, std::string_view file_name) {
  return Parser(text, table, file_name).graph();
}

}  // namespace weft::ir
