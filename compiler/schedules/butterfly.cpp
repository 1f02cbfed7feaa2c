#include "compiler/schedules/butterfly.h"

#include <algorithm>
#include <cmath>
#include <functional>
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

std::int64_t smallest_factor(std::int64_t n) {
  for (std::int64_t f = 2; f * f <= n; ++f) {
    if (n % f == 0) return f;
  }
  return n;
}

/// Transforms that share an arena, a direction and the place where sums are computed.
class Butterfly {
 public:
  Butterfly(Arena& arena, bool inverse, loop::Builder* builder)
      : a_(arena), inverse_(inverse), builder_(builder) {}

  std::vector<ComplexEx> transform(const std::vector<ComplexEx>& x) const;

 private:
  std::vector<ComplexEx> prime(const std::vector<ComplexEx>& x) const;
  ComplexEx here(const ComplexEx& x) const {
    if (builder_ == nullptr) return x;
    return {x.re == nullptr ? nullptr : builder_->let(x.re),
            x.im == nullptr ? nullptr : builder_->let(x.im)};
  }
  ComplexEx add(const ComplexEx& x, const ComplexEx& y) const {
    return here(compiler::add(a_, x, y));
  }
  ComplexEx subtract(const ComplexEx& x, const ComplexEx& y) const {
    return here(compiler::subtract(a_, x, y));
  }
  Ex fma(Ex x, Ex y, Ex z) const {
    if (y == nullptr) return z;
    return z == nullptr ? a_.mul(x, y) : a_.fma(x, y, z);
  }

  Arena& a_;
  bool inverse_;
  loop::Builder* builder_;
};

/// A prime length: pairs x_j +- x_(n-j), so that each product serves two results.
std::vector<ComplexEx> Butterfly::prime(const std::vector<ComplexEx>& x) const {
  const auto n = static_cast<std::int64_t>(x.size());
  const std::int64_t half = n / 2;
  std::vector<ComplexEx> plus;
  std::vector<ComplexEx> minus;
  ComplexEx total = x[0];
  for (std::int64_t j = 1; j <= half; ++j) {
    const ComplexEx& u = x[static_cast<std::size_t>(j)];
    const ComplexEx& v = x[static_cast<std::size_t>(n - j)];
    plus.push_back(add(u, v));
    minus.push_back(subtract(u, v));
    total = add(total, plus.back());
  }
  std::vector<ComplexEx> y(x.size());
  y[0] = total;
  for (std::int64_t k = 1; k <= half; ++k) {
    ComplexEx even = x[0];
    ComplexEx odd;  // over i
    for (std::int64_t j = 1; j <= half; ++j) {
      const Root w = root(j * k, n, inverse_);
      const Ex c = a_.constant(Scalar::f32, w.re);
      const Ex s = a_.constant(Scalar::f32, w.im);
      const ComplexEx& p = plus[static_cast<std::size_t>(j - 1)];
      const ComplexEx& m = minus[static_cast<std::size_t>(j - 1)];
      even = {fma(c, p.re, even.re), fma(c, p.im, even.im)};
      odd = {fma(s, m.re, odd.re), fma(s, m.im, odd.im)};
    }
    even = here(even);
    odd = rotate(a_, here(odd), 0, 1);
    y[static_cast<std::size_t>(k)] = add(even, odd);
    y[static_cast<std::size_t>(n - k)] = subtract(even, odd);
  }
  return y;
}

std::vector<ComplexEx> Butterfly::transform(const std::vector<ComplexEx>& x) const {
  const auto n = static_cast<std::int64_t>(x.size());
  if (n == 1) return x;
  if (n == 2) return {add(x[0], x[1]), subtract(x[0], x[1])};
  const std::int64_t r = smallest_factor(n);
  if (r == n) return prime(x);
  const std::int64_t m = n / r;
  // x_(r j + i): r transforms of length m, turned, then m transforms of length r.
  std::vector<std::vector<ComplexEx>> parts;
  for (std::int64_t i = 0; i < r; ++i) {
    std::vector<ComplexEx> part;
    for (std::int64_t j = 0; j < m; ++j) part.push_back(x[static_cast<std::size_t>(r * j + i)]);
    parts.push_back(transform(part));
  }
  std::vector<ComplexEx> y(x.size());
  for (std::int64_t k = 0; k < m; ++k) {
    std::vector<ComplexEx> column;
    for (std::int64_t i = 0; i < r; ++i) {
      const Root w = root(i * k, n, inverse_);
      column.push_back(
          rotate(a_, parts[static_cast<std::size_t>(i)][static_cast<std::size_t>(k)], w.re, w.im));
    }
    const std::vector<ComplexEx> result = transform(column);
    for (std::int64_t i = 0; i < r; ++i) {
      y[static_cast<std::size_t>(k + m * i)] = result[static_cast<std::size_t>(i)];
    }
  }
  return y;
}

}  // namespace

