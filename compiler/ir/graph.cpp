#include "compiler/ir/graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>

namespace weft::ir {

std::string_view name(Pattern pattern) {
  static constexpr std::array<std::string_view, 14> names = {
      "elementwise", "movement",  "random", "reduction", "scan",      "dot",      "fft",
      "tno",         "attention", "tree",   "scatter",   "composite", "transfer", "control"};
  return names[static_cast<std::size_t>(pattern)];
}

// ---- attributes ---------------------------------------------------------------------------------

namespace {

/// Bitwise, so that NaN equals itself and 0.0 differs from -0.0: equal nodes may be merged.
bool same_real(double a, double b) {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

bool is_empty_list(const AttributeValue& value) {
  const auto* integers = std::get_if<std::vector<std::int64_t>>(&value);
  const auto* reals = std::get_if<std::vector<double>>(&value);
  return (integers != nullptr && integers->empty()) || (reals != nullptr && reals->empty());
}

bool same(const AttributeValue& a, const AttributeValue& b) {
  if (a.index() != b.index()) return is_empty_list(a) && is_empty_list(b);
  if (const double* real = std::get_if<double>(&a)) return same_real(*real, std::get<double>(b));
  if (const auto* reals = std::get_if<std::vector<double>>(&a)) {
    const auto& others = std::get<std::vector<double>>(b);
    return std::equal(reals->begin(), reals->end(), others.begin(), others.end(), same_real);
  }
  return a == b;
}

template <typename T>
const T& get(const Attributes& attributes, std::string_view name, const char* kind) {
  const AttributeValue* value = attributes.find(name);
  if (value == nullptr) throw Error(fmt::format("attribute '{}' is missing", name));
  const T* typed = std::get_if<T>(value);
  if (typed == nullptr) throw Error(fmt::format("attribute '{}' is not {}", name, kind));
  return *typed;
}

}  // namespace

void Attributes::set(std::string_view name, AttributeValue value) {
  for (Entry& entry : entries_) {
    if (entry.first == name) {
      entry.second = std::move(value);
      return;
    }
  }
  entries_.emplace_back(intern(name), std::move(value));
}

const AttributeValue* Attributes::find(std::string_view name) const {
  for (const Entry& entry : entries_) {
    if (entry.first == name) return &entry.second;
  }
  return nullptr;
}

void Attributes::erase(std::string_view name) {
  std::erase_if(entries_, [name](const Entry& entry) { return entry.first == name; });
}

std::int64_t Attributes::integer(std::string_view name) const {
  return get<std::int64_t>(*this, name, "an integer");
}
double Attributes::real(std::string_view name) const { return get<double>(*this, name, "a real"); }
bool Attributes::flag(std::string_view name) const { return get<bool>(*this, name, "a flag"); }
const std::string& Attributes::text(std::string_view name) const {
  return get<std::string>(*this, name, "a text");
}
DType Attributes::dtype(std::string_view name) const { return get<DType>(*this, name, "a dtype"); }
const std::vector<std::int64_t>& Attributes::integers(std::string_view name) const {
  return get<std::vector<std::int64_t>>(*this, name, "a list of integers");
}
const std::vector<double>& Attributes::reals(std::string_view name) const {
  return get<std::vector<double>>(*this, name, "a list of reals");
}

bool operator==(const Attributes& a, const Attributes& b) {
  if (a.entries_.size() != b.entries_.size()) return false;
  return std::all_of(a.entries_.begin(), a.entries_.end(), [&b](const Attributes::Entry& entry) {
    const AttributeValue* other = b.find(entry.first);
    return other != nullptr && same(entry.second, *other);
  });
}

// ---- graph --------------------------------------------------------------------------------------

const Type& Value::type() const { return node->results[index]; }

Graph::Graph(std::string graph_name) : name(std::move(graph_name)), body_(new_region(nullptr)) {}

Node* Graph::new_node(const OpInfo* op) {
  Node& node = nodes_.emplace_back();
  node.op = op;
  node.id = static_cast<std::uint32_t>(nodes_.size() - 1);
  return &node;
}

Region* Graph::new_region(Node* owner) {
  Region& region = regions_.emplace_back();
  region.owner = owner;
  return &region;
}

Graph Graph::clone() const {
  Graph copy(name);
  ValueMap map;
  clone_region(body(), copy, copy.body(), map);
  return copy;
}

// ---- value map and walks ------------------------------------------------------------------------

void ValueMap::set(Value from, Value to) {
  to = get(to);
  if (to == from) return;  // a cycle would make get() run forever
  const std::size_t id = from.node->id;
  if (id >= table_.size()) table_.resize(std::max<std::size_t>(id + 1, table_.size() * 2));
  std::vector<Entry>& entries = table_[id];
  if (from.index >= entries.size()) entries.resize(from.index + 1);
  entries[from.index] = {from.node, to};
}

const ValueMap::Entry* ValueMap::find(Value from) const {
  if (from.node == nullptr || from.node->id >= table_.size()) return nullptr;
  const std::vector<Entry>& entries = table_[from.node->id];
  if (from.index >= entries.size()) return nullptr;
  // A chain that has led into another graph ends there, though ids coincide.
  const Entry& entry = entries[from.index];
  return entry.from == from.node ? &entry : nullptr;
}

Value ValueMap::get(Value from) const {
  while (const Entry* entry = find(from)) from = entry->to;
  return from;
}

bool ValueMap::has(Value from) const { return find(from) != nullptr; }

void replace_uses(Region& region, const ValueMap& map) {
  for (Node* node : region.nodes) {
    for (Value& operand : node->operands) operand = map.get(operand);
    for (Region* nested : node->regions) replace_uses(*nested, map);
  }
  for (Value& yielded : region.yields) yielded = map.get(yielded);
}

void walk(Region& region, const std::function<void(Node&)>& visit) {
  for (Node* node : region.nodes) {
    visit(*node);
    for (Region* nested : node->regions) walk(*nested, visit);
  }
}

void walk(const Region& region, const std::function<void(const Node&)>& visit) {
  for (const Node* node : region.nodes) {
    visit(*node);
    for (const Region* nested : node->regions) walk(*nested, visit);
  }
}

namespace {

Node* clone_node(const Node& source, Graph& graph, Region& parent, ValueMap& map) {
  Node* copy = graph.new_node(source.op);
  copy->operands.reserve(source.operands.size());
  for (const Value operand : source.operands) copy->operands.push_back(map.get(operand));
  copy->results = source.results;
  copy->attributes = source.attributes;
  copy->parent = &parent;
  copy->location = source.location;
  copy->name = source.name;
  for (const Region* nested : source.regions) {
    Region* region = graph.new_region(copy);
    copy->regions.push_back(region);
    clone_region(*nested, graph, *region, map);
  }
  for (std::uint32_t i = 0; i < source.results.size(); ++i) {
    map.set({const_cast<Node*>(&source), i}, copy->result(i));
  }
  return copy;
}

}  // namespace

void clone_region(const Region& source, Graph& graph, Region& target, ValueMap& map) {
  // Sizes first: `target` may be `source`'s own region, which then grows while it is read.
  const std::size_t nodes = source.nodes.size();
  const std::size_t yields = source.yields.size();
  for (std::size_t i = 0, count = source.arguments.size(); i < count; ++i) {
    target.arguments.push_back(clone_node(*source.arguments[i], graph, target, map));
  }
  for (std::size_t i = 0; i < nodes; ++i) {
    target.nodes.push_back(clone_node(*source.nodes[i], graph, target, map));
  }
  for (std::size_t i = 0; i < yields; ++i) target.yields.push_back(map.get(source.yields[i]));
}

// ---- equality -----------------------------------------------------------------------------------

namespace {

class Comparison {
 public:
  explicit Comparison(std::string* difference) : difference_(difference) {}

