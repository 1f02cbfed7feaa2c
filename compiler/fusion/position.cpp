#include "compiler/fusion/position.h"

namespace weft::compiler {

using ir::Node;
using ir::Pattern;

namespace {

/// Values of one row that are kept for a later pass over it: 64 KiB of f32, well inside of the
/// second cache.
constexpr std::int64_t most_columns = 16384;
/// Fewer long rows than this leave threads idle: they are reduced in parts instead.
constexpr std::int64_t fewest_rows = 8;
constexpr std::int64_t short_work = 32768;

/// The number of neighbours that share an element of `from`, or 0 where it is not broadcast along
/// trailing axes.
std::int64_t trailing_expansion(const Shape& from, const Shape& to) {
  const int offset = to.rank() - from.rank();
  std::int64_t columns = 1;
  int axis = to.rank() - 1;
  for (; axis >= 0; --axis) {
    const bool expanded = axis < offset || from[axis - offset] == 1;
    if (!expanded) break;
    columns *= to[axis];
  }
  for (; axis >= 0; --axis) {
    const std::int64_t extent = axis < offset ? 1 : from[axis - offset];
    if (extent != to[axis]) return 0;
  }
  return columns;
}

}  // namespace

Position through(const Node& node, Position at) {
  if (at.kind == Position::Kind::other) return at;
  if (node.op->pattern == Pattern::elementwise || node.op->pattern == Pattern::random ||
      node.is("reshape")) {
    return at;
  }
  if (node.is("broadcast")) {
    const std::int64_t columns =
        trailing_expansion(node.operand_type(0).shape, node.results[0].shape);
    if (columns == 1) return at;
    if (columns > 1) return {Position::Kind::row, at.columns * columns};
  }
  return {};
}

Rows rows_of(const Node& node) {
  if (node.op->pattern != Pattern::reduction || node.is("argmax")) return {};
  if (is_complex(node.results[0].dtype)) return {};
  const Shape& shape = node.operand_type(0).shape;
  const std::vector<std::int64_t>& axes = node.attributes.integers("axes");
  Rows rows{1, 1};
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const bool reduced = axis + static_cast<int>(axes.size()) >= shape.rank();
    bool listed = false;
    for (std::int64_t a : axes) listed = listed || a == axis;
    if (listed != reduced) return {};
    (reduced ? rows.columns : rows.rows) *= shape[axis];
  }
  if (rows.rows < 1 || rows.columns < 2 || rows.columns > most_columns) return {};
  if (rows.rows < fewest_rows && rows.rows * rows.columns > short_work) return {};
  return rows;
}

}  // namespace weft::compiler
