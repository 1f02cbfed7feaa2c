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

/// [batch..., n, d] queries, [batch..., m, d] keys, [batch..., m, e] values.
struct Extents {
  std::int64_t batch = 1;
  std::int64_t n, m, d, e;
  double scale;
  bool causal;

  explicit Extents(const Node& node)
      : scale(node.attributes.real("scale")), causal(node.attributes.flag("causal")) {
    const Shape& q = node.operand_type(0).shape;
    const Shape& v = node.operand_type(2).shape;
    const int rank = q.rank();
    for (int axis = 0; axis < rank - 2; ++axis) batch *= q[axis];
    n = q[rank - 2];
    d = q[rank - 1];
    m = v[rank - 2];
    e = v[rank - 1];
  }
  /// Keys that query i sees: the first ones.
  std::int64_t visible(std::int64_t i) const { return causal ? i + (m - n) + 1 : m; }
};

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
  Type result{q.dtype, q.shape};
  result.shape[rank - 1] = v.shape[rank - 1];
  Type normaliser{compute_dtype(q.dtype), q.shape};
  normaliser.shape.erase(rank - 1);
  return {result, normaliser};
}

std::vector<Type> infer_attention_backward(const Node& node) {
  const std::vector<Type> forward = infer_attention(node);
  for (const std::size_t operand : {3, 4}) {
    require(node.operand_type(operand) == forward[1], "operand {} has type {}; expected {}",
            operand, node.operand_type(operand).text(), forward[1].text());
  }
  require(node.operand_type(5) == forward[0], "operand 5 has type {}; expected {}",
          node.operand_type(5).text(), forward[0].text());
  return {node.operand_type(0), node.operand_type(1), node.operand_type(2)};
}

// ---- reference evaluation -----------------------------------------------------------------------

/// sum_c a[row_a, c] b[row_b, c].
double inner(const Array& a, std::int64_t row_a, const Array& b, std::int64_t row_b,
             std::int64_t length) {
  double total = 0;
  for (std::int64_t c = 0; c < length; ++c) {
    total += a.at(row_a * length + c) * b.at(row_b * length + c);
  }
  return total;
}

void attention_reference(const Node& node, std::span<const Array* const> operands,
                         std::span<Array> results) {
  const Extents x(node);
  const Array& v = *operands[2];
  std::vector<double> scores(static_cast<std::size_t>(x.m));
  for (std::int64_t row = 0; row < x.batch * x.n; ++row) {
    const std::int64_t first = row / x.n * x.m;
    const std::int64_t visible = x.visible(row % x.n);
    double maximum = -std::numeric_limits<double>::infinity();
    for (std::int64_t j = 0; j < visible; ++j) {
      double& score = scores[static_cast<std::size_t>(j)];
      score = x.scale * inner(*operands[0], row, *operands[1], first + j, x.d);
      maximum = std::max(maximum, score);
    }
    double total = 0;
    for (std::int64_t j = 0; j < visible; ++j) {
      double& score = scores[static_cast<std::size_t>(j)];
      score = std::exp(score - maximum);
      total += score;
    }
    for (std::int64_t c = 0; c < x.e; ++c) {
      double value = 0;
      for (std::int64_t j = 0; j < visible; ++j) {
        value += scores[static_cast<std::size_t>(j)] * v.at((first + j) * x.e + c);
      }
      results[0].set(row * x.e + c, value / total);
    }
    results[1].set(row, maximum + std::log(total));
  }
}

void attention_backward_reference(const Node& node, std::span<const Array* const> operands,
                                  std::span<Array> results) {
  const Extents x(node);
  const auto add_row = [](Array& to, std::int64_t to_row, double factor, const Array& from,
                          std::int64_t from_row, std::int64_t length) {
    for (std::int64_t c = 0; c < length; ++c) {
      to.re[static_cast<std::size_t>(to_row * length + c)] +=
          factor * from.at(from_row * length + c);
    }
  };
  const Array& q = *operands[0];
  const Array& k = *operands[1];
  const Array& g = *operands[5];
  for (std::int64_t row = 0; row < x.batch * x.n; ++row) {
    for (std::int64_t j = 0; j < x.visible(row % x.n); ++j) {
      const std::int64_t key = row / x.n * x.m + j;
      const double p = std::exp(x.scale * inner(q, row, k, key, x.d) - operands[3]->at(row));
      const double gp = inner(g, row, *operands[2], key, x.e);
      const double gs = x.scale * p * (gp - operands[4]->at(row));
      add_row(results[0], row, gs, k, key, x.d);
      add_row(results[1], key, gs, q, row, x.d);
      add_row(results[2], key, p, g, row, x.e);
    }
  }
}

// ---- primitives ---------------------------------------------------------------------------------

