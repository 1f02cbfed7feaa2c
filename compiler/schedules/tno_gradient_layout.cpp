#include "compiler/schedules/tno_gradient_layout.h"

#include <algorithm>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/thread_indices.h"

namespace weft::compiler {
namespace {

/// What fits the registers of a thread of 512, and of 256.
constexpr std::int64_t two_warps_fragments = 16;
constexpr std::int64_t most_fragments = 32;
/// Of the GPU that everything is counted for. Not those of the one that it is for: sums have the
/// same order on all of them.
constexpr std::int64_t processors = 132;
constexpr std::int64_t nominal_shared_bytes = std::int64_t{227} * 1024;
/// Rows of the batch are brought together while they have fewer positions.
constexpr std::int64_t stage_positions = 1024;
constexpr std::int64_t word_bytes = 4;

constexpr double cycles_per_product = 2048.0 / 1200;
constexpr double cache_bytes = 24;  ///< that a multiprocessor gets in a cycle
constexpr double launch = 2500;

/// `size` or a little more: `rest` modulo the 32 banks.
std::int64_t with_rest(std::int64_t size, std::int64_t rest) {
  return size + ((rest - size) % warp + warp) % warp;
}

}  // namespace

TnoGradientLayout::TnoGradientLayout(const TnoExtents& e, std::int64_t shared_bytes)
    : fragments(divide_up(e.n, lags)), warps(fragments <= two_warps_fragments ? 2 : 1) {
  const std::int64_t pairs = half * fragments;
  // Rows of products of the last positions end 56 positions further.
  even_at = pairs + half / 2 - margin;
  odd_at = even_at + with_rest(pairs + margin, warp / 2);
  pitch = with_rest(odd_at + pairs + margin, 4);
  choose_parts(e);
  choose_stages(shared_bytes);
}

void TnoGradientLayout::choose_parts(const TnoExtents& e) {
  TnoGradientLayout best = *this;
  double least = 0;
  // More parts than there are processors would only be more sums.
  for (std::int64_t parts = 1; parts <= std::min(e.batch, processors); ++parts) {
    chunk = divide_up(e.batch, parts);
    row_parts = divide_up(e.batch, chunk);
    if (row_parts != parts) continue;
    for (class_parts = 1; class_parts * warps <= classes; class_parts *= 2) {
      choose_stages(nominal_shared_bytes);
      const double own = cycles(e);
      if (least != 0 && own >= least) continue;
      least = own;
      best = *this;
    }
  }
  *this = best;
}

void TnoGradientLayout::choose_stages(std::int64_t shared_bytes) {
  const std::int64_t fitting = shared_bytes / (channels * pitch * word_bytes);
  const std::int64_t wanted = std::min(stage_positions / lags_padded(), fitting);
  together = std::clamp<std::int64_t>(wanted, 1, chunk);
  while (chunk % together != 0) --together;
  stages = std::min<std::int64_t>(fitting / together, chunk > together ? 2 : 1);
}

bool TnoGradientLayout::fits() const { return fragments <= most_fragments && stages > 0; }

std::int64_t TnoGradientLayout::threads() const { return warp * channels * warps; }

double TnoGradientLayout::cycles(const TnoExtents& e) const {
  // Words that a class reads from shared memory.
  std::int64_t words = 0;
  for (std::int64_t first = 0; first < fragments; first += kept_fragments) {
    const std::int64_t rest = fragments - first;
    words += 2 * std::min(kept_fragments, rest) + 2 * rest;
  }
  const std::int64_t products = fragments * (fragments + 1) / 2;
  const double read = static_cast<double>(words);
  const double own = std::max(static_cast<double>(products) * cycles_per_product, read);
  const std::int64_t block_classes = chunk * channels * (classes / class_parts);
  const double multiply = own * static_cast<double>(block_classes);
  // Whole sectors of two operands come for half of them.
  const std::int64_t block_bytes = chunk * channels * e.n * 2 * 4;
  const double fill = static_cast<double>(block_bytes) / cache_bytes;
  // What stages hide of the shorter of the two is not all of it.
  constexpr double hidden = 0.75;
  const double both = stages == 2 ? hidden * std::min(multiply, fill) : 0;
  const double block = multiply + fill - both;
  const std::int64_t directions = e.causal ? 1 : 2;
  const std::int64_t blocks = parts() * e.groups * divide_up(e.d, channels);
  const std::int64_t waves = directions * divide_up(blocks, processors);
  const double total = launch + block * static_cast<double>(waves);
  if (parts() == 1) return total;
  // Written and read again.
  const std::int64_t sum_bytes = directions * parts() * e.groups * e.d * lags_padded() * 2 * 4;
  return total + launch +
         static_cast<double>(sum_bytes) / (cache_bytes * static_cast<double>(processors));
}

double TnoGradientLayout::cycles_of_transforms(const TnoExtents& e, bool both) {
  constexpr double cycles_per_picosecond = 1.75e-3;
  // An element, for the transforms of both operands, their product and what waits for it. Longer
  // lines leave a block fewer channels than a sector has; with the other gradient, g's transform is
  // there already.
  constexpr std::int64_t whole_sectors = 1024;
  const double picoseconds = (e.n <= whole_sectors ? 8 : 10) - (both ? 2 : 0);
  // A block has whole lines of so many channels, and a multiprocessor for itself at best.
  constexpr std::int64_t block_points = 8192;
  constexpr std::int64_t most_channels = 16;
  const std::int64_t own =
      std::min(std::clamp<std::int64_t>(block_points / e.n, 1, most_channels), e.d);
  const std::int64_t blocks = e.batch * e.groups * divide_up(e.d, own);
  const std::int64_t elements = divide_up(blocks, processors) * processors * own * e.n;
  return 2 * launch + static_cast<double>(elements) * picoseconds * cycles_per_picosecond;
}

}  // namespace weft::compiler
