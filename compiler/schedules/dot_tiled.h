#pragma once

#include <cstdint>
#include <span>

#include "compiler/schedules/dot_product.h"

/// How a tiled matrix product is cut into pieces. Depends on shapes and layouts only.
namespace weft::compiler {

/// Where the inner loops read an operand.
enum class Place : std::uint8_t {
  direct,  ///< from its tensor
  local,   ///< from panels that each block packs for itself
  shared   ///< from panels that a phase ahead packs for all blocks
};

struct Blocking {
  /// bf16 operands are packed in pairs along the contracted axis, and a step of it takes two.
  bool pairs = false;
  /// A register tile is one of the target's tile registers, or two by two of them.
  bool tile_registers = false;
  std::int64_t steps = 0;  ///< of the contracted axis
  int tile = 1;            ///< rows of a register tile
  int width = 1;           ///< columns of one, of each product
  std::int64_t chunk = 0;  ///< steps of a panel
  /// Of the contracted axis: each is blocks of its own, whose sums a further phase adds up.
  std::int64_t parts = 1;
  std::int64_t chunks_per_part = 1;
  std::int64_t tiles_per_block = 1;
  std::int64_t strips_per_block = 1;  ///< a strip: `width` columns
  std::int64_t batches_per_block = 1;
  Place rows = Place::direct;
  bool rows_along = false;  ///< a panel of rows holds each of them in a line
  Place columns = Place::direct;
};

/// `columns`: of each of the products that share the rows and a register tile.
Blocking choose_blocking(const Product& product, const OperandLayout& rows,
                         std::span<const OperandLayout> columns, const HostTarget& target);

}  // namespace weft::compiler
