#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "weft/nn/attention.h"
#include "weft/nn/tnn.h"

/// Language models: ids (b, n) of i32 or i64 -> logits (b, n, vocabulary).
namespace weft::nn {

struct TnnLmOptions {
  std::int64_t vocabulary = 0;
  std::int64_t width = 0;
  std::int64_t layers = 1;
  bool tied = true;            ///< the head is the embedding's table
  double dropout = 0;          ///< of the embedding; the layers have their own
  DType compute = DType::f32;  ///< type that the layers compute in; parameters, logits stay f32
  TnnLayerOptions layer = {};  ///< `width` and the operator's `causal` are set
};

/// Toeplitz layers between an embedding and a head. There are no positions: the operators are
/// relative. Names: "embedding", "layers.<i>", "norm", "head".
struct TnnLm {
  /// `name` "": the parts' names as they are.
  TnnLm(const std::string& name, const TnnLmOptions& options, Source at = Source::current());
  Tensor operator()(const Tensor& ids, Source at = Source::current()) const;

  TnnLmOptions options;
  Embedding embedding;
  Dropout dropout;
  std::vector<TnnLayer> layers;
  Norm norm;
  std::optional<Linear> head;  ///< none where tied
};

struct TransformerLmOptions {
  std::int64_t vocabulary = 0;
  std::int64_t width = 0;
  std::int64_t layers = 1;
  /// Of the learned positions; longer sequences are an Error. Positions are sinusoids at first, of
  /// periods 2 pi to about 2 pi max_length: a position's neighbours are in reach of the first
  /// steps, where random ones would have to be learned one by one.
  std::int64_t max_length = 0;
  bool tied = true;
  double dropout = 0;          ///< of the embedding; the blocks have their own
  DType compute = DType::f32;  ///< type that the blocks compute in; parameters, logits stay f32
  TransformerBlockOptions block = {};  ///< `width` and `causal` are set
};

/// Transformer blocks between an embedding with learned positions and a head. Names: "embedding",
/// "positions", "layers.<i>", "norm", "head".
struct TransformerLm {
  TransformerLm(const std::string& name, const TransformerLmOptions& options,
                Source at = Source::current());
  Tensor operator()(const Tensor& ids, Source at = Source::current()) const;

  TransformerLmOptions options;
  Embedding embedding;
  Embedding positions;
  Dropout dropout;
  std::vector<TransformerBlock> layers;
  Norm norm;
  std::optional<Linear> head;
};

}  // namespace weft::nn
