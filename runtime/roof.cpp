#include "runtime/roof.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <locale>
#include <sstream>

#include "runtime/float_mode.h"
#include "runtime/memory.h"
#include "runtime/thread_pool.h"

namespace weft::runtime {

namespace {

constexpr std::int64_t mebibyte = std::int64_t{1} << 20;
/// Working sets: in the cores' own caches, in the cache that they share, in memory.
constexpr std::int64_t own_cache_bytes = mebibyte / 4;  // a thread
constexpr std::int64_t shared_cache_bytes = 8 * mebibyte;
constexpr std::int64_t memory_bytes = 256 * mebibyte;

class Measurement {
 public:
  Measurement(const RoofCode& code, int threads)
      : code_(code), pool_(threads, 0), memory_(memory_bytes) {}

  /// The best of three ways of using memory: a bound for all others.
  double bandwidth(std::int64_t bytes) {
    return std::max({passes(code_.read, bytes, 1, false), passes(code_.copy, bytes, 2, true),
                     passes(code_.triad, bytes, 3, true)});
  }

  double operations() {
    auto* floats = reinterpret_cast<float*>(memory_.data());
    floats[0] = 0.5F;
    void* const arguments[] = {floats + code_.block_elements, floats};
    const std::int64_t grid = 16 * pool_.threads();
    const double seconds = fastest([&] { pool_.run(code_.multiply_add, arguments, grid); });
    return static_cast<double>(grid * code_.block_operations) / seconds;
  }

 private:
  /// Bytes a second of passes over `arrays` arrays that take `bytes` together.
  double passes(PhaseFunction phase, std::int64_t bytes, std::int64_t arrays, bool writes) {
    const std::int64_t block_bytes =
        code_.block_elements * static_cast<std::int64_t>(sizeof(float));
    const std::int64_t grid = std::max<std::int64_t>(1, bytes / arrays / block_bytes);
    std::byte* next = memory_.data();
    std::vector<void*> arguments;
    // What a reading pass writes, an element a block, is at the end.
    if (!writes) arguments.push_back(memory_.data() + memory_bytes - 4 * grid - 64);
    for (std::int64_t i = 0; i < arrays; ++i, next += grid * block_bytes) arguments.push_back(next);
    const auto moved = static_cast<double>(grid * block_bytes * arrays);
    const auto repeats = std::max<std::int64_t>(1, 4 * mebibyte / bytes);
    const double seconds = fastest([&] {
      for (std::int64_t i = 0; i < repeats; ++i) pool_.run(phase, arguments.data(), grid);
    });
    return moved * static_cast<double>(repeats) / seconds;
  }

  /// Other work on the machine slows a measurement down and never speeds it up: many short ones.
  template <typename Work>
  static double fastest(const Work& work) {
    constexpr int fewest = 5;
    constexpr double enough_seconds = 0.05;
    double best = std::numeric_limits<double>::infinity();
    double spent = 0;
    for (int i = 0; i < fewest || spent < enough_seconds; ++i) {
      const auto start = std::chrono::steady_clock::now();
      work();
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
      best = std::min(best, taken.count());
      spent += taken.count();
    }
    return std::max(best, 1e-9);
  }

  const RoofCode& code_;
  ThreadPool pool_;
  AlignedBuffer memory_;
};

}  // namespace

double Roof::seconds(std::int64_t bytes, std::int64_t operations) const {
  double least =
      operations_a_second > 0 ? static_cast<double>(operations) / operations_a_second : 0;
  if (levels.empty()) return least;
  const auto level = std::find_if(levels.begin(), levels.end() - 1,
                                  [&](const Level& one) { return bytes <= one.bytes; });
  if (level->bytes_a_second > 0) {
    least = std::max(least, static_cast<double>(bytes) / level->bytes_a_second);
  }
  return least;
}

double Roof::share(std::int64_t bytes, std::int64_t operations, double taken) const {
  return taken > 0 ? seconds(bytes, operations) / taken : 0;
}

std::string Roof::text() const {
  std::string out = fmt::format("operations {}\n", operations_a_second);
  for (const Level& level : levels) {
    out += fmt::format("level {} {}\n", level.bytes, level.bytes_a_second);
  }
  return out;
}

std::optional<Roof> Roof::parse(std::string_view text) {
  std::istringstream stream{std::string(text)};
  stream.imbue(std::locale::classic());
  Roof roof;
  std::string word;
  if (!(stream >> word >> roof.operations_a_second) || word != "operations") return std::nullopt;
  while (stream >> word) {
    Level level;
    if (word != "level" || !(stream >> level.bytes >> level.bytes_a_second)) return std::nullopt;
    if (!(level.bytes_a_second > 0) || !std::isfinite(level.bytes_a_second)) return std::nullopt;
    if (!roof.levels.empty() && level.bytes <= roof.levels.back().bytes) return std::nullopt;
    roof.levels.push_back(level);
  }
  const bool good = std::isfinite(roof.operations_a_second) && roof.operations_a_second > 0;
  if (!good || roof.levels.empty()) return std::nullopt;
  return roof;
}

Roof measure_roof(const RoofCode& code, int threads) {
  const FloatMode mode(FloatMode::flushing(FloatMode::current()));
  Measurement measurement(code, threads);
  Roof roof;
  roof.operations_a_second = measurement.operations();
  for (const std::int64_t bytes : {own_cache_bytes * threads, shared_cache_bytes, memory_bytes}) {
    if (!roof.levels.empty() && bytes <= roof.levels.back().bytes) continue;
    roof.levels.push_back({bytes, measurement.bandwidth(bytes)});
  }
  return roof;
}

}  // namespace weft::runtime
