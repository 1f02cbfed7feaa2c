#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "compiler/ir/graph.h"

/// A small op table, so that the IR is tested apart from ops/.
namespace weft::ir::test {

/// add exp matmul constant fill iota2 state state_write state_carry receiver loop scan argument.
/// `iota2` has two results; `fill` and `constant` have attributes of every kind.
const OpTable& table();
const OpInfo* op(std::string_view name);

/// Appends a node; results come from the shape rule.
Node* append(Graph& graph, Region& region, std::string_view op_name, std::vector<Value> operands,
             Attributes attributes = {}, std::vector<Region*> regions = {});
Node* argument(Graph& graph, Region& region, const Type& type, std::string name = "");
Node* state(Graph& graph, std::string_view name, const Type& type);

/// A graph with every construct of the text form.
Graph example();
/// example()'s text form.
extern const char* const example_text;

/// What `function` throws, or "" where it throws no weft::Error.
template <typename Function>
std::string error_of(const Function& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace weft::ir::test
