#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/executable.h"

namespace weft::runtime {

/// What a machine can do at most, with a number of threads: the roof of the roofline model.
struct Roof {
  /// The speed of memory for what fits into `bytes`, all threads together.
  struct Level {
    std::int64_t bytes = 0;
    double bytes_a_second = 0;
  };
  std::vector<Level> levels;       ///< from small to large; the last one is for all that is larger
  double operations_a_second = 0;  ///< f32, a fused multiply-add being two

  /// The least time for moving and computing so much.
  double seconds(std::int64_t bytes, std::int64_t operations) const;
  /// That over the time taken: 1 is all that the machine can do. 0 where it took none.
  double share(std::int64_t bytes, std::int64_t operations, double taken) const;

  std::string text() const;
  static std::optional<Roof> parse(std::string_view text);  ///< nullopt: not a roof's text
};

/// Machine code of compiler::RoofKernel, and what its blocks are.
struct RoofCode {
  PhaseFunction read = nullptr;
  PhaseFunction copy = nullptr;
  PhaseFunction triad = nullptr;
  PhaseFunction multiply_add = nullptr;
  std::int64_t block_elements = 0;
  std::int64_t block_operations = 0;
};
/// Takes about a second and 256 MiB.
Roof measure_roof(const RoofCode& code, int threads);

}  // namespace weft::runtime
