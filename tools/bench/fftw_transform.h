#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace weft::bench {

/// Batched transforms by FFTW's planner (FFTW_MEASURE), along n of (b, n, d), out of place; the
/// operand is left as it is.
class FftwTransform {
 public:
  enum class Kind : std::uint8_t { complex, from_real, to_real };
  struct Sizes {
    std::int64_t b = 1;
    std::int64_t n = 1;
    std::int64_t d = 1;
  };

  /// `operand` and `result` are those that run() works on: planning overwrites them.
  FftwTransform(Kind kind, Sizes sizes, float* operand, float* result, int threads);
  ~FftwTransform();
  FftwTransform(const FftwTransform&) = delete;
  FftwTransform& operator=(const FftwTransform&) = delete;

  void run();

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace weft::bench
