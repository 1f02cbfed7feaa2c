#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/plan/type.h"

/// The header of a safetensors file: reading one that is not trusted, writing one. Not for users.
namespace weft::io {

/// A tensor of a file; the range is one of the data that follow the header.
struct StoredTensor {
  std::string name;
  Type type;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

struct Header {
  std::vector<StoredTensor> tensors;  ///< in the order of their data
  std::map<std::string, std::string> metadata;
};

/// The format's own limit.
inline constexpr std::uint64_t max_header_bytes = 100'000'000;

/// The header from its JSON, for a file whose data have `data_bytes` bytes. Everything is checked:
/// names, types, shapes, and that the ranges cover the data without overlap or gap. Throws Error
/// that starts with `file` and names the tensor.
Header parse_header(std::string_view file, std::span<const char> json, std::uint64_t data_bytes);

/// The 8 bytes of length and the JSON, padded with spaces so that the data are aligned; sets the
/// ranges of `tensors`, which are laid out in their order.
std::string format_header(std::string_view file, std::vector<StoredTensor>& tensors,
                          std::map<std::string, std::string> metadata);

}  // namespace weft::io
