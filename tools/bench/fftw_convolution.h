#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace weft::bench {

/// Causal convolutions along n of x (b, n, d) with t (n, d) as they are made of a library's real
/// transforms: zero-padded r2c, product of spectra, c2r. Batch rows are spread over threads, each
/// transformed by a plan of one thread, and what a row needs is done while it is in cache.
class FftwConvolution {
 public:
  enum class Layout {
    strided,     ///< transforms over channels in place in (n, d)
    transposed,  ///< to (d, n) in blocks, contiguous transforms, and back
  };
  struct Sizes {
    std::int64_t b = 1;
    std::int64_t n = 1;
    std::int64_t d = 1;
  };

  FftwConvolution(Sizes sizes, Layout layout, int threads);
  ~FftwConvolution();
  FftwConvolution(const FftwConvolution&) = delete;
  FftwConvolution& operator=(const FftwConvolution&) = delete;

  /// z = u * tno(v, t)
  void forward(const float* u, const float* v, const float* t, float* z);
  /// z = u * tno(v, t) and the gradients for the gradient scale * g * z of z.
  struct Gradients {
    float* u;
    float* v;
    float* t;
  };
  void forward_backward(const float* u, const float* v, const float* t, const float* g, float scale,
                        float* z, const Gradients& gradients);

  static std::string version();
  /// The smallest length >= minimum whose prime factors are 2, 3, 5 and 7.
  static std::int64_t good_length(std::int64_t minimum);

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace weft::bench
