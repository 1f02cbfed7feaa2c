#pragma once

#include <cstdint>
#include <memory>

#include "compiler/schedules/fft_lines.h"

namespace weft::compiler {

/// Complex transforms of one line whose points are neighbours in memory. It is split once: the
/// columns of the first, short half are in the lanes of vectors, and its results are transposed in
/// registers so that those of the second half are as well.
class RowTransform {
 public:
  using Ex = loop::Ex;
  using Read = FftLines::Read;
  using Write = FftLines::Write;

  /// `inverse` transforms are not scaled.
  RowTransform(loop::Builder& builder, FftPlanner& planner, std::int64_t n, int lanes);

  /// Estimated cycles of a line.
  static double cycles(FftPlanner& planner, std::int64_t n, int lanes);

  /// Not to be called inside a vector loop: `read` and `write` are called in vector loops, with
  /// positions that move by one from lane to lane. Each point is read before anything is written.
  void run(bool inverse, const Read& read, const Write& write);

 private:
  struct Choice {
    std::int64_t radix = 0;  ///< of the first half; 0: by convolution
    std::int64_t padded = 0;
    double cycles = 0;
  };
  static Choice choose(FftPlanner& planner, std::int64_t n, int lanes);
  void make_turns();
  ComplexEx turn(Ex strip, Ex lane, std::int64_t k);
  void first_half(bool inverse, const Read& read);
  void second_half(bool inverse, const Write& write);
  void convolve(bool inverse, const Read& read, const Write& write);
  ComplexEx planes(const loop::Buffer* table, std::int64_t extent, Ex position);
  const loop::Buffer* planes(const char* name, const std::vector<std::complex<double>>& values);

  loop::Builder& b_;
  loop::Arena& a_;
  std::int64_t n_;
  int lanes_;
  std::int64_t radix_ = 1;
  std::int64_t columns_ = 1;
  std::int64_t strip_ = 1;  ///< columns whose turns are in `fine_`; all of them: no coarse ones
  std::shared_ptr<const FftPlan> second_;
  std::unique_ptr<FftLines> lines_;
  const loop::Buffer* between_ = nullptr;
  const loop::Buffer* fine_ = nullptr;
  const loop::Buffer* coarse_ = nullptr;
  std::int64_t group_ = 1;  ///< strips whose turns are in `coarse_`, times one of `coarsest_`
  const loop::Buffer* coarsest_ = nullptr;
  // By convolution:
  std::unique_ptr<RowTransform> inner_;
  const loop::Buffer* factors_ = nullptr;
  const loop::Buffer* filter_ = nullptr;
  const loop::Buffer* spectrum_ = nullptr;
};

}  // namespace weft::compiler
