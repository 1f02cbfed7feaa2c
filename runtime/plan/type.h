#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace weft {

enum class DType : std::uint8_t { f32, f16, bf16, f64, i32, i64, u8, boolean, c64 };

inline constexpr std::array<DType, 9> all_dtypes = {DType::f32, DType::f16,     DType::bf16,
                                                    DType::f64, DType::i32,     DType::i64,
                                                    DType::u8,  DType::boolean, DType::c64};

/// "f32", "bool", ...: the spelling of the text form.
std::string_view name(DType dtype);
std::optional<DType> parse_dtype(std::string_view text);
/// Bytes of one element: c64 is two f32, a boolean is one byte of 0 or 1.
std::size_t size_of(DType dtype);
bool is_floating(DType dtype);  ///< f32, f16, bf16, f64
bool is_integer(DType dtype);   ///< i32, i64, u8
inline bool is_complex(DType dtype) { return dtype == DType::c64; }
/// Has a derivative: floating or complex.
inline bool is_differentiable(DType dtype) { return is_floating(dtype) || is_complex(dtype); }
/// Unit roundoff of a floating type (2^-24 for f32); c64 as f32; 0 for the others.
double epsilon(DType dtype);

/// Extents of a tensor, row-major; rank 0 is a scalar. Extents may be 0.
class Shape {
 public:
  static constexpr int max_rank = 8;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents);  ///< throws Error above max_rank
  explicit Shape(std::span<const std::int64_t> extents);

  int rank() const { return rank_; }
  std::int64_t operator[](int axis) const { return extents_[static_cast<std::size_t>(axis)]; }
  std::int64_t& operator[](int axis) { return extents_[static_cast<std::size_t>(axis)]; }
  std::int64_t elements() const;
  const std::int64_t* begin() const { return extents_.data(); }
  const std::int64_t* end() const { return extents_.data() + rank_; }
  std::span<const std::int64_t> extents() const { return {begin(), end()}; }
  void push_back(std::int64_t extent);  ///< throws Error above max_rank
  void insert(int axis, std::int64_t extent);
  void erase(int axis);
  /// Row-major strides in elements.
  std::array<std::int64_t, max_rank> strides() const;
  std::string text() const;  ///< "[2, 255]"

  friend bool operator==(const Shape& a, const Shape& b);

 private:
  std::array<std::int64_t, max_rank> extents_{};
  int rank_ = 0;
};

struct Type {
  DType dtype = DType::f32;
  Shape shape;

  std::int64_t elements() const { return shape.elements(); }
  std::int64_t bytes() const { return elements() * static_cast<std::int64_t>(size_of(dtype)); }
  int rank() const { return shape.rank(); }
  std::string text() const;  ///< "f32[2, 255]"
  friend bool operator==(const Type& a, const Type& b) {
    return a.dtype == b.dtype && a.shape == b.shape;
  }
};

}  // namespace weft
