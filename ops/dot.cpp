#include <algorithm>

#include "ops/support.h"

namespace weft::ops {

namespace {

using ir::AttributeSpec;
using Integers = std::vector<std::int64_t>;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

/// What the four attributes say: which axes of each operand are batch, free and contracted.
struct Axes {
  Integers batch;     ///< in the order of the result
  Integers free;      ///< ascending
  Integers contract;  ///< paired with the other operand's
};
struct DotAxes {
  Axes lhs;
  Axes rhs;
};

Axes side_axes(const Node& node, std::size_t operand, const char* contract, const char* batch) {
  const int rank = node.operand_type(operand).rank();
  Axes axes{axes_attribute(node, batch, rank), {}, axes_attribute(node, contract, rank)};
  for (std::int64_t axis = 0; axis < rank; ++axis) {
    const bool batched = contains(axes.batch, axis);
    const bool contracted = contains(axes.contract, axis);
    require(!batched || !contracted, "axis {} of {} is both in {} and in {}", axis,
            node.operand_type(operand).text(), batch, contract);
    if (!batched && !contracted) axes.free.push_back(axis);
  }
  return axes;
}

DotAxes dot_axes(const Node& node) {
  return {side_axes(node, 0, "lhs_contract", "lhs_batch"),
          side_axes(node, 1, "rhs_contract", "rhs_batch")};
}

/// Axes of the two operands that go together must have one extent.
void expect_pairs(const Node& node, const Integers& lhs, const Integers& rhs, const char* kind) {
  const Type& a = node.operand_type(0);
  const Type& b = node.operand_type(1);
  require(lhs.size() == rhs.size(), "lhs_{} {} and rhs_{} {} differ in length", kind, text(lhs),
          kind, text(rhs));
  for (std::size_t i = 0; i < lhs.size(); ++i) {
    const std::int64_t m = a.shape[static_cast<int>(lhs[i])];
    const std::int64_t n = b.shape[static_cast<int>(rhs[i])];
    require(m == n, "{} axes differ: axis {} of {} has extent {}, axis {} of {} has {}", kind,
            lhs[i], a.text(), m, rhs[i], b.text(), n);
  }
}

std::vector<Type> infer_dot(const Node& node) {
  const Type& a = expect_dtype(node, 0, floating_types());
  const Type& b = expect_dtype(node, 1, floating_types());
  require(a.dtype == b.dtype, "operands differ in type: {} and {}", a.text(), b.text());
  const DotAxes axes = dot_axes(node);
  expect_pairs(node, axes.lhs.contract, axes.rhs.contract, "contract");
  expect_pairs(node, axes.lhs.batch, axes.rhs.batch, "batch");
  require(
      axes.lhs.batch.size() + axes.lhs.free.size() + axes.rhs.free.size() <= at(Shape::max_rank),
      "the result of {} and {} would have more than {} axes", a.text(), b.text(),
      int{Shape::max_rank});
  Type result{a.dtype, {}};
  for (const std::int64_t axis : axes.lhs.batch) {
    result.shape.push_back(a.shape[static_cast<int>(axis)]);
  }
  for (const std::int64_t axis : axes.lhs.free) {
    result.shape.push_back(a.shape[static_cast<int>(axis)]);
  }
  for (const std::int64_t axis : axes.rhs.free) {
    result.shape.push_back(b.shape[static_cast<int>(axis)]);
  }
  check_size(result);
  return {result};
}

/// `count` numbers from `first`.
Integers range(std::size_t first, std::size_t count) {
  Integers result(count);
  for (std::size_t i = 0; i < count; ++i) result[i] = static_cast<std::int64_t>(first + i);
  return result;
}

/// How many of `values` are smaller.
std::size_t rank_in(const Integers& values, std::int64_t value) {
  return at(std::count_if(values.begin(), values.end(), [&](auto other) { return other < value; }));
}

/// An operand's gradient comes as [batch, its free axes, the contracted axes in the order of the
/// other operand]: the order that makes it the operand's type.
Integers gradient_order(const Axes& own, const Axes& other) {
  const std::size_t batch = own.batch.size();
  const std::size_t free = own.free.size();
  Integers order(batch + free + own.contract.size());
  for (std::size_t i = 0; i < batch; ++i) order[at(own.batch[i])] = static_cast<std::int64_t>(i);
  for (std::size_t i = 0; i < free; ++i) {
    order[at(own.free[i])] = static_cast<std::int64_t>(batch + i);
  }
  for (std::size_t i = 0; i < own.contract.size(); ++i) {
    order[at(own.contract[i])] =
        static_cast<std::int64_t>(batch + free + rank_in(other.contract, other.contract[i]));
  }
  return order;
}

void derive_dot(Backward& d) {
  Builder& b = d.build();
  const auto [lhs, rhs] = dot_axes(d.node());
  const Value g = d.gradient();
  const Integers g_batch = range(0, lhs.batch.size());
  const Integers g_lhs = range(lhs.batch.size(), lhs.free.size());
  const Integers g_rhs = range(lhs.batch.size() + lhs.free.size(), rhs.free.size());
  if (d.wanted(0)) {
    // [batch, lhs free, rhs's contracted axes]
    const Value product = dot(b, g, d.operand(1), g_rhs, rhs.free, g_batch, rhs.batch);
    d.add(0, permute(b, product, gradient_order(lhs, rhs)));
  }
  if (d.wanted(1)) {
    // lhs first, so that the gradient of a matrix [contract, free] needs no permutation:
    // [batch, lhs's contracted axes, rhs free]
    const Value product = dot(b, d.operand(0), g, lhs.free, g_lhs, lhs.batch, g_batch);
    const std::size_t contract = lhs.contract.size();
    Integers order = gradient_order(rhs, lhs);
    for (std::int64_t& axis : order) {
      const std::size_t i = at(axis);
      if (i < lhs.batch.size()) continue;
      const bool is_free = i < lhs.batch.size() + rhs.free.size();
      axis = static_cast<std::int64_t>(is_free ? i + contract : i - rhs.free.size());
    }
    d.add(1, permute(b, product, std::move(order)));
  }
}

/// Positions of all elements along some axes, the last fastest.
Integers offsets(const Shape& shape, const Integers& axes) {
  const auto strides = shape.strides();
  Integers result = {0};
  for (const std::int64_t axis : axes) {
    Integers next;
    for (const std::int64_t base : result) {
      for (std::int64_t i = 0; i < shape[static_cast<int>(axis)]; ++i) {
        next.push_back(base + i * strides[at(axis)]);
      }
    }
    result = std::move(next);
  }
  return result;
}

void reference_dot(const Node& node, std::span<const Array* const> operands,
                   std::span<Array> results) {
  const Array& a = *operands[0];
  const Array& b = *operands[1];
  const DotAxes axes = dot_axes(node);
  const Integers a_batch = offsets(a.type.shape, axes.lhs.batch);
  const Integers a_row = offsets(a.type.shape, axes.lhs.free);
  const Integers a_inner = offsets(a.type.shape, axes.lhs.contract);
  const Integers b_batch = offsets(b.type.shape, axes.rhs.batch);
  const Integers b_column = offsets(b.type.shape, axes.rhs.free);
  const Integers b_inner = offsets(b.type.shape, axes.rhs.contract);
  const std::size_t columns = b_column.size();
  // One batch of rhs as [inner, column], so that the innermost loop runs over neighbours.
  std::vector<double> packed(b_inner.size() * columns);
  double* row = results[0].re.data();
  for (std::size_t batch = 0; batch < a_batch.size(); ++batch) {
    for (std::size_t k = 0; k < b_inner.size(); ++k) {
      for (std::size_t j = 0; j < columns; ++j) {
        packed[k * columns + j] = b.re[at(b_batch[batch] + b_inner[k] + b_column[j])];
      }
    }
    for (const std::int64_t i : a_row) {
      for (std::size_t k = 0; k < a_inner.size(); ++k) {
        const double factor = a.re[at(a_batch[batch] + i + a_inner[k])];
        const double* other = packed.data() + k * columns;
        for (std::size_t j = 0; j < columns; ++j) row[j] += factor * other[j];
      }
      row += columns;
    }
  }
}

/// Any number of batch, free and contracted axes, in any order in both operands.
Sample sample_dot(Random& random, DType dtype) {
  const auto batch = static_cast<std::size_t>(random_integer(random, 0, 2));
  const auto contract =
      static_cast<std::size_t>(random_chance(random, 0.7) ? 1 : random_integer(random, 0, 2));
  const auto extent = [&] {
    return random_chance(random, 0.03) ? 0 : std::min<std::int64_t>(random_extent(random), 9);
  };
  Integers batch_extents;
  Integers contract_extents;
  for (std::size_t i = 0; i < batch; ++i)
    batch_extents.push_back(std::min<std::int64_t>(extent(), 4));
  for (std::size_t i = 0; i < contract; ++i) contract_extents.push_back(extent());

  Sample sample;
  const auto side = [&](const char* batch_name, const char* contract_name) {
    const auto free =
        static_cast<std::size_t>(random_chance(random, 0.7) ? 1 : random_integer(random, 0, 2));
    const Integers order = random_order(random, static_cast<int>(batch + contract + free));
    Shape shape{std::span<const std::int64_t>(order)};
    Integers batch_axes;
    Integers contract_axes;
    for (std::size_t i = 0; i < order.size(); ++i) {
      std::int64_t& here = shape[static_cast<int>(order[i])];
      if (i < batch) {
        here = batch_extents[i];
        batch_axes.push_back(order[i]);
      } else if (i < batch + contract) {
        here = contract_extents[i - batch];
        contract_axes.push_back(order[i]);
      } else {
        here = extent();
      }
    }
    sample.operands.push_back({{dtype, shape}, -1, 1});
    sample.attributes.set(batch_name, batch_axes);
    sample.attributes.set(contract_name, contract_axes);
  };
  side("lhs_batch", "lhs_contract");
  side("rhs_batch", "rhs_contract");
  return sample;
}

}  // namespace

std::span<const Op> dot_ops() {
  static const Op rows[] = {
      Op({"dot",
          Pattern::dot,
          2,
          2,
          0,
          {{"lhs_contract", AttributeSpec::integers},
           {"rhs_contract", AttributeSpec::integers},
           {"lhs_batch", AttributeSpec::integers},
           {"rhs_batch", AttributeSpec::integers}},
          infer_dot},
         floating_types(), derive_dot, reference_dot,
         Lower::none("anchor: an element needs many of the operands'"),
         Decompose::none("is primitive"), sample_dot, 128,
         "sums products over paired axes; result axes: batch, lhs free, rhs free; 16-bit operands "
         "accumulate in f32"),
  };
  return rows;
}

}  // namespace weft::ops
