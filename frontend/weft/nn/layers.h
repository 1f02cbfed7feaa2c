#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "weft/nn/activation.h"
#include "weft/ops.h"
#include "weft/program.h"

namespace weft::nn {

/// "parent.child"; "child" where the parent has no name.
std::string join(const std::string& parent, std::string_view child);

/// The trace's parameters whose names are `prefix` or start with "prefix.": those of one layer.
std::vector<Tensor> parameters_of(std::string_view prefix, Source at = Source::current());
/// Elements of all parameters of the trace, or of the given ones; shared ones count once.
std::int64_t parameter_count(Source at = Source::current());
std::int64_t parameter_count(const std::vector<Tensor>& parameters, Source at = Source::current());

/// x weight + bias: (..., in) -> (..., out).
struct Linear {
  Linear(const std::string& name, std::int64_t in, std::int64_t out, bool with_bias = true,
         Source at = Source::current());
  Tensor operator()(const Tensor& x, Source at = Source::current()) const;

  /// (in, out), so that the product reads it along its rows without a transposition; uniform in
  /// +-1/sqrt(in) at first, as the bias.
  Tensor weight;
  Tensor bias;  ///< (out), or undefined
};

/// Rows of a table: ids (...) of i32 or i64 -> (..., width). Ids beyond the table are clamped.
struct Embedding {
  /// Normal with `deviation` at first.
  Embedding(const std::string& name, std::int64_t count, std::int64_t width, double deviation = 1,
            Source at = Source::current());
  /// (count, width) values at first as `initializer` says.
  Embedding(const std::string& name, std::int64_t count, std::int64_t width,
            const Initializer& initializer, Source at = Source::current());
  Tensor operator()(const Tensor& ids, Source at = Source::current()) const;
  /// x (..., width) -> (..., count) by the same table: the tied head of a language model.
  Tensor logits(const Tensor& x, Source at = Source::current()) const;

  Tensor weight;  ///< (count, width)
};

/// Zeroes elements with probability p and divides the others by 1 - p while is_training(); then and
/// where p is 0, x itself otherwise. Random numbers come from a stream of the layer's name; each
/// call in a trace has its own.
class Dropout {
 public:
  Dropout(const std::string& name, double p, Source at = Source::current());
  Tensor operator()(const Tensor& x, Source at = Source::current()) const;

 private:
  double p_ = 0;
  std::string stream_;
  std::shared_ptr<int> calls_;
};

/// Calls one after the other: layers, activations, functions such as weft::relu, lambdas.
///
///     nn::Sequential net(nn::Linear("0", 784, 128), relu, nn::Linear("1", 128, 10));
class Sequential {
 public:
  Sequential() = default;
  template <typename... Layers>
    requires(sizeof...(Layers) > 0 &&
             (!std::same_as<std::remove_cvref_t<Layers>, Sequential> && ...))
  explicit Sequential(Layers&&... layers) {
    (add(std::forward<Layers>(layers)), ...);
  }

  /// Anything that can be called with (Tensor) or (Tensor, Source) and returns a Tensor.
  template <typename Layer>
  Sequential& add(Layer layer) {
    if constexpr (std::is_invocable_r_v<Tensor, Layer&, const Tensor&, Source>) {
      layers_.emplace_back(std::move(layer));
    } else {
      static_assert(std::is_invocable_r_v<Tensor, Layer&, const Tensor&>,
                    "a layer is a function Tensor(const Tensor&)");
      layers_.emplace_back(
          [f = std::move(layer)](const Tensor& x, Source) mutable { return f(x); });
    }
    return *this;
  }

  std::size_t size() const { return layers_.size(); }
  Tensor operator()(const Tensor& x, Source at = Source::current()) const;

 private:
  std::vector<std::function<Tensor(const Tensor&, Source)>> layers_;
};

struct FeedForwardOptions {
  std::int64_t width = 0;
  std::int64_t hidden = 0;  ///< 0: 4 width
  Activation act = Activation::gelu;
  bool bias = true;
  double dropout = 0;  ///< after the activation
};

/// out(act(in(x))): (..., width) -> (..., width).
struct FeedForward {
  FeedForward(const std::string& name, const FeedForwardOptions& options,
              Source at = Source::current());
  Tensor operator()(const Tensor& x, Source at = Source::current()) const;

  FeedForwardOptions options;
  Linear in;
  Linear out;
  Dropout dropout;
};

struct GluOptions {
  std::int64_t width = 0;
  std::int64_t hidden = 0;  ///< 0: width
  Activation act = Activation::silu;
  Activation final_act = Activation::none;
  bool bias = true;
  double dropout = 0;  ///< of the gate
};

/// The gated linear unit final_act(l3(act(l1 x) * l2 x)): (..., width) -> (..., width).
struct Glu {
  Glu(const std::string& name, const GluOptions& options, Source at = Source::current());
  Tensor operator()(const Tensor& x, Source at = Source::current()) const;

  GluOptions options;
  Linear l1;
  Linear l2;
  Linear l3;
  Dropout dropout;
};

}  // namespace weft::nn
