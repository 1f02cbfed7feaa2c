#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/composite.h"
#include "ops/support.h"

namespace weft::ops {
namespace {

/// Stands for the score of a key that is not visible: exp(masked - maximum) is exactly 0, and
/// unlike -inf it never meets itself in a difference.
constexpr double masked_score = -1e30;

std::vector<Type> infer_attention(const Node& node) {
  const Type& q = expect_dtype(node, 0, floating_types());
  const Type& k = node.operand_type(1);
  const Type& v = node.operand_type(2);
  const int rank = q.rank();
  require(q.dtype == k.dtype && q.dtype == v.dtype, "operands differ in type: {}, {}, {}", q.text(),
          k.text(), v.text());
  require(rank >= 2 && k.rank() == rank && v.rank() == rank,
          "expected queries [..., n, d], keys [..., m, d] and values [..., m, e], got {}, {}, {}",
          q.text(), k.text(), v.text());
  for (int axis = 0; axis < rank - 2; ++axis) {
    require(q.shape[axis] == k.shape[axis] && q.shape[axis] == v.shape[axis],
            "leading axes differ: {}, {}, {}", q.text(), k.text(), v.text());
  }
  require(q.shape[rank - 1] == k.shape[rank - 1], "queries {} and keys {} differ in width",
          q.text(), k.text());
  const std::int64_t n = q.shape[rank - 2];
  const std::int64_t m = k.shape[rank - 2];
  require(m == v.shape[rank - 2], "{} keys, but {} values", m, v.shape[rank - 2]);
  require(m > 0, "there are no keys: {}", k.text());
  require(!node.attributes.flag("causal") || m >= n,
          "causal attention of {} queries needs at least as many keys, got {}", n, m);
  Shape shape = q.shape;
  shape[rank - 1] = v.shape[rank - 1];
  return {{q.dtype, shape}};
}

void attention_reference(const Node& node, std::span<const Array* const> operands,
                         std::span<Array> results) {
  const Array& q = *operands[0];
  const Array& k = *operands[1];
  const Array& v = *operands[2];
  const int rank = q.type.rank();
  const std::int64_t n = q.type.shape[rank - 2];
  const std::int64_t d = q.type.shape[rank - 1];
  const std::int64_t m = k.type.shape[rank - 2];
  const std::int64_t e = v.type.shape[rank - 1];
  const double scale = node.attributes.real("scale");
  const bool causal = node.attributes.flag("causal");
  std::int64_t batch = 1;
  for (int axis = 0; axis < rank - 2; ++axis) batch *= q.type.shape[axis];
  std::vector<double> scores(static_cast<std::size_t>(m));
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t visible = causal ? i + (m - n) + 1 : m;
      double maximum = -std::numeric_limits<double>::infinity();
      for (std::int64_t j = 0; j < visible; ++j) {
        double score = 0;
        for (std::int64_t c = 0; c < d; ++c) {
          score += q.at((b * n + i) * d + c) * k.at((b * m + j) * d + c);
        }
        scores[static_cast<std::size_t>(j)] = score * scale;
        maximum = std::max(maximum, score * scale);
      }
      double total = 0;
      for (std::int64_t j = 0; j < visible; ++j) {
        double& score = scores[static_cast<std::size_t>(j)];
        score = std::exp(score - maximum);
        total += score;
      }
      for (std::int64_t c = 0; c < e; ++c) {
        double value = 0;
        for (std::int64_t j = 0; j < visible; ++j) {
          value += scores[static_cast<std::size_t>(j)] * v.at((b * m + j) * e + c);
        }
        results[0].set((b * n + i) * e + c, value / total);
      }
    }
  }
}

/// dot over one axis of each operand, all leading axes being batch axes.
Value batched_dot(Builder& b, Value lhs, Value rhs, std::int64_t lhs_axis, std::int64_t rhs_axis) {
  std::vector<std::int64_t> batch;
  for (int axis = 0; axis < lhs.type().rank() - 2; ++axis) batch.push_back(axis);
  return dot(b, lhs, rhs, {lhs_axis}, {rhs_axis}, batch, batch);
}

