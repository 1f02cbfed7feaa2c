#pragma once

#include <cstdint>
#include <vector>

namespace weft::compiler {

/// Memory that is in use from one point of time to another, both included.
struct ArenaBlock {
  std::int64_t size = 0;  ///< bytes
  std::int64_t first = 0;
  std::int64_t last = 0;
  std::int64_t offset = 0;  ///< result
};

/// Largest sum of blocks in use at one time.
std::int64_t live_bytes(const std::vector<ArenaBlock>& blocks);

/// Gives each block an offset such that blocks in use at the same time do not overlap; returns the
/// bytes that all of them take.
std::int64_t pack_arena(std::vector<ArenaBlock>& blocks);

}  // namespace weft::compiler
