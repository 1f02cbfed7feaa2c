#include "plain.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "ops/evaluate.h"
#include "weft/ops.h"

namespace weft::plain {

namespace {

ops::Array array_of(const State& state, const std::string& name) {
  ops::Array array(state.type(name));
  const Values values = state.values(name);
  for (std::size_t i = 0; i < values.size(); ++i) {
    array.set(static_cast<std::int64_t>(i), values[i]);
  }
  return array;
}

Values values_of(const ops::Array& array) {
  Values values;
  for (std::int64_t i = 0; i < array.elements(); ++i) values.push_back(array.at(i));
  return values;
}

}  // namespace

Outcome evaluate(Program& program) {
  ops::Environment environment;
  for (const std::string& name : program.state().names()) {
    environment.state[name] = array_of(program.state(), name);
  }
  Outcome outcome;
  environment.receive = [&](const std::string& name, std::int64_t,
                            std::span<const ops::Array> arrays) {
    Values all;
    for (const ops::Array& array : arrays) {
      const Values values = values_of(array);
      all.insert(all.end(), values.begin(), values.end());
    }
    outcome.received[name].push_back(all);
  };
  ops::evaluate(program.graph(), environment);
  for (const auto& [name, array] : environment.state) outcome.states[name] = values_of(array);
  return outcome;
}

Values evaluate(State& state, const std::function<Tensor()>& body) {
  Program program = trace(state, [&] {
    receiver("result", {body()}, [](std::int64_t, const std::vector<HostTensor>&) {});
  });
  return evaluate(program).received.at("result").back();
}

Values compiled(State& state, const std::function<Tensor()>& body) {
  Values result;
  const Program program = trace(state, [&] {
    receiver("result", {body()}, [&](std::int64_t, const std::vector<HostTensor>& tensors) {
      result = tensors[0].values();
    });
  });
  program.compile({.threads = 1, .synchronous = true}).run();
  return result;
}

void expect_near(const Values& actual, const Values& expected, double tolerance,
                 const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double size = 0;
  for (const double value : expected) size = std::max(size, std::fabs(value));
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_LE(std::fabs(actual[i] - expected[i]), tolerance * size)
        << what << ": element " << i << " is " << actual[i] << ", expected " << expected[i];
  }
}

double f32_bound(std::int64_t length) {
  return static_cast<double>(length + 16) * epsilon(DType::f32);
}

Values random_values(std::int64_t count, unsigned seed, double low, double high) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> draw(static_cast<float>(low), static_cast<float>(high));
  Values values(static_cast<std::size_t>(count));
  for (double& value : values) value = draw(random);
  return values;
}

void randomise(State& state, unsigned seed) {
  for (const std::string& name : state.names()) {
    state.set_values(name, random_values(state.type(name).elements(), seed++));
  }
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no Error was thrown";
  return {};
}

std::string trace_error(const std::function<void()>& body) {
  State state;
  return error_of([&] { trace(state, body); });
}

// ---- plain layers -------------------------------------------------------------------------------

Rows::Rows(std::int64_t rows, std::int64_t columns, Values given)
    : n(rows), d(columns), values(std::move(given)) {
  if (values.empty()) values.resize(static_cast<std::size_t>(n * d));
}
double& Rows::at(std::int64_t i, std::int64_t j) {
  return values.at(static_cast<std::size_t>(i * d + j));
}
double Rows::at(std::int64_t i, std::int64_t j) const {
  return values.at(static_cast<std::size_t>(i * d + j));
}

Rows map(Rows x, const std::function<double(double)>& f) {
  for (double& value : x.values) value = f(value);
  return x;
}

Rows combine(const Rows& x, const Rows& y, const std::function<double(double, double)>& f) {
  Rows result(x.n, x.d);
  for (std::size_t i = 0; i < x.values.size(); ++i) {
    result.values[i] = f(x.values[i], y.values.at(i));
  }
  return result;
}

