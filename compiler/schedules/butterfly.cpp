#include "compiler/schedules/butterfly.h"

#include <cmath>
#include <numbers>

namespace weft::compiler {
namespace {

using loop::Arena;
using loop::Ex;
using loop::Scalar;

struct Root {
  double re;
  double im;
};

/// exp(-+2 pi i j / n), exact on the axes.
Root root(std::int64_t j, std::int64_t n, bool inverse) {
  j %= n;
  const double sign = inverse ? 1 : -1;
  if (j == 0) return {1, 0};
  if (4 * j == n) return {0, sign};
  if (2 * j == n) return {-1, 0};
  if (4 * j == 3 * n) return {0, -sign};
  const double angle = 2 * std::numbers::pi * static_cast<double>(j) / static_cast<double>(n);
  return {std::cos(angle), sign * std::sin(angle)};
}

ComplexEx add(Arena& a, const ComplexEx& x, const ComplexEx& y) {
  return {a.add(x.re, y.re), a.add(x.im, y.im)};
}

ComplexEx subtract(Arena& a, const ComplexEx& x, const ComplexEx& y) {
  return {a.sub(x.re, y.re), a.sub(x.im, y.im)};
}

ComplexEx rotate(Arena& a, const ComplexEx& x, const Root& w) {
  if (w.re == 1) return x;
  if (w.re == -1) return {a.neg(x.re), a.neg(x.im)};
  if (w.re == 0 && w.im == 1) return {a.neg(x.im), x.re};
  if (w.re == 0 && w.im == -1) return {x.im, a.neg(x.re)};
  return multiply(a, x, {a.constant(Scalar::f32, w.re), a.constant(Scalar::f32, w.im)});
}

std::int64_t smallest_factor(std::int64_t n) {
  for (std::int64_t f = 2; f * f <= n; ++f) {
    if (n % f == 0) return f;
  }
  return n;
}

/// A prime length: pairs x_j +- x_(n-j), so that each product serves two results.
std::vector<ComplexEx> prime(Arena& a, const std::vector<ComplexEx>& x, bool inverse) {
  const auto n = static_cast<std::int64_t>(x.size());
  const std::int64_t half = n / 2;
  std::vector<ComplexEx> plus;
  std::vector<ComplexEx> minus;
  ComplexEx total = x[0];
  for (std::int64_t j = 1; j <= half; ++j) {
    const ComplexEx& u = x[static_cast<std::size_t>(j)];
    const ComplexEx& v = x[static_cast<std::size_t>(n - j)];
    plus.push_back(add(a, u, v));
    minus.push_back(subtract(a, u, v));
    total = add(a, total, plus.back());
  }
  std::vector<ComplexEx> y(x.size());
  y[0] = total;
  for (std::int64_t k = 1; k <= half; ++k) {
    ComplexEx even = x[0];
    ComplexEx odd{nullptr, nullptr};
    for (std::int64_t j = 1; j <= half; ++j) {
      const Root w = root(j * k, n, inverse);
      const Ex c = a.constant(Scalar::f32, w.re);
      const Ex s = a.constant(Scalar::f32, w.im);
      const ComplexEx& p = plus[static_cast<std::size_t>(j - 1)];
      const ComplexEx& m = minus[static_cast<std::size_t>(j - 1)];
      even = {a.fma(c, p.re, even.re), a.fma(c, p.im, even.im)};
      // i s (m.re + i m.im)
      if (odd.re == nullptr) {
        odd = {a.neg(a.mul(s, m.im)), a.mul(s, m.re)};
      } else {
        odd = {a.sub(odd.re, a.mul(s, m.im)), a.fma(s, m.re, odd.im)};
      }
    }
    y[static_cast<std::size_t>(k)] = add(a, even, odd);
    y[static_cast<std::size_t>(n - k)] = subtract(a, even, odd);
  }
  return y;
}

}  // namespace

ComplexEx multiply(Arena& a, const ComplexEx& x, const ComplexEx& y) {
  return {a.fma(x.re, y.re, a.neg(a.mul(x.im, y.im))), a.fma(x.re, y.im, a.mul(x.im, y.re))};
}

std::vector<ComplexEx> butterfly(Arena& a, const std::vector<ComplexEx>& x, bool inverse) {
  const auto n = static_cast<std::int64_t>(x.size());
  if (n == 1) return x;
  if (n == 2) return {add(a, x[0], x[1]), subtract(a, x[0], x[1])};
  const std::int64_t r = smallest_factor(n);
  if (r == n) return prime(a, x, inverse);
  const std::int64_t m = n / r;
  // x_(r j + i): r transforms of length m, turned, then m transforms of length r.
  std::vector<std::vector<ComplexEx>> parts;
  for (std::int64_t i = 0; i < r; ++i) {
    std::vector<ComplexEx> part;
    for (std::int64_t j = 0; j < m; ++j) part.push_back(x[static_cast<std::size_t>(r * j + i)]);
    parts.push_back(butterfly(a, part, inverse));
  }
  std::vector<ComplexEx> y(x.size());
  for (std::int64_t k = 0; k < m; ++k) {
    std::vector<ComplexEx> column;
    for (std::int64_t i = 0; i < r; ++i) {
      column.push_back(rotate(a, parts[static_cast<std::size_t>(i)][static_cast<std::size_t>(k)],
                              root(i * k, n, inverse)));
    }
    const std::vector<ComplexEx> result = butterfly(a, column, inverse);
    for (std::int64_t i = 0; i < r; ++i) {
      y[static_cast<std::size_t>(k + m * i)] = result[static_cast<std::size_t>(i)];
    }
  }
  return y;
}

std::vector<std::int64_t> radices(std::int64_t n) {
  std::vector<std::int64_t> out;
  for (std::int64_t r : {8, 4, 2, 3, 5, 7, 11, 13}) {
    while (n % r == 0 && n > 1) {
      out.push_back(r);
      n /= r;
    }
  }
  for (std::int64_t f = 17; f * f <= n; f += 2) {
    while (n % f == 0) {
      out.push_back(f);
      n /= f;
    }
  }
  if (n > 1) out.push_back(n);
  return out;
}

}  // namespace weft::compiler
