#include "runtime/plan/type.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

#include "runtime/plan/error.h"

namespace weft {

namespace {

struct DTypeRow {
  DType dtype;
  std::string_view name;
  std::size_t size;
  bool floating;
  bool integer;
  double epsilon;
};

constexpr std::array<DTypeRow, 9> dtype_rows = {{
    {DType::f32, "f32", 4, true, false, 0x1p-24},
    {DType::f16, "f16", 2, true, false, 0x1p-11},
    {DType::bf16, "bf16", 2, true, false, 0x1p-8},
    {DType::f64, "f64", 8, true, false, 0x1p-53},
    {DType::i32, "i32", 4, false, true, 0},
    {DType::i64, "i64", 8, false, true, 0},
    {DType::u8, "u8", 1, false, true, 0},
    {DType::boolean, "bool", 1, false, false, 0},
    {DType::c64, "c64", 8, false, false, 0x1p-24},
}};

constexpr bool rows_in_order() {
  for (std::size_t i = 0; i < dtype_rows.size(); ++i) {
    if (dtype_rows[i].dtype != all_dtypes[i] || static_cast<std::size_t>(all_dtypes[i]) != i) {
      return false;
    }
  }
  return true;
}
static_assert(rows_in_order(), "dtype_rows is indexed by DType");

const DTypeRow& row(DType dtype) { return dtype_rows[static_cast<std::size_t>(dtype)]; }

[[noreturn]] void rank_error(std::size_t rank) {
  throw Error(fmt::format("rank {} is above the maximum of {}", rank, Shape::max_rank));
}

}  // namespace

std::string_view name(DType dtype) { return row(dtype).name; }

std::optional<DType> parse_dtype(std::string_view text) {
  for (const DTypeRow& candidate : dtype_rows) {
    if (candidate.name == text) return candidate.dtype;
  }
  return std::nullopt;
}

std::size_t size_of(DType dtype) { return row(dtype).size; }
bool is_floating(DType dtype) { return row(dtype).floating; }
bool is_integer(DType dtype) { return row(dtype).integer; }
double epsilon(DType dtype) { return row(dtype).epsilon; }

Shape::Shape(std::initializer_list<std::int64_t> extents)
    : Shape(std::span<const std::int64_t>(extents.begin(), extents.size())) {}

Shape::Shape(std::span<const std::int64_t> extents) {
  if (extents.size() > static_cast<std::size_t>(max_rank)) rank_error(extents.size());
  std::copy(extents.begin(), extents.end(), extents_.begin());
  rank_ = static_cast<int>(extents.size());
}

std::int64_t Shape::elements() const {
  // Leaves room for the widest element, so that Type::bytes() cannot overflow either.
  constexpr std::int64_t maximum = std::numeric_limits<std::int64_t>::max() / 8;
  if (std::find(begin(), end(), 0) != end()) return 0;
  std::int64_t count = 1;
  for (const std::int64_t extent : *this) {
    if (__builtin_mul_overflow(count, extent, &count) || count > maximum) {
      throw Error(fmt::format("shape {} has too many elements", text()));
    }
  }
  return count;
}

void Shape::push_back(std::int64_t extent) { insert(rank_, extent); }

void Shape::insert(int axis, std::int64_t extent) {
  if (rank_ == max_rank) rank_error(static_cast<std::size_t>(rank_) + 1);
  if (axis < 0 || axis > rank_) {
    throw Error(fmt::format("cannot insert axis {} into shape {}", axis, text()));
  }
  const auto place = extents_.begin() + axis;
  std::copy_backward(place, extents_.begin() + rank_, extents_.begin() + rank_ + 1);
  *place = extent;
  ++rank_;
}

void Shape::erase(int axis) {
  if (axis < 0 || axis >= rank_) {
    throw Error(fmt::format("cannot erase axis {} of shape {}", axis, text()));
  }
  const auto place = extents_.begin() + axis;
  std::copy(place + 1, extents_.begin() + rank_, place);
  extents_[static_cast<std::size_t>(--rank_)] = 0;
}

std::array<std::int64_t, Shape::max_rank> Shape::strides() const {
  std::array<std::int64_t, max_rank> result{};
  // Unsigned: beside an extent of 0 the others may have any product, and none of it is used.
  std::uint64_t stride = 1;
  for (int axis = rank_ - 1; axis >= 0; --axis) {
    result[static_cast<std::size_t>(axis)] = static_cast<std::int64_t>(stride);
    stride *= static_cast<std::uint64_t>((*this)[axis]);
  }
  return result;
}

std::string Shape::text() const { return fmt::format("[{}]", fmt::join(begin(), end(), ", ")); }

bool operator==(const Shape& a, const Shape& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

std::string Type::text() const { return fmt::format("{}{}", name(dtype), shape.text()); }

}  // namespace weft
