#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "weft/tensor.h"

/// Operations on tensors. Axes may be negative. Element-wise operations of two or three operands
/// broadcast as NumPy does and take literals. A wrong use throws Error with the caller's line.
namespace weft {

// ---- element-wise, one operand ------------------------------------------------------------------

Tensor neg(const Tensor& x, Source at = Source::current());
Tensor abs(const Tensor& x, Source at = Source::current());
Tensor sign(const Tensor& x, Source at = Source::current());
Tensor exp(const Tensor& x, Source at = Source::current());
Tensor exp2(const Tensor& x, Source at = Source::current());
Tensor log(const Tensor& x, Source at = Source::current());
Tensor log2(const Tensor& x, Source at = Source::current());
Tensor sin(const Tensor& x, Source at = Source::current());
Tensor cos(const Tensor& x, Source at = Source::current());
Tensor tanh(const Tensor& x, Source at = Source::current());
Tensor erf(const Tensor& x, Source at = Source::current());
Tensor sqrt(const Tensor& x, Source at = Source::current());
Tensor rsqrt(const Tensor& x, Source at = Source::current());
Tensor reciprocal(const Tensor& x, Source at = Source::current());
Tensor floor(const Tensor& x, Source at = Source::current());
Tensor ceil(const Tensor& x, Source at = Source::current());
Tensor round(const Tensor& x, Source at = Source::current());  ///< halves to even
Tensor square(const Tensor& x, Source at = Source::current());
/// x; gradients do not pass.
Tensor stop_gradient(const Tensor& x, Source at = Source::current());
/// x, computed once and stored: never recomputed, never removed.
Tensor keep(const Tensor& x, Source at = Source::current());
/// Floats to integers truncate and saturate; to 16-bit floats, round to nearest even.
Tensor cast(const Tensor& x, DType dtype, Source at = Source::current());

// ---- activations --------------------------------------------------------------------------------

Tensor sigmoid(const Tensor& x, Source at = Source::current());
Tensor silu(const Tensor& x, Source at = Source::current());
Tensor relu(const Tensor& x, Source at = Source::current());
Tensor relu2(const Tensor& x, Source at = Source::current());  ///< relu(x)^2
Tensor leaky_relu(const Tensor& x, double slope = 0.01, Source at = Source::current());
Tensor gelu(const Tensor& x, Source at = Source::current());       ///< exact, by erf
Tensor gelu_tanh(const Tensor& x, Source at = Source::current());  ///< the tanh approximation
Tensor elu(const Tensor& x, double alpha = 1, Source at = Source::current());
Tensor softplus(const Tensor& x, Source at = Source::current());

// ---- element-wise, several operands -------------------------------------------------------------

Tensor add(const Operand& x, const Operand& y);
Tensor sub(const Operand& x, const Operand& y);
Tensor mul(const Operand& x, const Operand& y);
Tensor div(const Operand& x, const Operand& y);
Tensor pow(const Operand& x, const Operand& y);
Tensor minimum(const Operand& x, const Operand& y);
Tensor maximum(const Operand& x, const Operand& y);
Tensor remainder(const Operand& x, const Operand& y);
/// min(max(x, low), high).
Tensor clamp(const Tensor& x, double low, double high, Source at = Source::current());
/// x where `condition` (booleans), else y; all three broadcast.
Tensor where(const Tensor& condition, const Operand& x, const Operand& y);

Tensor equal(const Operand& x, const Operand& y);
Tensor not_equal(const Operand& x, const Operand& y);
Tensor less(const Operand& x, const Operand& y);
Tensor less_equal(const Operand& x, const Operand& y);
Tensor greater(const Operand& x, const Operand& y);
Tensor greater_equal(const Operand& x, const Operand& y);
Tensor logical_and(const Operand& x, const Operand& y);
Tensor logical_or(const Operand& x, const Operand& y);
Tensor logical_xor(const Operand& x, const Operand& y);
Tensor logical_not(const Tensor& x, Source at = Source::current());
Tensor bitwise_and(const Operand& x, const Operand& y);
Tensor bitwise_or(const Operand& x, const Operand& y);
Tensor bitwise_xor(const Operand& x, const Operand& y);
Tensor bitwise_not(const Tensor& x, Source at = Source::current());
Tensor shift_left(const Operand& x, const Operand& y);
Tensor shift_right(const Operand& x, const Operand& y);

// ---- constants ----------------------------------------------------------------------------------

/// An immediate: part of the kernels.
Tensor constant(double value, DType dtype = DType::f32, Source at = Source::current());
/// `values` row-major.
Tensor constant(const std::vector<double>& values, const Shape& shape, DType dtype = DType::f32,
                Source at = Source::current());
Tensor constant(std::span<const std::int64_t> values, const Shape& shape, DType dtype = DType::i64,
                Source at = Source::current());
Tensor full(const Shape& shape, double value, DType dtype = DType::f32,
            Source at = Source::current());
Tensor zeros(const Shape& shape, DType dtype = DType::f32, Source at = Source::current());
Tensor ones(const Shape& shape, DType dtype = DType::f32, Source at = Source::current());
Tensor full_like(const Tensor& x, double value, Source at = Source::current());
Tensor zeros_like(const Tensor& x, Source at = Source::current());
Tensor ones_like(const Tensor& x, Source at = Source::current());
/// The position along `axis`.
Tensor iota(const Shape& shape, int axis, DType dtype = DType::i64, Source at = Source::current());
/// 0, 1, ... n - 1.
Tensor arange(std::int64_t n, DType dtype = DType::i64, Source at = Source::current());
/// start, start + step, ... before stop. [ceil((stop - start) / step)]
Tensor arange(double start, double stop, double step, DType dtype = DType::f32,
              Source at = Source::current());

// ---- shape and order ----------------------------------------------------------------------------

/// Same elements in row-major order; one extent may be -1.
Tensor reshape(const Tensor& x, const Shape& shape, Source at = Source::current());
/// Axes start..end (inclusive) become one.
Tensor flatten(const Tensor& x, int start = 0, int end = -1, Source at = Source::current());
/// Axis i of the result is axis order[i] of x.
Tensor permute(const Tensor& x, const Axes& order, Source at = Source::current());
/// Exchanges two axes.
Tensor transpose(const Tensor& x, int axis0 = -2, int axis1 = -1, Source at = Source::current());
/// Removes axes of extent 1 (by default all of them).
Tensor squeeze(const Tensor& x, const Axes& axes = {}, Source at = Source::current());
/// A new axis of extent 1 at position `axis` of the result.
Tensor unsqueeze(const Tensor& x, int axis, Source at = Source::current());
Tensor broadcast_to(const Tensor& x, const Shape& shape, Source at = Source::current());
/// As broadcast_to; -1 keeps an extent.
Tensor expand(const Tensor& x, const Shape& shape, Source at = Source::current());
/// [start, stop) by `step` of one axis; see Slice.
Tensor slice(const Tensor& x, int axis, std::int64_t start, std::int64_t stop,
             std::int64_t step = 1, Source at = Source::current());
/// One Slice for each of the first axes.
Tensor slice(const Tensor& x, const std::vector<Slice>& slices, Source at = Source::current());
/// Entry `index` of `axis`, which goes away.
Tensor select(const Tensor& x, int axis, std::int64_t index, Source at = Source::current());
/// As above, at an index that is computed: an i32 or i64 scalar, clamped to the axis.
Tensor select(const Tensor& x, int axis, const Tensor& index, Source at = Source::current());
/// Pieces of `size` along an axis; the last may be smaller.
std::vector<Tensor> split(const Tensor& x, std::int64_t size, int axis = 0,
                          Source at = Source::current());
/// Pieces of the given sizes, whose sum is the extent.
std::vector<Tensor> split(const Tensor& x, const std::vector<std::int64_t>& sizes, int axis = 0,
                          Source at = Source::current());
/// `count` pieces of equal size (the last may be smaller).
std::vector<Tensor> chunk(const Tensor& x, std::int64_t count, int axis = 0,
                          Source at = Source::current());
/// `low` entries before and `high` after each axis (one value for each axis).
Tensor pad(const Tensor& x, const std::vector<std::int64_t>& low,
           const std::vector<std::int64_t>& high, double value = 0, Source at = Source::current());
/// Pads one axis.
Tensor pad(const Tensor& x, int axis, std::int64_t low, std::int64_t high, double value = 0,
           Source at = Source::current());
/// Reverses axes.
Tensor flip(const Tensor& x, const Axes& axes = {}, Source at = Source::current());
/// Shifts along an axis; what leaves at one end enters at the other.
Tensor roll(const Tensor& x, std::int64_t shift, int axis, Source at = Source::current());
Tensor concat(const std::vector<Tensor>& xs, int axis = 0, Source at = Source::current());
/// Equal shapes along a new axis.
Tensor stack(const std::vector<Tensor>& xs, int axis = 0, Source at = Source::current());
/// x with axis `axis` `count` times in a row.
Tensor tile(const Tensor& x, std::int64_t count, int axis, Source at = Source::current());
/// The elements with column - row <= diagonal (last two axes); the rest 0.
Tensor tril(const Tensor& x, std::int64_t diagonal = 0, Source at = Source::current());
Tensor triu(const Tensor& x, std::int64_t diagonal = 0, Source at = Source::current());

// ---- indexing -----------------------------------------------------------------------------------

/// A window of `sizes` at `starts` (i32 or i64 scalars of one type, one for each axis), moved so
/// that it fits.
Tensor dynamic_slice(const Tensor& x, const std::vector<Tensor>& starts, const Shape& sizes,
                     Source at = Source::current());
/// As above along one axis.
Tensor dynamic_slice(const Tensor& x, int axis, const Tensor& start, std::int64_t size,
                     Source at = Source::current());
Tensor dynamic_update_slice(const Tensor& x, const Tensor& update,
                            const std::vector<Tensor>& starts, Source at = Source::current());
Tensor dynamic_update_slice(const Tensor& x, const Tensor& update, int axis, const Tensor& start,
                            Source at = Source::current());
/// Entries of an axis: x[:axis] + indices.shape + x[axis + 1:]. Indices are clamped.
Tensor gather(const Tensor& x, const Tensor& indices, int axis = 0, Source at = Source::current());
/// gather with NumPy's name.
Tensor take(const Tensor& x, const Tensor& indices, int axis = 0, Source at = Source::current());
/// x with `updates` (of gather's result shape) added at `indices`.
Tensor scatter_add(const Tensor& x, const Tensor& indices, const Tensor& updates, int axis = 0,
                   Source at = Source::current());
/// Rows of `weight` (v, d): ids.shape + (d).
Tensor embedding(const Tensor& weight, const Tensor& ids, Source at = Source::current());
/// ids.shape + (classes): 1 at the id, 0 elsewhere.
Tensor one_hot(const Tensor& ids, std::int64_t classes, DType dtype = DType::f32,
               Source at = Source::current());

// ---- reductions ---------------------------------------------------------------------------------

/// Over `axes` (all where none are given); `keep_axes` leaves them with extent 1.
Tensor sum(const Tensor& x, const Axes& axes = {}, bool keep_axes = false,
           Source at = Source::current());
Tensor mean(const Tensor& x, const Axes& axes = {}, bool keep_axes = false,
            Source at = Source::current());
Tensor max(const Tensor& x, const Axes& axes = {}, bool keep_axes = false,
           Source at = Source::current());
Tensor min(const Tensor& x, const Axes& axes = {}, bool keep_axes = false,
           Source at = Source::current());
/// Mean squared deviation; divides by the count less `correction`.
Tensor var(const Tensor& x, const Axes& axes = {}, bool keep_axes = false, double correction = 0,
           Source at = Source::current());
/// Euclidean norm.
Tensor norm(const Tensor& x, const Axes& axes = {}, bool keep_axes = false,
            Source at = Source::current());
/// log(sum(exp(x))), without overflow.
Tensor logsumexp(const Tensor& x, const Axes& axes = {}, bool keep_axes = false,
                 Source at = Source::current());
/// i64 position of the first largest (smallest) entry.
Tensor argmax(const Tensor& x, int axis = -1, bool keep_axis = false,
              Source at = Source::current());
Tensor argmin(const Tensor& x, int axis = -1, bool keep_axis = false,
              Source at = Source::current());
Tensor any(const Tensor& x, const Axes& axes = {}, bool keep_axes = false,
           Source at = Source::current());
Tensor all(const Tensor& x, const Axes& axes = {}, bool keep_axes = false,
           Source at = Source::current());
/// Running sum; exclusive: of the entries before; reverse: from the end.
Tensor cumsum(const Tensor& x, int axis = -1, bool exclusive = false, bool reverse = false,
              Source at = Source::current());

// ---- products -----------------------------------------------------------------------------------

/// NumPy's matmul: (..., n, k) x (..., k, m); leading axes broadcast; vectors are promoted.
Tensor matmul(const Tensor& x, const Tensor& y, Source at = Source::current());
/// Sums over pairs of axes. Result axes: batch (in lhs order), lhs's others, rhs's others.
Tensor dot(const Tensor& lhs, const Tensor& rhs, const std::vector<int>& lhs_contract,
           const std::vector<int>& rhs_contract, const std::vector<int>& lhs_batch = {},
           const std::vector<int>& rhs_batch = {}, Source at = Source::current());
/// x (..., i) by weight (o, i), plus bias (o) where given: (..., o).
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
              Source at = Source::current());

