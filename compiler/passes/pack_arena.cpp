#include "compiler/passes/pack_arena.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <numeric>

namespace weft::compiler {
namespace {

/// Puts each block, in this order, at the lowest place that is free during its life.
std::int64_t pack(const std::vector<ArenaBlock>& blocks, const std::vector<std::size_t>& order,
                  std::vector<std::int64_t>& offsets) {
  std::int64_t bytes = 0;
  std::vector<std::size_t> placed;  // by offset
  for (const std::size_t i : order) {
    const ArenaBlock& block = blocks[i];
    std::int64_t offset = 0;
    for (const std::size_t other : placed) {
      if (blocks[other].last < block.first || blocks[other].first > block.last) continue;
      if (offsets[other] >= offset + block.size) break;
      offset = std::max(offset, offsets[other] + blocks[other].size);
    }
    offsets[i] = offset;
    bytes = std::max(bytes, offset + block.size);
    const auto position = std::upper_bound(
        placed.begin(), placed.end(), offset,
        [&](std::int64_t value, std::size_t other) { return value < offsets[other]; });
    placed.insert(position, i);
  }
  return bytes;
}

}  // namespace

std::int64_t live_bytes(const std::vector<ArenaBlock>& blocks) {
  std::map<std::int64_t, std::int64_t> changes;  // by time
  for (const ArenaBlock& block : blocks) {
    changes[block.first] += block.size;
    changes[block.last + 1] -= block.size;
  }
  std::int64_t live = 0;
  std::int64_t largest = 0;
  for (const auto& change : changes) {
    live += change.second;
    largest = std::max(largest, live);
  }
  return largest;
}

std::int64_t pack_arena(std::vector<ArenaBlock>& blocks) {
  const std::int64_t least = live_bytes(blocks);
  // No order is best for all programs: the first that needs no more than what is in use at one
  // time, or the best of them.
  const auto length = [](const ArenaBlock& b) { return b.last - b.first + 1; };
  using Less = std::function<bool(const ArenaBlock&, const ArenaBlock&)>;
  const Less orders[] = {
      [](const ArenaBlock& a, const ArenaBlock& b) { return a.size > b.size; },
      [&](const ArenaBlock& a, const ArenaBlock& b) {
        return a.size * length(a) > b.size * length(b);
      },
      [&](const ArenaBlock& a, const ArenaBlock& b) { return length(a) > length(b); },
      [](const ArenaBlock& a, const ArenaBlock& b) { return a.first < b.first; }};
  std::int64_t best = std::numeric_limits<std::int64_t>::max();
  std::vector<std::size_t> order(blocks.size());
  std::vector<std::int64_t> offsets(blocks.size());
  for (const Less& less : orders) {
    std::iota(order.begin(), order.end(), std::size_t{0});
    // Equal ones in the order of the program.
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return less(blocks[a], blocks[b]) || (!less(blocks[b], blocks[a]) && a < b);
    });
    const std::int64_t bytes = pack(blocks, order, offsets);
    if (bytes >= best) continue;
    best = bytes;
    for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i].offset = offsets[i];
    if (bytes == least) break;
  }
  return best;
}

}  // namespace weft::compiler