Rows plus(const Rows& x, const Rows& y) {
  return combine(x, y, [](double a, double b) { return a + b; });
}
Rows times(const Rows& x, const Rows& y) {
  return combine(x, y, [](double a, double b) { return a * b; });
}

Rows linear(const Rows& x, const State& state, const std::string& name) {
  const Shape shape = state.type(name + ".weight").shape;
  const Rows weight(shape[0], shape[1], state.values(name + ".weight"));
  Values bias(static_cast<std::size_t>(weight.d));
  if (state.has(name + ".bias")) bias = state.values(name + ".bias");
  Rows result(x.n, weight.d);
  for (std::int64_t i = 0; i < x.n; ++i) {
    for (std::int64_t j = 0; j < weight.d; ++j) {
      double total = bias[static_cast<std::size_t>(j)];
      for (std::int64_t k = 0; k < x.d; ++k) total += x.at(i, k) * weight.at(k, j);
      result.at(i, j) = total;
    }
  }
  return result;
}

std::function<double(double)> activation(const std::string& name) {
  const auto elu = [](double x) { return x > 0 ? x : std::exp(x) - 1; };
  if (name == "none") return [](double x) { return x; };
  if (name == "relu") return [](double x) { return x > 0 ? x : 0; };
  if (name == "relu2") return [](double x) { return x > 0 ? x * x : 0; };
  if (name == "gelu") return [](double x) { return x / 2 * (1 + std::erf(x / std::sqrt(2.0))); };
  if (name == "gelu_tanh") {
    return [](double x) {
      return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    };
  }
  if (name == "elu") return elu;
  if (name == "sigmoid") return [](double x) { return 1 / (1 + std::exp(-x)); };
  if (name == "exp") return [](double x) { return std::exp(x); };
  if (name == "silu") return [](double x) { return x / (1 + std::exp(-x)); };
  if (name == "leaky_relu") return [](double x) { return x > 0 ? x : 0.01 * x; };
  if (name == "1+elu") return [=](double x) { return 1 + elu(x); };
  if (name == "2+elu") return [=](double x) { return 2 + elu(x); };
  if (name == "softplus") return [](double x) { return std::log(1 + std::exp(x)); };
  if (name == "tanh") return [](double x) { return std::tanh(x); };
  if (name == "cos") return [](double x) { return std::cos(x); };
  if (name == "sin") return [](double x) { return std::sin(x); };
  throw Error("no activation " + name);
}

Rows norm(const std::string& type, const Rows& x, const State& state, const std::string& name) {
  if (type == "none") return x;
  const auto get = [&](const char* part, double absent) {
    const std::string full = name + "." + part;
    return state.has(full) ? state.values(full) : Values(static_cast<std::size_t>(x.d), absent);
  };
  const Values weight = get("weight", 1);
  const Values bias = get("bias", 0);
  const double scale = type == "scalenorm" ? state.values(name + ".scale").at(0) : 1;
  Rows result(x.n, x.d);
  for (std::int64_t i = 0; i < x.n; ++i) {
    double mean = 0;
    for (std::int64_t j = 0; j < x.d; ++j) mean += x.at(i, j) / static_cast<double>(x.d);
    if (type != "layernorm") mean = 0;
    double square = 0;
    for (std::int64_t j = 0; j < x.d; ++j) {
      square += (x.at(i, j) - mean) * (x.at(i, j) - mean) / static_cast<double>(x.d);
    }
    const double size = type == "simplermsnorm"
                            ? std::sqrt(square) + 1e-8
                            : std::sqrt(square + (type == "layernorm" ? 1e-5 : 1e-6));
    for (std::int64_t j = 0; j < x.d; ++j) {
      const auto column = static_cast<std::size_t>(j);
      result.at(i, j) = (x.at(i, j) - mean) / size * scale * weight[column] + bias[column];
    }
  }
  return result;
}

}  // namespace weft::plain