// ---- Fourier and Toeplitz -----------------------------------------------------------------------

/// c64 transforms of the axis' length, or of x cut or zero-padded to `n`; inverses divide by n.
Tensor fft(const Tensor& x, int axis = -1, std::int64_t n = -1, Source at = Source::current());
Tensor ifft(const Tensor& x, int axis = -1, std::int64_t n = -1, Source at = Source::current());
/// f32 -> c64 with n / 2 + 1 entries.
Tensor rfft(const Tensor& x, int axis = -1, std::int64_t n = -1, Source at = Source::current());
/// c64 -> f32 with n entries (default 2 (extent - 1)).
Tensor irfft(const Tensor& x, int axis = -1, std::int64_t n = -1, Source at = Source::current());
/// Toeplitz operator along axis -2: x (..., n, d), t (..., n, d) causal, or (..., 2n - 1, d) with
/// lags -(n - 1) .. n - 1; t's leading axes equal x's last leading axes.
Tensor tno(const Tensor& x, const Tensor& t, bool causal, Source at = Source::current());
Tensor complex(const Tensor& re, const Tensor& im, Source at = Source::current());
Tensor real(const Tensor& x, Source at = Source::current());
Tensor imag(const Tensor& x, Source at = Source::current());
Tensor conj(const Tensor& x, Source at = Source::current());