/// softmax(scale * q k^T), masked where causal: (..., n, m) in the compute type, as are q and k.
Value probabilities(Builder& b, const Node& node, Value q, Value k) {
  const int rank = q.type().rank();
  Value scores = batched_dot(b, q, k, rank - 1, rank - 1);
  scores = mul(b, scores, node.attributes.real("scale"));
  if (node.attributes.flag("causal")) {
    const std::int64_t n = scores.shape()[rank - 2];
    const std::int64_t m = scores.shape()[rank - 1];
    const auto iota = [&](std::int64_t axis) {
      return b.emit1(
          "iota", {},
          {{"dtype", DType::i32}, {"shape", std::vector<std::int64_t>{n, m}}, {"axis", axis}});
    };
    const Value last = add(b, iota(0), static_cast<double>(m - n));
    const Value visible = binary(b, "less_equal", iota(1), last);
    scores = where(b, broadcast_to(b, visible, scores.shape()), scores,
                   constant_like(b, scores, masked_score));
  }
  return b.emit1("softmax", {scores}, {{"axis", std::int64_t{rank - 1}}});
}

std::vector<Value> attention_decompose(Builder& b, const Node& node) {
  const Value q = widened(b, node.operands[0]);
  const Value k = widened(b, node.operands[1]);
  const Value v = widened(b, node.operands[2]);
  const int rank = q.type().rank();
  const Value p = probabilities(b, node, q, k);
  return {cast(b, batched_dot(b, p, v, rank - 1, rank - 2), node.results[0].dtype)};
}

/// With p the probabilities, o the result and g its gradient: dL/dv = p^T g, dL/dp = g v^T,
/// dL/ds = p * (dL/dp - sum(g * o)) since sum_j p_j dL/dp_j = sum_c g_c o_c. The probabilities are
/// computed again: keeping them would cost n * m elements.
void attention_derivative(Backward& backward) {
  Builder& b = backward.build();
  const Node& node = backward.node();
  const DType dtype = backward.operand(0).dtype();
  const Value q = widened(b, backward.operand(0));
  const Value k = widened(b, backward.operand(1));
  const Value g = widened(b, backward.gradient());
  const int row = q.type().rank() - 2;
  const int column = row + 1;
  const Value p = probabilities(b, node, q, k);
  if (backward.wanted(2)) backward.add(2, cast(b, batched_dot(b, p, g, row, row), dtype));
  if (!backward.wanted(0) && !backward.wanted(1)) return;
  const Value v = widened(b, backward.operand(2));
  const Value gp = batched_dot(b, g, v, column, column);
  const Value o = widened(b, backward.result());
  const Value delta = broadcast_to(b, sum(b, mul(b, g, o), {column}, true), gp.shape());
  const Value gs = mul(b, mul(b, p, sub(b, gp, delta)), node.attributes.real("scale"));
  if (backward.wanted(0)) backward.add(0, cast(b, batched_dot(b, gs, k, column, row), dtype));
  if (backward.wanted(1)) backward.add(1, cast(b, batched_dot(b, gs, q, row, row), dtype));
}

Sample attention_sample(Random& random, DType dtype) {
  const Shape leading = random_shape(random, 0, 2, true, 6);
  const bool causal = random_chance(random, 0.5);
  const std::int64_t n = random_integer(random, 1, 7);
  const std::int64_t m = causal ? n + random_integer(random, 0, 3) : random_integer(random, 1, 9);
  const std::int64_t d = random_integer(random, 1, 9);
  const std::int64_t e = random_integer(random, 1, 9);
  const auto type = [&](std::int64_t rows, std::int64_t columns) {
    Shape shape = leading;
    shape.push_back(rows);
    shape.push_back(columns);
    return Type{dtype, shape};
  };
  Sample sample;
  sample.operands = {{type(n, d), -2, 2}, {type(m, d), -2, 2}, {type(m, e), -2, 2}};
  sample.attributes = {{"scale", 1 / std::sqrt(static_cast<double>(d))}, {"causal", causal}};
  return sample;
}

}  // namespace

std::span<const Op> attention_ops() {
  static const Op rows[] = {
      Op({"attention",
          Pattern::attention,
          3,
          3,
          0,
          {{"scale", ir::AttributeSpec::real}, {"causal", ir::AttributeSpec::flag}},
          infer_attention},
         floating_types(), attention_derivative, attention_reference,
         Lower::none("not pointwise: every result needs a whole row of scores"),
         attention_decompose, attention_sample, 100,
         "softmax(scale * q k^T) v for q [..., n, d], k [..., m, d], v [..., m, e]; causal: query "
         "i sees keys j <= i + m - n (m >= n); 16-bit types compute in f32"),
  };
  return rows;
}

}  // namespace weft::ops
