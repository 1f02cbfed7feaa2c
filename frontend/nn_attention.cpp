#include "nn_support.h"
#include "weft/nn/attention.h"

namespace weft::nn {

namespace {

MultiHeadAttentionOptions checked(const std::string& name, const MultiHeadAttentionOptions& options,
                                  const Source& at) {
  require(options.heads > 0 && options.width > 0 && options.width % options.heads == 0, at,
          "nn::MultiHeadAttention '{}': a width of {} does not split into {} heads", name,
          options.width, options.heads);
  return options;
}

/// (b, n, heads * e) -> (b, heads, n, e).
Tensor by_head(const Tensor& x, std::int64_t heads, const Source& at) {
  const std::int64_t e = x.extent(2, at) / heads;
  return permute(reshape(x, {x.extent(0, at), x.extent(1, at), heads, e}, at), {0, 2, 1, 3}, at);
}

/// x by the columns [start, stop) of a layer's weight.
Tensor columns(const Linear& layer, const Tensor& x, std::int64_t start, std::int64_t stop,
               const Source& at) {
  const Tensor product = matmul(x, like(slice(layer.weight, 1, start, stop, 1, at), x, at), at);
  if (!layer.bias.defined()) return product;
  return plus(product, like(slice(layer.bias, 0, start, stop, 1, at), x, at), at);
}

}  // namespace

MultiHeadAttention::MultiHeadAttention(const std::string& name,
                                       const MultiHeadAttentionOptions& given, Source at)
    : options(checked(name, given, at)),
      qkv(join(name, "qkv"), options.width, 3 * options.width, options.bias, at),
      out(join(name, "out"), options.width, options.width, options.bias, at) {}

Tensor MultiHeadAttention::operator()(const Tensor& x, Source at) const {
  const std::int64_t d = options.width;
  expect_sequence("MultiHeadAttention", qkv.weight.name(at), x, d, at);
  const std::vector<Tensor> parts = split(qkv(x, at), d, -1, at);
  const Tensor mixed =
      attention(by_head(parts[0], options.heads, at), by_head(parts[1], options.heads, at),
                by_head(parts[2], options.heads, at), options.causal, 0, at);
  return out(reshape(permute(mixed, {0, 2, 1, 3}, at), x.shape(at), at), at);
}

Tensor MultiHeadAttention::operator()(const Tensor& x, const Tensor& memory, Source at) const {
  const std::int64_t d = options.width;
  expect_sequence("MultiHeadAttention", qkv.weight.name(at), x, d, at);
  expect_sequence("MultiHeadAttention", qkv.weight.name(at), memory, d, at);
  const Tensor queries = columns(qkv, x, 0, d, at);
  const std::vector<Tensor> parts = split(columns(qkv, memory, d, 3 * d, at), d, -1, at);
  const Tensor mixed =
      attention(by_head(queries, options.heads, at), by_head(parts[0], options.heads, at),
                by_head(parts[1], options.heads, at), options.causal, 0, at);
  return out(reshape(permute(mixed, {0, 2, 1, 3}, at), x.shape(at), at), at);
}

// ---- TransformerBlock ---------------------------------------------------------------------------

namespace {

TransformerBlockOptions resolved(TransformerBlockOptions options) {
  if (options.hidden == 0) options.hidden = 4 * options.width;
  return options;
}

Sequential feed_part(const std::string& name, const TransformerBlockOptions& options,
                     const Source& at) {
  if (options.gated) {
    return Sequential(Glu(name,
                          {.width = options.width,
                           .hidden = options.hidden,
                           .act = options.act,
                           .bias = options.bias,
                           .dropout = options.dropout},
                          at));
  }
  return Sequential(FeedForward(name,
                                {.width = options.width,
                                 .hidden = options.hidden,
                                 .act = options.act,
                                 .bias = options.bias,
                                 .dropout = options.dropout},
                                at));
}

}  // namespace

TransformerBlock::TransformerBlock(const std::string& name, const TransformerBlockOptions& given,
                                   Source at)
    : options(resolved(given)),
      attention_norm(join(name, "attention_norm"), options.norm, options.width, at),
      attention(join(name, "attention"),
                {.width = options.width,
                 .heads = options.heads,
                 .causal = options.causal,
                 .bias = options.bias},
                at),
      feed_norm(join(name, "feed_norm"), options.norm, options.width, at),
      feed(feed_part(join(name, "feed"), options, at)),
      attention_dropout(join(name, "attention_dropout"), options.dropout, at),
      feed_dropout(join(name, "feed_dropout"), options.dropout, at) {}

Tensor TransformerBlock::operator()(const Tensor& x, Source at) const {
  const Tensor mixed = residual(
      x, options.pre_norm, attention_norm,
      [&](const Tensor& y) { return attention_dropout(attention(y, at), at); }, at);
  return residual(
      mixed, options.pre_norm, feed_norm,
      [&](const Tensor& y) { return feed_dropout(feed(y, at), at); }, at);
}

}  // namespace weft::nn