/// A batch of matrix products; all leading axes are batch axes. The names tell how the last two
/// axes of the operands lie: n plain, t exchanged.
Value product(Builder& b, Value lhs, std::int64_t lhs_axis, Value rhs, std::int64_t rhs_axis) {
  std::vector<std::int64_t> batch;
  for (int axis = 0; axis < lhs.type().rank() - 2; ++axis) batch.push_back(axis);
  return dot(b, lhs, rhs, {lhs_axis}, {rhs_axis}, batch, batch);
}
Value product_nn(Builder& b, Value lhs, Value rhs) {
  const int rank = lhs.type().rank();
  return product(b, lhs, rank - 1, rhs, rank - 2);
}
Value product_nt(Builder& b, Value lhs, Value rhs) {
  const int rank = lhs.type().rank();
  return product(b, lhs, rank - 1, rhs, rank - 1);
}
Value product_tn(Builder& b, Value lhs, Value rhs) {
  const int rank = lhs.type().rank();
  return product(b, lhs, rank - 2, rhs, rank - 2);
}

/// One value for each query (..., n), at every key.
Value along_keys(Builder& b, Value x, Value scores) {
  Shape column = x.shape();
  column.push_back(1);
  return broadcast_to(b, reshape(b, x, column), scores.shape());
}

Value sum_over_keys(Builder& b, Value x) { return sum(b, x, {x.type().rank() - 1}); }

/// scale * q k^T, masked where causal: (..., n, m).
Value masked_scores(Builder& b, const Node& node, Value q, Value k) {
  const Extents x(node);
  Value scores = mul(b, product_nt(b, q, k), x.scale);
  if (!x.causal) return scores;
  const auto iota = [&](std::int64_t axis) {
    return b.emit1(
        "iota", {},
        {{"dtype", DType::i32}, {"shape", std::vector<std::int64_t>{x.n, x.m}}, {"axis", axis}});
  };
  const Value last = add(b, iota(0), static_cast<double>(x.m - x.n));
  const Value visible = binary(b, "less_equal", iota(1), last);
  return where(b, broadcast_to(b, visible, scores.shape()), scores,
               constant_like(b, scores, masked_score));
}

std::vector<Value> attention_decompose(Builder& b, const Node& node) {
  const Value q = widened(b, node.operands[0]);
  const Value k = widened(b, node.operands[1]);
  const Value v = widened(b, node.operands[2]);
  const Value scores = masked_scores(b, node, q, k);
  const int keys = scores.type().rank() - 1;
  const Exponentials parts = exponentials_along(b, scores, keys);
  const Value o = product_nn(b, softmax_of(b, scores, keys), v);
  const Value normaliser = add(b, parts.maximum, log(b, parts.total));
  return {cast(b, o, node.results[0].dtype), reshape(b, normaliser, node.results[1].shape)};
}

/// What the gradients and their gradients are made of, in the compute type.
struct Pieces {
  Value q, k, v, g;
  Value p;         ///< the probabilities
  Value centred;   ///< dL/dp - delta
  Value gradient;  ///< dL/d(scale q k^T) = p * centred
};

Pieces pieces_of(Builder& b, const Node& node) {
  Pieces x;
  x.q = widened(b, node.operands[0]);
  x.k = widened(b, node.operands[1]);
  x.v = widened(b, node.operands[2]);
  x.g = widened(b, node.operands[5]);
  const Value scores = masked_scores(b, node, x.q, x.k);
  x.p = exp(b, sub(b, scores, along_keys(b, node.operands[3], scores)));
  x.centred = sub(b, product_nt(b, x.g, x.v), along_keys(b, node.operands[4], scores));
  x.gradient = mul(b, x.p, x.centred);
  return x;
}

std::vector<Value> attention_backward_decompose(Builder& b, const Node& node) {
  const Pieces x = pieces_of(b, node);
  const DType dtype = node.results[0].dtype;
  const Value gs = mul(b, x.gradient, node.attributes.real("scale"));
  return {cast(b, product_nn(b, gs, x.k), dtype), cast(b, product_tn(b, gs, x.q), dtype),
          cast(b, product_tn(b, x.p, x.g), dtype)};
}

// ---- derivatives --------------------------------------------------------------------------------

/// With p the probabilities, o the result and g its gradient: dL/dv = p^T g, dL/dp = g v^T,
/// dL/ds = p * (dL/dp - delta), delta = sum(g * o) since sum_j p_j dL/dp_j = sum_c g_c o_c. The
/// normaliser's gradient h adds p * h to dL/ds. The probabilities are computed again from the
/// normaliser: keeping them would cost n * m elements.
void attention_derivative(Backward& backward) {
  Builder& b = backward.build();
  const Node& node = backward.node();
  Value g = backward.gradient(0);
  Value delta;
  if (g) {
    const Value o = widened(b, backward.result(0));
    delta = sum_over_keys(b, mul(b, widened(b, g), o));
  } else {
    g = zeros(b, node.results[0]);
    delta = zeros(b, node.results[1]);
  }
  if (const Value h = backward.gradient(1)) delta = sub(b, delta, h);
  const std::vector<Value> operands = {
      backward.operand(0), backward.operand(1), backward.operand(2), backward.result(1), delta, g};
  Node* gradients = b.emit(op("attention_backward"), operands, node.attributes);
  for (std::uint32_t i = 0; i < 3; ++i) {
    if (backward.wanted(i)) backward.add(i, gradients->result(i));
  }
}

