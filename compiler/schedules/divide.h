#pragma once

#include <cstdint>

namespace weft::compiler {

/// How many pieces of `size` cover `extent`; both positive, or an extent of 0.
constexpr std::int64_t divide_up(std::int64_t extent, std::int64_t size) {
  return (extent + size - 1) / size;
}

}  // namespace weft::compiler
