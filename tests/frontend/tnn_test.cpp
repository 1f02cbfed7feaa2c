#include <gtest/gtest.h>

#include <cmath>

#include "plain.h"
#include "weft/weft.h"

namespace weft {
namespace {

using plain::compiled;
using plain::evaluate;
using plain::expect_near;
using plain::f32_bound;
using plain::linear;
using plain::map;
using plain::plus;
using plain::random_values;
using plain::randomise;
using plain::Rows;
using plain::times;
using plain::trace_error;
using plain::Values;

// ---- plain forms --------------------------------------------------------------------------------

Rows plain_rpe(const Rows& positions, const State& state, const std::string& name,
               const nn::RpeOptions& options) {
  const std::string type(options.norm.name());
  const auto act = plain::activation(std::string(options.act.name()));
  Rows x = linear(positions, state, name + ".position");
  for (std::int64_t i = 0; i < options.layers; ++i) {
    const std::string layer = name + ".layers." + std::to_string(i);
    const Rows y =
        linear(map(plain::norm(type, x, state, layer + ".norm"), act), state, layer + ".linear");
    x = options.residual ? plus(x, y) : y;
  }
  return linear(map(plain::norm(type, x, state, name + ".out_norm"), act), state, name + ".out");
}

/// t_k at row k + n - 1 for all lags |k| < n; lags below 0 only where not causal.
Rows plain_coefficients(std::int64_t n, const State& state, const std::string& name,
                        const nn::TnoOptions& options) {
  Rows positions(2 * n - 1, 1);
  const double scale = static_cast<double>(options.scale > 0 ? options.scale : n);
  for (std::int64_t k = 1 - n; k < n; ++k) {
    double& position = positions.at(k + n - 1, 0);
    position = static_cast<double>(k);
    if (options.par_type != 1) position /= scale;
    if (options.par_type == 3) position = std::exp(position);
  }
  Rows t = plain_rpe(positions, state, name + ".rpe", options.rpe);
  const auto act = plain::activation(std::string(options.act.name()));
  for (std::int64_t k = 1 - n; k < n; ++k) {
    for (std::int64_t c = 0; c < t.d; ++c) {
      double gamma = options.use_decay ? options.gamma : 1;
      if (options.use_multi_decay) {
        const double p = state.values(name + ".decay").at(static_cast<std::size_t>(c));
        gamma = options.lambda + (1 - options.lambda) / (1 + std::exp(-p));
      }
      double& value = t.at(k + n - 1, c);
      value = act(value * std::pow(gamma, static_cast<double>(std::abs(k))));
    }
  }
  return t;
}

/// One sequence x (n, d).
Rows plain_tno(const Rows& x, const Rows& t, bool causal, bool normalize) {
  Rows result(x.n, x.d);
  for (std::int64_t i = 0; i < x.n; ++i) {
    for (std::int64_t c = 0; c < x.d; ++c) {
      double total = 0;
      double ones = 0;
      for (std::int64_t j = 0; j < (causal ? i + 1 : x.n); ++j) {
        const double coefficient = t.at(i - j + x.n - 1, c);
        total += coefficient * x.at(j, c);
        ones += coefficient;
      }
      result.at(i, c) = normalize ? total / ones : total;
    }
  }
  return result;
}

/// Applies `f` to each sequence of (b * n, d).
Rows each_sequence(const Rows& x, std::int64_t b, const std::function<Rows(const Rows&)>& f) {
  const std::int64_t n = x.n / b;
  Rows result;
  for (std::int64_t i = 0; i < b; ++i) {
    const auto begin = x.values.begin() + i * n * x.d;
    const Rows y = f(Rows(n, x.d, Values(begin, begin + n * x.d)));
    result.d = y.d;
    result.n += y.n;
    result.values.insert(result.values.end(), y.values.begin(), y.values.end());
  }
  return result;
}

Rows plain_gtu(const Rows& x, std::int64_t b, const State& state, const std::string& name,
               const nn::GtuOptions& options) {
  const auto act = plain::activation(std::string(options.act.name()));
  const Rows v = map(linear(x, state, name + ".v"), act);
  const Rows t = plain_coefficients(x.n / b, state, name + ".tno", options.tno);
  const Rows mixed = each_sequence(v, b, [&](const Rows& sequence) {
    return plain_tno(sequence, t, options.tno.causal, options.tno.normalize);
  });
  return linear(times(map(linear(x, state, name + ".u"), act), mixed), state, name + ".o");
}

Rows plain_glu(const Rows& x, const State& state, const std::string& name,
               const nn::GluOptions& options) {
  const Rows gate =
      map(linear(x, state, name + ".l1"), plain::activation(std::string(options.act.name())));
  return linear(times(gate, linear(x, state, name + ".l2")), state, name + ".l3");
}

// ---- Rpe ----------------------------------------------------------------------------------------

TEST(Rpe, ComputesItsFormula) {
  for (const bool residual : {false, true}) {
    for (const std::int64_t layers : {0, 2}) {
      for (const char* norm : {"layernorm", "simplermsnorm"}) {
        const nn::RpeOptions options = {.width = 6,
                                        .out = 4,
                                        .layers = layers,
                                        .residual = residual,
                                        .norm = norm,
                                        .act = "silu"};
        const Values positions = random_values(9, 11, -8, 8);
        State state;
        const auto body = [&] { return nn::Rpe("rpe", options)(constant(positions, {9, 1})); };
        evaluate(state, body);
        randomise(state, 3);
        expect_near(evaluate(state, body),
                    plain_rpe(Rows(9, 1, positions), state, "rpe", options).values, f32_bound(6));
      }
    }
  }
}

TEST(Rpe, DefaultWidthFollowsTheChannels) {
  State state;
  trace(state, [] {
    nn::Rpe("small", {.out = 64});
    nn::Rpe("large", {.out = 512});
    nn::Gtu("gtu", {.width = 512, .expand_ratio = 1});
  });
  EXPECT_EQ(state.type("small.position.weight").shape, (Shape{1, 32}));
  EXPECT_EQ(state.type("large.position.weight").shape, (Shape{1, 64}));
  EXPECT_EQ(state.type("gtu.tno.rpe.position.weight").shape, (Shape{1, 64}));
}

// ---- Tno ----------------------------------------------------------------------------------------

struct TnoCase {
  const char* name;
  nn::TnoOptions options;
};

class TnoLayer : public testing::TestWithParam<TnoCase> {};

TEST_P(TnoLayer, ComputesItsFormula) {
  for (const bool causal : {true, false}) {
    nn::TnoOptions options = GetParam().options;
    options.channels = 3;
    options.causal = causal;
    options.rpe.width = 4;
    options.rpe.layers = 1;
    for (const std::int64_t n : {1, 2, 7}) {
      const Values x = random_values(2 * n * 3, 5);
      State state;
      nn::TnoOptions used;
      const auto body = [&] {
        const nn::Tno tno("tno", options);
        used = tno.options;
        return tno(constant(x, {2, n, 3}));
      };
      evaluate(state, body);
      randomise(state, 17);
      const Rows t = plain_coefficients(n, state, "tno", used);
      const Rows expected = each_sequence(Rows(2 * n, 3, x), 2, [&](const Rows& sequence) {
        return plain_tno(sequence, t, causal, options.normalize);
      });
      // A sum of coefficients of both signs can be small: what it loses is relative to their size.
      double amplification = 1;
      for (std::int64_t i = 0; options.normalize && i < n; ++i) {
        for (std::int64_t c = 0; c < 3; ++c) {
          double sum = 0;
          double size = 0;
          for (std::int64_t j = 0; j < (causal ? i + 1 : n); ++j) {
            sum += t.at(i - j + n - 1, c);
            size += std::fabs(t.at(i - j + n - 1, c));
          }
          amplification = std::max(amplification, size / std::fabs(sum));
        }
      }
      expect_near(evaluate(state, body), expected.values, amplification * f32_bound(n + 8),
                  std::string(GetParam().name) + (causal ? " causal" : " both ways"));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Options, TnoLayer,
    testing::Values(TnoCase{"plain", {}}, TnoCase{"par_type_2", {.par_type = 2}},
                    TnoCase{"par_type_3", {.par_type = 3}},
                    TnoCase{"scaled", {.par_type = 3, .scale = 64}},
                    TnoCase{"decay", {.use_decay = true, .gamma = 0.8}},
                    TnoCase{"no_decay", {.use_decay = true, .gamma = 1}},
                    TnoCase{"multi_decay", {.use_multi_decay = true, .lambda = 0.6}},
                    TnoCase{"act", {.use_decay = true, .gamma = 0.9, .act = "silu"}},
                    TnoCase{"normalized",
                            {.use_decay = true, .gamma = 0.9, .act = "exp", .normalize = true}}),
    [](const auto& each) { return std::string(each.param.name); });

TEST(Tno, FixedScaleKeepsTheKernelAtAnyLength) {
  nn::TnoOptions options = {.channels = 2, .causal = true, .par_type = 2, .scale = 16};
  State state;
  const auto coefficients = [&](std::int64_t n) {
    return evaluate(state, [&] { return nn::Tno("tno", options).coefficients(n); });
  };
  const Values short_ones = coefficients(4);
  Values long_ones = coefficients(9);
  EXPECT_EQ(long_ones.size(), 18U);
  long_ones.resize(8);
  EXPECT_EQ(short_ones, long_ones);
  options.scale = 0;
  EXPECT_NE(coefficients(4), short_ones);
}

TEST(Tno, GradientsReachEncoderAndDecay) {
  State state;
  trace(state, [] {
    const nn::Tno tno("tno", {.channels = 2, .use_multi_decay = true, .rpe = {.width = 4}});
    backward(sum(tno(ones({1, 5, 2}))));
    for (const Tensor& parameter : parameters()) EXPECT_TRUE(parameter.has_grad());
  });
}

TEST(Tno, ErrorsNameTheOption) {
  const auto message = [](nn::TnoOptions options) {
    return trace_error([&] { nn::Tno("mixer", options); });
  };
  EXPECT_NE(message({}).find("'mixer': 0 channels"), std::string::npos);
  EXPECT_NE(message({.channels = 2, .par_type = 4}).find("par_type 4"), std::string::npos);
  EXPECT_NE(message({.channels = 2, .use_decay = true, .gamma = 1.5}).find("gamma of 1.5"),
            std::string::npos);
  EXPECT_NE(message({.channels = 2, .use_decay = true, .use_multi_decay = true}).find("exclude"),
            std::string::npos);
  EXPECT_NE(message({.channels = 2, .use_multi_decay = true, .lambda = 1}).find("lambda of 1"),
            std::string::npos);
  const std::string width =
      trace_error([] { nn::Tno("mixer", {.channels = 2})(zeros({1, 4, 3})); });
  EXPECT_NE(width.find("f32[1, 4, 3]"), std::string::npos) << width;
  EXPECT_NE(width.find("tnn_test.cpp:"), std::string::npos) << width;
}

// ---- Gtu, TnnLayer, TnnLm -----------------------------------------------------------------------

TEST(Gtu, ComputesItsFormula) {
  const Values x = random_values(2 * 6 * 4, 8);
  for (const bool causal : {true, false}) {
    nn::GtuOptions options = {
        .width = 4,
        .expand_ratio = 1.9,
        .heads = 3,
        .tno = {
            .causal = causal, .use_decay = true, .gamma = 0.9, .rpe = {.width = 5, .layers = 1}}};
    State state;
    const auto body = [&] {
      const nn::Gtu gtu("gtu", options);
      options = gtu.options;
      return gtu(constant(x, {2, 6, 4}));
    };
    evaluate(state, body);
    // floor(1.9 * 4) = 7, down to a multiple of 3.
    EXPECT_EQ(options.tno.channels, 6);
    randomise(state, 21);
    const Rows expected = plain_gtu(Rows(12, 4, x), 2, state, "gtu", options);
    expect_near(evaluate(state, body), expected.values, f32_bound(6 + 6 + 4));
    // Three sums follow each other, and the operator goes through transforms or a direct form.
    expect_near(compiled(state, body), expected.values, 8 * f32_bound(6 + 6 + 4), "compiled");
  }
}

TEST(Gtu, ErrorNamesWhatIsTooSmall) {
  EXPECT_NE(trace_error([] {
              nn::Gtu("gtu", {.width = 4, .expand_ratio = 0.5, .heads = 3});
            }).find("3 heads"),
            std::string::npos);
  EXPECT_NE(trace_error([] { nn::Gtu("gtu", {}); }).find("a width of 0"), std::string::npos);
}

TEST(TnnLayer, ComputesItsFormulaBeforeAndAfterNorms) {
  const Values x = random_values(2 * 5 * 4, 9);
  for (const bool pre_norm : {true, false}) {
    nn::TnnLayerOptions options = {
        .width = 4,
        .pre_norm = pre_norm,
        .norm = "layernorm",
        .gtu = {.expand_ratio = 2, .tno = {.causal = true, .rpe = {.width = 4, .layers = 1}}},
        .glu = {.hidden = 6, .act = "gelu"}};
    State state;
    const auto body = [&] {
      const nn::TnnLayer layer("layer", options);
      options = layer.options;
      options.gtu = layer.mixer.options;
      return layer(constant(x, {2, 5, 4}));
    };
    evaluate(state, body);
    randomise(state, 33);
    const Rows input(10, 4, x);
    const auto mixer_norm = [&](const Rows& y) {
      return plain::norm("layernorm", y, state, "layer.mixer_norm");
    };
    const auto feed_norm = [&](const Rows& y) {
      return plain::norm("layernorm", y, state, "layer.feed_norm");
    };
    const auto mixer = [&](const Rows& y) {
      return plain_gtu(y, 2, state, "layer.mixer", options.gtu);
    };
    const auto feed = [&](const Rows& y) { return plain_glu(y, state, "layer.feed", options.glu); };
    Rows expected;
    if (pre_norm) {
      expected = plus(input, mixer(mixer_norm(input)));
      expected = plus(expected, feed(feed_norm(expected)));
    } else {
      expected = mixer_norm(plus(input, mixer(input)));
      expected = feed_norm(plus(expected, feed(expected)));
    }
    expect_near(evaluate(state, body), expected.values, f32_bound(64));
  }
}

nn::TnnLmOptions small_lm() {
  return {.vocabulary = 11,
          .width = 8,
          .layers = 2,
          .layer = {.gtu = {.tno = {.use_decay = true, .rpe = {.width = 4, .layers = 1}}}}};
}

TEST(TnnLm, NamesAndCountsItsParameters) {
  State state;
  trace(state, [] {
    const nn::TnnLm model("", small_lm());
    // Per layer: u, v 8 -> 24, o 24 -> 8, the Rpe 1 -> 4, norm, 4 -> 4, norm, 4 -> 24, three of 8
    // -> 8.
    const std::int64_t layer = 2 * (8 * 24 + 24) + (24 * 8 + 8) + (4 + 4) + (4 + 4) + (16 + 4) +
                               (4 + 4) + (4 * 24 + 24) + 3 * (64 + 8);
    EXPECT_EQ(nn::parameter_count(), 11 * 8 + 2 * layer);
  });
  EXPECT_TRUE(state.has("embedding.weight"));
  EXPECT_TRUE(state.has("layers.0.mixer.u.weight"));
  EXPECT_TRUE(state.has("layers.1.mixer.tno.rpe.layers.0.linear.bias"));
  EXPECT_TRUE(state.has("layers.1.feed.l3.bias"));
  EXPECT_FALSE(state.has("head.weight"));

  State untied;
  trace(untied, [] {
    nn::TnnLmOptions options = small_lm();
    options.tied = false;
    nn::TnnLm model("model", options);
  });
  EXPECT_EQ(untied.type("model.head.weight"), (Type{DType::f32, {8, 11}}));
}

TEST(TnnLm, PositionsSeeThePastOnly) {
  State state;
  const auto logits = [&](std::vector<std::int64_t> ids) {
    return evaluate(state, [&] {
      return nn::TnnLm("", small_lm())(constant(std::span<const std::int64_t>(ids), {1, 6}));
    });
  };
  const Values first = logits({1, 2, 3, 4, 5, 6});
  const Values second = logits({1, 2, 3, 4, 9, 6});
  ASSERT_EQ(first.size(), 66U);
  expect_near(Values(second.begin(), second.begin() + 44),
              Values(first.begin(), first.begin() + 44), f32_bound(64));
  EXPECT_NE(Values(first.begin() + 44, first.end()), Values(second.begin() + 44, second.end()));
}

TEST(TnnLm, TrainsInABf16Body) {
  State state;
  trace(state, [] {
    nn::TnnLmOptions options = small_lm();
    options.compute = DType::bf16;
    options.dropout = 0.1;
    options.layer.dropout = 0.1;
    const nn::TnnLm model("", options);
    const std::vector<std::int64_t> ids = {1, 2, 3, 4};
    const Tensor tokens = constant(std::span(ids), {2, 2});
    const Tensor logits = model(tokens);
    EXPECT_EQ(logits.type(), (Type{DType::f32, {2, 2, 11}}));
    backward(cross_entropy(logits, tokens));
    for (const Tensor& parameter : parameters()) {
      EXPECT_TRUE(parameter.has_grad()) << parameter.name();
      EXPECT_EQ(parameter.grad().dtype(), DType::f32);
    }
  });
}

TEST(TnnLm, RejectsIdsOfAnotherKind) {
  EXPECT_NE(trace_error([] { nn::TnnLm("", small_lm())(zeros({2, 3})); }).find("f32[2, 3]"),
            std::string::npos);
}

}  // namespace
}  // namespace weft
