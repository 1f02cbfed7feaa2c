// Fourier transforms: against their definition, Parseval, inverses, convolution, adjoints.

#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <numbers>

#include "compiler/passes/differentiate.h"
#include "support.h"

namespace weft::test {
namespace {

using ops::Array;
using Complex = std::complex<double>;

constexpr double unit = 0x1p-53;

ir::Attributes along(std::int64_t axis) { return {{"axis", axis}}; }
ir::Attributes along(std::int64_t axis, std::int64_t length) {
  return {{"axis", axis}, {"length", length}};
}

Array random_values(ops::Random& random, const Type& type) {
  return ops::random_array(random, {type, -1, 1});
}

Complex at(const Array& x, std::int64_t i) {
  const auto position = static_cast<std::size_t>(i);
  return {x.re[position], x.im.empty() ? 0 : x.im[position]};
}

/// sum_t x[t] exp(sign 2 pi i k t / n), the angle reduced in integers.
Complex bin(const Array& x, std::int64_t n, std::int64_t k, int sign) {
  Complex sum = 0;
  for (std::int64_t t = 0; t < std::min(n, x.elements()); ++t) {
    const double angle =
        2 * std::numbers::pi * static_cast<double>(k * t % n) / static_cast<double>(n);
    sum += at(x, t) * Complex(std::cos(angle), sign * std::sin(angle));
  }
  return sum;
}

/// Lengths below and above the one up to which the reference sums by definition; primes, powers,
/// products.
constexpr std::int64_t lengths[] = {1,   2,   3,   4,   5,   8,   12,   13,   16,
                                    30,  97,  127, 128, 129, 131, 144,  169,  243,
                                    256, 257, 509, 510, 512, 720, 1001, 1009, 1024};

/// Rounding of n terms of magnitude below 1.5, times a factor for the steps of a divided sum.
double tolerance(std::int64_t n) { return 32 * unit * 1.5 * static_cast<double>(n); }

TEST(Fft, AgreesWithTheDefinition) {
  ops::Random random(1);
  for (const std::int64_t n : lengths) {
    const Array x = random_values(random, {DType::c64, {n}});
    const Array forward = apply("fft", {x}, along(0));
    const Array backward = apply("ifft", {x}, along(0));
    for (std::int64_t k = 0; k < n; k += n > 100 ? 7 : 1) {
      ASSERT_LE(std::abs(at(forward, k) - bin(x, n, k, -1)), tolerance(n)) << n << " " << k;
      ASSERT_LE(std::abs(at(backward, k) * static_cast<double>(n) - bin(x, n, k, 1)),
                2 * tolerance(n))
          << n << " " << k;
    }
  }
}

TEST(Fft, SmallCases) {
  const Array y = apply("fft", {array({DType::c64, {4}}, {1, 0, 2, 0, 3, 0, 4, 0})}, along(0));
  const double expected[] = {10, 0, -2, 2, -2, 0, -2, -2};
  for (std::size_t k = 0; k < 4; ++k) {
    EXPECT_NEAR(y.re[k], expected[2 * k], tolerance(40));
    EXPECT_NEAR(y.im[k], expected[2 * k + 1], tolerance(40));
  }
}

TEST(Fft, InverseUndoes) {
  ops::Random random(2);
  for (const std::int64_t n : lengths) {
    const Array x = random_values(random, {DType::c64, {2, n}});
    const Array y = apply("ifft", {apply("fft", {x}, along(1))}, along(1));
    for (std::int64_t i = 0; i < x.elements(); ++i) {
      ASSERT_LE(std::abs(at(x, i) - at(y, i)), 2 * tolerance(n)) << n;
    }
  }
}

TEST(Fft, Parseval) {
  ops::Random random(3);
  for (const std::int64_t n : lengths) {
    const Array x = random_values(random, {DType::c64, {n}});
    const Array y = apply("fft", {x}, along(0));
    double time = 0;
    double frequency = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      time += std::norm(at(x, i));
      frequency += std::norm(at(y, i));
    }
    EXPECT_NEAR(frequency / static_cast<double>(n) / time, 1, 64 * unit * static_cast<double>(n));
  }
}

TEST(Fft, AlongAMiddleAxis) {
  ops::Random random(4);
  const Array x = random_values(random, {DType::c64, {2, 6, 3}});
  const Array y = apply("fft", {x}, along(1));
  for (std::int64_t i = 0; i < 2; ++i) {
    for (std::int64_t j = 0; j < 3; ++j) {
      Array line({DType::c64, {6}});
      for (std::int64_t t = 0; t < 6; ++t) {
        line.re[static_cast<std::size_t>(t)] = at(x, i * 18 + t * 3 + j).real();
        line.im[static_cast<std::size_t>(t)] = at(x, i * 18 + t * 3 + j).imag();
      }
      for (std::int64_t k = 0; k < 6; ++k) {
        ASSERT_LE(std::abs(at(y, i * 18 + k * 3 + j) - bin(line, 6, k, -1)), tolerance(6));
      }
    }
  }
}

/// rfft pads with zeros or cuts to its length, odd or even.
TEST(Rfft, AgreesWithTheDefinition) {
  ops::Random random(5);
  for (const std::int64_t extent : {0, 1, 2, 5, 8, 13}) {
    const Array x = random_values(random, {DType::f32, {extent}});
    for (const std::int64_t length : {1, 2, 3, 4, 7, 8, 9, 13, 16, 26, 27}) {
      const Array y = apply("rfft", {x}, along(0, length));
      ASSERT_EQ(y.elements(), length / 2 + 1);
      for (std::int64_t k = 0; k < y.elements(); ++k) {
        ASSERT_LE(std::abs(at(y, k) - bin(x, length, k, -1)), tolerance(length))
            << extent << " " << length << " " << k;
      }
    }
  }
}

TEST(Rfft, InverseUndoes) {
  ops::Random random(6);
  for (const std::int64_t n : lengths) {
    const Array x = random_values(random, {DType::f32, {n, 2}});
    const Array y = apply("irfft", {apply("rfft", {x}, along(0, n))}, along(0, n));
    ASSERT_EQ(y.type.text(), x.type.text());
    for (std::size_t i = 0; i < x.re.size(); ++i) {
      ASSERT_NEAR(y.re[i], x.re[i], 2 * tolerance(n)) << n;
    }
  }
}

TEST(Rfft, PaddedTransformsConvolve) {
  ops::Random random(7);
  for (const std::int64_t n : {1, 2, 5, 8, 63, 100}) {
    const Array x = random_values(random, {DType::f32, {n}});
    const Array h = random_values(random, {DType::f32, {n}});
    const Array spectrum =
        apply("mul", {apply("rfft", {x}, along(0, 2 * n)), apply("rfft", {h}, along(0, 2 * n))});
    const Array y = apply("irfft", {spectrum}, along(0, 2 * n));
    for (std::int64_t t = 0; t < n; ++t) {
      double sum = 0;
      for (std::int64_t s = 0; s <= t; ++s) sum += at(x, s).real() * at(h, t - s).real();
      // Bins are at most n each.
      ASSERT_NEAR(at(y, t).real(), sum, static_cast<double>(4 * n) * tolerance(2 * n)) << n;
    }
  }
}

/// The imaginary parts of bin 0 and, for even length, the last have no influence.
TEST(Irfft, IgnoresImaginaryPartsOfSingleBins) {
  ops::Random random(8);
  for (const std::int64_t n : {1, 2, 5, 6, 16, 17}) {
    Array x = random_values(random, {DType::c64, {n / 2 + 1}});
    const Array y = apply("irfft", {x}, along(0, n));
    x.im.front() += 3;
    if (n % 2 == 0) x.im.back() -= 5;
    EXPECT_EQ(apply("irfft", {x}, along(0, n)).re, y.re) << n;
    if (n > 2 && n % 2 == 1) {
      x.im.back() += 1;
      EXPECT_NE(apply("irfft", {x}, along(0, n)).re, y.re) << n;
    }
  }
}

/// <A x, y> = <x, A* y> with the inner product Re(conj(a) b): the derivative rule is the adjoint.
void check_adjoint(std::string_view name, const Array& x, ir::Attributes attributes,
                   ops::Random& random) {
  ir::Graph graph;
  ops::Builder b(graph, graph.body());
  const ir::Value input = state(b, "x", x.type);
  const ir::Value result = b.emit1(name, {input}, attributes);
  const Array weights = random_values(random, result.type());
  const ir::Value w = state(b, "w", result.type());
  ir::Value product = ops::mul(b, ops::conj(b, w), result);
  if (is_complex(product.dtype())) product = ops::unary(b, "real", product);
  std::vector<std::int64_t> axes;
  for (int axis = 0; axis < result.type().rank(); ++axis) axes.push_back(axis);
  const std::vector<ir::Value> inputs = {input};
  const ir::Value gradient = compiler::gradients(b, ops::sum(b, product, axes), inputs).at(0);
  b.emit(ops::op("state_write"), {gradient}, {{"name", std::string("g")}});
  ops::Environment environment;
  environment.state["x"] = x;
  environment.state["w"] = weights;
  ops::evaluate(graph, environment);
  const Array& adjoint = environment.state.at("g");
  ASSERT_EQ(adjoint.type.text(), x.type.text());

  const Array y = apply(name, {x}, std::move(attributes));
  double left = 0;
  for (std::int64_t i = 0; i < y.elements(); ++i)
    left += (std::conj(at(weights, i)) * at(y, i)).real();
  double right = 0;
  for (std::int64_t i = 0; i < x.elements(); ++i)
    right += (std::conj(at(adjoint, i)) * at(x, i)).real();
  const auto n = static_cast<double>(std::max(x.elements(), y.elements()));
  // Scales are constants of type f32: half a unit of 2^-24 each.
  EXPECT_NEAR(left, right, n * n * 4 * unit + std::abs(left) * 0x1p-23) << name;
}

TEST(FourierAdjoints, OfEveryLength) {
  ops::Random random(9);
  for (std::int64_t n = 1; n <= 20; ++n) {
    check_adjoint("fft", random_values(random, {DType::c64, {2, n}}), along(1), random);
    check_adjoint("ifft", random_values(random, {DType::c64, {n, 2}}), along(0), random);
    check_adjoint("irfft", random_values(random, {DType::c64, {n / 2 + 1, 2}}), along(0, n),
                  random);
    for (std::int64_t extent = 1; extent <= 20; ++extent) {
      check_adjoint("rfft", random_values(random, {DType::f32, {2, extent}}), along(1, n), random);
    }
  }
}

std::string error(std::string_view name, const Type& type, ir::Attributes attributes) {
  try {
    apply(name, {Array(type)}, std::move(attributes));
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Fft, ShapeRules) {
  EXPECT_EQ(error("fft", {DType::f32, {4}}, along(0)),
            "fft: operand 0 has type f32[4]; expected c64");
  EXPECT_EQ(error("fft", {DType::c64, {4}}, along(1)), "fft: axis 1 is out of range for rank 1");
  EXPECT_EQ(error("fft", {DType::c64, {0}}, along(0)), "fft: axis 0 of c64[0] is empty");
  EXPECT_EQ(error("rfft", {DType::f64, {4}}, along(0, 4)),
            "rfft: operand 0 has type f64[4]; expected f32");
  EXPECT_EQ(error("rfft", {DType::f32, {4}}, along(0, 0)), "rfft: length 0 is out of range");
  EXPECT_EQ(error("irfft", {DType::c64, {3, 4}}, along(1, 8)),
            "irfft: length 8 needs 5 bins; axis 1 of c64[3, 4] has 4");
}

}  // namespace
}  // namespace weft::test
