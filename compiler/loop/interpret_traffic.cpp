#include "compiler/loop/interpret_traffic.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <set>

#include "compiler/loop/kernel.h"

namespace weft::loop {
namespace interpreter {
namespace {

constexpr std::int64_t sector_bytes = 32;
constexpr std::int64_t bank_bytes = 4;
constexpr std::int64_t banks = 32;
constexpr std::int64_t pass_bytes = bank_bytes * banks;

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

struct Count {
  std::int64_t transactions = 0;
  std::int64_t least = 0;
};

/// Offsets are from the buffer's start, which lies at a multiple of a sector.
Count sectors(const std::array<std::int64_t, warp_lanes>& offsets, std::uint32_t mask, int bytes) {
  std::set<std::int64_t> touched, pieces;
  for (; mask != 0; mask &= mask - 1) {
    const std::int64_t offset = offsets[static_cast<std::size_t>(std::countr_zero(mask))];
    pieces.insert(offset);
    for (std::int64_t s = offset / sector_bytes; s <= (offset + bytes - 1) / sector_bytes; ++s) {
      touched.insert(s);
    }
  }
  return {static_cast<std::int64_t>(touched.size()),
          divide_up(static_cast<std::int64_t>(pieces.size()) * bytes, sector_bytes)};
}

/// Lanes that are served at a time: as many as fill a pass with distinct words. Equal words of
/// one bank are read at once.
Count passes(const std::array<std::int64_t, warp_lanes>& offsets, std::uint32_t mask, int bytes) {
  const std::int64_t words = std::max<std::int64_t>(bytes / bank_bytes, 1);
  const int lanes = static_cast<int>(warp_lanes / words);
  Count count;
  std::set<std::int64_t> pieces;
  for (int first = 0; first < warp_lanes; first += lanes) {
    std::array<std::set<std::int64_t>, banks> by_bank;
    for (int lane = first; lane < first + lanes; ++lane) {
      if (((mask >> static_cast<unsigned>(lane)) & 1U) == 0) continue;
      const std::int64_t offset = offsets[static_cast<std::size_t>(lane)];
      pieces.insert(offset);
      for (std::int64_t w = 0; w < words; ++w) {
        const std::int64_t word = offset / bank_bytes + w;
        by_bank[static_cast<std::size_t>(word % banks)].insert(word);
      }
    }
    std::size_t most = 0;
    for (const auto& words_of_bank : by_bank) most = std::max(most, words_of_bank.size());
    count.transactions += static_cast<std::int64_t>(most);
  }
  count.least = divide_up(static_cast<std::int64_t>(pieces.size()) * bytes, pass_bytes);
  return count;
}

}  // namespace

Traffic& TrafficCounter::entry(const Statement* statement, const Region& region, bool write) {
  const auto [found, added] = known_.try_emplace({statement, region.buffer, write}, out_.size());
  if (added) {
    out_.push_back({.kernel = kernel_.name,
                    .phase = phase,
                    .statement = print(kernel_, *statement),
                    .buffer = region.buffer->name,
                    .space = region.buffer->space,
                    .write = write});
  }
  return out_[found->second];
}

void TrafficCounter::count(const Statement* statement, const Region& region, bool write,
                           const std::array<std::int64_t, warp_lanes>& offsets, std::uint32_t mask,
                           int bytes) {
  const Space space = region.buffer->space;
  if (mask == 0 || (space != Space::argument && space != Space::shared)) return;
  Traffic& traffic = entry(statement, region, write);
  const Count one =
      space == Space::shared ? passes(offsets, mask, bytes) : sectors(offsets, mask, bytes);
  ++traffic.requests;
  traffic.transactions += one.transactions;
  traffic.least += one.least;
}

void TrafficCounter::count_copy(const Statement* statement, const Region& region, bool write,
                                std::span<const Run> runs) {
  const std::int64_t unit = region.buffer->space == Space::shared ? pass_bytes : sector_bytes;
  std::set<std::int64_t> touched;
  std::int64_t bytes = 0;
  for (const Run& run : runs) {
    bytes += run.bytes;
    for (std::int64_t at = run.offset / unit; at <= (run.offset + run.bytes - 1) / unit; ++at) {
      touched.insert(at);
    }
  }
  Traffic& traffic = entry(statement, region, write);
  ++traffic.requests;
  traffic.transactions += static_cast<std::int64_t>(touched.size());
  traffic.least += divide_up(bytes, unit);
}

}  // namespace interpreter

std::string print(const Traffic& traffic) {
  const auto requests = static_cast<double>(traffic.requests);
  return fmt::format(
      "kernel {}, phase {}: {} {}: {} requests of {:.2f} {} each, at least {:.2f}: {}",
      traffic.kernel, traffic.phase, traffic.write ? "writes" : "reads", traffic.buffer,
      traffic.requests, static_cast<double>(traffic.transactions) / requests,
      traffic.space == Space::shared ? "passes" : "sectors",
      static_cast<double>(traffic.least) / requests, traffic.statement);
}

}  // namespace weft::loop
