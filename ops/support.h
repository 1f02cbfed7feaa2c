#pragma once

#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ops/build.h"
#include "ops/op.h"

/// Helpers that the families share: not for users of the table.
namespace weft::ops {

// ---- lists of types -----------------------------------------------------------------------------

const DTypes& floating_types();             ///< f32, f16, bf16, f64
const DTypes& integer_types();              ///< i32, i64, u8
const DTypes& differentiable_types();       ///< floating types and c64
const DTypes& numeric_types();              ///< floating and integer types
const DTypes& numeric_and_complex_types();  ///< all but bool
const DTypes& every_type();

// ---- shape rules --------------------------------------------------------------------------------
// These throw Error without the op's name and location: Builder::emit and ir::parse add both.

template <typename... Arguments>
[[noreturn]] void fail(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  throw Error(fmt::format(format, std::forward<Arguments>(arguments)...));
}
template <typename... Arguments>
void require(bool condition, fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  if (!condition) fail(format, std::forward<Arguments>(arguments)...);
}

/// "[0, 2, 1]".
std::string text(std::span<const std::int64_t> values);
/// "f32, f64 or c64".
std::string text(const DTypes& dtypes);

/// Throws "operand 1 has type i32[3]; expected f32, f16, bf16 or f64" unless the dtype is listed.
const Type& expect_dtype(const Node& node, std::size_t operand, const DTypes& dtypes);
/// Throws "operands differ: f32[2, 3] and f32[4]" unless both types are equal.
void expect_same_type(const Node& node, std::size_t first, std::size_t second);
/// Throws where the rank is below `minimum`.
void expect_rank(const Node& node, std::size_t operand, int minimum);
/// The integer attribute as an axis of a tensor of that rank; throws where it is out of range.
int axis_attribute(const Node& node, std::string_view name, int rank);
/// The integers attribute as axes: each in range and none twice. In the order given.
std::vector<std::int64_t> axes_attribute(const Node& node, std::string_view name, int rank);
/// The integers attribute as a shape: at most Shape::max_rank extents, none negative, and small
/// enough for its bytes to be counted in 48 bits.
Shape shape_attribute(const Node& node, std::string_view name, DType dtype);
/// Throws where a shape that a rule has computed is too large to be counted (see above).
void check_size(const Type& type);
/// Contains `value`.
bool contains(std::span<const std::int64_t> values, std::int64_t value);

/// The shape rule of elementwise ops: all operands have one type, which is the result's.
std::vector<Type> infer_same(const Node& node);
/// infer_same for operands of those types only.
std::vector<Type> infer_floating(const Node& node);
std::vector<Type> infer_floating_or_complex(const Node& node);
std::vector<Type> infer_integer(const Node& node);
std::vector<Type> infer_numeric(const Node& node);
std::vector<Type> infer_numeric_or_complex(const Node& node);

// ---- reference evaluation -----------------------------------------------------------------------

/// Row-major position of an index.
inline std::int64_t position_of(const Shape& shape, std::span<const std::int64_t> index) {
  std::int64_t position = 0;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    position = position * shape[axis] + index[static_cast<std::size_t>(axis)];
  }
  return position;
}

/// Calls visit(std::span<const std::int64_t> index, std::int64_t position) in row-major order;
/// never for an empty shape, once for a scalar.
template <typename Visit>
void for_each_index(const Shape& shape, Visit&& visit) {
  std::array<std::int64_t, Shape::max_rank> index{};
  const auto rank = static_cast<std::size_t>(shape.rank());
  const std::int64_t elements = shape.elements();
  for (std::int64_t position = 0; position < elements; ++position) {
    visit(std::span<const std::int64_t>(index.data(), rank), position);
    for (std::size_t axis = rank; axis-- > 0;) {
      if (++index[axis] < shape[static_cast<int>(axis)]) break;
      index[axis] = 0;
    }
  }
}

/// Copies one element between arrays of one dtype.
void copy_element(const Array& from, std::int64_t from_position, Array& to,
                  std::int64_t to_position);

/// The value of `dtype` nearest to `value`, ties to even (f64: itself); integers truncate and
/// saturate, NaN gives 0; boolean: 1 unless 0.
double round_to(DType dtype, double value);
/// Wraps an integer to the range of an integer type (boolean: 1 unless 0).
std::int64_t wrap_to(DType dtype, std::int64_t value);
/// Truncates and saturates a float to an integer type; NaN gives 0; boolean: 1 unless 0.
std::int64_t saturate_to(DType dtype, double value);
/// Smallest and largest value of an integer type.
std::pair<std::int64_t, std::int64_t> integer_range(DType dtype);

// ---- derivatives --------------------------------------------------------------------------------

Value zeros(Builder& b, const Type& type);

// ---- scalar lowering ----------------------------------------------------------------------------

/// A constant in the register type of `dtype`; complex: value + 0i.
Element lower_constant(loop::Arena& arena, DType dtype, double value);
inline loop::Scalar register_type_of(Value value) { return loop::register_type(value.dtype()); }
/// Selects re and im.
Element lower_select(loop::Arena& arena, loop::Ex condition, const Element& a, const Element& b);
Element complex_multiply(loop::Arena& arena, const Element& a, const Element& b);
Element complex_divide(loop::Arena& arena, const Element& a, const Element& b);
/// Rounds a register to what memory of `dtype` holds: f16 and bf16; others are unchanged.
loop::Ex lower_rounding(loop::Arena& arena, DType dtype, loop::Ex value);

// ---- generators ---------------------------------------------------------------------------------

std::int64_t random_integer(Random& random, std::int64_t low, std::int64_t high);  ///< inclusive
double random_real(Random& random, double low, double high);
bool random_chance(Random& random, double probability);
/// An extent that schedules find awkward as often as not: 1, odd, a power of two, just above one.
std::int64_t random_extent(Random& random);
/// A shape of rank [minimum, maximum] of such extents, of at most `limit` elements; where `empty`,
/// one time in twenty some axis has extent 0.
Shape random_shape(Random& random, int minimum_rank = 0, int maximum_rank = 4, bool empty = true,
                   std::int64_t limit = 400);
/// `count` distinct axes of [0, rank), ascending.
std::vector<std::int64_t> random_axes(Random& random, int rank, int count);
/// 0 .. n-1 in random order.
std::vector<std::int64_t> random_order(Random& random, int n);
/// Values for an operand of a sample; each is one that its type holds exactly.
Array random_array(Random& random, const Sample::Operand& operand);
/// Operands of one random type with values in [low, high], as elementwise ops take them (u8: from
/// 0).
Sample elementwise_sample(Random& random, DType dtype, int operands, double low, double high,
                          bool smooth = true);

}  // namespace weft::ops
