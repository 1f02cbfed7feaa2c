#pragma once

#include <cstdint>
#include <string>

#include "weft/nn/layers.h"
#include "weft/nn/norm.h"

namespace weft::nn {

struct MultiHeadAttentionOptions {
  std::int64_t width = 0;
  std::int64_t heads = 1;  ///< divides width
  bool causal = false;     ///< position i sees positions <= i
  bool bias = true;
};

/// Scaled dot-product attention over `heads` slices of the channels: (b, n, width) -> the same.
struct MultiHeadAttention {
  MultiHeadAttention(const std::string& name, const MultiHeadAttentionOptions& options,
                     Source at = Source::current());
  /// Self-attention.
  Tensor operator()(const Tensor& x, Source at = Source::current()) const;
  /// Queries from x (b, n, width), keys and values from memory (b, m, width).
  Tensor operator()(const Tensor& x, const Tensor& memory, Source at = Source::current()) const;

  MultiHeadAttentionOptions options;
  /// width -> 3 width: queries, keys and values in one product. "qkv.weight", "qkv.bias".
  Linear qkv;
  Linear out;
};

struct TransformerBlockOptions {
  std::int64_t width = 0;
  std::int64_t heads = 1;
  std::int64_t hidden = 0;  ///< of the feed-forward part; 0: 4 width
  bool causal = false;
  bool pre_norm = true;  ///< x + f(norm x); false: norm(x + f(x))
  NormType norm = NormType::layer_norm;
  Activation act = Activation::gelu;
  bool gated = false;  ///< the feed-forward part is a Glu
  bool bias = true;
  double dropout = 0;  ///< of both branches' results and inside the feed-forward part
};

/// Attention, then a feed-forward part, each with a residual: (b, n, width) -> the same.
struct TransformerBlock {
  TransformerBlock(const std::string& name, const TransformerBlockOptions& options,
                   Source at = Source::current());
  Tensor operator()(const Tensor& x, Source at = Source::current()) const;

  TransformerBlockOptions options;
  Norm attention_norm;
  MultiHeadAttention attention;
  Norm feed_norm;
  Sequential feed;  ///< FeedForward or Glu
  Dropout attention_dropout;
  Dropout feed_dropout;
};

}  // namespace weft::nn
