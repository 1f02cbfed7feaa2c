#include "tests/ptx/machine/counts.h"

#include <algorithm>

namespace weft::ptx {
namespace {

constexpr std::uint64_t kSectorBytes = 32;
constexpr std::uint64_t kBanks = 32;
constexpr std::uint64_t kBankBytes = 4;

/// The distinct numbers among the first `count`.
template <std::size_t kMost>
std::size_t distinct(std::array<std::uint64_t, kMost>& numbers, std::size_t count) {
  std::sort(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(count));
  const auto end =
      std::unique(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(count));
  return static_cast<std::size_t>(end - numbers.begin());
}

}  // namespace

void count_global(Counts::Instruction& counts, const std::uint64_t* addresses, std::uint32_t mask,
                  std::int64_t bytes) {
  std::array<std::uint64_t, 64> sectors{};
  std::size_t count = 0;
  for (int lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    // Aligned to their size of up to 16 bytes, they are in one.
    sectors[count++] = addresses[lane] / kSectorBytes;
    const std::uint64_t last = addresses[lane] + static_cast<std::uint64_t>(bytes) - 1;
    if (last / kSectorBytes != addresses[lane] / kSectorBytes) {
      sectors[count++] = last / kSectorBytes;
    }
  }
  counts.sectors += distinct(sectors, count);
}

void count_shared(Counts::Instruction& counts, const std::uint64_t* addresses, std::uint32_t mask,
                  std::int64_t bytes) {
  const std::int64_t words =
      std::max<std::int64_t>(bytes / static_cast<std::int64_t>(kBankBytes), 1);
  const int together = static_cast<int>(32 / words);
  for (int first = 0; first < 32; first += together) {
    std::array<std::uint64_t, 32> touched{};
    std::size_t count = 0;
    for (int lane = first; lane < first + together; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      for (std::int64_t word = 0; word < words; ++word) {
        touched[count++] = addresses[lane] / kBankBytes + static_cast<std::uint64_t>(word);
      }
    }
    std::array<std::uint64_t, kBanks> of_bank{};
    const std::size_t all = distinct(touched, count);
    for (std::size_t i = 0; i < all; ++i) ++of_bank[touched[i] % kBanks];
    counts.wavefronts += *std::max_element(of_bank.begin(), of_bank.end());
  }
}

}  // namespace weft::ptx
