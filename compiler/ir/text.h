#pragma once

#include <string>
#include <string_view>

#include "compiler/ir/graph.h"

namespace weft::ir {

struct TextOptions {
  bool locations = false;  ///< print `@ "file":line` after each node
};

/// The text form of a graph, read back by parse(). See docs/ir.md for the grammar.
std::string print(const Graph& graph, const TextOptions& options = {});

/// Reads print()'s form. Runs each op's shape rule and compares it with the printed types. The text
/// is untrusted: throws Error with "NAME:line:column: what is wrong".
Graph parse(std::string_view text, const OpTable& table, std::string_view file_name = "<text>");

/// Checks what every pass must keep: operands dominate, arity, attributes and types match the op's
/// row, yields match carried arguments, each state is written at most once. Throws Error naming the
/// node; `when` names the pass.
void verify(const Graph& graph, std::string_view when);

}  // namespace weft::ir
