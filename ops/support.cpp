#include "ops/support.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace weft::ops {

const DTypes& floating_types() {
  static const DTypes list = {DType::f32, DType::f16, DType::bf16, DType::f64};
  return list;
}
const DTypes& integer_types() {
  static const DTypes list = {DType::i32, DType::i64, DType::u8};
  return list;
}
const DTypes& differentiable_types() {
  static const DTypes list = {DType::f32, DType::f16, DType::bf16, DType::f64, DType::c64};
  return list;
}
const DTypes& numeric_types() {
  static const DTypes list = {DType::f32, DType::f16, DType::bf16, DType::f64,
                              DType::i32, DType::i64, DType::u8};
  return list;
}
const DTypes& numeric_and_complex_types() {
  static const DTypes list = {DType::f32, DType::f16, DType::bf16, DType::f64,
                              DType::i32, DType::i64, DType::u8,   DType::c64};
  return list;
}
const DTypes& every_type() {
  static const DTypes list(all_dtypes.begin(), all_dtypes.end());
  return list;
}

// ---- shape rules --------------------------------------------------------------------------------

std::string text(std::span<const std::int64_t> values) {
  return fmt::format("[{}]", fmt::join(values, ", "));
}

std::string text(const DTypes& dtypes) {
  std::string result;
  for (std::size_t i = 0; i < dtypes.size(); ++i) {
    if (i != 0) result += i + 1 == dtypes.size() ? " or " : ", ";
    result += name(dtypes[i]);
  }
  return result;
}

const Type& expect_dtype(const Node& node, std::size_t operand, const DTypes& dtypes) {
  const Type& type = node.operand_type(operand);
  if (std::find(dtypes.begin(), dtypes.end(), type.dtype) == dtypes.end()) {
    fail("operand {} has type {}; expected {}", operand, type.text(), text(dtypes));
  }
  return type;
}

void expect_same_type(const Node& node, std::size_t first, std::size_t second) {
  const Type& a = node.operand_type(first);
  const Type& b = node.operand_type(second);
  require(a == b, "operands differ: {} and {}", a.text(), b.text());
}

void expect_rank(const Node& node, std::size_t operand, int minimum) {
  const Type& type = node.operand_type(operand);
  require(type.rank() >= minimum, "operand {} has type {}; expected at least {} {}", operand,
          type.text(), minimum, minimum == 1 ? "axis" : "axes");
}

int axis_attribute(const Node& node, std::string_view name, int rank) {
  const std::int64_t axis = node.attributes.integer(name);
  require(axis >= 0 && axis < rank, "{} {} is out of range for rank {}", name, axis, rank);
  return static_cast<int>(axis);
}

std::vector<std::int64_t> axes_attribute(const Node& node, std::string_view name, int rank) {
  const std::vector<std::int64_t>& axes = node.attributes.integers(name);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    require(axes[i] >= 0 && axes[i] < rank, "{} {}: axis {} is out of range for rank {}", name,
            text(axes), axes[i], rank);
    require(!contains(std::span(axes).first(i), axes[i]), "{} {}: axis {} appears twice", name,
            text(axes), axes[i]);
  }
  return axes;
}

void check_size(const Type& type) {
  constexpr std::int64_t limit = std::int64_t{1} << 48;
  auto bytes = static_cast<std::int64_t>(size_of(type.dtype));
  // An empty axis does not excuse the others: strides are computed from all of them.
  for (const std::int64_t extent : type.shape) {
    require(extent >= 0, "extent {} is negative", extent);
    const std::int64_t factor = std::max<std::int64_t>(extent, 1);
    require(bytes <= limit / factor, "a tensor of that shape would have more than 2^48 bytes");
    bytes *= factor;
  }
}

Shape shape_attribute(const Node& node, std::string_view name, DType dtype) {
  const std::vector<std::int64_t>& extents = node.attributes.integers(name);
  require(extents.size() <= static_cast<std::size_t>(Shape::max_rank),
          "{} {} has more than {} axes", name, text(extents), int{Shape::max_rank});
  for (const std::int64_t extent : extents) {
    require(extent >= 0, "{} {}: extent {} is negative", name, text(extents), extent);
  }
  const Shape shape{std::span<const std::int64_t>(extents)};
  check_size({dtype, shape});
  return shape;
}

