#pragma once

#include <cstdint>

#include "ops/build.h"

/// The Toeplitz operator o_i = sum_j t_(i-j) x_j along the sequence axis, in its two forms.
namespace weft::ops {

/// Sequences of at most this length are decomposed into the direct form. Below it the n * n
/// products a channel cost less than three transforms of at least 2n - 1 points with their passes
/// over memory; the lag matrix still fits the innermost caches.
inline constexpr std::int64_t tno_direct_limit = 32;

/// The smallest even number >= minimum that has no prime factor above 5: even, so that a real
/// transform is half a complex one.
std::int64_t good_fft_length(std::int64_t minimum);

/// x (..., n, d), t (..., n, d) where causal or (..., 2n-1, d) with lags -(n-1)..n-1; t's leading
/// axes equal x's last leading axes. Both compute in f32 and give x's type.
/// Through the n x n matrix of lags and a dot; any n, meant for short sequences.
Value tno_direct(Builder& b, Value x, Value t, bool causal);
/// Through real transforms of good_fft_length(2n-1) points.
Value tno_fft(Builder& b, Value x, Value t, bool causal);

/// Gradients of the same operator by either form; null where not wanted.
struct TnoGradients {
  Value x;
  Value t;
};
TnoGradients tno_direct_gradients(Builder& b, Value x, Value t, bool causal, Value g, bool want_x,
                                  bool want_t);
TnoGradients tno_fft_gradients(Builder& b, Value x, Value t, bool causal, Value g, bool want_x,
                               bool want_t);

}  // namespace weft::ops
