#pragma once

#include <cstdint>

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
  int tile = 1;   ///< rows of a register tile
  int width = 1;  ///< columns of one
  std::int64_t depth_chunk = 0;
  std::int64_t tiles_per_block = 1;
  std::int64_t strips_per_block = 1;  ///< a strip: `width` columns
  std::int64_t batches_per_block = 1;
  Place rows = Place::direct;
  Place columns = Place::direct;
};

Blocking choose_blocking(const Product& product, const OperandLayout& rows,
                         const OperandLayout& columns, const HostTarget& target);

}  // namespace weft::compiler
