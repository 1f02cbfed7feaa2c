#pragma once

#include <cstdint>

#include "ops/op.h"

namespace weft::compiler {

/// Where a reader that is at row-major position p reads a value.
struct Position {
  enum class Kind : std::uint8_t {
    same,  ///< at p
    row,   ///< at p / columns: one value for each row of the reader's
    other  ///< elsewhere, or in several places
  };
  Kind kind = Kind::other;
  std::int64_t columns = 1;

  bool same() const { return kind == Kind::same; }
  bool operator<(const Position& other_position) const {
    return kind != other_position.kind ? kind < other_position.kind
                                       : columns < other_position.columns;
  }
};

inline constexpr Position at_own_position{Position::Kind::same, 1};

/// Where a pointwise node reads its operands, for a reader that is at `at` of the node's result.
Position through(const ir::Node& node, Position at);

/// A reduction over trailing axes: each row of `columns` neighbours becomes one value, so that
/// whole chains of such reductions and what stands between them can run row by row.
struct Rows {
  std::int64_t rows = 0;  ///< 0: not such a reduction
  std::int64_t columns = 0;

  explicit operator bool() const { return rows > 0; }
  bool operator==(const Rows&) const = default;
};
Rows rows_of(const ir::Node& node);

}  // namespace weft::compiler
