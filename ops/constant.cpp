#include <cmath>

#include "ops/elementwise.h"

namespace weft::ops {

namespace {

using ir::AttributeSpec;
using loop::Ex;

Type type_attribute(const Node& node) {
  const DType dtype = node.attributes.dtype("dtype");
  return {dtype, shape_attribute(node, "shape", dtype)};
}

const ir::AttributeValue& attribute(const Node& node, std::string_view name) {
  const ir::AttributeValue* value = node.attributes.find(name);
  require(value != nullptr, "attribute {} is missing", name);
  return *value;
}

void check_integer(DType dtype, std::int64_t value) {
  require(wrap_to(dtype, value) == value, "{} is not a value of {}", value, name(dtype));
}
void check_integer(DType dtype, double value) {
  // Written so that NaN fails; 2^63 saturates to a smaller i64, which is equal to it as a double.
  require(static_cast<double>(saturate_to(dtype, value)) == value && value < 0x1p63,
          "{} is not a value of {}", value, name(dtype));
}

// ---- constant -----------------------------------------------------------------------------------

std::vector<Type> infer_constant(const Node& node) {
  const Type type = type_attribute(node);
  const ir::AttributeValue& value = attribute(node, "value");
  const auto* integer = std::get_if<std::int64_t>(&value);
  const auto* real = std::get_if<double>(&value);
  require(integer != nullptr || real != nullptr, "attribute value must be a number");
  if (!is_differentiable(type.dtype)) {
    integer != nullptr ? check_integer(type.dtype, *integer) : check_integer(type.dtype, *real);
  }
  return {type};
}

double real_value(const Node& node) {
  const ir::AttributeValue& value = attribute(node, "value");
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return static_cast<double>(*integer);
  return std::get<double>(value);
}

std::int64_t integer_value(const Node& node) {
  const ir::AttributeValue& value = attribute(node, "value");
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return *integer;
  return saturate_to(DType::i64, std::get<double>(value));
}

void reference_constant(const Node& node, std::span<const Array* const>, std::span<Array> results) {
  Array& y = results[0];
  if (is_differentiable(y.type.dtype)) {
    y.re.assign(y.re.size(), round_to(y.type.dtype, real_value(node)));
  } else {
    y.integers.assign(y.integers.size(), integer_value(node));
  }
}

Element lower_splat(Lowering& lowering, const Node& node, std::span<const Ex>) {
  const DType dtype = node.results[0].dtype;
  if (is_differentiable(dtype)) {
    return lower_constant(lowering.arena(), dtype, round_to(dtype, real_value(node)));
  }
  return {lowering.arena().integer(loop::register_type(dtype), integer_value(node))};
}

Sample sample_constant(Random& random, DType dtype) {
  Sample sample;
  const Shape shape = random_shape(random);
  sample.attributes.set("dtype", dtype);
  sample.attributes.set("shape", std::vector<std::int64_t>(shape.begin(), shape.end()));
  if (is_differentiable(dtype)) {
    sample.attributes.set("value", random_real(random, -4, 4));
  } else {
    sample.attributes.set("value", random_integer(random, 0, dtype == DType::boolean ? 1 : 100));
  }
  return sample;
}

// ---- constant_data ------------------------------------------------------------------------------

std::vector<Type> infer_data(const Node& node) {
  const Type type = type_attribute(node);
  const ir::AttributeValue& values = attribute(node, "values");
  const auto* integers = std::get_if<std::vector<std::int64_t>>(&values);
  const auto* reals = std::get_if<std::vector<double>>(&values);
  require(integers != nullptr || reals != nullptr, "attribute values must be a list of numbers");
  const std::size_t given = integers != nullptr ? integers->size() : reals->size();
  const auto expected =
      static_cast<std::size_t>(type.elements()) * (is_complex(type.dtype) ? 2 : 1);
  require(given == expected, "{} needs {} values, got {}", type.text(), expected, given);
  if (!is_differentiable(type.dtype)) {
    if (integers != nullptr) {
      for (const std::int64_t value : *integers) check_integer(type.dtype, value);
    } else {
      for (const double value : *reals) check_integer(type.dtype, value);
    }
  }
  return {type};
}

void reference_data(const Node& node, std::span<const Array* const>, std::span<Array> results) {
  Array& y = results[0];
  const DType dtype = y.type.dtype;
  const auto fill = [&](const auto& values) {
    for (std::size_t i = 0; i < y.integers.size(); ++i) {
      y.integers[i] = static_cast<std::int64_t>(values[i]);
    }
    const std::size_t step = is_complex(dtype) ? 2 : 1;
    for (std::size_t i = 0; i < y.re.size(); ++i) {
      y.re[i] = round_to(dtype, static_cast<double>(values[i * step]));
      if (step == 2) y.im[i] = round_to(dtype, static_cast<double>(values[i * 2 + 1]));
    }
  };
  const ir::AttributeValue& values = attribute(node, "values");
  if (const auto* integers = std::get_if<std::vector<std::int64_t>>(&values)) {
    fill(*integers);
  } else {
    fill(std::get<std::vector<double>>(values));
  }
}

Sample sample_data(Random& random, DType dtype) {
  Sample sample;
  const Shape shape = random_shape(random);
  sample.attributes.set("dtype", dtype);
  sample.attributes.set("shape", std::vector<std::int64_t>(shape.begin(), shape.end()));
  const auto count = static_cast<std::size_t>(shape.elements()) * (is_complex(dtype) ? 2 : 1);
  if (is_differentiable(dtype)) {
    std::vector<double> values(count);
    for (double& value : values) value = round_to(dtype, random_real(random, -4, 4));
    sample.attributes.set("values", std::move(values));
  } else {
    std::vector<std::int64_t> values(count);
    const std::int64_t high = dtype == DType::boolean ? 1 : 100;
    for (std::int64_t& value : values) value = random_integer(random, 0, high);
    sample.attributes.set("values", std::move(values));
  }
  return sample;
}

// ---- iota ---------------------------------------------------------------------------------------

std::vector<Type> infer_iota(const Node& node) {
  const Type type = type_attribute(node);
  require(type.dtype != DType::boolean && !is_complex(type.dtype), "{} does not count; expected {}",
          name(type.dtype), text(numeric_types()));
  axis_attribute(node, "axis", type.rank());
  return {type};
}

void reference_iota(const Node& node, std::span<const Array* const>, std::span<Array> results) {
  Array& y = results[0];
  const auto axis = static_cast<std::size_t>(node.attributes.integer("axis"));
  for_each_index(y.type.shape, [&](std::span<const std::int64_t> index, std::int64_t position) {
    const auto at = static_cast<std::size_t>(position);
    if (is_floating(y.type.dtype)) {
      y.re[at] = round_to(y.type.dtype, static_cast<double>(index[axis]));
    } else {
      y.integers[at] = wrap_to(y.type.dtype, index[axis]);
    }
  });
}

Element lower_iota(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  const DType dtype = node.results[0].dtype;
  const Ex count = index[static_cast<std::size_t>(node.attributes.integer("axis"))];
  const Ex value = lowering.arena().cast(count, loop::register_type(dtype));
  return {lower_rounding(lowering.arena(), dtype, value)};
}

Sample sample_iota(Random& random, DType dtype) {
  Sample sample;
  const Shape shape = random_shape(random, 1, 4);
  sample.attributes.set("dtype", dtype);
  sample.attributes.set("shape", std::vector<std::int64_t>(shape.begin(), shape.end()));
  sample.attributes.set("axis", random_integer(random, 0, shape.rank() - 1));
  return sample;
}

}  // namespace

std::span<const Op> constant_ops() {
  const Derivative no_operands = Derivative::none("has no operands");
  static const Op rows[] = {
      Op({"constant",
          Pattern::elementwise,
          0,
          0,
          0,
          {{"dtype", AttributeSpec::dtype},
           {"shape", AttributeSpec::integers},
           {"value", AttributeSpec::number}},
          infer_constant},
         every_type(), no_operands, reference_constant, lower_splat,
         Decompose::none("is primitive"), sample_constant, 0,
         "value everywhere (c64: as the real part); floats are rounded to the type"),
      Op({"constant_data",
          Pattern::transfer,
          0,
          0,
          0,
          {{"dtype", AttributeSpec::dtype},
           {"shape", AttributeSpec::integers},
           {"values", AttributeSpec::numbers}},
          infer_data},
         every_type(), no_operands, reference_data,
         Lower::none("is read from memory, where the plan puts it"),
         Decompose::none("is primitive"), sample_data, 0,
         "the listed values, row-major; c64: re and im alternate"),
      Op({"iota",
          Pattern::elementwise,
          0,
          0,
          0,
          {{"dtype", AttributeSpec::dtype},
           {"shape", AttributeSpec::integers},
           {"axis", AttributeSpec::integer}},
          infer_iota},
         numeric_types(), no_operands, reference_iota, lower_iota, Decompose::none("is primitive"),
         sample_iota, 1, "the index along an axis; floats round, integers wrap"),
  };
  return rows;
}

}  // namespace weft::ops