ComplexEx add(Arena& a, const ComplexEx& x, const ComplexEx& y) {
  const auto sum = [&](Ex u, Ex v) { return u == nullptr ? v : v == nullptr ? u : a.add(u, v); };
  return {sum(x.re, y.re), sum(x.im, y.im)};
}

ComplexEx subtract(Arena& a, const ComplexEx& x, const ComplexEx& y) {
  const auto difference = [&](Ex u, Ex v) {
    return v == nullptr ? u : u == nullptr ? a.neg(v) : a.sub(u, v);
  };
  return {difference(x.re, y.re), difference(x.im, y.im)};
}

ComplexEx multiply(Arena& a, const ComplexEx& x, const ComplexEx& y) {
  const auto product = [&](Ex u, Ex v) {
    return u == nullptr || v == nullptr ? nullptr : a.mul(u, v);
  };
  // u v + w
  const auto fma = [&](Ex u, Ex v, Ex w) {
    if (u == nullptr || v == nullptr) return w;
    return w == nullptr ? a.mul(u, v) : a.fma(u, v, w);
  };
  const Ex minus = product(x.im, y.im);
  return {fma(x.re, y.re, minus == nullptr ? nullptr : a.neg(minus)),
          fma(x.re, y.im, product(x.im, y.re))};
}

ComplexEx rotate(Arena& a, const ComplexEx& x, double re, double im) {
  const auto negative = [&](Ex e) { return e == nullptr ? e : a.neg(e); };
  if (re == 1) return x;
  if (re == -1) return {negative(x.re), negative(x.im)};
  if (re == 0 && im == 1) return {negative(x.im), x.re};
  if (re == 0 && im == -1) return {x.im, negative(x.re)};
  return multiply(a, x, {a.constant(Scalar::f32, re), a.constant(Scalar::f32, im)});
}

ComplexEx conjugate(Arena& a, const ComplexEx& x) {
  return {x.re, x.im == nullptr ? nullptr : a.neg(x.im)};
}

std::vector<ComplexEx> butterfly(Arena& a, const std::vector<ComplexEx>& x, bool inverse,
                                 loop::Builder* builder) {
  return Butterfly(a, inverse, builder).transform(x);
}

ButterflyOperations butterfly_operations(std::int64_t radix) {
  loop::Kernel kernel;
  loop::Builder builder(kernel);
  builder.phase(1, [&](Ex) {
    std::vector<ComplexEx> x;
    for (std::int64_t i = 0; i < radix; ++i) {
      x.push_back({kernel.arena.variable(Scalar::f32), kernel.arena.variable(Scalar::f32)});
    }
    butterfly(kernel.arena, x, false, &builder);
  });
  // Each sum is a statement; products that were not joined with one are operands of it.
  ButterflyOperations operations;
  const std::function<void(Ex)> count = [&](Ex e) {
    if (e == nullptr) return;
    if (e->kind == loop::ExprKind::fma) operations.products += 1;
    if (e->kind == loop::ExprKind::binary) {
      const bool product = static_cast<loop::Binary>(e->code) == loop::Binary::multiply;
      (product ? operations.products : operations.sums) += 1;
    }
    for (Ex argument : e->arguments) count(argument);
  };
  for (const loop::Statement& statement : kernel.statements) count(statement.value);
  return operations;
}

// Whichever of additions, products and stores takes longest. A core starts one vector of additions
// and one of products a cycle, and stores one every other cycle.
double butterfly_cycles(std::int64_t radix) {
  static const std::vector<double> table = [] {
    std::vector<double> cycles;
    for (std::int64_t r = 0; r <= largest_butterfly; ++r) {
      if (r < 2) {
        cycles.push_back(0);
        continue;
      }
      const auto [sums, products] = butterfly_operations(r);
      const auto points = static_cast<double>(r);
      const double turned = products + 4 * (points - 1);
      cycles.push_back(std::max({sums, turned, 0.6 * (sums + turned), 4 * points}) / points);
    }
    return cycles;
  }();
  return table[static_cast<std::size_t>(radix)];
}

}  // namespace weft::compiler
