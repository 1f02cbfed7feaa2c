#include "tools/bench/fftw_transform.h"

#ifdef WEFT_WITH_FFTW

#include <fftw3.h>

#include <array>

#include "runtime/plan/error.h"

namespace weft::bench {

struct FftwTransform::Implementation {
  fftwf_plan plan = nullptr;
};

FftwTransform::FftwTransform(Kind kind, Sizes sizes, float* operand, float* result, int threads)
    : implementation_(std::make_unique<Implementation>()) {
  static const bool threaded = fftwf_init_threads() != 0;
  if (threaded) fftwf_plan_with_nthreads(threads);
  const std::int64_t bins = sizes.n / 2 + 1;
  const std::int64_t from = kind == Kind::to_real ? bins : sizes.n;
  const std::int64_t to = kind == Kind::from_real ? bins : sizes.n;
  const auto as_int = [](std::int64_t value) { return static_cast<int>(value); };
  const fftwf_iodim along{as_int(sizes.n), as_int(sizes.d), as_int(sizes.d)};
  const std::array<fftwf_iodim, 2> many{
      fftwf_iodim{as_int(sizes.b), as_int(from * sizes.d), as_int(to * sizes.d)},
      fftwf_iodim{as_int(sizes.d), 1, 1}};
  auto* complex_operand = reinterpret_cast<fftwf_complex*>(operand);
  auto* complex_result = reinterpret_cast<fftwf_complex*>(result);
  constexpr unsigned flags = FFTW_MEASURE | FFTW_PRESERVE_INPUT;
  switch (kind) {
    case Kind::complex:
      implementation_->plan = fftwf_plan_guru_dft(1, &along, 2, many.data(), complex_operand,
                                                  complex_result, FFTW_FORWARD, flags);
      break;
    case Kind::from_real:
      implementation_->plan =
          fftwf_plan_guru_dft_r2c(1, &along, 2, many.data(), operand, complex_result, flags);
      break;
    case Kind::to_real:
      implementation_->plan =
          fftwf_plan_guru_dft_c2r(1, &along, 2, many.data(), complex_operand, result, flags);
      break;
  }
  if (implementation_->plan == nullptr) throw Error("fft: FFTW has no plan for the case");
}

FftwTransform::~FftwTransform() { fftwf_destroy_plan(implementation_->plan); }

void FftwTransform::run() { fftwf_execute(implementation_->plan); }

}  // namespace weft::bench

#endif
