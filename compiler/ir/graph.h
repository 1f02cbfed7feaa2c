#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "runtime/plan/error.h"
#include "runtime/plan/type.h"

/// The graph: typed nodes in SSA form, static shapes, nested regions for loops, no mutation.
namespace weft::ir {

struct Node;
struct Region;
class Graph;

/// What fusion needs to know of an operation.
enum class Pattern : std::uint8_t {
  elementwise,  ///< result at an index needs the operands at that index
  movement,     ///< result at an index needs operands at computed indices
  random,       ///< a function of the logical index
  reduction,
  scan,
  dot,
  fft,
  tno,
  attention,
  tree,
  scatter,
  composite,  ///< a row with its own derivative, decomposed where no schedule exists
  transfer,   ///< state, feeder, receiver, scalar
  control     ///< loop, scan with a body, region arguments
};
std::string_view name(Pattern pattern);

using AttributeValue = std::variant<bool, std::int64_t, double, std::string, DType,
                                    std::vector<std::int64_t>, std::vector<double>>;

/// A node's static parameters, in the order in which they were set. Names are string literals.
class Attributes {
 public:
  using Entry = std::pair<const char*, AttributeValue>;

  Attributes() = default;
  Attributes(std::initializer_list<Entry> entries) : entries_(entries) {}

  void set(std::string_view name, AttributeValue value);
  const AttributeValue* find(std::string_view name) const;
  bool has(std::string_view name) const { return find(name) != nullptr; }
  void erase(std::string_view name);

  /// The getters throw Error where the attribute is missing or has another type.
  std::int64_t integer(std::string_view name) const;
  double real(std::string_view name) const;
  bool flag(std::string_view name) const;
  const std::string& text(std::string_view name) const;
  DType dtype(std::string_view name) const;
  const std::vector<std::int64_t>& integers(std::string_view name) const;
  const std::vector<double>& reals(std::string_view name) const;

  const std::vector<Entry>& entries() const { return entries_; }
  /// In any order; reals are compared bitwise (NaN equals itself, 0.0 differs from -0.0), empty
  /// lists are equal.
  friend bool operator==(const Attributes&, const Attributes&);

 private:
  std::vector<Entry> entries_;
};

/// One result of a node.
struct Value {
  Node* node = nullptr;
  std::uint32_t index = 0;

  explicit operator bool() const { return node != nullptr; }
  const Type& type() const;
  const Shape& shape() const { return type().shape; }
  DType dtype() const { return type().dtype; }
  friend bool operator==(const Value& a, const Value& b) = default;
};

struct AttributeSpec {
  const char* name;
  /// number: an integer or a real, exactly as given (the text form tells 1 from 1.0); numbers: a
  /// list of either (an empty one is read from text as a list of integers).
  enum Kind : std::uint8_t {
    flag,
    integer,
    real,
    text,
    dtype,
    integers,
    reals,
    number,
    numbers
  } kind;
  bool required = true;
};

/// The part of an operation's row that the IR itself needs; ops::Op adds the other columns.
struct OpInfo {
  std::string_view name;
  Pattern pattern;
  int minimum_arity;
  int maximum_arity;  ///< -1: any number
  int regions;        ///< number of nested regions
  std::vector<AttributeSpec> attributes;
  /// Shape rule: result types from the node's operands, attributes and regions. Throws Error with a
  /// message that does not name the op or the location: the caller adds both.
  std::vector<Type> (*infer)(const Node& node);

  bool is(std::string_view other) const { return name == other; }
};

struct Node {
  const OpInfo* op = nullptr;
  std::vector<Value> operands;
  std::vector<Type> results;
  Attributes attributes;
  std::vector<Region*> regions;  ///< owned by the graph
  Region* parent = nullptr;
  Location location;
  std::string name;      ///< the user's name for it, or ""
  std::uint32_t id = 0;  ///< unique in its graph, dense: an index for side tables

  Value result(std::uint32_t index = 0) { return {this, index}; }
  bool is(std::string_view op_name) const { return op->name == op_name; }
  const Type& operand_type(std::size_t index) const { return operands[index].type(); }
};

/// A list of nodes in an order of execution. `arguments` are nodes of the op "argument" (not in
/// `nodes`); `yields` are what a loop's body hands on. A body may use values of enclosing regions.
struct Region {
  Node* owner = nullptr;  ///< nullptr: the graph's top level
  std::vector<Node*> arguments;
  std::vector<Node*> nodes;
  std::vector<Value> yields;
};

/// Owns nodes and regions; addresses are stable until the graph dies.
class Graph {
 public:
  explicit Graph(std::string name = "main");
  Graph(Graph&&) noexcept = default;
  Graph& operator=(Graph&&) noexcept = default;

  std::string name;
  Region& body() { return *body_; }
  const Region& body() const { return *body_; }

  /// A detached node without results; the caller fills it and appends it to a region.
  Node* new_node(const OpInfo* op);
  Region* new_region(Node* owner);
  /// Nodes ever made: side tables indexed by Node::id have this size.
  std::uint32_t node_count() const { return static_cast<std::uint32_t>(nodes_.size()); }

  /// A deep copy with dense ids in order of appearance (dead nodes are dropped).
  Graph clone() const;

 private:
  std::deque<Node> nodes_;
  std::deque<Region> regions_;
  Region* body_ = nullptr;
};

/// Operations by name; implemented by ops::table().
class OpTable {
 public:
  virtual ~OpTable() = default;
  virtual const OpInfo* find(std::string_view name) const = 0;
};

/// A map from the values of one graph to values (of the same or another graph), by node id.
class ValueMap {
 public:
  void set(Value from, Value to);
  /// The value that `from` stands for, following chains; `from` itself where none was set.
  Value get(Value from) const;
  bool has(Value from) const;

 private:
  struct Entry {
    const Node* from = nullptr;
    Value to;
  };
  const Entry* find(Value from) const;

  std::vector<std::vector<Entry>> table_;
};

/// Rewrites every operand and yield under `region`, nested regions included, through `map`.
void replace_uses(Region& region, const ValueMap& map);
/// Calls `visit` on each node in order of execution, a node before those of its regions.
void walk(Region& region, const std::function<void(Node&)>& visit);
void walk(const Region& region, const std::function<void(const Node&)>& visit);
/// Copies `source`'s nodes, arguments and yields into `target` (of `graph`); values from outside go
/// through `map`, which receives the copies.
void clone_region(const Region& source, Graph& graph, Region& target, ValueMap& map);
/// Structural equality of two graphs: ops, operands, attributes, types, names of values; not ids or
/// locations. Where they differ and `difference` is given, it says where.
bool equal(const Graph& a, const Graph& b, std::string* difference = nullptr);

/// "add(f32[2, 3], f32[4])": for error messages.
std::string describe(const Node& node);

}  // namespace weft::ir
