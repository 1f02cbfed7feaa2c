#pragma once

#include <map>
#include <string>
#include <string_view>

#include "compiler/ir/graph.h"

/// Rules for single nodes that the verifier and the parser share. The functions throw Error with a
/// message that names neither the node nor a location.
namespace weft::ir::check {

/// "an integer", "a list of reals", ...
std::string_view describe(AttributeSpec::Kind kind);

/// Arity, attributes against the row's specification, number of regions. Operands must be valid.
void interface(const Node& node);
/// Arguments and yields of a loop's or scan's body against the node's operands; regions of other
/// ops are theirs. Needs interface() to hold.
void body(const Node& node);
/// Extents are not negative and the number of bytes fits into 64 bits.
void type(const Type& type);
/// The types that the op's shape rule gives. Needs body() to hold.
std::vector<Type> infer(const Node& node);
std::string describe(std::span<const Type> types);

/// Rules about a graph's states: one type each, written at most once, on the top level.
class States {
 public:
  /// To be called for each node in order; `top_level` says where it stands.
  void visit(const Node& node, bool top_level);

 private:
  struct Entry {
    Type type;
    bool written = false;
  };
  std::map<std::string, Entry, std::less<>> states_;
};

}  // namespace weft::ir::check
