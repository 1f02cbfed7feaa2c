#include "weft/nn/norm.h"

#include <algorithm>
#include <array>

#include "nn_support.h"
#include "weft/nn/layers.h"

namespace weft::nn {

namespace {

constexpr std::array<std::pair<std::string_view, NormType::Kind>, 5> names = {{
    {"none", NormType::none},
    {"layernorm", NormType::layer_norm},
    {"rmsnorm", NormType::rms_norm},
    {"simplermsnorm", NormType::simple_rms_norm},
    {"scalenorm", NormType::scale_norm},
}};

Tensor norm_parameter(std::string_view layer, const std::string& name, std::string_view part,
                      std::int64_t width, const Initializer& initializer, const Source& at) {
  require(width > 0, at, "nn::{} '{}': a width of {}", layer, name, width);
  return parameter(join(name, part), {width}, initializer, DType::f32, at);
}

}  // namespace

LayerNorm::LayerNorm(const std::string& name, std::int64_t width, double given_epsilon, Source at)
    : weight(norm_parameter("LayerNorm", name, "weight", width, init::ones(), at)),
      bias(norm_parameter("LayerNorm", name, "bias", width, init::zeros(), at)),
      epsilon(given_epsilon) {}

Tensor LayerNorm::operator()(const Tensor& x, Source at) const {
  expect_width("LayerNorm", weight.name(at), x, weight.extent(0, at), at);
  return layer_norm(x, like(weight, x, at), like(bias, x, at), epsilon, at);
}

RmsNorm::RmsNorm(const std::string& name, std::int64_t width, double given_epsilon, Source at)
    : weight(norm_parameter("RmsNorm", name, "weight", width, init::ones(), at)),
      epsilon(given_epsilon) {}

Tensor RmsNorm::operator()(const Tensor& x, Source at) const {
  expect_width("RmsNorm", weight.name(at), x, weight.extent(0, at), at);
  return rms_norm(x, like(weight, x, at), epsilon, at);
}

Tensor SimpleRmsNorm::operator()(const Tensor& x, Source at) const {
  return simple_rms_norm(x, epsilon, at);
}

ScaleNorm::ScaleNorm(const std::string& name, double given_epsilon, Source at)
    : scale(norm_parameter("ScaleNorm", name, "scale", 1, init::ones(), at)),
      epsilon(given_epsilon) {}

Tensor ScaleNorm::operator()(const Tensor& x, Source at) const {
  return times(rms_norm(x, {}, epsilon, at), like(scale, x, at), at);
}

NormType::NormType(std::string_view name) {
  std::string plain(name);
  std::erase(plain, '_');
  for (const auto& [spelling, kind] : names) {
    if (spelling == plain) {
      kind_ = kind;
      return;
    }
  }
  std::string known;
  for (const auto& entry : names) {
    known += fmt::format("{}{}", known.empty() ? "" : ", ", entry.first);
  }
  throw Error(fmt::format("nn::NormType: there is no \"{}\"; there are {}", name, known));
}

std::string_view NormType::name() const {
  for (const auto& [spelling, kind] : names) {
    if (kind == kind_) return spelling;
  }
  return "none";
}

Norm::Norm(const std::string& name, NormType type, std::int64_t width, Source at) {
  switch (type.kind()) {
    case NormType::none:
      apply_ = [](const Tensor& x, Source) { return x; };
      break;
    case NormType::layer_norm:
      apply_ = LayerNorm(name, width, 1e-5, at);
      break;
    case NormType::rms_norm:
      apply_ = RmsNorm(name, width, 1e-6, at);
      break;
    case NormType::simple_rms_norm:
      apply_ = SimpleRmsNorm();
      break;
    case NormType::scale_norm:
      apply_ = ScaleNorm(name, 1e-6, at);
      break;
  }
}

Tensor Norm::operator()(const Tensor& x, Source at) const { return apply_(x, at); }

}  // namespace weft::nn
