#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "weft/ops.h"

namespace weft::nn {

/// An element-wise function, by enumerator (Activation::silu) or by name ("silu").
class Activation {
 public:
  enum Kind : std::uint8_t {
    none,
    relu,
    relu2,  ///< relu(x)^2
    gelu,   ///< exact
    gelu_tanh,
    elu,
    sigmoid,
    exp,
    silu,
    leaky_relu,    ///< slope 0.01
    one_plus_elu,  ///< "1+elu"
    two_plus_elu,  ///< "2+elu"
    softplus,
    tanh,
    cos,
    sin
  };

  Activation() = default;
  Activation(Kind kind) : kind_(kind) {}  // NOLINT(google-explicit-constructor)
  /// The enumerator's spelling, "1+elu", "2+elu", "leak" (leaky_relu), "swish" (silu) or "" (none);
  /// Error that lists the names where it is none of them.
  Activation(std::string_view name);                                           // NOLINT
  Activation(const char* name) : Activation(std::string_view(name)) {}         // NOLINT
  Activation(const std::string& name) : Activation(std::string_view(name)) {}  // NOLINT

  Kind kind() const { return kind_; }
  std::string_view name() const;

  Tensor operator()(const Tensor& x, Source at = Source::current()) const;

 private:
  Kind kind_ = none;
};

}  // namespace weft::nn
