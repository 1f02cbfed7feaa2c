#pragma once

#include <string_view>

#include "trace.h"
#include "weft/ops.h"

/// What layers share. Not for users.
namespace weft::nn {

/// A parameter in the floating type of a layer's input.
inline Tensor like(const Tensor& parameter, const Tensor& x, const Source& at) {
  return parameter.dtype(at) == x.dtype(at) ? parameter : cast(parameter, x.dtype(at), at);
}

/// Throws unless x is floating and its last axis has `width` entries.
inline void expect_width(std::string_view layer, std::string_view name, const Tensor& x,
                         std::int64_t width, const Source& at) {
  const Type& type = x.type(at);
  if (!is_floating(type.dtype) || type.rank() == 0 || type.shape[type.rank() - 1] != width) {
    detail::fail(at, "nn::{} '{}': the input is {}; expected a floating (..., {})", layer, name,
                 type.text(), width);
  }
}

inline void expect_sequence(std::string_view layer, std::string_view name, const Tensor& x,
                            std::int64_t width, const Source& at) {
  expect_width(layer, name, x, width, at);
  if (x.rank(at) != 3) {
    detail::fail(at, "nn::{} '{}': the input is {}; expected (batch, length, {})", layer, name,
                 x.type(at).text(), width);
  }
}

template <typename... Arguments>
void require(bool condition, const Source& at, fmt::format_string<Arguments...> format,
             Arguments&&... arguments) {
  if (!condition) detail::fail(at, format, std::forward<Arguments>(arguments)...);
}

inline Tensor plus(const Tensor& x, const Tensor& y, const Source& at) {
  return add({x, at}, {y, at});
}
inline Tensor times(const Tensor& x, const Tensor& y, const Source& at) {
  return mul({x, at}, {y, at});
}

/// x + branch(norm x), or norm(x + branch(x)).
template <typename Norm, typename Branch>
Tensor residual(const Tensor& x, bool pre_norm, const Norm& norm, const Branch& branch,
                const Source& at) {
  if (pre_norm) return plus(x, branch(norm(x, at)), at);
  return norm(plus(x, branch(x), at), at);
}

}  // namespace weft::nn
