#include "compiler/schedules/tno_tiling.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <queue>
#include <vector>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/thread_indices.h"

namespace weft::compiler {
namespace {

/// A multiprocessor of an H100, a cycle.
constexpr double multiply_adds = 1250;  ///< by a warp's products of 16-bit operands
constexpr double shared_bytes = 128;    ///< of shared memory
constexpr double instructions = 4;      ///< of a warp that start
constexpr double cache_bytes = 24;      ///< out of the second-level cache
constexpr double memory_bytes = 14;     ///< from and to memory
constexpr double arithmetic = 128;      ///< f32 instructions of a thread
constexpr double element_bytes = 2;
/// Until a block's first tile is there, between its tiles, and until its results are gone: what
/// nothing else covers, since its threads have most of the registers.
constexpr double start_cycles = 2000;
constexpr double tile_cycles = 100;
constexpr double end_cycles = 800;
/// Another launch, and the wait for the last block of the one before.
constexpr double launch_cycles = 2500;

/// A tile of a block, all of it.
double cycles_of_tile(const TnoExtents& e, const TnoTiling& tiling) {
  constexpr auto fragment = static_cast<double>(TnoTiling::fragment);
  constexpr auto columns = static_cast<double>(TnoTiling::columns);
  const auto warps = static_cast<double>(tiling.channels);
  const auto points = static_cast<double>(tiling.points);
  const double row_fragments = static_cast<double>(tiling.rows) / fragment;
  const double point_fragments = points / fragment;
  const double products = warps * row_fragments * point_fragments;
  const double multiply = products * fragment * fragment * columns / multiply_adds;
  // Pairs of lags, each once; points arrive, are read, and stored and read once more.
  const double pairs = warps * (2 * (row_fragments + point_fragments) - 1);
  const double tile_bytes = columns * points * warps * element_bytes;
  const double shared = pairs + (4 * tile_bytes + 4 * points * warps) / shared_bytes;
  // A product with its share of loads and moves is three; what a tile takes beside them.
  const double issue = (3 * products + 70 * warps) / instructions;
  // Columns that there are.
  const double filled =
      static_cast<double>(std::min(e.batch, tiling.batch())) / static_cast<double>(tiling.batch());
  const double cache = (filled * tile_bytes + points * warps * element_bytes) / cache_bytes;
  return std::max({multiply, shared, issue, cache}) + tile_cycles;
}

}  // namespace

std::int64_t TnoTiling::strips(const TnoExtents& e) const { return divide_up(e.n, rows * shifts); }

std::int64_t TnoTiling::tiles(const TnoExtents& e, std::int64_t strip) const {
  const std::int64_t further = (shifts - 1) * rows;
  if (!e.causal) return divide_up(e.n, points) + divide_up(further, points);
  return divide_up(strip * rows * shifts + further + rows, points);
}

double tno_cycles(const TnoExtents& e, const TnoTiling& tiling, std::int64_t processors) {
  const double tile = cycles_of_tile(e, tiling);
  // Six instructions for each result.
  const auto results = static_cast<double>(tiling.rows * TnoTiling::columns * tiling.channels);
  const double ends = start_cycles + end_cycles + 6 * results / warp / instructions;
  const std::int64_t strips = tiling.strips(e);
  const std::int64_t others =
      divide_up(e.batch, tiling.batch()) * e.groups * divide_up(e.d, tiling.channels);
  const auto of_strip = [&](std::int64_t strip) {
    // Half of what is on the diagonal is left out.
    const double diagonal = e.causal ? 0.5 * static_cast<double>(tiling.rows) /
                                           static_cast<double>(std::max(tiling.rows, tiling.points))
                                     : 0;
    const double on_diagonal =
        diagonal * static_cast<double>(divide_up(tiling.rows, tiling.points));
    return ends + tile * (static_cast<double>(tiling.tiles(e, strip)) - on_diagonal);
  };
  // Each block goes where there is room first, long ones ahead. Of very many all that matters is
  // their sum.
  constexpr std::int64_t many = 64;
  if (strips * others > many * processors) {
    double sum = 0;
    for (std::int64_t strip = 0; strip < strips; ++strip) sum += of_strip(strip);
    return sum * static_cast<double>(others) / static_cast<double>(processors);
  }
  std::priority_queue<double, std::vector<double>, std::greater<>> free_at;
  for (std::int64_t i = 0; i < processors; ++i) free_at.push(0);
  double last = 0;
  for (std::int64_t strip = strips - 1; strip >= 0; --strip) {
    const double own = of_strip(strip);
    for (std::int64_t i = 0; i < others; ++i) {
      const double end = free_at.top() + own;
      free_at.pop();
      free_at.push(end);
      last = std::max(last, end);
    }
  }
  return last;
}

double tno_transform_cycles(const TnoExtents& e, std::int64_t bytes, std::int64_t processors) {
  const auto n = static_cast<double>(e.causal ? e.n : 2 * e.n);
  const double calculate = (57 + 8.3 * std::max(0.0, std::log2(n / 64))) / arithmetic;
  // Blocks have fewer channels the longer the lines are: parts of sectors, of which one operand is
  // read, another one with it, and a result stored; the spectrum is read beside them.
  constexpr double sector_bytes = 32;
  // One block alone reads before it calculates.
  constexpr double alone = 4096;
  const double block_points = n < alone ? 8192 : 16384;
  const double channels = std::clamp(block_points / n, 1.0, sector_bytes / 2);
  const double tensor = std::max(static_cast<double>(bytes), sector_bytes / channels);
  const double cache = (3 * tensor + 8) / cache_bytes;
  const double memory = (3 * static_cast<double>(bytes) + 2) / memory_bytes;
  const double element =
      n >= alone ? calculate + std::max(cache, memory) : std::max({calculate, cache, memory});
  // Elements of the multiprocessor that has most.
  const auto most = [&](std::int64_t lines) {
    const double blocks =
        static_cast<double>(lines) * std::ceil(static_cast<double>(e.d) / channels);
    return std::ceil(blocks / static_cast<double>(processors)) * channels *
           static_cast<double>(e.n);
  };
  // The spectrum of the coefficients comes first, by half of the passes and a launch of its own.
  return 2 * start_cycles + launch_cycles + most(e.groups) * calculate / 2 +
         most(e.batch * e.groups) * element;
}

TnoTiling tno_tiling(const TnoExtents& e, std::int64_t processors, bool copies) {
  TnoTiling best;
  double least = 0;
  const std::int64_t most_rows = copies ? 256 : 128;
  for (std::int64_t rows = 16; rows <= most_rows; rows *= 2) {
    for (std::int64_t shifts = 1; shifts <= TnoTiling::columns; shifts *= 2) {
      TnoTiling tiling;
      tiling.rows = rows;
      tiling.points = e.n > 32 ? 64 : 32;
      tiling.channels = e.d > 8 ? 16 : 8;
      tiling.shifts = shifts;
      const bool more_than_all = rows * shifts >= 2 * e.n && rows * shifts > 16;
      if (more_than_all || (shifts > 1 && e.batch > TnoTiling::columns / 2)) continue;
      const double cycles = tno_cycles(e, tiling, processors);
      if (least != 0 && cycles >= least) continue;
      least = cycles;
      best = tiling;
    }
  }
  return best;
}

}  // namespace weft::compiler
