#include <algorithm>
#include <complex>
#include <numbers>

#include "ops/support.h"

/// With w = exp(-2 pi i / n):
///
///     fft    X[k] = sum_t x[t] w^(k t)
///     ifft   x[t] = (1 / n) sum_k X[k] w^(-k t)
///     rfft   fft of a real x, bins 0 .. n/2; the others are their conjugates in reverse
///     irfft  x[t] = (1 / n) sum_k c[k] Re(X[k] w^(-k t)), k = 0 .. n/2,
///
/// where c[k] = 1 for bin 0 and, for even n, bin n/2 (of these only the real part counts, as
/// w^(-k t) is real), and 2 for the others, which stand for their conjugates as well.
///
/// Adjoints, with gradients G = dL/dRe + i dL/dIm, for which dL = sum Re(conj(G) dX):
///
///     fft    dL/dx[t] = sum_k G[k] w^(-k t) = conj(fft(conj(G)))[t]       (n ifft(G))
///     ifft   dL/dX[k] = (1 / n) sum_t G[t] w^(k t) = conj(ifft(conj(G)))[k]
///     rfft   dL/dx[t] = sum_k Re(G[k] w^(-k t)): an irfft of bins weighted by n / c[k]
///     irfft  dL/dX[k] = (c[k] / n) sum_t g[t] w^(k t) = (c[k] / n) rfft(g)[k]
///
/// The last is real for the bins with c[k] = 1, so that their imaginary parts get no gradient.
namespace weft::ops {

namespace {

using ir::AttributeSpec;
using Complex = std::complex<double>;
using Signal = std::vector<Complex>;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

const DTypes& complex_types() {
  static const DTypes list = {DType::c64};
  return list;
}
const DTypes& single_types() {
  static const DTypes list = {DType::f32};
  return list;
}

// ---- shape rules --------------------------------------------------------------------------------

std::vector<Type> infer_fft(const Node& node) {
  const Type& x = expect_dtype(node, 0, complex_types());
  const int axis = axis_attribute(node, "axis", x.rank());
  require(x.shape[axis] > 0, "axis {} of {} is empty", axis, x.text());
  return {x};
}

/// The length attribute of a real transform.
std::int64_t length_attribute(const Node& node) {
  const std::int64_t length = node.attributes.integer("length");
  require(length >= 1 && length < (std::int64_t{1} << 40), "length {} is out of range", length);
  return length;
}

std::vector<Type> infer_rfft(const Node& node) {
  const Type& x = expect_dtype(node, 0, single_types());
  const int axis = axis_attribute(node, "axis", x.rank());
  Type y{DType::c64, x.shape};
  y.shape[axis] = length_attribute(node) / 2 + 1;
  return {y};
}

std::vector<Type> infer_irfft(const Node& node) {
  const Type& x = expect_dtype(node, 0, complex_types());
  const int axis = axis_attribute(node, "axis", x.rank());
  const std::int64_t length = length_attribute(node);
  require(x.shape[axis] == length / 2 + 1, "length {} needs {} bins; axis {} of {} has {}", length,
          length / 2 + 1, axis, x.text(), x.shape[axis]);
  Type y{DType::f32, x.shape};
  y.shape[axis] = length;
  return {y};
}

// ---- derivatives --------------------------------------------------------------------------------

int axis_of(const Backward& d) { return static_cast<int>(d.node().attributes.integer("axis")); }

void derive_fft(Backward& d) {
  Builder& b = d.build();
  d.add(0, conj(b, fft(b, conj(b, d.gradient()), axis_of(d))));
}

void derive_ifft(Backward& d) {
  Builder& b = d.build();
  d.add(0, conj(b, ifft(b, conj(b, d.gradient()), axis_of(d))));
}

/// Whether a bin stands for itself alone (c[k] = 1 above), along an axis of `shape`.
Value single_bins(Builder& b, const Shape& shape, int axis, std::int64_t length) {
  const std::int64_t bins = length / 2 + 1;
  const Value bin = b.emit1("iota", {},
                            {{"dtype", DType::i64},
                             {"shape", std::vector<std::int64_t>{bins}},
                             {"axis", std::int64_t{0}}});
  Value single = binary(b, "equal", bin, constant_like(b, bin, 0));
  if (length % 2 == 0) {
    const Value last = constant_like(b, bin, static_cast<double>(bins - 1));
    single = binary(b, "logical_or", single, binary(b, "equal", bin, last));
  }
  Shape aligned;
  for (int i = 0; i < shape.rank(); ++i) aligned.push_back(i == axis ? bins : 1);
  return broadcast_to(b, reshape(b, single, aligned), shape);
}

void derive_rfft(Backward& d) {
  Builder& b = d.build();
  const int axis = axis_of(d);
  const std::int64_t length = d.node().attributes.integer("length");
  const std::int64_t extent = d.operand(0).shape()[axis];
  const Value g = d.gradient();
  // n / c[k] as n/2 for all bins, on the real side, and 2 for the single ones.
  const Value single = single_bins(b, g.shape(), axis, length);
  Value x = irfft(b, where(b, single, add(b, g, g), g), axis, length);
  x = mul(b, x, static_cast<double>(length) / 2);
  // The forward transform cut its operand, or filled it up with zeros.
  if (extent < length) x = slice_axis(b, x, axis, 0, extent);
  if (extent > length) x = pad_axis(b, x, axis, 0, extent - length);
  d.add(0, x);
}

void derive_irfft(Backward& d) {
  Builder& b = d.build();
  const int axis = axis_of(d);
  const std::int64_t length = d.node().attributes.integer("length");
  const Value scaled = mul(b, d.gradient(), 1 / static_cast<double>(length));
  const Value bins = rfft(b, scaled, axis, length);
  const Value single = single_bins(b, bins.shape(), axis, length);
  d.add(0, where(b, single, bins, add(b, bins, bins)));
}

// ---- reference ----------------------------------------------------------------------------------

/// exp(sign 2 pi i j / n) for j = 0 .. n-1.
Signal roots(std::int64_t n, int sign) {
  Signal result(at(n));
  for (std::int64_t j = 0; j < n; ++j) {
    const long double angle = 2 * std::numbers::pi_v<long double> * static_cast<long double>(j) /
                              static_cast<long double>(n);
    result[at(j)] = {static_cast<double>(std::cos(angle)),
                     sign * static_cast<double>(std::sin(angle))};
  }
  return result;
}

/// sum_t x[first + t step] root^(k t) with root = table[table.size() / n], by the definition up to
/// a length that still runs quickly, else by its division into shorter sums (Cooley and Tukey):
/// t = p s + r over r < p, where p divides n.
Signal transform(const Signal& x, std::size_t first, std::size_t step, std::size_t n,
                 const Signal& table) {
  constexpr std::size_t definition_length = 128;
  const std::size_t turn = table.size() / n;
  Signal result(n);
  std::size_t p = 2;
  while (p * p <= n && n % p != 0) ++p;
  if (n <= definition_length || n % p != 0) {
    for (std::size_t k = 0; k < n; ++k) {
      // k t modulo n, kept exactly.
      std::size_t power = 0;
      for (std::size_t t = 0; t < n; ++t) {
        result[k] += x[first + t * step] * table[power * turn];
        power += k;
        if (power >= n) power -= n;
      }
    }
    return result;
  }
  const std::size_t shorter = n / p;
  for (std::size_t r = 0; r < p; ++r) {
    const Signal part = transform(x, first + r * step, step * p, shorter, table);
    for (std::size_t k = 0; k < n; ++k) {
      result[k] += part[k % shorter] * table[r * k % n * turn];
    }
  }
  return result;
}

/// Calls visit(start in the operand, start in the result) for each line along the node's axis.
template <typename Visit>
void for_each_line(int axis, const Shape& from, const Shape& to, Visit&& visit) {
  Shape lines = from;
  lines[axis] = 1;
  for_each_index(lines, [&](std::span<const std::int64_t> index, std::int64_t) {
    visit(position_of(from, index), position_of(to, index));
  });
}

/// Reads a line of the operand, zero-padded or cut to `read` elements, into n values (the rest are
/// made by `complete`), transforms it and stores the first elements of the result, scaled.
template <typename Complete>
void transform_lines(const Node& node, const Array& x, Array& y, std::int64_t n, int sign,
                     double scale, Complete&& complete) {
  const auto axis = static_cast<int>(node.attributes.integer("axis"));
  const std::int64_t x_step = x.type.shape.strides()[at(axis)];
  const std::int64_t y_step = y.type.shape.strides()[at(axis)];
  const std::int64_t read = std::min(x.type.shape[axis], n);
  const Signal table = roots(n, sign);
  for_each_line(axis, x.type.shape, y.type.shape, [&](std::int64_t from, std::int64_t to) {
    Signal line(at(n));
    for (std::int64_t t = 0; t < read; ++t) {
      const std::size_t position = at(from + t * x_step);
      line[at(t)] = {x.re[position], x.im.empty() ? 0 : x.im[position]};
    }
    complete(line);
    const Signal result = transform(line, 0, 1, at(n), table);
    for (std::int64_t k = 0; k < y.type.shape[axis]; ++k) {
      const std::size_t position = at(to + k * y_step);
      y.re[position] = result[at(k)].real() * scale;
      if (!y.im.empty()) y.im[position] = result[at(k)].imag() * scale;
    }
  });
}

/// sign -1: fft and rfft; 1: ifft.
template <int sign>
void reference_complex(const Node& node, std::span<const Array* const> operands,
                       std::span<Array> results) {
  const Array& x = *operands[0];
  const std::int64_t n = x.type.shape[static_cast<int>(node.attributes.integer("axis"))];
  const double scale = sign < 0 ? 1 : 1 / static_cast<double>(n);
  transform_lines(node, x, results[0], n, sign, scale, [](Signal&) {});
}

void reference_rfft(const Node& node, std::span<const Array* const> operands,
                    std::span<Array> results) {
  const std::int64_t n = node.attributes.integer("length");
  transform_lines(node, *operands[0], results[0], n, -1, 1, [](Signal&) {});
}

void reference_irfft(const Node& node, std::span<const Array* const> operands,
                     std::span<Array> results) {
  const std::int64_t n = node.attributes.integer("length");
  transform_lines(node, *operands[0], results[0], n, 1, 1 / static_cast<double>(n),
                  [n](Signal& line) {
                    line[0] = line[0].real();
                    if (n % 2 == 0) line[at(n / 2)] = line[at(n / 2)].real();
                    for (std::int64_t k = n / 2 + 1; k < n; ++k) {
                      line[at(k)] = std::conj(line[at(n - k)]);
                    }
                  });
}

// ---- samples ------------------------------------------------------------------------------------

/// A tensor whose axis `axis` is long enough to be of interest to a Fourier transform.
Sample sample_line(Random& random, DType dtype, int& axis) {
  Sample sample = elementwise_sample(random, dtype, 1, -1, 1);
  Shape& shape = sample.operands[0].type.shape;
  shape = random_shape(random, 1, 3, true, 40);
  axis = static_cast<int>(random_integer(random, 0, shape.rank() - 1));
  shape[axis] = random_chance(random, 0.5) ? random_extent(random) : random_integer(random, 1, 40);
  sample.attributes.set("axis", std::int64_t{axis});
  return sample;
}

Sample sample_fft(Random& random, DType dtype) {
  int axis = 0;
  return sample_line(random, dtype, axis);
}

Sample sample_rfft(Random& random, DType dtype) {
  int axis = 0;
  Sample sample = sample_line(random, dtype, axis);
  const std::int64_t extent = sample.operands[0].type.shape[axis];
  // As it is, padded to twice the length as convolutions do, or anything.
  std::int64_t length = random_integer(random, 1, 40);
  if (random_chance(random, 0.6)) length = random_chance(random, 0.5) ? extent : 2 * extent;
  sample.attributes.set("length", length);
  return sample;
}

Sample sample_irfft(Random& random, DType dtype) {
  int axis = 0;
  Sample sample = sample_line(random, dtype, axis);
  std::int64_t& extent = sample.operands[0].type.shape[axis];
  const std::int64_t length = extent;
  extent = length / 2 + 1;
  sample.attributes.set("length", length);
  return sample;
}

}  // namespace

std::span<const Op> fft_ops() {
  const Lower anchor = Lower::none("anchor: an element needs all of its line");
  const Decompose primitive = Decompose::none("is primitive");
  const std::vector<AttributeSpec> along = {{"axis", AttributeSpec::integer}};
  const std::vector<AttributeSpec> along_length = {{"axis", AttributeSpec::integer},
                                                   {"length", AttributeSpec::integer}};
  static const Op rows[] = {
      Op({"fft", Pattern::fft, 1, 1, 0, along, infer_fft}, complex_types(), derive_fft,
         reference_complex<-1>, anchor, primitive, sample_fft, 64,
         "discrete Fourier transform along an axis of any length"),
      Op({"ifft", Pattern::fft, 1, 1, 0, along, infer_fft}, complex_types(), derive_ifft,
         reference_complex<1>, anchor, primitive, sample_fft, 64,
         "inverse of fft, scaled by 1 / n"),
      Op({"rfft", Pattern::fft, 1, 1, 0, along_length, infer_rfft}, single_types(), derive_rfft,
         reference_rfft, anchor, primitive, sample_rfft, 64,
         "bins 0 .. length / 2 of the transform of a real line, zero-padded or cut to length"),
      Op({"irfft", Pattern::fft, 1, 1, 0, along_length, infer_irfft}, complex_types(), derive_irfft,
         reference_irfft, anchor, primitive, sample_irfft, 64,
         "inverse of rfft, scaled by 1 / length; ignores im of bin 0 and, for even length, the "
         "last"),
  };
  return rows;
}

}  // namespace weft::ops
