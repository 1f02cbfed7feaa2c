#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "tools/bench/fftw_transform.h"
#include "tools/bench/measure.h"

namespace weft::bench {

/// cuFFT called as it is: transforms along n of (b, n, d), one call for each of b where d > 1, on a
/// stream of its own. Nothing where weft was built without CUDA. Throws Error as the driver and the
/// library do.
std::optional<Work> cufft_transform(const std::string& device, FftwTransform::Kind kind,
                                    const FftwTransform::Sizes& sizes);

}  // namespace weft::bench
