#pragma once

#include <cstdint>
#include <functional>

#include "compiler/schedules/fft_lines.h"

namespace weft::compiler {

enum class FftKind : std::uint8_t {
  complex,
  from_real,  ///< n real points to bins 0 .. n/2
  to_real     ///< the inverse, scaled
};

/// Transforms of lines, one or two in each lane. Real lines cost half: an even length is that of a
/// complex line of neighbouring points, and of an odd length two lines make a complex one, where
/// the caller has two.
class LineTransform {
 public:
  using Ex = loop::Ex;
  /// Point `position` of the lane's line `part`; real ones have a null im. Null parts are zero.
  using Read = std::function<ComplexEx(Ex position, int part)>;
  using Write = std::function<void(Ex position, int part, const ComplexEx& value)>;

  /// `inverse` transforms are scaled by 1 / n.
  LineTransform(loop::Builder& builder, FftPlanner& planner, FftKind kind, std::int64_t n,
                bool inverse, std::int64_t width, bool two_lines);

  /// Whether two lines in a lane are cheaper than one after the other.
  static bool wants_two_lines(FftKind kind, std::int64_t n) {
    return kind != FftKind::complex && n % 2 == 1 && n > 1;
  }
  int parts() const { return two_lines_ ? 2 : 1; }
  /// In the body of a vector loop over `lane`.
  void run(Ex lane, const Read& read, const Write& write);

 private:
  /// Bin k of a half or double line and its mirror.
  struct Mirrored {
    Ex k;
    Ex row;     ///< k = row * first->length + column
    Ex column;  ///< at most half of first->length
  };
  ComplexEx here(const ComplexEx& value);
  void columns_after(const FftLines::Read& read,
                     const std::function<void(const Mirrored& bin, const ComplexEx& value,
                                              const ComplexEx& mirror)>& body);
  void columns_before(
      bool inverse, const std::function<std::pair<ComplexEx, ComplexEx>(const Mirrored& bin)>& body,
      const FftLines::Write& write);
  /// Factors of the bins of an even length: all of them, or a factor of the row and one of the
  /// column.
  void make_factors(std::complex<double> scale, bool conjugated, std::int64_t row_step,
                    std::int64_t rows, std::int64_t columns);
  ComplexEx factor(const Mirrored& bin);

  void from_even(const Read& read, const Write& write);
  void to_even(const Read& read, const Write& write);
  void from_two(const Read& read, const Write& write);
  void to_two(const Read& read, const Write& write);

  loop::Builder& b_;
  loop::Arena& a_;
  FftKind kind_;
  std::int64_t n_;
  bool inverse_;
  bool two_lines_;
  bool halved_;  ///< the plan is for half the length
  std::shared_ptr<const FftPlan> plan_;
  FftLines lines_;
  const loop::Buffer* mirror_ = nullptr;
  const loop::Buffer* factors_ = nullptr;
  const loop::Buffer* column_factors_ = nullptr;
};

}  // namespace weft::compiler
