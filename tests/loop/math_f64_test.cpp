#include "compiler/loop/math_f64.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "interpreted.h"

// f64 functions without a library, by the interpreter, against the C library's long double.
namespace weft {
namespace {

using loop::Binary;
using loop::Ex;
using loop::Unary;

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double smallest = std::numeric_limits<double>::denorm_min();
constexpr double largest = std::numeric_limits<double>::max();

/// Results for pairs of operands; a function of one takes the first.
std::vector<double> evaluated(const std::vector<std::pair<double, double>>& operands,
                              const std::function<Ex(loop::Arena&, Ex, Ex)>& value) {
  loop::Kernel kernel;
  const auto count = static_cast<std::int64_t>(operands.size());
  const loop::Buffer* x = kernel.argument("x", DType::f64, count, false);
  const loop::Buffer* y = kernel.argument("y", DType::f64, count, false);
  const loop::Buffer* out = kernel.argument("out", DType::f64, count, true);
  loop::Builder b(kernel);
  b.phase(count, 1, [&](Ex block, Ex) {
    loop::Arena& a = kernel.arena;
    b.store(out, block, value(a, b.let(a.load(x, block)), b.let(a.load(y, block))));
  });
  tests::Arguments arguments(kernel);
  arguments.fill(0, [&](std::int64_t i) { return operands[static_cast<std::size_t>(i)].first; });
  arguments.fill(1, [&](std::int64_t i) { return operands[static_cast<std::size_t>(i)].second; });
  arguments.run_clean();
  std::vector<double> results;
  for (std::int64_t i = 0; i < count; ++i) results.push_back(arguments.get(2, i));
  return results;
}

/// Errors in units in the last place of the exact result, denormals being as fine as they are.
void expect_close(const std::string& what, double x, double y, double found, long double exact,
                  double allowed) {
  const auto rounded = static_cast<double>(exact);
  const std::string text =
      fmt::format("{}({:a}, {:a}) is {:a}, not {:a}", what, x, y, found, rounded);
  if (std::isnan(rounded) || std::isinf(rounded) || rounded == 0) {
    EXPECT_TRUE(found == rounded || (std::isnan(found) && std::isnan(rounded))) << text;
    EXPECT_EQ(std::signbit(found), std::signbit(std::isnan(rounded) ? found : rounded)) << text;
    return;
  }
  const int exponent = std::max(std::ilogb(rounded), -1022);
  const auto error = static_cast<double>(std::abs(static_cast<long double>(found) - exact));
  EXPECT_LE(error, allowed * std::ldexp(1.0, exponent - 52)) << text;
}

struct Function {
  const char* name;
  Unary call;
  long double (*exact)(long double);
  double low, high;
  double allowed;
};

TEST(MathF64, FunctionsOfOneOperand) {
  for (const Function& function : {
           Function{"exp", Unary::call_exp, std::exp, -745, 710, 2},
           Function{"exp2", Unary::call_exp2, std::exp2, -1075, 1024, 2},
           Function{"log", Unary::call_log, std::log, 0, 1e9, 2},
           Function{"log2", Unary::call_log2, std::log2, 0, 1e9, 3},
           Function{"sin", Unary::call_sin, std::sin, -0x1p30, 0x1p30, 2},
           Function{"cos", Unary::call_cos, std::cos, -0x1p30, 0x1p30, 2},
           Function{"tanh", Unary::call_tanh, std::tanh, -30, 30, 3},
           Function{"erf", Unary::call_erf, std::erf, -7, 7, 4},
       }) {
    std::mt19937_64 random(1);
    const auto uniform = [&](double low, double high) {
      return std::uniform_real_distribution<double>(low, high)(random);
    };
    std::vector<std::pair<double, double>> operands;
    for (const double x :
         {0.0, 1.0, 0.5, 2.0, 3.0, 1e-9, 1e-300, smallest, 6.0, 22.0, 1e-5, 0.7, inf, largest}) {
      const bool periodic = function.high == 0x1p30;
      if (periodic && x == largest) continue;
      operands.push_back({x, 0});
      operands.push_back({-x, 0});
    }
    operands.push_back({nan, 0});
    for (int i = 0; i < 800; ++i) {
      operands.push_back({uniform(function.low, function.high), 0});
      operands.push_back({uniform(std::max(function.low, -8.0), 8), 0});
      const double near = std::ldexp(uniform(0.5, 1), -i % 60);
      operands.push_back({near, 0});
      if (function.low < 0) operands.push_back({-near, 0});
      operands.push_back({1 + std::ldexp(uniform(-1, 1), -i % 50), 0});
    }
    const std::vector<double> results = evaluated(
        operands, [&](loop::Arena& a, Ex x, Ex) { return loop::expand_call(a, function.call, x); });
    for (std::size_t i = 0; i < operands.size(); ++i) {
      const double x = operands[i].first;
      expect_close(function.name, x, 0, results[i], function.exact(static_cast<long double>(x)),
                   function.allowed);
    }
  }
}

TEST(MathF64, Powers) {
  std::mt19937_64 random(2);
  const auto uniform = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  std::vector<std::pair<double, double>> operands;
  const std::vector<double> special = {0.0,  1.0,  -1.0, 0.5,   -0.5,   2.0,     -2.0,
                                       3.0,  -3.0, 2.5,  1e300, -1e300, 1e-300,  inf,
                                       -inf, nan,  -0.0, 1e17,  -1e17,  smallest};
  for (const double x : special) {
    for (const double y : special) operands.push_back({x, y});
  }
  for (int i = 0; i < 2000; ++i) {
    operands.push_back({std::ldexp(uniform(0.5, 1), i % 200 - 100), uniform(-12, 12)});
    operands.push_back({1 + std::ldexp(uniform(-1, 1), -i % 50), uniform(-1000, 1000)});
    operands.push_back({uniform(-8, 8), std::floor(uniform(-9, 9))});
  }
  const std::vector<double> results =
      evaluated(operands, [](loop::Arena& a, Ex x, Ex y) { return loop::expand_pow(a, x, y); });
  for (std::size_t i = 0; i < operands.size(); ++i) {
    const auto [x, y] = operands[i];
    expect_close("pow", x, y, results[i],
                 std::pow(static_cast<long double>(x), static_cast<long double>(y)), 16);
  }
}

}  // namespace
}  // namespace weft