/// With gs = p * centred and a, b, c the gradients of the results scale gs k, scale gs^T q, p^T g:
/// u = dL/dgs = scale (a k^T + q b^T), t = dL/d(g v^T) = u * p, and with z = p * dL/dp, where
/// dL/dp = u * centred + g c^T, the scores' gradient is z and the normaliser's -sum(z).
void attention_backward_derivative(Backward& backward) {
  Builder& b = backward.build();
  const Node& node = backward.node();
  const double scale = node.attributes.real("scale");
  const Pieces x = pieces_of(b, node);
  const auto gradient = [&](std::uint32_t result) {
    const Value value = backward.gradient(result);
    return widened(b, value ? value : zeros(b, node.results[result]));
  };
  const Value of_q = mul(b, gradient(0), scale);
  const Value of_k = mul(b, gradient(1), scale);
  const Value of_v = gradient(2);
  const Value u = add(b, product_nt(b, of_q, x.k), product_nt(b, x.q, of_k));
  const Value t = mul(b, u, x.p);
  const Value z = mul(b, x.p, add(b, mul(b, u, x.centred), product_nt(b, x.g, of_v)));
  const Value scaled = mul(b, z, scale);
  const auto add_to = [&](std::size_t operand, Value value) {
    backward.add(operand, cast(b, value, backward.operand(operand).dtype()));
  };
  if (backward.wanted(0)) {
    add_to(0, add(b, product_nn(b, scaled, x.k), product_nn(b, x.gradient, of_k)));
  }
  if (backward.wanted(1)) {
    add_to(1, add(b, product_tn(b, scaled, x.q), product_tn(b, x.gradient, of_q)));
  }
  if (backward.wanted(2)) add_to(2, product_tn(b, t, x.g));
  if (backward.wanted(3)) add_to(3, neg(b, sum_over_keys(b, z)));
  if (backward.wanted(4)) add_to(4, neg(b, sum_over_keys(b, t)));
  if (backward.wanted(5)) {
    add_to(5, add(b, product_nn(b, t, x.v), product_nn(b, x.p, of_v)));
  }
}

// ---- rows ---------------------------------------------------------------------------------------

Sample attention_sample(Random& random, DType dtype) {
  // One time in four several strips of queries and blocks of keys.
  const bool large = random_chance(random, 0.25);
  const Shape leading = random_shape(random, 0, 2, true, large ? 2 : 6);
  const bool causal = random_chance(random, 0.5);
  const std::int64_t n = large ? random_integer(random, 8, 50) : random_integer(random, 1, 7);
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

/// The normaliser is not that of these scores: the formulas hold for any, and probabilities need
/// not sum to 1.
Sample attention_backward_sample(Random& random, DType dtype) {
  Sample sample = attention_sample(random, dtype);
  Shape rows = sample.operands[0].type.shape;
  rows.erase(rows.rank() - 1);
  Shape result = rows;
  const Shape& v = sample.operands[2].type.shape;
  result.push_back(v[v.rank() - 1]);
  const Type normaliser{compute_dtype(dtype), rows};
  for (const double low : {1.0, -1.0}) sample.operands.push_back({normaliser, low, low + 2});
  sample.operands.push_back({{dtype, result}, -1, 1});
  return sample;
}

}  // namespace

std::span<const Op> attention_ops() {
  const std::vector<ir::AttributeSpec> attributes = {{"scale", ir::AttributeSpec::real},
                                                     {"causal", ir::AttributeSpec::flag}};
  const Lower none = Lower::none("not pointwise: every result needs a whole row of scores");
  static const Op rows[] = {
      Op({"attention", Pattern::attention, 3, 3, 0, attributes, infer_attention}, floating_types(),
         attention_derivative, attention_reference, none, attention_decompose, attention_sample,
         100,
         "softmax(scale * q k^T) v for q [..., n, d], k [..., m, d], v [..., m, e], and the "
         "logarithm of the softmax's denominator [..., n] (f32; f64 for f64); causal: query i sees "
         "keys j <= i + m - n (m >= n); 16-bit types compute in f32"),
      Op({"attention_backward", Pattern::attention, 6, 6, 0, attributes, infer_attention_backward},
         floating_types(), attention_backward_derivative, attention_backward_reference, none,
         attention_backward_decompose, attention_backward_sample, 200,
         "gradients of attention for q, k and v, given these, the logarithm of the denominator "
         "[..., n], delta = sum(g * o) [..., n] less the gradient of that logarithm, and g "
         "[..., n, e], the gradient of the result o"),
  };
  return rows;
}

}  // namespace weft::ops
