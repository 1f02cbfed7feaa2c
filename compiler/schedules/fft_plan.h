#pragma once

#include <complex>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

namespace weft::compiler {

/// How a complex transform of some length is divided; the parts are transforms themselves.
struct FftPlan {
  enum class Kind : std::uint8_t {
    butterfly,   ///< in registers
    definition,  ///< sums of products, of a short prime length
    split,       ///< Cooley and Tukey's: columns of first->length, then rows of second->length
    chirp,       ///< Bluestein's: a cyclic convolution of first->length
  };
  Kind kind = Kind::butterfly;
  std::int64_t length = 1;
  std::shared_ptr<const FftPlan> first;
  std::shared_ptr<const FftPlan> second;
  /// Estimated cycles of a line in each lane of a vector.
  double cycles = 0;
};

/// Finds the cheapest plans.
class FftPlanner {
 public:
  std::shared_ptr<const FftPlan> plan(std::int64_t length);
  /// A length of at least `minimum` without large prime factors, a multiple of `multiple`, whose
  /// transform is cheap.
  std::int64_t convenient_length(std::int64_t minimum, std::int64_t multiple);

 private:
  std::map<std::int64_t, std::shared_ptr<const FftPlan>> plans_;
};

/// Divisors of n from 2 to n - 1, ascending.
std::vector<std::int64_t> proper_divisors(std::int64_t n);

/// exp(-2 pi i j / n), exact on the axes.
std::complex<double> root_of_unity(std::int64_t j, std::int64_t n);

/// Bluestein's factors exp(-pi i j^2 / n), j < n, and the spectrum of their conjugates around zero
/// in a cycle of `padded` >= 2n - 1 points, divided by `padded`. `padded` has small prime factors.
struct Chirp {
  std::vector<std::complex<double>> factors;
  std::vector<std::complex<double>> spectrum;
};
Chirp make_chirp(std::int64_t n, std::int64_t padded);

}  // namespace weft::compiler
