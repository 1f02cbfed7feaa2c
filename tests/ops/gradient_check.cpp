#include "gradient_check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "compiler/ir/text.h"
#include "support.h"

namespace weft::test {

using ops::Array;

std::map<std::string, Array> run(const ir::Graph& graph,
                                 const std::map<std::string, Array>& states) {
  ops::Environment environment;
  environment.state = states;
  ops::evaluate(graph, environment);
  return environment.state;
}

void write(ops::Builder& b, const std::string& name, ir::Value value) {
  b.emit(ops::op("state_write"), {value}, {{"name", name}});
}

Array random_values(ops::Random& random, const Type& type, double low, double high) {
  return ops::random_array(random, {type, low, high});
}

double magnitude(const Array& array) {
  double largest = 0;
  for (const double value : array.re) largest = std::max(largest, std::abs(value));
  for (const double value : array.im) largest = std::max(largest, std::abs(value));
  return largest;
}

void expect_near(const Array& actual, const Array& expected, double tolerance) {
  ASSERT_EQ(actual.type.text(), expected.type.text());
  ASSERT_EQ(actual.integers, expected.integers);
  for (std::size_t i = 0; i < expected.re.size(); ++i) {
    ASSERT_NEAR(actual.re[i], expected.re[i], tolerance) << "element " << i;
  }
  for (std::size_t i = 0; i < expected.im.size(); ++i) {
    ASSERT_NEAR(actual.im[i], expected.im[i], tolerance) << "element " << i;
  }
}

void check_gradients(const ir::Graph& graph, std::map<std::string, Array> states,
                     const std::vector<std::string>& names, double tolerance, double step,
                     int probes) {
  const std::map<std::string, Array> results = run(graph, states);
  const auto loss = [&] { return run(graph, states).at("loss").at(0); };
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const Array& gradient = results.at("d" + name);
    Array& x = states.at(name);
    ASSERT_EQ(gradient.type.text(), x.type.text());
    const std::int64_t elements = x.elements();
    const std::int64_t stride = std::max<std::int64_t>(1, elements / probes);
    const double scale = std::max(1.0, magnitude(gradient));
    const auto probe = [&](double& element) {
      const double before = element;
      element = before + step;
      const double above = loss();
      element = before - step;
      const double below = loss();
      element = before;
      return (above - below) / (2 * step);
    };
    for (std::int64_t i = 0; i < elements; i += stride) {
      const auto at = static_cast<std::size_t>(i);
      ASSERT_NEAR(gradient.re[at], probe(x.re[at]), tolerance * scale) << "element " << i;
      if (x.im.empty()) continue;
      ASSERT_NEAR(gradient.im[at], probe(x.im[at]), tolerance * scale) << "im of element " << i;
    }
  }
}

}  // namespace weft::test
