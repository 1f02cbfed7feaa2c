#include <algorithm>
#include <cmath>

#include "nn_support.h"
#include "weft/nn/tnn.h"

namespace weft::nn {

// ---- Rpe ----------------------------------------------------------------------------------------

namespace {

RpeOptions checked(const std::string& name, RpeOptions options, const Source& at) {
  if (options.width == 0) options.width = std::max<std::int64_t>(options.out / 8, 32);
  require(options.layers >= 0, at, "nn::Rpe '{}': {} layers", name, options.layers);
  return options;
}

}  // namespace

Rpe::Rpe(const std::string& name, const RpeOptions& given, Source at)
    : options(checked(name, given, at)),
      position(join(name, "position"), 1, options.width, options.bias, at),
      out_norm(join(name, "out_norm"), options.norm, options.width, at),
      out(join(name, "out"), options.width, options.out, options.bias, at) {
  for (std::int64_t i = 0; i < options.layers; ++i) {
    const std::string layer = join(name, fmt::format("layers.{}", i));
    layers.push_back(
        {Norm(join(layer, "norm"), options.norm, options.width, at),
         Linear(join(layer, "linear"), options.width, options.width, options.bias, at)});
  }
}

Tensor Rpe::operator()(const Tensor& positions, Source at) const {
  expect_width("Rpe", position.weight.name(at), positions, 1, at);
  // With one input, the product is element-wise: it fuses into the first norm and needs no dot.
  Tensor x = times(positions, like(position.weight, positions, at), at);
  if (position.bias.defined()) x = plus(x, like(position.bias, positions, at), at);
  for (const Layer& layer : layers) {
    const Tensor y = layer.linear(options.act(layer.norm(x, at), at), at);
    x = options.residual ? plus(x, y, at) : y;
  }
  return out(options.act(out_norm(x, at), at), at);
}

// ---- Tno ----------------------------------------------------------------------------------------

namespace {

TnoOptions checked(const std::string& name, TnoOptions options, const Source& at) {
  require(options.channels > 0, at, "nn::Tno '{}': {} channels", name, options.channels);
  require(options.par_type >= 1 && options.par_type <= 3, at,
          "nn::Tno '{}': there is no par_type {}; there are 1, 2 and 3", name, options.par_type);
  require(options.scale >= 0, at, "nn::Tno '{}': a scale of {}", name, options.scale);
  require(!(options.use_decay && options.use_multi_decay), at,
          "nn::Tno '{}': use_decay and use_multi_decay exclude each other", name);
  require(!options.use_decay || (options.gamma > 0 && options.gamma <= 1), at,
          "nn::Tno '{}': a gamma of {}; expected 0 < gamma <= 1", name, options.gamma);
  require(!options.use_multi_decay || (options.lambda >= 0 && options.lambda < 1), at,
          "nn::Tno '{}': a lambda of {}; expected 0 <= lambda < 1", name, options.lambda);
  options.rpe.out = options.channels;
  return options;
}

}  // namespace

Tno::Tno(const std::string& name, const TnoOptions& given, Source at)
    : options(checked(name, given, at)), rpe(join(name, "rpe"), options.rpe, at) {
  if (options.use_multi_decay) {
    decay = parameter(join(name, "decay"), {options.channels}, init::normal(), DType::f32, at);
  }
}

Tensor Tno::coefficients(std::int64_t n, Source at) const {
  require(n > 0, at, "nn::Tno '{}': a sequence of {}", rpe.out.weight.name(at), n);
  // The lags are constants, so that the coefficients are nodes of the graph like all others, and
  // gradients flow to the encoder.
  Tensor lags = iota({options.causal ? n : 2 * n - 1, 1}, 0, DType::f32, at);
  if (!options.causal) lags = sub({lags, at}, {n - 1, at});
  Tensor positions = lags;
  if (options.par_type != 1) {
    const std::int64_t scale = options.scale > 0 ? options.scale : n;
    positions = mul({lags, at}, {1 / static_cast<double>(scale), at});
    if (options.par_type == 3) positions = weft::exp(positions, at);
  }
  Tensor t = rpe(positions, at);
  const Tensor distance = options.causal ? lags : weft::abs(lags, at);
  if (options.use_decay && options.gamma != 1) {
    t = times(t, pow({options.gamma, at}, {distance, at}), at);
  }
  if (options.use_multi_decay) {
    const Tensor free = mul({sigmoid(decay, at), at}, {1 - options.lambda, at});
    t = times(t, pow({add({free, at}, {options.lambda, at}), at}, {distance, at}), at);
  }
  return options.act(t, at);
}

namespace {

/// The operator's result for ones, (n, d): sums of the coefficients that each position sees, which
/// running sums give without a second transform.
Tensor operator_of_ones(const Tensor& t, std::int64_t n, bool causal, const Source& at) {
  if (causal) return cumsum(t, 0, false, false, at);
  // Position i sees lags i - (n-1) .. i: those up to 0, summed from 0 downwards, and those above.
  const Tensor past = cumsum(slice(t, 0, 0, n, 1, at), 0, false, true, at);
  if (n == 1) return past;
  const Tensor later = pad(slice(t, 0, n, 2 * n - 1, 1, at), 0, 1, 0, 0, at);
  return plus(past, cumsum(later, 0, false, false, at), at);
}

}  // namespace

Tensor Tno::operator()(const Tensor& x, Source at) const {
  expect_width("Tno", rpe.out.weight.name(at), x, options.channels, at);
  require(x.rank(at) >= 2, at, "nn::Tno '{}': the input is {}; expected (..., length, {})",
          rpe.out.weight.name(at), x.type(at).text(), options.channels);
  const std::int64_t n = x.extent(-2, at);
  const Tensor t = coefficients(n, at);
  const Tensor result = tno(x, like(t, x, at), options.causal, at);
  if (!options.normalize) return result;
  const Tensor ones = operator_of_ones(t, n, options.causal, at);
  return div({result, at}, {like(ones, x, at), at});
}

// ---- Gtu ----------------------------------------------------------------------------------------

namespace {

GtuOptions checked(const std::string& name, GtuOptions options, const Source& at) {
  require(options.width > 0 && options.heads > 0, at, "nn::Gtu '{}': a width of {} and {} heads",
          name, options.width, options.heads);
  const double wanted = std::floor(options.expand_ratio * static_cast<double>(options.width));
  require(wanted >= static_cast<double>(options.heads) && wanted < 0x1p40, at,
          "nn::Gtu '{}': {} times a width of {} leaves nothing for each of {} heads", name,
          options.expand_ratio, options.width, options.heads);
  options.tno.channels = static_cast<std::int64_t>(wanted) / options.heads * options.heads;
  if (options.tno.rpe.width == 0) {
    options.tno.rpe.width = std::max<std::int64_t>(options.width / 8, 32);
  }
  return options;
}

}  // namespace

Gtu::Gtu(const std::string& name, const GtuOptions& given, Source at)
    : options(checked(name, given, at)),
      u(join(name, "u"), options.width, options.tno.channels, options.bias, at),
      v(join(name, "v"), options.width, options.tno.channels, options.bias, at),
      tno(join(name, "tno"), options.tno, at),
      o(join(name, "o"), options.tno.channels, options.width, options.bias, at) {}

Tensor Gtu::operator()(const Tensor& x, Source at) const {
  const Tensor gate = options.act(u(x, at), at);
  const Tensor mixed = tno(options.act(v(x, at), at), at);
  return o(times(gate, mixed, at), at);
}

// ---- TnnLayer -----------------------------------------------------------------------------------

namespace {

TnnLayerOptions resolved(TnnLayerOptions options) {
  options.gtu.width = options.width;
  options.glu.width = options.width;
  return options;
}

}  // namespace

TnnLayer::TnnLayer(const std::string& name, const TnnLayerOptions& given, Source at)
    : options(resolved(given)),
      mixer_norm(join(name, "mixer_norm"), options.norm, options.width, at),
      mixer(join(name, "mixer"), options.gtu, at),
      feed_norm(join(name, "feed_norm"), options.norm, options.width, at),
      feed(join(name, "feed"), options.glu, at),
      mixer_dropout(join(name, "mixer_dropout"), options.dropout, at),
      feed_dropout(join(name, "feed_dropout"), options.dropout, at) {}

Tensor TnnLayer::operator()(const Tensor& x, Source at) const {
  const Tensor mixed = residual(
      x, options.pre_norm, mixer_norm,
      [&](const Tensor& y) { return mixer_dropout(mixer(y, at), at); }, at);
  return residual(
      mixed, options.pre_norm, feed_norm,
      [&](const Tensor& y) { return feed_dropout(feed(y, at), at); }, at);
}

}  // namespace weft::nn
