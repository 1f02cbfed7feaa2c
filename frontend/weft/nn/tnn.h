#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "weft/nn/layers.h"
#include "weft/nn/norm.h"

/// The Toeplitz neural network. Everything is (b, n, channels), channels last. Heads would only
/// regroup the channels: each channel has coefficients of its own, so that h heads of `dim` are one
/// operator on h * dim channels, with no head axis and no transposition anywhere.
namespace weft::nn {

struct RpeOptions {
  std::int64_t width = 0;  ///< of the hidden layers; 0: max(out / 8, 32), in a Gtu of its width
  std::int64_t out = 0;    ///< channels of the coefficients
  std::int64_t layers = 3;
  bool residual = false;  ///< x + layer(x)
  NormType norm = NormType::layer_norm;
  Activation act = Activation::relu;
  bool bias = true;
};

/// The relative position encoder, a small network from a position to the coefficients of all
/// channels: Linear(1, width), `layers` times [norm, act, Linear(width, width)], then norm, act,
/// Linear(width, out).
struct Rpe {
  Rpe(const std::string& name, const RpeOptions& options, Source at = Source::current());
  /// positions (m, 1) -> (m, out).
  Tensor operator()(const Tensor& positions, Source at = Source::current()) const;

  struct Layer {
    Norm norm;
    Linear linear;
  };
  RpeOptions options;
  Linear position;
  std::vector<Layer> layers;
  Norm out_norm;
  Linear out;
};

struct TnoOptions {
  std::int64_t channels = 0;  ///< heads * channels of a head
  bool causal = false;
  /// What the Rpe is given for lag k: 1: k, 2: k / scale, 3: exp(k / scale).
  int par_type = 1;
  /// 0: the sequence's length; then the coefficients of par_type 2 and 3 change with the length.
  std::int64_t scale = 0;
  bool use_decay = false;        ///< coefficients of lag k times gamma^|k|
  double gamma = 0.99;           ///< in (0, 1]
  bool use_multi_decay = false;  ///< a learned gamma a channel: lambda + (1 - lambda) sigmoid(p)
  double lambda = 0.99;          ///< its lower bound, in [0, 1)
  Activation act = Activation::none;  ///< of the coefficients, after the decay
  bool normalize = false;             ///< divides by the operator's result for ones
  RpeOptions rpe = {};                ///< `out` is set to channels
};

/// The Toeplitz operator o_i = sum_j t_(i-j) x_j (j <= i where causal) along the sequence, with
/// coefficients t from an Rpe, which the graph computes anew in each step: they work at any length.
/// (b, n, channels) -> the same.
struct Tno {
  Tno(const std::string& name, const TnoOptions& options, Source at = Source::current());
  Tensor operator()(const Tensor& x, Source at = Source::current()) const;
  /// The coefficients for sequences of n, f32: (n, channels) for lags 0..n-1 where causal, else
  /// (2n-1, channels) for lags -(n-1)..n-1.
  Tensor coefficients(std::int64_t n, Source at = Source::current()) const;

  TnoOptions options;
  Rpe rpe;
  Tensor decay;  ///< p (channels) where use_multi_decay, else undefined
};

struct GtuOptions {
  std::int64_t width = 0;
  double expand_ratio = 3;
  /// expand_ratio * width is rounded down to a multiple of this.
  std::int64_t heads = 1;
  Activation act = Activation::silu;
  bool bias = true;
  TnoOptions tno = {};  ///< `channels` is set
};

/// The gated Toeplitz unit o(act(u x) * tno(act(v x))): (b, n, width) -> the same.
struct Gtu {
  Gtu(const std::string& name, const GtuOptions& options, Source at = Source::current());
  Tensor operator()(const Tensor& x, Source at = Source::current()) const;

  GtuOptions options;
  Linear u;
  Linear v;
  Tno tno;
  Linear o;
};

struct TnnLayerOptions {
  std::int64_t width = 0;
  bool pre_norm = true;  ///< x + f(norm x); false: norm(x + f(x))
  NormType norm = NormType::simple_rms_norm;
  double dropout = 0;   ///< of both branches' results
  GtuOptions gtu = {};  ///< `width` is set
  GluOptions glu = {};  ///< `width` is set
};

/// A Gtu that mixes tokens ("mixer"), then a Glu that mixes channels ("feed"), each with a
/// residual: (b, n, width) -> the same.
struct TnnLayer {
  TnnLayer(const std::string& name, const TnnLayerOptions& options, Source at = Source::current());
  Tensor operator()(const Tensor& x, Source at = Source::current()) const;

  TnnLayerOptions options;
  Norm mixer_norm;
  Gtu mixer;
  Norm feed_norm;
  Glu feed;
  Dropout mixer_dropout;
  Dropout feed_dropout;
};

}  // namespace weft::nn
