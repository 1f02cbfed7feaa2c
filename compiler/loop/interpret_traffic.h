#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "compiler/loop/interpret.h"
#include "compiler/loop/interpret_memory.h"

/// What a warp's accesses ask of memory: sectors of global memory, passes over shared memory's
/// banks.
namespace weft::loop::interpreter {

class TrafficCounter {
 public:
  TrafficCounter(const Kernel& kernel, std::vector<Traffic>& out) : kernel_(kernel), out_(out) {}

  std::size_t phase = 0;
  /// One access of a warp: from each lane of `mask` `bytes` from its offset into the region on.
  void count(const Statement* statement, const Region& region, bool write,
             const std::array<std::int64_t, warp_lanes>& offsets, std::uint32_t mask, int bytes);
  /// A tensor copy: the bytes of each run of neighbours, from an offset into the region on.
  struct Run {
    std::int64_t offset;
    std::int64_t bytes;
  };
  void count_copy(const Statement* statement, const Region& region, bool write,
                  std::span<const Run> runs);

 private:
  Traffic& entry(const Statement* statement, const Region& region, bool write);

  const Kernel& kernel_;
  std::vector<Traffic>& out_;
  std::map<std::tuple<const Statement*, const Buffer*, bool>, std::size_t> known_;
};

}  // namespace weft::loop::interpreter