// ---- composites ---------------------------------------------------------------------------------

enum class Reduction : std::uint8_t { none, mean, sum };

Tensor softmax(const Tensor& x, int axis = -1, Source at = Source::current());
Tensor log_softmax(const Tensor& x, int axis = -1, Source at = Source::current());
/// logits (..., c), targets (...) i32 or i64; natural log. mean: over all targets.
Tensor cross_entropy(const Tensor& logits, const Tensor& targets,
                     Reduction reduction = Reduction::mean, Source at = Source::current());
Tensor mse_loss(const Tensor& x, const Tensor& y, Reduction reduction = Reduction::mean,
                Source at = Source::current());
/// Over the last axis (d); weight and bias (d), ones and zeros where not given.
Tensor layer_norm(const Tensor& x, const Tensor& weight = {}, const Tensor& bias = {},
                  double epsilon = 1e-5, Source at = Source::current());
Tensor rms_norm(const Tensor& x, const Tensor& weight = {}, double epsilon = 1e-6,
                Source at = Source::current());
/// x / (|x| / sqrt(d) + epsilon) over the last axis.
Tensor simple_rms_norm(const Tensor& x, double epsilon = 1e-8, Source at = Source::current());
/// softmax(q k^T * scale) v: q (..., n, d), k (..., m, d), v (..., m, e). scale 0: 1 / sqrt(d).
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, bool causal = false,
                 double scale = 0, Source at = Source::current());

// ---- random numbers -----------------------------------------------------------------------------

/// Numbers are a function of the trace's seed, the stream's name, the iteration (see iteration())
/// and the index in the tensor. Uses of one stream in one iteration give the same numbers; an
/// unnamed use gets a stream of its own, numbered in the order of such uses in the trace.
Tensor random_uniform(const Shape& shape, const std::string& stream = "", double low = 0,
                      double high = 1, DType dtype = DType::f32, Source at = Source::current());
Tensor random_normal(const Shape& shape, const std::string& stream = "", double mean = 0,
                     double deviation = 1, DType dtype = DType::f32, Source at = Source::current());
/// Zeroes each element with probability p and divides the others by 1 - p; x itself where
/// is_training() is false or p is 0.
Tensor dropout(const Tensor& x, double p, const std::string& stream = "",
               Source at = Source::current());

}  // namespace weft
