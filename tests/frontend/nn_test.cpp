#include "weft/nn.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "plain.h"

namespace weft {
namespace {

using plain::compiled;
using plain::evaluate;
using plain::expect_near;
using plain::f32_bound;
using plain::random_values;
using plain::randomise;
using plain::Rows;
using plain::trace_error;
using plain::Values;

/// Evaluates a layer's body with random parameters: the first trace makes them.
Values run(State& state, const std::function<Tensor()>& body) {
  evaluate(state, body);
  randomise(state, 7);
  return evaluate(state, body);
}

TEST(NnActivation, ComputesEachByName) {
  const Values x = random_values(64, 1, -3, 3);
  for (const char* name :
       {"none", "relu", "relu2", "gelu", "gelu_tanh", "elu", "sigmoid", "exp", "silu", "leaky_relu",
        "1+elu", "2+elu", "softplus", "tanh", "cos", "sin"}) {
    State state;
    const Values y = evaluate(state, [&] { return nn::Activation(name)(constant(x, {64})); });
    expect_near(y, plain::map(Rows(1, 64, x), plain::activation(name)).values, f32_bound(1), name);
    EXPECT_EQ(nn::Activation(name).name(), name);
  }
  EXPECT_EQ(nn::Activation("leak").kind(), nn::Activation::leaky_relu);
  EXPECT_EQ(nn::Activation("swish").name(), "silu");
  EXPECT_EQ(nn::Activation("").kind(), nn::Activation::none);
}

TEST(NnActivation, UnknownNameListsTheOthers) {
  const std::string message = plain::error_of([] { nn::Activation unknown("rellu"); });
  EXPECT_NE(message.find("\"rellu\""), std::string::npos) << message;
  EXPECT_NE(message.find("leaky_relu"), std::string::npos) << message;
}

TEST(NnLinear, MultipliesAndAdds) {
  const Values x = random_values(2 * 3 * 5, 2);
  for (const bool bias : {true, false}) {
    State state;
    const auto body = [&] { return nn::Linear("fc", 5, 4, bias)(constant(x, {2, 3, 5})); };
    const Values y = run(state, body);
    EXPECT_EQ(state.type("fc.weight"), (Type{DType::f32, {5, 4}}));
    EXPECT_EQ(state.has("fc.bias"), bias);
    expect_near(y, plain::linear(Rows(6, 5, x), state, "fc").values, f32_bound(5));
  }
}

TEST(NnLinear, StartsUniformWithinTheFansBound) {
  State state;
  trace(state, [] { nn::Linear("fc", 100, 50); });
  const Values weight = state.values("fc.weight");
  const auto [low, high] = std::minmax_element(weight.begin(), weight.end());
  EXPECT_GE(*low, -0.1);
  EXPECT_LE(*high, 0.1);
  double square = 0;
  for (const double w : weight) square += w * w;
  // Variance bound^2 / 3; of 5000 draws the mean square deviates by 0.9 / sqrt(5000) = 1.3%
  // (one sigma).
  EXPECT_NEAR(square / 5000, 0.01 / 3, 0.01 / 3 * 5 * 0.013);
  for (const double b : state.values("fc.bias")) EXPECT_LE(std::fabs(b), 0.1);
}

TEST(NnLinear, CastsParametersToTheInputsType) {
  State state;
  const Program program = trace(state, [] {
    const nn::Linear layer("fc", 3, 2);
    const Tensor y = layer(zeros({4, 3}, DType::bf16));
    EXPECT_EQ(y.type(), (Type{DType::bf16, {4, 2}}));
    EXPECT_EQ(layer.weight.dtype(), DType::f32);
  });
}

TEST(NnLinear, ErrorNamesLayerAndTypesAndLine) {
  const std::string message = trace_error([] { nn::Linear("fc", 5, 4)(zeros({2, 3})); });
  EXPECT_NE(message.find("'fc.weight'"), std::string::npos) << message;
  EXPECT_NE(message.find("f32[2, 3]"), std::string::npos) << message;
  EXPECT_NE(message.find("(..., 5)"), std::string::npos) << message;
  EXPECT_NE(message.find("nn_test.cpp:"), std::string::npos) << message;
  EXPECT_NE(trace_error([] { nn::Linear("fc", 0, 4); }).find("from 0 to 4"), std::string::npos);
  EXPECT_NE(trace_error([] { nn::Linear("fc", 2, 4)(zeros({2, 2}, DType::i32)); }).find("i32"),
            std::string::npos);
}

TEST(NnNames, ComeFromScopesAndParents) {
  State state;
  trace(state, [] {
    const Scope scope("model");
    const nn::Glu glu("glu", {.width = 2});
    EXPECT_EQ(glu.l1.weight.name(), "model.glu.l1.weight");
    const nn::Linear plain("", 2, 3);
    EXPECT_EQ(plain.weight.name(), "model.weight");
    EXPECT_EQ(nn::parameters_of("model.glu").size(), 6U);
    EXPECT_EQ(nn::parameters_of("model.glu.l1").size(), 2U);
    EXPECT_EQ(nn::parameters_of("model.gl").size(), 0U);
    EXPECT_EQ(nn::parameter_count(), 3 * (4 + 2) + 6 + 3);
    EXPECT_EQ(nn::parameter_count({plain.weight, plain.weight, plain.bias}), 9);
    // The same name gives the same parameters.
    const nn::Linear again("", 2, 3);
    EXPECT_EQ(nn::parameter_count(), 3 * (4 + 2) + 6 + 3);
  });
}

TEST(NnNorm, ComputesEachByName) {
  const Values x = random_values(6 * 8, 3, -2, 2);
  for (const char* type : {"none", "layernorm", "rmsnorm", "simplermsnorm", "scalenorm"}) {
    State state;
    const Values y = run(state, [&] { return nn::Norm("norm", type, 8)(constant(x, {2, 3, 8})); });
    expect_near(y, plain::norm(type, Rows(6, 8, x), state, "norm").values, f32_bound(8), type);
    EXPECT_EQ(nn::NormType(type).name(), type);
  }
  EXPECT_EQ(nn::NormType("layer_norm").kind(), nn::NormType::layer_norm);
  EXPECT_NE(plain::error_of([] { nn::NormType unknown("batchnorm"); }).find("simplermsnorm"),
            std::string::npos);
}

TEST(NnNorm, StartsAsTheIdentityOfNormalRows) {
  State state;
  trace(state, [] {
    nn::LayerNorm("a", 4);
    nn::RmsNorm("b", 4);
    nn::ScaleNorm("c");
  });
  EXPECT_EQ(state.values("a.weight"), Values(4, 1));
  EXPECT_EQ(state.values("a.bias"), Values(4, 0));
  EXPECT_EQ(state.values("b.weight"), Values(4, 1));
  EXPECT_EQ(state.values("c.scale"), Values(1, 1));
}

TEST(NnEmbedding, TakesRowsAndGivesLogits) {
  State state;
  const std::vector<std::int64_t> ids = {3, 0, 2, 3};
  const Values rows =
      run(state, [&] { return nn::Embedding("table", 4, 3)(constant(std::span(ids), {2, 2})); });
  const Rows table(4, 3, state.values("table.weight"));
  Rows expected(4, 3);
  for (std::int64_t i = 0; i < 4; ++i) {
    for (std::int64_t j = 0; j < 3; ++j) {
      expected.at(i, j) = table.at(ids[static_cast<std::size_t>(i)], j);
    }
  }
  expect_near(rows, expected.values, 0);

  const Values x = random_values(2 * 3, 4);
  const Values logits =
      evaluate(state, [&] { return nn::Embedding("table", 4, 3).logits(constant(x, {2, 3})); });
  Rows products(2, 4);
  for (std::int64_t i = 0; i < 2; ++i) {
    for (std::int64_t j = 0; j < 4; ++j) {
      for (std::int64_t k = 0; k < 3; ++k) {
        products.at(i, j) += x[static_cast<std::size_t>(i * 3 + k)] * table.at(j, k);
      }
    }
  }
  expect_near(logits, products.values, f32_bound(3));
}

TEST(NnDropout, DropsWhileTrainingOnly) {
  State state;
  const Values dropped = evaluate(state, [] { return nn::Dropout("drop", 0.25)(ones({10000})); });
  const auto zeros = std::count(dropped.begin(), dropped.end(), 0.0);
  // Five standard deviations of a binomial count.
  EXPECT_NEAR(static_cast<double>(zeros), 2500, 5 * std::sqrt(10000 * 0.25 * 0.75));
  for (const double value : dropped) {
    if (value != 0) {
      EXPECT_NEAR(value, 4.0 / 3, 4.0 / 3 * f32_bound(1));
    }
  }
  const Values kept = evaluate(state, [] {
    set_training(false);
    return nn::Dropout("drop", 0.25)(ones({100}));
  });
  EXPECT_EQ(kept, Values(100, 1));
  EXPECT_NE(trace_error([] { nn::Dropout("drop", 1); }).find("expected 0 <= p < 1"),
            std::string::npos);
}

TEST(NnDropout, EachCallAndEachLayerHasItsOwnNumbers) {
  State state;
  const auto masks = [&](const std::function<std::pair<Tensor, Tensor>()>& body) {
    const Values both = evaluate(state, [&] {
      const auto [a, b] = body();
      return concat({a, b});
    });
    return std::pair(Values(both.begin(), both.begin() + 1000),
                     Values(both.begin() + 1000, both.end()));
  };
  const auto [first, second] = masks([] {
    const nn::Dropout drop("drop", 0.5);
    const Tensor once = drop(ones({1000}));
    return std::pair(once, drop(ones({1000})));
  });
  EXPECT_NE(first, second);
  const auto [again, other] = masks([] {
    const Tensor once = nn::Dropout("drop", 0.5)(ones({1000}));
    return std::pair(once, nn::Dropout("other", 0.5)(ones({1000})));
  });
  // The layer's name decides, not what else the trace draws.
  EXPECT_EQ(again, first);
  EXPECT_NE(other, first);
}

TEST(NnSequential, CallsOneAfterTheOther) {
  const Values x = random_values(3 * 4, 5);
  State state;
  const Values y = run(state, [&] {
    nn::Sequential net(nn::Linear("0", 4, 6), relu, nn::Activation("tanh"),
                       [](const Tensor& z) { return z * 2; });
    net.add(nn::Linear("1", 6, 2));
    EXPECT_EQ(net.size(), 5U);
    const nn::Sequential copy = net;
    const nn::Sequential outer(copy.size() == 5 ? nn::Activation("none") : nn::Activation("exp"));
    return outer(copy(constant(x, {3, 4})));
  });
  Rows expected = plain::linear(Rows(3, 4, x), state, "0");
  expected = plain::map(expected, [](double v) { return 2 * std::tanh(std::max(v, 0.0)); });
  expect_near(y, plain::linear(expected, state, "1").values, f32_bound(6));
}

TEST(NnFeedForward, ComputesItsFormula) {
  const Values x = random_values(3 * 4, 6);
  State state;
  const Values y = run(state, [&] {
    return nn::FeedForward("ff", {.width = 4, .hidden = 7, .act = "gelu"})(constant(x, {3, 4}));
  });
  const Rows hidden =
      plain::map(plain::linear(Rows(3, 4, x), state, "ff.in"), plain::activation("gelu"));
  expect_near(y, plain::linear(hidden, state, "ff.out").values, f32_bound(7));
  State wide;
  trace(wide, [] { nn::FeedForward("ff", {.width = 4, .bias = false}); });
  EXPECT_EQ(wide.type("ff.in.weight"), (Type{DType::f32, {4, 16}}));
  EXPECT_EQ(wide.names().size(), 2U);
}

TEST(NnGlu, ComputesItsFormula) {
  const Values x = random_values(3 * 4, 6);
  State state;
  const auto body = [&] {
    const nn::GluOptions options = {.width = 4, .hidden = 6, .act = "silu", .final_act = "tanh"};
    return nn::Glu("glu", options)(constant(x, {3, 4}));
  };
  const Values y = run(state, body);
  const Rows input(3, 4, x);
  const Rows gate = plain::map(plain::linear(input, state, "glu.l1"), plain::activation("silu"));
  const Rows product = plain::combine(gate, plain::linear(input, state, "glu.l2"),
                                      [](double a, double b) { return a * b; });
  const Rows expected =
      plain::map(plain::linear(product, state, "glu.l3"), [](double v) { return std::tanh(v); });
  expect_near(y, expected.values, f32_bound(6));
  expect_near(compiled(state, body), expected.values, 8 * f32_bound(6), "compiled");
}

}  // namespace
}  // namespace weft
