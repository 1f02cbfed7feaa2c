#include "ops/support.h"

namespace weft::ops {

namespace {

using ir::AttributeSpec;

std::vector<Type> infer_cumsum(const Node& node) {
  const Type& x = expect_dtype(node, 0, numeric_and_complex_types());
  axis_attribute(node, "axis", x.rank());
  return {x};
}

/// Element i reaches the sums at and behind it: its gradient is the sum from the other end.
void derive_cumsum(Backward& d) {
  Attributes attributes = d.node().attributes;
  attributes.set("reverse", !attributes.flag("reverse"));
  d.add(0, d.build().emit1("cumsum", {d.gradient()}, std::move(attributes)));
}

void reference_cumsum(const Node& node, std::span<const Array* const> operands,
                      std::span<Array> results) {
  const Array& x = *operands[0];
  Array& y = results[0];
  const auto axis = static_cast<int>(node.attributes.integer("axis"));
  const bool exclusive = node.attributes.flag("exclusive");
  const bool reverse = node.attributes.flag("reverse");
  const std::int64_t extent = x.type.shape[axis];
  const std::int64_t stride = x.type.shape.strides()[static_cast<std::size_t>(axis)];
  Shape lines = x.type.shape;
  lines[axis] = extent > 0 ? 1 : 0;
  for_each_index(lines, [&](std::span<const std::int64_t> index, std::int64_t) {
    const std::int64_t start = position_of(x.type.shape, index);
    double re = 0;
    double im = 0;
    std::uint64_t integer = 0;  // unsigned, as i64 wraps
    for (std::int64_t i = 0; i < extent; ++i) {
      const auto at = static_cast<std::size_t>(start + (reverse ? extent - 1 - i : i) * stride);
      const auto store = [&] {
        if (!y.re.empty()) y.re[at] = re;
        if (!y.im.empty()) y.im[at] = im;
        if (!y.integers.empty()) {
          y.integers[at] = wrap_to(y.type.dtype, static_cast<std::int64_t>(integer));
        }
      };
      if (exclusive) store();
      if (!x.re.empty()) re += x.re[at];
      if (!x.im.empty()) im += x.im[at];
      if (!x.integers.empty()) integer += static_cast<std::uint64_t>(x.integers[at]);
      if (!exclusive) store();
    }
  });
}

Sample sample_cumsum(Random& random, DType dtype) {
  Sample sample = elementwise_sample(random, dtype, 1, -2, 2);
  Shape& shape = sample.operands[0].type.shape;
  shape = random_shape(random, 1, 4);
  sample.attributes = {{"axis", random_integer(random, 0, shape.rank() - 1)},
                       {"exclusive", random_chance(random, 0.5)},
                       {"reverse", random_chance(random, 0.5)}};
  return sample;
}

}  // namespace

std::span<const Op> cumulative_ops() {
  static const Op rows[] = {
      Op({"cumsum",
          Pattern::scan,
          1,
          1,
          0,
          {{"axis", AttributeSpec::integer},
           {"exclusive", AttributeSpec::flag},
           {"reverse", AttributeSpec::flag}},
          infer_cumsum},
         numeric_and_complex_types(), derive_cumsum, reference_cumsum,
         Lower::none("anchor: an element needs those before it"), Decompose::none("is primitive"),
         sample_cumsum, 64,
         "running sums along an axis; exclusive: without the element itself; reverse: from the "
         "end"),
  };
  return rows;
}

}  // namespace weft::ops
