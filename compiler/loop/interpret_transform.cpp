#include "compiler/loop/interpret_transform.h"

#include <complex>
#include <cstring>
#include <numbers>
#include <vector>

namespace weft::loop::interpreter {
namespace {

using plan::Transform;
using Complex = std::complex<double>;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

float element(const std::byte* memory) {
  float value = 0;
  std::memcpy(&value, memory, sizeof value);
  return value;
}

void set_element(std::byte* memory, double value) {
  const auto rounded = static_cast<float>(value);
  std::memcpy(memory, &rounded, sizeof rounded);
}

/// All `length` points of what is transformed.
std::vector<Complex> read(const Transform& t, const std::byte* line) {
  std::vector<Complex> points(at(t.length));
  for (std::int64_t i = 0; i < t.from_points(); ++i) {
    const std::byte* from = line + i * t.from.stride * t.from_element();
    points[at(i)] = {element(from), t.from_element() == 8 ? element(from + 4) : 0.0F};
  }
  if (t.kind != Transform::Kind::to_real) return points;
  // Bins that stand for themselves alone are real, the others for their conjugates as well.
  points[0] = points[0].real();
  if (t.length % 2 == 0) points[at(t.length / 2)] = points[at(t.length / 2)].real();
  for (std::int64_t i = t.from_points(); i < t.length; ++i) {
    points[at(i)] = std::conj(points[at(t.length - i)]);
  }
  return points;
}

}  // namespace

void run(const Transform& t, std::span<const std::span<std::byte>> arguments) {
  const bool inverse = t.kind == Transform::Kind::inverse || t.kind == Transform::Kind::to_real;
  std::vector<Complex> roots(at(t.length));
  for (std::int64_t i = 0; i < t.length; ++i) {
    const double turn = static_cast<double>(i) / static_cast<double>(t.length);
    roots[at(i)] = std::polar(1.0, (inverse ? 2 : -2) * std::numbers::pi * turn);
  }
  const std::byte* from = arguments[t.from.argument].data() + t.from.offset;
  std::byte* to = arguments[t.to.argument].data() + t.to.offset;
  for (std::int64_t repetition = 0; repetition < t.repetitions; ++repetition) {
    for (std::int64_t line = 0; line < t.lines; ++line) {
      const auto start = [&](const Transform::Side& side) {
        return repetition * side.repeat + line * side.distance;
      };
      const std::vector<Complex> points = read(t, from + start(t.from) * t.from_element());
      for (std::int64_t k = 0; k < t.to_points(); ++k) {
        Complex sum = 0;
        for (std::int64_t i = 0; i < t.length; ++i)
          sum += points[at(i)] * roots[at(i * k % t.length)];
        std::byte* result = to + (start(t.to) + k * t.to.stride) * t.to_element();
        set_element(result, sum.real());
        if (t.to_element() == 8) set_element(result + 4, sum.imag());
      }
    }
  }
}

}  // namespace weft::loop::interpreter
