#pragma once

#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

/// Amounts as dumps write them.
namespace weft::compiler {

/// An amount in the largest unit of which there is one; each is `step` of the one before.
inline std::string amount_text(std::int64_t amount, double step,
                               const std::array<const char*, 5>& units) {
  auto value = static_cast<double>(amount);
  std::size_t unit = 0;
  for (; value >= step && unit + 1 < units.size(); ++unit) value /= step;
  return unit == 0 ? fmt::format("{}{}", amount, units[0])
                   : fmt::format("{:.2f}{}", value, units[unit]);
}

/// "1.50 MiB".
inline std::string bytes_text(std::int64_t bytes) {
  return amount_text(bytes, 1024, {" B", " KiB", " MiB", " GiB", " TiB"});
}

/// "3.20 M".
inline std::string count_text(std::int64_t count) {
  return amount_text(count, 1000, {"", " k", " M", " G", " T"});
}

}  // namespace weft::compiler
