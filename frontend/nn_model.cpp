#include <cmath>

#include "nn_support.h"
#include "weft/nn/model.h"

namespace weft::nn {

namespace {

/// Rows of a table of deviation 1 / sqrt(width) times sqrt(width): logits of a tied head and inputs
/// of the first layer are of size 1 both.
Tensor scaled(const Tensor& rows, DType compute, const Source& at) {
  const double scale = std::sqrt(static_cast<double>(rows.extent(-1, at)));
  return cast(mul({rows, at}, {scale, at}), compute, at);
}

Tensor embedded(const Embedding& table, const Tensor& ids, DType compute, const Source& at) {
  return scaled(table(ids, at), compute, at);
}

double table_deviation(std::string_view model, const std::string& name, std::int64_t vocabulary,
                       std::int64_t width, std::int64_t layers, const Source& at) {
  require(vocabulary > 0 && width > 0 && layers >= 0, at,
          "nn::{} '{}': a vocabulary of {}, a width of {}, {} layers", model, name, vocabulary,
          width, layers);
  return 1 / std::sqrt(static_cast<double>(width));
}

void expect_ids(std::string_view model, const Tensor& ids, const Source& at) {
  const Type& type = ids.type(at);
  require((type.dtype == DType::i32 || type.dtype == DType::i64) && type.rank() == 2, at,
          "nn::{}: the ids are {}; expected i32 or i64 (batch, length)", model, type.text());
}

/// Sines and cosines in pairs of channels: (length, width) values of mean square 1 / width.
Initializer sinusoids(std::int64_t length, std::int64_t width) {
  std::vector<double> values;
  if (length <= 0 || width <= 0) return init::zeros();  // the table's own check says what is wrong
  for (std::int64_t position = 0; position < length; ++position) {
    for (std::int64_t channel = 0; channel < width; ++channel) {
      const double part = static_cast<double>(channel / 2) / static_cast<double>((width + 1) / 2);
      const double angle =
          static_cast<double>(position) * std::pow(static_cast<double>(length), -part);
      values.push_back((channel % 2 == 0 ? std::sin(angle) : std::cos(angle)) *
                       std::sqrt(2 / static_cast<double>(width)));
    }
  }
  return init::values(std::move(values));
}

Tensor logits_of(const Embedding& table, const std::optional<Linear>& head, const Tensor& x,
                 const Source& at) {
  // Losses are taken in f32 whatever the layers compute in.
  return cast(head ? (*head)(x, at) : table.logits(x, at), DType::f32, at);
}

}  // namespace

TnnLm::TnnLm(const std::string& name, const TnnLmOptions& given, Source at)
    : options(given),
      embedding(
          join(name, "embedding"), options.vocabulary, options.width,
          table_deviation("TnnLm", name, options.vocabulary, options.width, options.layers, at),
          at),
      dropout(join(name, "dropout"), options.dropout, at),
      norm(join(name, "norm"), options.layer.norm, options.width, at) {
  options.layer.width = options.width;
  options.layer.gtu.tno.causal = true;
  for (std::int64_t i = 0; i < options.layers; ++i) {
    layers.emplace_back(join(name, fmt::format("layers.{}", i)), options.layer, at);
  }
  if (!options.tied) head.emplace(join(name, "head"), options.width, options.vocabulary, false, at);
}

Tensor TnnLm::operator()(const Tensor& ids, Source at) const {
  expect_ids("TnnLm", ids, at);
  Tensor x = dropout(embedded(embedding, ids, options.compute, at), at);
  for (const TnnLayer& layer : layers) x = layer(x, at);
  return logits_of(embedding, head, norm(x, at), at);
}

TransformerLm::TransformerLm(const std::string& name, const TransformerLmOptions& given, Source at)
    : options(given),
      embedding(join(name, "embedding"), options.vocabulary, options.width,
                table_deviation("TransformerLm", name, options.vocabulary, options.width,
                                options.layers, at),
                at),
      positions(join(name, "positions"), options.max_length, options.width,
                sinusoids(options.max_length, options.width), at),
      dropout(join(name, "dropout"), options.dropout, at),
      norm(join(name, "norm"), options.block.norm, options.width, at) {
  options.block.width = options.width;
  options.block.causal = true;
  for (std::int64_t i = 0; i < options.layers; ++i) {
    layers.emplace_back(join(name, fmt::format("layers.{}", i)), options.block, at);
  }
  if (!options.tied) head.emplace(join(name, "head"), options.width, options.vocabulary, false, at);
}

Tensor TransformerLm::operator()(const Tensor& ids, Source at) const {
  expect_ids("TransformerLm", ids, at);
  const std::int64_t n = ids.extent(1, at);
  require(n <= options.max_length, at,
          "nn::TransformerLm: the ids are {}, longer than the {} learned positions",
          ids.type(at).text(), options.max_length);
  // (n, width), the same for each sequence of the batch. As large as the tokens' part: attention
  // finds its neighbours by it.
  const Tensor place = scaled(slice(positions.weight, 0, 0, n, 1, at), options.compute, at);
  Tensor x = dropout(plus(embedded(embedding, ids, options.compute, at), place, at), at);
  for (const TransformerBlock& block : layers) x = block(x, at);
  return logits_of(embedding, head, norm(x, at), at);
}

}  // namespace weft::nn
