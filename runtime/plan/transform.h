#pragma once

#include <cstdint>
#include <string_view>

namespace weft::plan {

/// Fourier transforms of many lines of f32 or pairs of f32, by a library: sums without a factor,
/// X[k] = sum_t x[t] exp(-+2 pi i k t / length). Line l of repetition r has its point t at
/// r * repeat + l * distance + t * stride, in elements.
struct Transform {
  enum class Kind : std::uint8_t {
    forward,    ///< complex, exp(-...)
    inverse,    ///< complex, exp(+...)
    from_real,  ///< forward of reals: bins 0 .. length / 2
    to_real     ///< inverse of those bins: reals
  };
  struct Side {
    std::uint32_t argument = 0;  ///< of the kernel
    std::int64_t offset = 0;     ///< in its memory, bytes
    std::int64_t stride = 1;
    std::int64_t distance = 0;
    std::int64_t repeat = 0;

    bool operator==(const Side&) const = default;
  };
  Kind kind = Kind::forward;
  std::int64_t length = 1;
  std::int64_t lines = 1;
  std::int64_t repetitions = 1;
  Side from;  ///< not changed, but by to_real, which may leave anything there
  Side to;    ///< other memory

  bool operator==(const Transform&) const = default;
  /// Points of a line on either side, and bytes of each.
  std::int64_t from_points() const { return kind == Kind::to_real ? length / 2 + 1 : length; }
  std::int64_t to_points() const { return kind == Kind::from_real ? length / 2 + 1 : length; }
  std::int64_t from_element() const { return kind == Kind::from_real ? 4 : 8; }
  std::int64_t to_element() const { return kind == Kind::to_real ? 4 : 8; }
  /// Bytes from an argument's begin to the end of what is read, or written.
  std::int64_t from_end() const { return end(from, from_points(), from_element()); }
  std::int64_t to_end() const { return end(to, to_points(), to_element()); }

 private:
  std::int64_t end(const Side& side, std::int64_t points, std::int64_t element) const {
    const std::int64_t last =
        (repetitions - 1) * side.repeat + (lines - 1) * side.distance + (points - 1) * side.stride;
    return side.offset + (last + 1) * element;
  }
};

inline std::string_view name(Transform::Kind kind) {
  switch (kind) {
    case Transform::Kind::forward:
      return "fft";
    case Transform::Kind::inverse:
      return "inverse fft";
    case Transform::Kind::from_real:
      return "rfft";
    case Transform::Kind::to_real:
      return "inverse rfft";
  }
  return "?";
}

}  // namespace weft::plan
