#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string_view>
#include <vector>

#include "runtime/plan/type.h"

/// Operands for conformance tests: special values, edges, and random ones that differ in all lanes.
namespace weft::selftest {

template <typename T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

template <typename T>
T element(const std::vector<std::byte>& bytes, std::size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof value, sizeof value);
  return value;
}

/// A function of a name: the same on every machine.
class Operands {
 public:
  explicit Operands(std::string_view seed);

  std::int64_t integer64();
  int integer(int low, int high);  ///< inclusive
  double real(double low, double high);

  // 32-bit words.
  std::vector<std::uint32_t> bits(std::size_t count);
  std::vector<std::uint32_t> below(std::uint32_t end, std::size_t count);
  std::vector<std::uint32_t> permutation(std::int64_t count);
  std::vector<std::uint32_t> between(double low, double high, std::size_t count);  ///< f32
  /// Zeros, infinities, NaN, denormals, the ends of ranges, ties of 16-bit types' roundings.
  std::vector<std::uint32_t> special_floats() const;
  std::vector<std::uint32_t> floats();    ///< special ones, and others of all sizes; 256
  std::vector<std::uint32_t> integers();  ///< the same of i32

  /// A few hundred elements of memory of a type. f32 and f64 without denormals: which of them
  /// arithmetic takes for zero is left to the target. `truth`: zeros and ones only. `order`: of
  /// several operands of one operation each has one of its own.
  std::vector<std::byte> elements(DType dtype, bool truth, std::size_t order);

 private:
  std::mt19937_64 random_;
};

}  // namespace weft::selftest