  bool regions(const Region& a, const Region& b, const std::string& where) {
    if (a.arguments.size() != b.arguments.size()) {
      return differ(where, "number of arguments", a.arguments.size(), b.arguments.size());
    }
    for (std::size_t i = 0; i < a.arguments.size(); ++i) {
      if (!nodes(*a.arguments[i], *b.arguments[i], fmt::format("{}argument {}", where, i))) {
        return false;
      }
    }
    for (std::size_t i = 0; i < std::min(a.nodes.size(), b.nodes.size()); ++i) {
      if (!nodes(*a.nodes[i], *b.nodes[i], fmt::format("{}node {}", where, i))) return false;
    }
    if (a.nodes.size() != b.nodes.size()) {
      return differ(where, "number of nodes", a.nodes.size(), b.nodes.size());
    }
    return values(a.yields, b.yields, where, "yield");
  }

 private:
  template <typename T>
  bool differ(const std::string& where, std::string_view what, const T& a, const T& b) {
    if (difference_ != nullptr) {
      *difference_ = fmt::format("{}{}{}: {} and {}", where,
                                 where.empty() || where.back() == ' ' ? "" : " ", what, a, b);
    }
    return false;
  }

  bool nodes(const Node& a, const Node& b, std::string where) {
    if (a.op->name != b.op->name) return differ(where, "op", a.op->name, b.op->name);
    where = fmt::format("{} ({})", where, describe(a));
    if (!values(a.operands, b.operands, where, "operand")) return false;
    if (a.results.size() != b.results.size()) {
      return differ(where, "number of results", a.results.size(), b.results.size());
    }
    if (!a.results.empty() && a.name != b.name) return differ(where, "name", a.name, b.name);
    for (std::size_t i = 0; i < a.results.size(); ++i) {
      if (!(a.results[i] == b.results[i])) {
        return differ(where, fmt::format("type of result {}", i), a.results[i].text(),
                      b.results[i].text());
      }
    }
    if (!(a.attributes == b.attributes)) return attributes(a.attributes, b.attributes, where);
    if (a.regions.size() != b.regions.size()) {
      return differ(where, "number of regions", a.regions.size(), b.regions.size());
    }
    for (std::size_t i = 0; i < a.regions.size(); ++i) {
      if (!regions(*a.regions[i], *b.regions[i], fmt::format("{} region {} ", where, i))) {
        return false;
      }
    }
    const std::size_t entry = a.id;
    if (entry >= counterpart_.size()) counterpart_.resize(std::max(entry + 1, 2 * entry), nullptr);
    counterpart_[entry] = &b;
    return true;
  }

