#include "weft/nn/layers.h"

#include <cmath>
#include <unordered_set>

#include "nn_support.h"

namespace weft::nn {

std::string join(const std::string& parent, std::string_view child) {
  return parent.empty() ? std::string(child) : fmt::format("{}.{}", parent, child);
}

std::vector<Tensor> parameters_of(std::string_view prefix, Source at) {
  detail::current("nn::parameters_of", at);
  std::vector<Tensor> result;
  for (const Tensor& parameter : weft::parameters()) {
    const std::string& name = parameter.name(at);
    const bool below = name.size() > prefix.size() && name[prefix.size()] == '.';
    if (prefix.empty() || name == prefix || (below && name.starts_with(prefix))) {
      result.push_back(parameter);
    }
  }
  return result;
}

std::int64_t parameter_count(Source at) {
  detail::current("nn::parameter_count", at);
  return parameter_count(weft::parameters(), at);
}

std::int64_t parameter_count(const std::vector<Tensor>& parameters, Source at) {
  std::unordered_set<const detail::Cell*> seen;
  std::int64_t count = 0;
  for (const Tensor& parameter : parameters) {
    if (seen.insert(detail::Access::cell(parameter).get()).second) count += parameter.elements(at);
  }
  return count;
}

// ---- Linear -------------------------------------------------------------------------------------

namespace {

Initializer linear_initializer(const std::string& name, std::int64_t in, std::int64_t out,
                               const Source& at) {
  require(in > 0 && out > 0, at, "nn::Linear '{}': from {} to {} channels", name, in, out);
  const double bound = 1 / std::sqrt(static_cast<double>(in));
  return init::uniform(-bound, bound);
}

}  // namespace

Linear::Linear(const std::string& name, std::int64_t in, std::int64_t out, bool with_bias,
               Source at) {
  const Initializer initializer = linear_initializer(name, in, out, at);
  weight = parameter(join(name, "weight"), {in, out}, initializer, DType::f32, at);
  if (with_bias) bias = parameter(join(name, "bias"), {out}, initializer, DType::f32, at);
}

Tensor Linear::operator()(const Tensor& x, Source at) const {
  expect_width("Linear", weight.name(at), x, weight.extent(0, at), at);
  const Tensor product = matmul(x, like(weight, x, at), at);
  return bias.defined() ? plus(product, like(bias, x, at), at) : product;
}

// ---- Embedding ----------------------------------------------------------------------------------

Embedding::Embedding(const std::string& name, std::int64_t count, std::int64_t width,
                     double deviation, Source at)
    : Embedding(name, count, width, init::normal(0, deviation), at) {}

Embedding::Embedding(const std::string& name, std::int64_t count, std::int64_t width,
                     const Initializer& initializer, Source at) {
  require(count > 0 && width > 0, at, "nn::Embedding '{}': {} rows of {}", name, count, width);
  weight = parameter(join(name, "weight"), {count, width}, initializer, DType::f32, at);
}

Tensor Embedding::operator()(const Tensor& ids, Source at) const {
  return embedding(weight, ids, at);
}

Tensor Embedding::logits(const Tensor& x, Source at) const {
  expect_width("Embedding", weight.name(at), x, weight.extent(1, at), at);
  return linear(x, like(weight, x, at), {}, at);
}

// ---- Dropout ------------------------------------------------------------------------------------

Dropout::Dropout(const std::string& name, double p, Source at)
    : p_(p),
      stream_(detail::current("nn::Dropout", at).prefix + name),
      calls_(std::make_shared<int>(0)) {
  require(p >= 0 && p < 1, at, "nn::Dropout '{}': a probability of {}; expected 0 <= p < 1", name,
          p);
}

Tensor Dropout::operator()(const Tensor& x, Source at) const {
  // One stream gives the same numbers to all of its uses in an iteration, so that a layer that is
  // called twice needs two.
  const int call = (*calls_)++;
  return dropout(x, p_, call == 0 ? stream_ : fmt::format("{}#{}", stream_, call), at);
}

// ---- Sequential ---------------------------------------------------------------------------------

Tensor Sequential::operator()(const Tensor& x, Source at) const {
  Tensor result = x;
  for (const auto& layer : layers_) result = layer(result, at);
  return result;
}

// ---- FeedForward and Glu ------------------------------------------------------------------------

namespace {

FeedForwardOptions resolved(FeedForwardOptions options) {
  if (options.hidden == 0) options.hidden = 4 * options.width;
  return options;
}

GluOptions resolved(GluOptions options) {
  if (options.hidden == 0) options.hidden = options.width;
  return options;
}

}  // namespace

FeedForward::FeedForward(const std::string& name, const FeedForwardOptions& given, Source at)
    : options(resolved(given)),
      in(join(name, "in"), options.width, options.hidden, options.bias, at),
      out(join(name, "out"), options.hidden, options.width, options.bias, at),
      dropout(join(name, "dropout"), options.dropout, at) {}

Tensor FeedForward::operator()(const Tensor& x, Source at) const {
  return out(dropout(options.act(in(x, at), at), at), at);
}

Glu::Glu(const std::string& name, const GluOptions& given, Source at)
    : options(resolved(given)),
      l1(join(name, "l1"), options.width, options.hidden, options.bias, at),
      l2(join(name, "l2"), options.width, options.hidden, options.bias, at),
      l3(join(name, "l3"), options.hidden, options.width, options.bias, at),
      dropout(join(name, "dropout"), options.dropout, at) {}

Tensor Glu::operator()(const Tensor& x, Source at) const {
  const Tensor gate = dropout(options.act(l1(x, at), at), at);
  return options.final_act(l3(times(gate, l2(x, at), at), at), at);
}

}  // namespace weft::nn
