#include "weft/nn/activation.h"

#include <array>
#include <utility>

#include "nn_support.h"

namespace weft::nn {

namespace {

// The first name of a kind is the one that is printed.
constexpr std::array<std::pair<std::string_view, Activation::Kind>, 19> names = {{
    {"none", Activation::none},
    {"relu", Activation::relu},
    {"relu2", Activation::relu2},
    {"gelu", Activation::gelu},
    {"gelu_tanh", Activation::gelu_tanh},
    {"elu", Activation::elu},
    {"sigmoid", Activation::sigmoid},
    {"exp", Activation::exp},
    {"silu", Activation::silu},
    {"leaky_relu", Activation::leaky_relu},
    {"1+elu", Activation::one_plus_elu},
    {"2+elu", Activation::two_plus_elu},
    {"softplus", Activation::softplus},
    {"tanh", Activation::tanh},
    {"cos", Activation::cos},
    {"sin", Activation::sin},
    {"", Activation::none},
    {"leak", Activation::leaky_relu},
    {"swish", Activation::silu},
}};

}  // namespace

Activation::Activation(std::string_view name) {
  for (const auto& [spelling, kind] : names) {
    if (spelling == name) {
      kind_ = kind;
      return;
    }
  }
  std::string known;
  for (const auto& entry : names) {
    if (!entry.first.empty()) known += fmt::format("{}{}", known.empty() ? "" : ", ", entry.first);
  }
  throw Error(fmt::format("nn::Activation: there is no \"{}\"; there are {}", name, known));
}

std::string_view Activation::name() const {
  for (const auto& [spelling, kind] : names) {
    if (kind == kind_) return spelling;
  }
  return "none";
}

Tensor Activation::operator()(const Tensor& x, Source at) const {
  switch (kind_) {
    case none:
      break;
    case relu:
      return weft::relu(x, at);
    case relu2:
      return weft::relu2(x, at);
    case gelu:
      return weft::gelu(x, at);
    case gelu_tanh:
      return weft::gelu_tanh(x, at);
    case elu:
      return weft::elu(x, 1, at);
    case sigmoid:
      return weft::sigmoid(x, at);
    case exp:
      return weft::exp(x, at);
    case silu:
      return weft::silu(x, at);
    case leaky_relu:
      return weft::leaky_relu(x, 0.01, at);
    case one_plus_elu:
      return add({weft::elu(x, 1, at), at}, {1, at});
    case two_plus_elu:
      return add({weft::elu(x, 1, at), at}, {2, at});
    case softplus:
      return weft::softplus(x, at);
    case tanh:
      return weft::tanh(x, at);
    case cos:
      return weft::cos(x, at);
    case sin:
      return weft::sin(x, at);
  }
  return x;
}

}  // namespace weft::nn
