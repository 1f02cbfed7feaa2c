#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "compiler/ir/graph.h"

namespace weft::ir {

struct TextOptions {
  bool locations = false;  ///< print `@ "file":line` after each node
};

/// The names of a graph's values in its text form, for dumps and messages: "%x" after the user's
/// name,
/// "%x~2" for the second of that name, "%5" (place in the text) without one, "%5#1" for a result of
/// several. Made once; later changes of the graph are not seen.
class Names {
 public:
  explicit Names(const Graph& graph);
  std::string operator()(Value value) const;
  /// The name that the node's results share, as "%5"; "%?" for a node that is not in the graph.
  const std::string& operator()(const Node& node) const;

 private:
  void number(const Region& region, struct NameCounter& counter);

  std::vector<std::string> names_;  ///< by node id
};

/// `text` in double quotes, escaped as the text form does it.
std::string quote(std::string_view text);
/// The shortest decimal that reads back as the same double; always recognisable as a real ("1.0").
std::string real_text(double value);

/// The text form of a graph, read back by parse(). See docs/ir.md for the grammar.
std::string print(const Graph& graph, const TextOptions& options = {});

/// Reads print()'s form. Runs each op's shape rule and compares it with the printed types; the
/// graph passes verify(). Nodes without a printed location get their line of the text. The text is
/// untrusted: throws Error with "NAME:line:column: what is wrong".
Graph parse(std::string_view text, const OpTable& table, std::string_view file_name = "<text>");

/// Checks what every pass must keep: operands dominate, arity, attributes and types match the op's
/// row, yields match carried arguments, each state is written at most once and on the top level.
/// Throws Error "WHEN: op(types): what is wrong (file:line)"; `when` names the pass.
void verify(const Graph& graph, std::string_view when);

}  // namespace weft::ir
