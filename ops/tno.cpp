#include "ops/tno.h"

#include <algorithm>

#include "ops/composite.h"
#include "ops/support.h"

namespace weft::ops {

std::int64_t good_fft_length(std::int64_t minimum) {
  for (std::int64_t length = std::max<std::int64_t>(2, minimum + minimum % 2);; length += 2) {
    std::int64_t rest = length;
    for (const std::int64_t factor : {2, 3, 5}) {
      while (rest % factor == 0) rest /= factor;
    }
    if (rest == 1) return length;
  }
}

namespace {

const DTypes& tno_types() {
  static const DTypes types = {DType::f32, DType::f16, DType::bf16};
  return types;
}

/// Extents with leading axes merged: x [batch, groups, n, d], t [groups, lags, d].
struct Extents {
  std::int64_t batch = 1;
  std::int64_t groups = 1;
  std::int64_t n = 1;
  std::int64_t d = 1;
  std::int64_t lags = 1;

  Extents(const Type& x, const Type& t) {
    const int shared = t.rank() - 2;
    const int own = x.rank() - 2 - shared;
    for (int axis = 0; axis < own; ++axis) batch *= x.shape[axis];
    for (int axis = 0; axis < shared; ++axis) groups *= t.shape[axis];
    n = x.shape[x.rank() - 2];
    d = x.shape[x.rank() - 1];
    lags = t.shape[shared];
  }
  Shape sequence() const { return {batch, groups, n, d}; }
  Shape coefficients() const { return {groups, lags, d}; }
};

// ---- shape rule and reference -------------------------------------------------------------------

std::vector<Type> infer_tno(const Node& node) {
  const Type& x = expect_dtype(node, 0, tno_types());
  const Type& t = node.operand_type(1);
  require(t.dtype == x.dtype, "x {} and t {} differ in type", x.text(), t.text());
  expect_rank(node, 0, 2);
  expect_rank(node, 1, 2);
  require(t.rank() <= x.rank(), "t {} has more axes than x {}", t.text(), x.text());
  const int offset = x.rank() - t.rank();
  for (int axis = 0; axis < t.rank() - 2; ++axis) {
    require(t.shape[axis] == x.shape[axis + offset],
            "t's leading axes must equal x's last leading axes: x {}, t {}", x.text(), t.text());
  }
  const std::int64_t n = x.shape[x.rank() - 2];
  require(n >= 1, "x {} is an empty sequence", x.text());
  require(n <= (std::int64_t{1} << 40), "x {} is too long a sequence", x.text());
  require(t.shape[t.rank() - 1] == x.shape[x.rank() - 1], "x {} and t {} differ in channels",
          x.text(), t.text());
  const bool causal = node.attributes.flag("causal");
  const std::int64_t lags = causal ? n : 2 * n - 1;
  require(t.shape[t.rank() - 2] == lags, "{} operator on x {} needs {} lags, t has {}",
          causal ? "a causal" : "an", x.text(), lags, t.text());
  return {x};
}

/// The definition's sum over pairs of positions i and j of a sequence, for each outer index and
/// channel: visit(position of i in a sequence, that of j, that of lag i - j in t).
template <typename Visit>
void for_each_term(const Extents& e, bool causal, Visit&& visit) {
  for (std::int64_t outer = 0; outer < e.batch * e.groups; ++outer) {
    const std::int64_t group = outer % e.groups;
    for (std::int64_t i = 0; i < e.n; ++i) {
      for (std::int64_t j = 0; j <= (causal ? i : e.n - 1); ++j) {
        const std::int64_t lag = causal ? i - j : i - j + e.n - 1;
        for (std::int64_t c = 0; c < e.d; ++c) {
          visit((outer * e.n + i) * e.d + c, (outer * e.n + j) * e.d + c,
                (group * e.lags + lag) * e.d + c);
        }
      }
    }
  }
}

void add_to(Array& array, std::int64_t position, double value) {
  array.re[static_cast<std::size_t>(position)] += value;
}

void tno_reference(const Node& node, std::span<const Array* const> operands,
                   std::span<Array> results) {
  const Array& x = *operands[0];
  const Array& t = *operands[1];
  for_each_term(Extents(x.type, t.type), node.attributes.flag("causal"),
                [&](std::int64_t i, std::int64_t j, std::int64_t lag) {
                  add_to(results[0], i, t.at(lag) * x.at(j));
                });
}

void gradient_x_reference(const Node& node, std::span<const Array* const> operands,
                          std::span<Array> results) {
  const Array& g = *operands[0];
  const Array& t = *operands[1];
  for_each_term(Extents(g.type, t.type), node.attributes.flag("causal"),
                [&](std::int64_t i, std::int64_t j, std::int64_t lag) {
                  add_to(results[0], j, t.at(lag) * g.at(i));
                });
}

std::vector<Type> infer_gradient_t(const Node& node) {
  const Type& x = expect_dtype(node, 0, tno_types());
  expect_rank(node, 0, 2);
  expect_same_type(node, 0, 1);
  const std::int64_t shared = node.attributes.integer("leading");
  require(shared >= 0 && shared <= x.rank() - 2, "leading {} of x {}", shared, x.text());
  const std::int64_t n = x.shape[x.rank() - 2];
  require(n >= 1, "x {} is an empty sequence", x.text());
  require(n <= (std::int64_t{1} << 40), "x {} is too long a sequence", x.text());
  Type t{x.dtype, {}};
  for (int axis = x.rank() - 2 - static_cast<int>(shared); axis < x.rank() - 2; ++axis) {
    t.shape.push_back(x.shape[axis]);
  }
  t.shape.push_back(node.attributes.flag("causal") ? n : 2 * n - 1);
  t.shape.push_back(x.shape[x.rank() - 1]);
  check_size(t);
  return {t};
}

void gradient_t_reference(const Node& node, std::span<const Array* const> operands,
                          std::span<Array> results) {
  const Array& x = *operands[0];
  const Array& g = *operands[1];
  for_each_term(Extents(x.type, results[0].type), node.attributes.flag("causal"),
                [&](std::int64_t i, std::int64_t j, std::int64_t lag) {
                  add_to(results[0], lag, g.at(i) * x.at(j));
                });
}

// ---- direct form --------------------------------------------------------------------------------

Value sequence(Builder& b, const Extents& e, Value x) {
  return reshape(b, cast(b, x, DType::f32), e.sequence());
}
Value coefficients(Builder& b, const Extents& e, Value t) {
  return reshape(b, cast(b, t, DType::f32), e.coefficients());
}
/// Back to the shape and type of the operand.
Value restored(Builder& b, Value value, Value like) {
  return cast(b, reshape(b, value, like.shape()), like.dtype());
}

/// [groups, 2n-1, d], lags that look ahead being 0 where causal.
Value all_lags(Builder& b, const Extents& e, Value t, bool causal) {
  return causal ? pad_axis(b, t, 1, e.n - 1, 0) : t;
}

/// The operator with the given 2n-1 lags: x and the result are [batch, groups, n, d].
Value apply_matrix(Builder& b, const Extents& e, Value x, Value lags) {
  const auto iota = [&](std::int64_t axis) {
    return b.emit1(
        "iota", {},
        {{"dtype", DType::i32}, {"shape", std::vector<std::int64_t>{e.n, e.n}}, {"axis", axis}});
  };
  const Value index = add(b, sub(b, iota(0), iota(1)), static_cast<double>(e.n - 1));
  const Value matrix =  // [groups, i, j, d]
      b.emit1("gather", {lags, index}, {{"axis", std::int64_t{1}}});
  const Value product = dot(b, matrix, x, {2}, {2}, {0, 3}, {1, 3});  // [groups, d, i, batch]
  return permute(b, product, {3, 0, 2, 1});
}

}  // namespace

Value tno_direct(Builder& b, Value x, Value t, bool causal) {
  const Extents e(x.type(), t.type());
  const Value lags = all_lags(b, e, coefficients(b, e, t), causal);
  return restored(b, apply_matrix(b, e, sequence(b, e, x), lags), x);
}

TnoGradients tno_direct_gradients(Builder& b, Value x, Value t, bool causal, Value g, bool want_x,
                                  bool want_t) {
  const Extents e(x.type(), t.type());
  const Value gradient = sequence(b, e, g);
  TnoGradients result;
  if (want_x) {
    // The transposed matrix is the Toeplitz matrix of the lags in reverse.
    const Value lags = flip(b, all_lags(b, e, coefficients(b, e, t), causal), {1});
    result.x = restored(b, apply_matrix(b, e, gradient, lags), x);
  }
  if (want_t) {
    // The gradient of the matrix, [groups, d, i, j], summed along its diagonals i - j. With j
    // reversed, the lag i + (n-1-j) is a column once row i is moved right by i: rows padded to 2n
    // and read with a pitch of 2n - 1 do that.
    const Value matrix = dot(b, gradient, sequence(b, e, x), {0}, {0}, {1, 3}, {1, 3});
    const Value rows = pad_axis(b, flip(b, matrix, {3}), 3, 0, e.n);
    const std::int64_t pitch = 2 * e.n - 1;
    const Value flat = reshape(b, rows, {e.groups, e.d, 2 * e.n * e.n});
    const Value skewed =
        reshape(b, slice_axis(b, flat, 2, 0, e.n * pitch), {e.groups, e.d, e.n, pitch});
    Value lags = transpose(b, sum(b, skewed, {2}), 1, 2);  // [groups, 2n-1, d]
    if (causal) lags = slice_axis(b, lags, 1, e.n - 1, pitch);
    result.t = restored(b, lags, t);
  }
  return result;
}

// ---- transform form -----------------------------------------------------------------------------
// With N >= 2n-1 points and lag k at position k mod N, neither the convolution nor the correlations
// of the derivative wrap around into the n results. Spectra are emitted alike in forward and
// backward, so that equal ones are found and computed once.

namespace {

/// The spectrum of the coefficients: [groups, N/2+1, d].
Value coefficient_spectrum(Builder& b, const Extents& e, Value t, bool causal) {
  const std::int64_t points = good_fft_length(2 * e.n - 1);
  Value circular = coefficients(b, e, t);
  if (!causal && e.n > 1) {
    const Value past = slice_axis(b, circular, 1, e.n - 1, e.lags);
    const Value ahead = slice_axis(b, circular, 1, 0, e.n - 1);
    circular = concat(b, {pad_axis(b, past, 1, 0, points - e.lags), ahead}, 1);
  }
  return rfft(b, circular, 1, points);
}

Value sequence_spectrum(Builder& b, const Extents& e, Value x) {
  return rfft(b, sequence(b, e, x), 2, good_fft_length(2 * e.n - 1));
}

/// The first n points of the inverse transform of `spectrum` [batch, groups, N/2+1, d].
Value first_points(Builder& b, const Extents& e, Value spectrum) {
  const Value all = irfft(b, spectrum, 2, good_fft_length(2 * e.n - 1));
  return slice_axis(b, all, 2, 0, e.n);
}

}  // namespace

Value tno_fft(Builder& b, Value x, Value t, bool causal) {
  const Extents e(x.type(), t.type());
  const Value signal = sequence_spectrum(b, e, x);
  const Value filter = broadcast_to(b, coefficient_spectrum(b, e, t, causal), signal.shape());
  return restored(b, first_points(b, e, mul(b, signal, filter)), x);
}

TnoGradients tno_fft_gradients(Builder& b, Value x, Value t, bool causal, Value g, bool want_x,
                               bool want_t) {
  const Extents e(x.type(), t.type());
  const std::int64_t points = good_fft_length(2 * e.n - 1);
  const Value gradient = sequence_spectrum(b, e, g);
  TnoGradients result;
  if (want_x) {
    const Value filter = broadcast_to(b, coefficient_spectrum(b, e, t, causal), gradient.shape());
    result.x = restored(b, first_points(b, e, mul(b, gradient, conj(b, filter))), x);
  }
  if (want_t) {
    // Summed over the batch before the inverse transform, which is then one for each group.
    const Value signal = conj(b, sequence_spectrum(b, e, x));
    const Value spectrum = sum(b, mul(b, gradient, signal), {0});
    const Value circular = irfft(b, spectrum, 1, points);  // lag k at k mod N
    Value lags = slice_axis(b, circular, 1, 0, e.n);
    if (!causal && e.n > 1) {
      lags = concat(b, {slice_axis(b, circular, 1, points - (e.n - 1), points), lags}, 1);
    }
    result.t = restored(b, lags, t);
  }
  return result;
}

// ---- row ----------------------------------------------------------------------------------------

namespace {

bool is_short(Value x) { return x.shape()[x.type().rank() - 2] <= tno_direct_limit; }

std::vector<Type> infer_gradients(const Node& node) {
  const Type x = infer_tno(node)[0];
  expect_same_type(node, 0, 2);
  return {x, node.operand_type(1)};
}

void gradients_reference(const Node& node, std::span<const Array* const> operands,
                         std::span<Array> results) {
  const Array& x = *operands[0];
  const Array& t = *operands[1];
  const Array& g = *operands[2];
  for_each_term(Extents(x.type, t.type), node.attributes.flag("causal"),
                [&](std::int64_t i, std::int64_t j, std::int64_t lag) {
                  add_to(results[0], j, t.at(lag) * g.at(i));
                  add_to(results[1], lag, g.at(i) * x.at(j));
                });
}

Attributes gradient_t_attributes(const Node& node, Value t) {
  return {{"causal", node.attributes.flag("causal")},
          {"leading", static_cast<std::int64_t>(t.type().rank() - 2)}};
}

// The operator and its gradients are one trilinear form sum g_i t_(i-j) x_j seen from its three
// arguments: their derivatives are each other.

void tno_derivative(Backward& d) {
  Builder& b = d.build();
  const Attributes causal = {{"causal", d.node().attributes.flag("causal")}};
  const Value x = d.operand(0);
  const Value t = d.operand(1);
  if (d.wanted(0) && d.wanted(1)) {
    Node* both = b.emit(op("tno_gradients"), {x, t, d.gradient()}, causal);
    d.add(0, both->result(0));
    d.add(1, both->result(1));
    return;
  }
  if (d.wanted(0)) d.add(0, b.emit1("tno_gradient_x", {d.gradient(), t}, causal));
  if (d.wanted(1)) {
    d.add(1, b.emit1("tno_gradient_t", {x, d.gradient()}, gradient_t_attributes(d.node(), t)));
  }
}

void gradient_x_derivative(Backward& d) {
  Builder& b = d.build();
  const Attributes causal = {{"causal", d.node().attributes.flag("causal")}};
  const Value g = d.operand(0);
  const Value t = d.operand(1);
  if (d.wanted(0)) d.add(0, b.emit1("tno", {d.gradient(), t}, causal));
  if (d.wanted(1)) {
    d.add(1, b.emit1("tno_gradient_t", {d.gradient(), g}, gradient_t_attributes(d.node(), t)));
  }
}

void gradient_t_derivative(Backward& d) {
  Builder& b = d.build();
  const Attributes causal = {{"causal", d.node().attributes.flag("causal")}};
  const Value x = d.operand(0);
  const Value g = d.operand(1);
  if (d.wanted(0)) d.add(0, b.emit1("tno_gradient_x", {g, d.gradient()}, causal));
  if (d.wanted(1)) d.add(1, b.emit1("tno", {x, d.gradient()}, causal));
}

void gradients_derivative(Backward& d) {
  Builder& b = d.build();
  const Attributes causal = {{"causal", d.node().attributes.flag("causal")}};
  const Value x = d.operand(0);
  const Value t = d.operand(1);
  const Value g = d.operand(2);
  if (const Value along_x = d.gradient(0)) {
    if (d.wanted(1)) {
      d.add(1, b.emit1("tno_gradient_t", {along_x, g}, gradient_t_attributes(d.node(), t)));
    }
    if (d.wanted(2)) d.add(2, b.emit1("tno", {along_x, t}, causal));
  }
  if (const Value along_t = d.gradient(1)) {
    if (d.wanted(0)) d.add(0, b.emit1("tno_gradient_x", {g, along_t}, causal));
    if (d.wanted(2)) d.add(2, b.emit1("tno", {x, along_t}, causal));
  }
}

std::vector<Value> tno_decompose(Builder& b, const Node& node) {
  const Value x = node.operands[0];
  const auto form = is_short(x) ? tno_direct : tno_fft;
  return {form(b, x, node.operands[1], node.attributes.flag("causal"))};
}

std::vector<Value> gradient_x_decompose(Builder& b, const Node& node) {
  const Value g = node.operands[0];
  const auto form = is_short(g) ? tno_direct_gradients : tno_fft_gradients;
  return {form(b, g, node.operands[1], node.attributes.flag("causal"), g, true, false).x};
}

std::vector<Value> gradient_t_decompose(Builder& b, const Node& node) {
  const Value x = node.operands[0];
  const auto form = is_short(x) ? tno_direct_gradients : tno_fft_gradients;
  // Only the type of the coefficients matters.
  const Value t = zeros(b, node.results[0]);
  return {form(b, x, t, node.attributes.flag("causal"), node.operands[1], false, true).t};
}

std::vector<Value> gradients_decompose(Builder& b, const Node& node) {
  const Value x = node.operands[0];
  const auto form = is_short(x) ? tno_direct_gradients : tno_fft_gradients;
  const TnoGradients gradients =
      form(b, x, node.operands[1], node.attributes.flag("causal"), node.operands[2], true, true);
  return {gradients.x, gradients.t};
}

Sample tno_sample(Random& random, DType dtype) {
  const bool causal = random_chance(random, 0.5);
  Shape x = random_shape(random, 0, 3, true, 6);
  // One time in three above the limit of the direct form, and odd as often as even.
  const std::int64_t n = random_chance(random, 0.33)
                             ? random_integer(random, tno_direct_limit + 1, tno_direct_limit + 9)
                             : random_integer(random, 1, 9);
  const std::int64_t d = random_integer(random, 1, 5);
  Shape t;
  const auto shared = static_cast<int>(random_integer(random, 0, x.rank()));
  for (int axis = x.rank() - shared; axis < x.rank(); ++axis) t.push_back(x[axis]);
  x.push_back(n);
  x.push_back(d);
  t.push_back(causal ? n : 2 * n - 1);
  t.push_back(d);
  Sample sample;
  sample.operands = {{{dtype, x}, -1, 1}, {{dtype, t}, -1, 1}};
  sample.attributes = {{"causal", causal}};
  return sample;
}

Sample gradients_sample(Random& random, DType dtype) {
  Sample sample = tno_sample(random, dtype);
  sample.operands.push_back(sample.operands[0]);
  return sample;
}

Sample gradient_t_sample(Random& random, DType dtype) {
  Sample sample = tno_sample(random, dtype);
  const std::int64_t leading = sample.operands[1].type.rank() - 2;
  sample.operands[1] = sample.operands[0];
  sample.attributes.set("leading", leading);
  return sample;
}

}  // namespace

std::span<const Op> tno_ops() {
  const Lower none = Lower::none("not pointwise: every result needs a whole sequence");
  static const Op rows[] = {
      Op({"tno", Pattern::tno, 2, 2, 0, {{"causal", ir::AttributeSpec::flag}}, infer_tno},
         tno_types(), tno_derivative, tno_reference, none, tno_decompose, tno_sample, 100,
         "o_i = sum_j t_(i-j) x_j along the sequence axis of x [..., n, d]; t [..., n, d] causal "
         "or [..., 2n-1, d] for lags -(n-1)..n-1; its leading axes equal x's last ones; 16-bit "
         "types compute in f32"),
      Op({"tno_gradients",
          Pattern::tno,
          3,
          3,
          0,
          {{"causal", ir::AttributeSpec::flag}},
          infer_gradients},
         tno_types(), gradients_derivative, gradients_reference, none, gradients_decompose,
         gradients_sample, 200,
         "gradients of tno(x, t) for x and for t, given g, that of its result"),
      Op({"tno_gradient_x",
          Pattern::tno,
          2,
          2,
          0,
          {{"causal", ir::AttributeSpec::flag}},
          infer_tno},
         tno_types(), gradient_x_derivative, gradient_x_reference, none, gradient_x_decompose,
         tno_sample, 100,
         "gradient of tno for x: sum_i t_(i-j) g_i of the result's gradient g [..., n, d] and t"),
      Op({"tno_gradient_t",
          Pattern::tno,
          2,
          2,
          0,
          {{"causal", ir::AttributeSpec::flag}, {"leading", ir::AttributeSpec::integer}},
          infer_gradient_t},
         tno_types(), gradient_t_derivative, gradient_t_reference, none, gradient_t_decompose,
         gradient_t_sample, 100,
         "gradient of tno for t, which has `leading` axes before its last two: of x and the "
         "result's gradient, sum g_i x_(i-k) over i and the other leading axes"),
  };
  return rows;
}

}  // namespace weft::ops
