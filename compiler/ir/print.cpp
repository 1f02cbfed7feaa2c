#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>
#include <limits>
#include <unordered_map>

#include "compiler/ir/check.h"
#include "compiler/ir/lexer.h"
#include "compiler/ir/text.h"

namespace weft::ir {

std::string quote(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (c == '\n') {
      result += "\\n";
    } else if (c == '\t') {
      result += "\\t";
    } else if (byte < 0x20 || byte == 0x7f) {
      fmt::format_to(std::back_inserter(result), "\\x{:02x}", byte);
    } else {
      result += c;
    }
  }
  return result += '"';
}

std::string real_text(double value) {
  if (std::isnan(value)) {
    const auto bits = std::bit_cast<std::uint64_t>(value);
    if (bits == std::bit_cast<std::uint64_t>(std::numeric_limits<double>::quiet_NaN())) {
      return "nan";
    }
    return fmt::format("nan(0x{:016x})", bits);
  }
  std::string text = fmt::format("{}", value);
  if (std::isfinite(value) && text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

// ---- names --------------------------------------------------------------------------------------

struct NameCounter {
  std::uint32_t nodes = 0;
  std::unordered_map<std::string, std::uint32_t> uses;

  std::string next(const Node& node) {
    const std::uint32_t number = nodes++;
    // The text has no place for the name of a node without results.
    if (node.name.empty() || node.results.empty()) return fmt::format("%{}", number);
    std::string name = '%' + bare_or_quoted(node.name);
    const std::uint32_t use = ++uses[name];
    return use == 1 ? name : fmt::format("{}~{}", name, use);
  }
};

Names::Names(const Graph& graph) : names_(graph.node_count(), "%?") {
  NameCounter counter;
  number(graph.body(), counter);
}

void Names::number(const Region& region, NameCounter& counter) {
  const auto assign = [&](const Node* node) {
    if (node != nullptr && node->id < names_.size()) names_[node->id] = counter.next(*node);
  };
  for (const Node* argument : region.arguments) assign(argument);
  for (const Node* node : region.nodes) {
    assign(node);
    for (const Region* nested : node->regions) number(*nested, counter);
  }
}

const std::string& Names::operator()(const Node& node) const {
  static const std::string unknown = "%?";
  return node.id < names_.size() ? names_[node.id] : unknown;
}

std::string Names::operator()(Value value) const {
  if (!value) return "%?";
  const std::string& shared = (*this)(*value.node);
  return value.node->results.size() == 1 ? shared : fmt::format("{}#{}", shared, value.index);
}

// ---- printer ------------------------------------------------------------------------------------

namespace {

class Printer {
 public:
  Printer(const Graph& graph, const TextOptions& options) : options_(options), names_(graph) {
    put("graph @{} {{\n", bare_or_quoted(graph.name));
    region_lines(graph.body(), 1);
    put("}}\n");
  }

  std::string take() { return std::move(text_); }

 private:
  template <typename... Arguments>
  void put(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Arguments>(arguments)...);
  }

  template <typename Items, typename Put>
  void list(const Items& items, const Put& put_one) {
    bool first = true;
    for (const auto& item : items) {
      if (!first) text_ += ", ";
      first = false;
      put_one(item);
    }
  }

  void values(const std::vector<Value>& values) {
    list(values, [&](Value value) { text_ += names_(value); });
  }

  void put_item(bool flag) { text_ += flag ? "true" : "false"; }
  void put_item(std::int64_t integer) { put("{}", integer); }
  void put_item(double real) { text_ += real_text(real); }
  void put_item(const std::string& text) { text_ += quote(text); }
  void put_item(DType dtype) { text_ += weft::name(dtype); }
  template <typename T>
  void put_item(const std::vector<T>& items) {
    text_ += '[';
    list(items, [&](T item) { put_item(item); });
    text_ += ']';
  }

  void node(const Node& node, int indent) {
    if (!node.results.empty()) {
      std::uint32_t index = 0;
      list(node.results,
           [&](const Type&) { text_ += names_(Value{const_cast<Node*>(&node), index++}); });
      text_ += " = ";
    }
    text_ += node.op == nullptr ? "?" : node.op->name;
    if (!node.operands.empty()) text_ += ' ';
    values(node.operands);
    if (!node.attributes.entries().empty()) {
      text_ += " {";
      list(node.attributes.entries(), [&](const Attributes::Entry& entry) {
        put("{} = ", entry.first);
        std::visit([&](const auto& value) { put_item(value); }, entry.second);
      });
      text_ += '}';
    }
    for (const Region* nested : node.regions) region(*nested, indent);
    if (!node.results.empty()) {
      text_ += " : ";
      list(node.results, [&](const Type& type) { text_ += type.text(); });
    }
    if (options_.locations && node.location.file != nullptr) {
      put(" @ {}:{}", quote(node.location.file), node.location.line);
    }
    text_ += '\n';
  }

  void region(const Region& region, int indent) {
    text_ += " (";
    list(region.arguments, [&](const Node* argument) {
      put("{}: {}", names_(*argument),
          argument->results.empty() ? "?" : argument->results[0].text());
    });
    text_ += ") {\n";
    region_lines(region, indent + 1);
    put("{:{}}}}", "", 2 * indent);
  }

  void region_lines(const Region& region, int indent) {
    for (const Node* child : region.nodes) {
      put("{:{}}", "", 2 * indent);
      node(*child, indent);
    }
    if (region.yields.empty()) return;
    put("{:{}}yield ", "", 2 * indent);
    values(region.yields);
    text_ += '\n';
  }

  const TextOptions& options_;
  Names names_;
  std::string text_;
};

}  // namespace

std::string print(const Graph& graph, const TextOptions& options) {
  return Printer(graph, options).take();
}

}  // namespace weft::ir