bool contains(std::span<const std::int64_t> values, std::int64_t value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

std::vector<Type> infer_same(const Node& node) {
  for (std::size_t i = 1; i < node.operands.size(); ++i) expect_same_type(node, 0, i);
  return {node.operand_type(0)};
}

namespace {
std::vector<Type> infer_among(const Node& node, const DTypes& dtypes) {
  std::vector<Type> types = infer_same(node);
  expect_dtype(node, 0, dtypes);
  return types;
}
}  // namespace

std::vector<Type> infer_floating(const Node& node) { return infer_among(node, floating_types()); }
std::vector<Type> infer_floating_or_complex(const Node& node) {
  return infer_among(node, differentiable_types());
}
std::vector<Type> infer_integer(const Node& node) { return infer_among(node, integer_types()); }
std::vector<Type> infer_numeric(const Node& node) { return infer_among(node, numeric_types()); }
std::vector<Type> infer_numeric_or_complex(const Node& node) {
  return infer_among(node, numeric_and_complex_types());
}

// ---- reference evaluation -----------------------------------------------------------------------

void copy_element(const Array& from, std::int64_t from_position, Array& to,
                  std::int64_t to_position) {
  const auto source = static_cast<std::size_t>(from_position);
  const auto target = static_cast<std::size_t>(to_position);
  if (!from.re.empty()) to.re[target] = from.re[source];
  if (!from.im.empty()) to.im[target] = from.im[source];
  if (!from.integers.empty()) to.integers[target] = from.integers[source];
}

namespace {

/// Rounds to a binary format of `precision` significant bits (the leading one included) whose
/// normal numbers start at 2^minimum_exponent and whose largest number is `largest`.
double round_binary(double value, int precision, int minimum_exponent, double largest) {
  if (!std::isfinite(value) || value == 0) return value;
  const int exponent = std::max(std::ilogb(value), minimum_exponent);
  // The scaled value is below 2^53, so that it is exact and nearbyint rounds it to nearest even.
  const int shift = precision - 1 - exponent;
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(value, shift)), -shift);
  if (std::abs(rounded) > largest) {
    return std::copysign(std::numeric_limits<double>::infinity(), value);
  }
  return rounded;
}

}  // namespace

double round_to(DType dtype, double value) {
  switch (dtype) {
    case DType::f64:
      return value;
    case DType::f32:
    case DType::c64:
      return static_cast<double>(static_cast<float>(value));
    case DType::f16:
      return round_binary(value, 11, -14, 65504.0);
    case DType::bf16:
      return round_binary(value, 8, -126, std::ldexp(255.0, 120));
    case DType::i32:
    case DType::i64:
    case DType::u8:
    case DType::boolean:
      return static_cast<double>(saturate_to(dtype, value));
  }
  return value;
}

std::pair<std::int64_t, std::int64_t> integer_range(DType dtype) {
  switch (dtype) {
    case DType::i32:
      return {std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()};
    case DType::u8:
      return {0, 255};
    case DType::boolean:
      return {0, 1};
    default:
      return {std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()};
  }
}

std::int64_t wrap_to(DType dtype, std::int64_t value) {
  switch (dtype) {
    case DType::i32:
      return static_cast<std::int32_t>(static_cast<std::uint64_t>(value));
    case DType::u8:
      return static_cast<std::uint8_t>(static_cast<std::uint64_t>(value));
    case DType::boolean:
      return value != 0 ? 1 : 0;
    default:
      return value;
  }
}

std::int64_t saturate_to(DType dtype, double value) {
  if (dtype == DType::boolean) return value != 0 ? 1 : 0;
  if (std::isnan(value)) return 0;
  const auto [low, high] = integer_range(dtype);
  // The largest i64 is not a double: the comparison is with 2^63, above which all saturate.
  if (value <= static_cast<double>(low)) return low;
  if (value >= static_cast<double>(high)) return high;
  return static_cast<std::int64_t>(value);
}

// ---- derivatives --------------------------------------------------------------------------------

Value zeros(Builder& b, const Type& type) { return constant(b, type.dtype, 0, type.shape); }

// ---- scalar lowering ----------------------------------------------------------------------------

using loop::Arena;
using loop::Ex;
using loop::Scalar;

Element lower_constant(Arena& arena, DType dtype, double value) {
  const Scalar type = loop::register_type(dtype);
  if (is_complex(dtype)) return {arena.constant(type, value), arena.constant(type, 0)};
  if (is_floating(dtype)) return {arena.constant(type, value)};
  return {arena.integer(type, saturate_to(dtype, value))};
}

Element lower_select(Arena& arena, Ex condition, const Element& a, const Element& b) {
  Element result{arena.select(condition, a.re, b.re)};
  if (a.im != nullptr) result.im = arena.select(condition, a.im, b.im);
  return result;
}

Element complex_multiply(Arena& arena, const Element& a, const Element& b) {
  return {arena.fma(a.re, b.re, arena.neg(arena.mul(a.im, b.im))),
          arena.fma(a.re, b.im, arena.mul(a.im, b.re))};
}

