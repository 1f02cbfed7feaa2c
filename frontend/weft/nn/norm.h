#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "weft/program.h"

/// Norms over the last axis, x (..., width) -> (..., width).
namespace weft::nn {

/// (x - mean) / sqrt(variance + epsilon) * weight + bias.
struct LayerNorm {
  LayerNorm(const std::string& name, std::int64_t width, double epsilon = 1e-5,
            Source at = Source::current());
  Tensor operator()(const Tensor& x, Source at = Source::current()) const;

  Tensor weight;  ///< (width), ones at first
  Tensor bias;    ///< (width), zeros at first
  double epsilon = 1e-5;
};

/// x / sqrt(mean(x^2) + epsilon) * weight.
struct RmsNorm {
  RmsNorm(const std::string& name, std::int64_t width, double epsilon = 1e-6,
          Source at = Source::current());
  Tensor operator()(const Tensor& x, Source at = Source::current()) const;

  Tensor weight;  ///< (width), ones at first
  double epsilon = 1e-6;
};

/// x / (|x| / sqrt(width) + epsilon): no parameters.
struct SimpleRmsNorm {
  explicit SimpleRmsNorm(double given_epsilon = 1e-8) : epsilon(given_epsilon) {}
  Tensor operator()(const Tensor& x, Source at = Source::current()) const;

  double epsilon = 1e-8;
};

/// x / sqrt(mean(x^2) + epsilon) * scale, one scale for all: sqrt(width) scale is the length of
/// each row of the result.
struct ScaleNorm {
  explicit ScaleNorm(const std::string& name, double epsilon = 1e-6, Source at = Source::current());
  Tensor operator()(const Tensor& x, Source at = Source::current()) const;

  Tensor scale;  ///< (1), one at first
  double epsilon = 1e-6;
};

/// Which norm, by enumerator (NormType::rms_norm) or by name ("rmsnorm").
class NormType {
 public:
  enum Kind : std::uint8_t { none, layer_norm, rms_norm, simple_rms_norm, scale_norm };

  NormType() = default;
  NormType(Kind kind) : kind_(kind) {}  // NOLINT(google-explicit-constructor)
  /// "none", "layernorm", "rmsnorm", "simplermsnorm" or "scalenorm", with underscores or without;
  /// Error that lists the names where it is none of them.
  NormType(std::string_view name);                                         // NOLINT
  NormType(const char* name) : NormType(std::string_view(name)) {}         // NOLINT
  NormType(const std::string& name) : NormType(std::string_view(name)) {}  // NOLINT

  Kind kind() const { return kind_; }
  std::string_view name() const;

 private:
  Kind kind_ = layer_norm;
};

/// A norm of a type that is chosen when the program runs.
class Norm {
 public:
  Norm(const std::string& name, NormType type, std::int64_t width, Source at = Source::current());
  Tensor operator()(const Tensor& x, Source at = Source::current()) const;

 private:
  std::function<Tensor(const Tensor&, Source)> apply_;
};

}  // namespace weft::nn