  bool attributes(const Attributes& a, const Attributes& b, const std::string& where) {
    for (const auto& [name, value] : a.entries()) {
      const AttributeValue* other = b.find(name);
      if (other == nullptr || !same(value, *other)) {
        return differ<std::string>(where, fmt::format("attribute '{}'", name), "one value",
                                   other == nullptr ? "none" : "another");
      }
    }
    return differ(where, "number of attributes", a.entries().size(), b.entries().size());
  }

  bool values(const std::vector<Value>& a, const std::vector<Value>& b, const std::string& where,
              std::string_view what) {
    if (a.size() != b.size()) {
      return differ(where, fmt::format("number of {}s", what), a.size(), b.size());
    }
    for (std::size_t i = 0; i < a.size(); ++i) {
      const bool known = a[i].node->id < counterpart_.size();
      const Node* expected = known ? counterpart_[a[i].node->id] : nullptr;
      if (expected != b[i].node || a[i].index != b[i].index) {
        return differ(where, fmt::format("{} {}", what, i), describe(*a[i].node),
                      describe(*b[i].node));
      }
    }
    return true;
  }

  std::string* difference_;
  std::vector<const Node*> counterpart_;  ///< nodes of b by ids of a
};

}  // namespace

bool equal(const Graph& a, const Graph& b, std::string* difference) {
  if (a.name != b.name) {
    if (difference != nullptr) *difference = fmt::format("name: {} and {}", a.name, b.name);
    return false;
  }
  return Comparison(difference).regions(a.body(), b.body(), "");
}

std::string describe(const Node& node) {
  std::string text(node.op == nullptr ? "node without an op" : node.op->name);
  text += '(';
  for (std::size_t i = 0; i < node.operands.size(); ++i) {
    if (i > 0) text += ", ";
    const Value operand = node.operands[i];
    const bool valid = operand && operand.index < operand.node->results.size();
    text += valid ? operand.type().text() : "?";
  }
  return text += ')';
}

}  // namespace weft::ir