Element complex_divide(Arena& arena, const Element& a, const Element& b) {
  // Smith's method: divides by the larger part first, so that |b|^2 is never formed.
  const Ex wide = arena.less_equal(arena.unary(loop::Unary::absolute, b.im),
                                   arena.unary(loop::Unary::absolute, b.re));
  const Ex large = arena.select(wide, b.re, b.im);
  const Ex small = arena.select(wide, b.im, b.re);
  const Ex ratio = arena.div(small, large);
  const Ex denominator = arena.fma(small, ratio, large);
  const Ex re = arena.select(wide, arena.fma(a.im, ratio, a.re), arena.fma(a.re, ratio, a.im));
  const Ex im = arena.select(wide, arena.fma(arena.neg(a.re), ratio, a.im),
                             arena.fma(a.im, ratio, arena.neg(a.re)));
  return {arena.div(re, denominator), arena.div(im, denominator)};
}

Ex lower_rounding(Arena& arena, DType dtype, Ex value) {
  if (dtype == DType::bf16) return arena.unary(loop::Unary::round_bf16, value);
  if (dtype == DType::f16) return arena.unary(loop::Unary::round_f16, value);
  return value;
}

// ---- generators ---------------------------------------------------------------------------------

std::int64_t random_integer(Random& random, std::int64_t low, std::int64_t high) {
  return std::uniform_int_distribution<std::int64_t>(low, high)(random);
}

double random_real(Random& random, double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(random);
}

bool random_chance(Random& random, double probability) {
  return std::bernoulli_distribution(probability)(random);
}

std::int64_t random_extent(Random& random) {
  static constexpr std::array<std::int64_t, 16> extents = {1, 1, 2,  3,  4,  5,  6,  7,
                                                           8, 9, 11, 13, 16, 17, 31, 33};
  return extents[static_cast<std::size_t>(
      random_integer(random, 0, static_cast<std::int64_t>(extents.size()) - 1))];
}

Shape random_shape(Random& random, int minimum_rank, int maximum_rank, bool empty,
                   std::int64_t limit) {
  const auto rank = static_cast<int>(random_integer(random, minimum_rank, maximum_rank));
  Shape shape;
  std::int64_t elements = 1;
  for (int axis = 0; axis < rank; ++axis) {
    const std::int64_t extent = std::clamp<std::int64_t>(
        random_extent(random), 1, std::max<std::int64_t>(limit / elements, 1));
    shape.push_back(extent);
    elements *= extent;
  }
  // Extents were limited from the left: the large ones should not always come first.
  for (int axis = rank - 1; axis > 0; --axis) {
    std::swap(shape[axis], shape[static_cast<int>(random_integer(random, 0, axis))]);
  }
  if (empty && rank > 0 && random_chance(random, 0.05)) {
    shape[static_cast<int>(random_integer(random, 0, rank - 1))] = 0;
  }
  return shape;
}

std::vector<std::int64_t> random_axes(Random& random, int rank, int count) {
  std::vector<std::int64_t> axes = random_order(random, rank);
  axes.resize(static_cast<std::size_t>(count));
  std::sort(axes.begin(), axes.end());
  return axes;
}

std::vector<std::int64_t> random_order(Random& random, int n) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (int i = n - 1; i > 0; --i) {
    std::swap(order[static_cast<std::size_t>(i)],
              order[static_cast<std::size_t>(random_integer(random, 0, i))]);
  }
  return order;
}

Array random_array(Random& random, const Sample::Operand& operand) {
  Array array(operand.type);
  const DType dtype = operand.type.dtype;
  if (!is_differentiable(dtype)) {
    const auto [low, high] = integer_range(dtype);
    for (std::int64_t& value : array.integers) {
      value = std::clamp(random_integer(random, saturate_to(DType::i64, operand.low),
                                        saturate_to(DType::i64, operand.high)),
                         low, high);
    }
    return array;
  }
  const auto draw = [&] { return round_to(dtype, random_real(random, operand.low, operand.high)); };
  std::generate(array.re.begin(), array.re.end(), draw);
  std::generate(array.im.begin(), array.im.end(), draw);
  return array;
}

Sample elementwise_sample(Random& random, DType dtype, int operands, double low, double high,
                          bool smooth) {
  const Type type{dtype, random_shape(random)};
  Sample sample;
  for (int i = 0; i < operands; ++i) {
    sample.operands.push_back({type, dtype == DType::u8 ? std::max(low, 0.0) : low, high});
  }
  sample.smooth = smooth;
  return sample;
}

}  // namespace weft::ops
