#include "tests/ptx/machine/parse.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace weft::ptx {
namespace {

constexpr std::int64_t kMostBytes = std::int64_t{1} << 28;

std::int64_t align(std::int64_t offset, std::int64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

}  // namespace

void Parser::module() {
  while (scan_.kind() != Token::end) {
    const std::string_view word = scan_.word();
    if (word == ".version" || word == ".target" || word == ".address_size" || word == ".file") {
      scan_.skip_line();
    } else if (word == ".visible" || word == ".extern" || word == ".weak" || word == ".common") {
      scan_.advance();
    } else if (word == ".entry") {
      scan_.advance();
      entry();
    } else if (word == ".global" || word == ".const" || word == ".shared") {
      scan_.advance();
      global(word == ".global"  ? Space::global
             : word == ".const" ? Space::constant
                                : Space::shared);
    } else if (word == ".section") {
      while (scan_.kind() != Token::end && !scan_.is('{')) scan_.advance();
      skip_braces();
    } else {
      scan_.fail(fmt::format("'{}' is not known in a module", word));
    }
  }
}

void Parser::skip_braces() {
  int depth = 0;
  do {
    if (scan_.kind() == Token::end) scan_.fail("'}' is missing");
    depth += scan_.is('{') ? 1 : scan_.is('}') ? -1 : 0;
    scan_.advance();
  } while (depth > 0);
}

Parser::Declaration Parser::declaration() {
  Declaration result;
  std::int64_t vector = 1;
  std::int64_t alignment = 0;
  for (;;) {
    if (scan_.kind() != Token::directive) scan_.fail("a type is expected");
    const std::string_view word = scan_.word().substr(1);
    scan_.advance();
    if (word == "align") {
      alignment = scan_.expect_integer();
      if (alignment < 1 || alignment > 4096 || !std::has_single_bit<std::uint64_t>(alignment)) {
        scan_.fail(fmt::format("alignment {} is no power of two up to 4096", alignment));
      }
    } else if (word == "v2" || word == "v4") {
      vector = word[1] - '0';
    } else if (word == "attribute") {
      while (!scan_.take(')')) scan_.advance();
    } else {
      const std::optional<Type> type = parse_type(word);
      if (!type || *type == Type::pred) scan_.fail(fmt::format(".{} is no type", word));
      result.type = *type;
      break;
    }
  }
  // Of a parameter that is a pointer: what it points to.
  while (scan_.kind() == Token::directive) {
    if (scan_.is(".align")) {
      scan_.advance();
      scan_.expect_integer();
    } else {
      scan_.advance();
    }
  }
  result.name = scan_.expect_word();
  result.bytes = bytes(result.type) * vector;
  result.alignment = std::max<std::int64_t>(alignment, result.bytes);
  if (alignment != 0) result.alignment = alignment;
  while (scan_.take('[')) {
    if (scan_.take(']')) {
      result.bytes = -1;
      continue;
    }
    const std::int64_t count = scan_.expect_integer();
    if (count < 0 || count > kMostBytes || result.bytes < 0 || result.bytes * count > kMostBytes) {
      scan_.fail(fmt::format("{} is too large", result.name));
    }
    result.bytes *= count;
    scan_.expect(']');
  }
  return result;
}

void Parser::initialise(std::byte* data, std::int64_t bytes, Type type, std::int64_t& offset,
                        int depth) {
  constexpr int kMostDepth = 8;
  if (depth > kMostDepth) scan_.fail("initial values within initial values");
  if (scan_.take('{')) {
    while (!scan_.take('}')) {
      initialise(data, bytes, type, offset, depth + 1);
      if (!scan_.is('}')) scan_.expect(',');
    }
    return;
  }
  const Operand value = number();
  std::uint64_t pattern = value.integer;
  if (value.kind == Operand::Kind::real) {
    if (type == Type::f64 || type == Type::b64) {
      pattern = std::bit_cast<std::uint64_t>(value.real);
    } else {
      pattern = std::bit_cast<std::uint32_t>(static_cast<float>(value.real));
    }
  }
  const std::int64_t size = weft::ptx::bytes(type);
  if (offset + size > bytes) scan_.fail("there are more initial values than elements");
  std::memcpy(data + offset, &pattern, static_cast<std::size_t>(size));
  offset += size;
}

void Parser::global(Space space) {
  do {
    const Declaration found = declaration();
    Variable variable{space, 0, std::max<std::int64_t>(found.bytes, 0), false, found.alignment};
    if (space == Space::shared) {
      if (found.bytes >= 0) scan_.fail("static shared memory of a module is not supported");
      variable.dynamic_shared = true;
    } else {
      if (found.bytes < 0) scan_.fail(fmt::format("{} has no size", found.name));
      constexpr std::int64_t kAlignment = 256;
      const std::int64_t alignment = std::max(found.alignment, kAlignment);
      Variables::Variable memory;
      memory.bytes = found.bytes;
      memory.storage = std::make_unique<std::byte[]>(found.bytes + alignment);
      const auto begin = reinterpret_cast<std::uintptr_t>(memory.storage.get());
      memory.data = memory.storage.get() + (align(static_cast<std::int64_t>(begin), alignment) -
                                            static_cast<std::int64_t>(begin));
      variable.address = reinterpret_cast<std::uintptr_t>(memory.data);
      if (scan_.take('=')) {
        std::int64_t offset = 0;
        initialise(memory.data, found.bytes, found.type, offset);
      }
      variables_->variables.push_back(std::move(memory));
    }
    if (!globals_.emplace(std::string(found.name), variable).second) {
      scan_.fail(fmt::format("{} is declared twice", found.name));
    }
  } while (scan_.take(','));
  scan_.expect(';');
}

void Parser::entry() {
  Entry result;
  result.name = scan_.expect_word();
  try {
    Builder builder(result.name, globals_);
    if (scan_.take('(')) parameters(result, builder);
    performance(result);
    scan_.expect('{');
    body(builder);
    result.program = builder.finish(result.parameter_bytes, variables_);
  } catch (const Error& error) {
    throw Error(fmt::format("kernel {}: {}", result.name, error.what()));
  }
  result.static_shared_bytes = result.program->static_shared_bytes;
  entries_.push_back(std::move(result));
}

void Parser::parameters(Entry& entry, Builder& builder) {
  while (!scan_.take(')')) {
    if (!scan_.is(".param"))
      scan_.fail(fmt::format("'.param' is expected, not '{}'", scan_.word()));
    scan_.advance();
    const Declaration found = declaration();
    if (found.bytes < 0) scan_.fail(fmt::format("{} has no size", found.name));
    const std::int64_t offset = align(entry.parameter_bytes, found.alignment);
    entry.parameters.push_back({std::string(found.name), found.bytes, found.alignment, offset});
    entry.parameter_bytes = offset + found.bytes;
    builder.declare_parameter(found.name, offset, found.bytes);
    if (!scan_.is(')')) scan_.expect(',');
  }
}

void Parser::performance(Entry& entry) {
  while (scan_.kind() == Token::directive) {
    const std::string_view word = scan_.word();
    scan_.advance();
    std::vector<std::int64_t> numbers;
    while (scan_.kind() == Token::number) {
      numbers.push_back(scan_.expect_integer());
      if (!scan_.take(',')) break;
    }
    if (word == ".reqntid") {
      entry.required_threads = {1, 1, 1};
      for (std::size_t i = 0; i < std::min<std::size_t>(numbers.size(), 3); ++i) {
        entry.required_threads[i] = static_cast<std::uint32_t>(numbers[i]);
      }
    } else if (word == ".pragma") {
      while (scan_.kind() == Token::string || scan_.is(',')) scan_.advance();
      scan_.expect(';');
    } else if (word != ".maxntid" && word != ".minnctapersm" && word != ".maxnctapersm" &&
               word != ".maxnreg" && word != ".noreturn") {
      scan_.fail(fmt::format("'{}' is not known for an entry", word));
    }
  }
}

void Parser::body(Builder& builder) {
  int depth = 1;
  while (depth > 0) {
    const std::int32_t line = scan_.line();
    const std::size_t begin = scan_.begin();
    try {
      if (scan_.kind() == Token::end) throw Error("'}' is missing");
      if (scan_.take('{')) {
        builder.open_scope();
        ++depth;
      } else if (scan_.take('}')) {
        if (--depth > 0) builder.close_scope();
      } else if (scan_.kind() == Token::directive) {
        body_directive(builder);
      } else {
        statement(builder);
      }
    } catch (const Error& error) {
      const std::string_view what = error.what();
      if (what.starts_with("line ")) throw;
      std::string_view text = scan_.slice(begin, scan_.last_end());
      text = text.substr(0, std::min(text.find(';'), std::size_t{120}));
      throw Error(fmt::format("line {}: {}: {}", line, text, what));
    }
  }
}

void Parser::body_directive(Builder& builder) {
  const std::string_view word = scan_.word();
  if (word == ".loc" || word == ".file") {
    scan_.skip_line();
    return;
  }
  scan_.advance();
  if (word == ".reg") {
    registers(builder);
  } else if (word == ".shared" || word == ".local") {
    do {
      const Declaration found = declaration();
      builder.declare_memory(found.name, word == ".shared" ? Space::shared : Space::local,
                             found.bytes, found.alignment);
    } while (scan_.take(','));
    scan_.expect(';');
  } else if (word == ".pragma") {
    while (!scan_.take(';')) {
      if (scan_.kind() == Token::end) scan_.fail("';' is missing");
      scan_.advance();
    }
  } else {
    scan_.fail(fmt::format("'{}' is not supported", word));
  }
}

void Parser::registers(Builder& builder) {
  const std::optional<Type> type =
      scan_.kind() == Token::directive ? parse_type(scan_.word().substr(1)) : std::nullopt;
  if (!type) scan_.fail(fmt::format("'{}' is no type of a register", scan_.word()));
  scan_.advance();
  do {
    const std::string_view name = scan_.expect_word();
    std::int64_t count = -1;
    if (scan_.take('<')) {
      count = scan_.expect_integer();
      scan_.expect('>');
    }
    builder.declare_register(name, *type, count);
  } while (scan_.take(','));
  scan_.expect(';');
}

void Parser::statement(Builder& builder) {
  Statement result;
  result.line = scan_.line();
  const std::size_t begin = scan_.begin();
  if (scan_.take('@')) {
    result.guard_negated = scan_.take('!');
    result.guard = scan_.expect_word();
  }
  result.mnemonic = scan_.expect_word();
  if (scan_.is(':') && result.guard.empty()) {
    scan_.advance();
    if (scan_.is(".branchtargets")) {
      scan_.advance();
      std::vector<std::string_view> labels;
      do {
        labels.push_back(scan_.expect_word());
      } while (scan_.take(','));
      scan_.expect(';');
      builder.declare_targets(result.mnemonic, std::move(labels));
    } else {
      builder.label(result.mnemonic);
    }
    return;
  }
  if (!scan_.is(';')) {
    do {
      result.operands.push_back(operand());
      // shfl.sync %r1|%p1; a destination that is a pair.
      if (scan_.take('|')) result.operands.back().second = scan_.expect_word();
    } while (scan_.take(','));
  }
  scan_.expect(';');
  result.text = scan_.slice(begin, scan_.last_end());
  result.text.remove_suffix(1);
  builder.instruction(result);
}

Operand Parser::number() {
  Operand result;
  const bool negative = scan_.take('-');
  if (!negative) scan_.take('+');
  Number value;
  if (scan_.kind() != Token::number || !parse_number(scan_.word(), value)) {
    scan_.fail(fmt::format("a number is expected, not '{}'", scan_.word()));
  }
  scan_.advance();
  result.kind = value.real ? Operand::Kind::real : Operand::Kind::integer;
  result.integer = negative ? 0 - value.integer : value.integer;
  result.real = negative ? -value.value : value.value;
  return result;
}

Operand Parser::operand(int depth) {
  Operand result;
  constexpr int kMostDepth = 4;
  if (depth > kMostDepth) scan_.fail("operands within operands");
  if (scan_.take('[')) {
    result.kind = Operand::Kind::address;
    if (scan_.kind() == Token::word) {
      result.name = scan_.expect_word();
    } else {
      result.integer = number().integer;
    }
    while (scan_.is('+') || scan_.is('-')) {
      const bool minus = scan_.is('-');
      scan_.advance();
      const std::uint64_t more = number().integer;
      result.integer += minus ? 0 - more : more;
    }
    if (scan_.take(',')) result.elements = operand(depth + 1).elements;
    scan_.expect(']');
    return result;
  }
  if (scan_.take('{')) {
    result.kind = Operand::Kind::vector;
    do {
      result.elements.push_back(operand(depth + 1));
    } while (scan_.take(','));
    scan_.expect('}');
    return result;
  }
  if (scan_.take('!')) {
    result = operand(depth + 1);
    result.negated = !result.negated;
    return result;
  }
  if (scan_.kind() == Token::word) {
    result.kind = scan_.is("_") ? Operand::Kind::sink : Operand::Kind::name;
    result.name = scan_.expect_word();
    if (scan_.is('+') || scan_.is('-')) scan_.fail("sums of a name and a number are not supported");
    return result;
  }
  return number();
}

Module::Module(const std::string& text) {
  // In ptxas' words.
  if (text.find(".version") == std::string::npos) {
    throw Error("line 1; fatal: Missing .version directive");
  }
  Parser parser(text);
  parser.module();
  entries_ = std::move(parser.entries());
  for (const auto& [name, variable] : parser.globals()) {
    if (variable.space != Space::shared) {
      variables_[name] = {reinterpret_cast<std::byte*>(variable.address),
                          static_cast<std::size_t>(variable.bytes)};
    }
  }
  if (!entries_.empty()) return;
  if (!variables_.empty()) throw Error("the module has no entry");
}

const Entry* Module::find(std::string_view name) const {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.name == name; });
  return found == entries_.end() ? nullptr : &*found;
}

std::span<std::byte> Module::variable(std::string_view name) const {
  const auto found = variables_.find(name);
  return found == variables_.end() ? std::span<std::byte>() : found->second;
}

}  // namespace weft::ptx
