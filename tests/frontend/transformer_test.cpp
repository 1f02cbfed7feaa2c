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
using plain::trace_error;
using plain::Values;

Rows columns(const Rows& x, std::int64_t first, std::int64_t count) {
  Rows result(x.n, count);
  for (std::int64_t i = 0; i < x.n; ++i) {
    for (std::int64_t j = 0; j < count; ++j) result.at(i, j) = x.at(i, first + j);
  }
  return result;
}

/// Sequences of n queries and m keys, one after the other.
Rows plain_attention(const Rows& q, const Rows& k, const Rows& v, std::int64_t batch,
                     std::int64_t heads, bool causal) {
  const std::int64_t n = q.n / batch;
  const std::int64_t m = k.n / batch;
  const std::int64_t e = q.d / heads;
  Rows result(q.n, q.d);
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t seen = causal ? std::min(i + 1, m) : m;
        double total = 0;
        Values weights;
        for (std::int64_t j = 0; j < seen; ++j) {
          double product = 0;
          for (std::int64_t c = 0; c < e; ++c) {
            product += q.at(b * n + i, h * e + c) * k.at(b * m + j, h * e + c);
          }
          weights.push_back(std::exp(product / std::sqrt(static_cast<double>(e))));
          total += weights.back();
        }
        for (std::int64_t j = 0; j < seen; ++j) {
          for (std::int64_t c = 0; c < e; ++c) {
            result.at(b * n + i, h * e + c) +=
                weights[static_cast<std::size_t>(j)] / total * v.at(b * m + j, h * e + c);
          }
        }
      }
    }
  }
  return result;
}

Rows plain_self_attention(const Rows& x, std::int64_t batch, std::int64_t heads, bool causal,
                          const State& state, const std::string& name) {
  const Rows qkv = linear(x, state, name + ".qkv");
  const Rows mixed = plain_attention(columns(qkv, 0, x.d), columns(qkv, x.d, x.d),
                                     columns(qkv, 2 * x.d, x.d), batch, heads, causal);
  return linear(mixed, state, name + ".out");
}

TEST(MultiHeadAttention, ComputesItsFormula) {
  const Values x = random_values(2 * 5 * 6, 1);
  for (const bool causal : {false, true}) {
    for (const std::int64_t heads : {1, 3}) {
      State state;
      const auto body = [&] {
        const nn::MultiHeadAttention attention("mha",
                                               {.width = 6, .heads = heads, .causal = causal});
        return attention(constant(x, {2, 5, 6}));
      };
      evaluate(state, body);
      randomise(state, 2);
      const Rows expected = plain_self_attention(Rows(10, 6, x), 2, heads, causal, state, "mha");
      expect_near(evaluate(state, body), expected.values, f32_bound(6 + 5 + 6));
      expect_near(compiled(state, body), expected.values, 8 * f32_bound(6 + 5 + 6), "compiled");
    }
  }
}

TEST(MultiHeadAttention, AttendsToAMemory) {
  const Values x = random_values(2 * 3 * 4, 1);
  const Values memory = random_values(2 * 5 * 4, 2);
  for (const bool bias : {true, false}) {
    State state;
    const auto body = [&] {
      const nn::MultiHeadAttention attention("mha", {.width = 4, .heads = 2, .bias = bias});
      return attention(constant(x, {2, 3, 4}), constant(memory, {2, 5, 4}));
    };
    evaluate(state, body);
    randomise(state, 4);
    const Rows queries = linear(Rows(6, 4, x), state, "mha.qkv");
    const Rows others = linear(Rows(10, 4, memory), state, "mha.qkv");
    const Rows mixed = plain_attention(columns(queries, 0, 4), columns(others, 4, 4),
                                       columns(others, 8, 4), 2, 2, false);
    expect_near(evaluate(state, body), linear(mixed, state, "mha.out").values,
                f32_bound(4 + 5 + 4));
  }
}

TEST(MultiHeadAttention, ErrorsNameShapes) {
  EXPECT_NE(trace_error([] {
              nn::MultiHeadAttention("mha", {.width = 6, .heads = 4});
            }).find("a width of 6 does not split into 4 heads"),
            std::string::npos);
  const std::string message =
      trace_error([] { nn::MultiHeadAttention("mha", {.width = 6, .heads = 2})(zeros({5, 6})); });
  EXPECT_NE(message.find("f32[5, 6]; expected (batch, length, 6)"), std::string::npos) << message;
  EXPECT_NE(message.find("transformer_test.cpp:"), std::string::npos) << message;
}

TEST(TransformerBlock, ComputesItsFormula) {
  const Values x = random_values(2 * 4 * 6, 5);
  for (const bool pre_norm : {true, false}) {
    for (const bool gated : {true, false}) {
      State state;
      const auto body = [&] {
        const nn::TransformerBlock block("block", {.width = 6,
                                                   .heads = 2,
                                                   .hidden = 8,
                                                   .causal = true,
                                                   .pre_norm = pre_norm,
                                                   .act = "silu",
                                                   .gated = gated});
        return block(constant(x, {2, 4, 6}));
      };
      evaluate(state, body);
      randomise(state, 6);
      const auto attention_norm = [&](const Rows& y) {
        return plain::norm("layernorm", y, state, "block.attention_norm");
      };
      const auto feed_norm = [&](const Rows& y) {
        return plain::norm("layernorm", y, state, "block.feed_norm");
      };
      const auto mix = [&](const Rows& y) {
        return plain_self_attention(y, 2, 2, true, state, "block.attention");
      };
      const auto feed = [&](const Rows& y) {
        const auto act = plain::activation("silu");
        if (!gated) {
          return linear(map(linear(y, state, "block.feed.in"), act), state, "block.feed.out");
        }
        const Rows product = plain::combine(map(linear(y, state, "block.feed.l1"), act),
                                            linear(y, state, "block.feed.l2"),
                                            [](double a, double b) { return a * b; });
        return linear(product, state, "block.feed.l3");
      };
      Rows expected(8, 6, x);
      if (pre_norm) {
        expected = plus(expected, mix(attention_norm(expected)));
        expected = plus(expected, feed(feed_norm(expected)));
      } else {
        expected = attention_norm(plus(expected, mix(expected)));
        expected = feed_norm(plus(expected, feed(expected)));
      }
      expect_near(evaluate(state, body), expected.values, f32_bound(64));
    }
  }
}

nn::TransformerLmOptions small_lm() {
  return {.vocabulary = 11, .width = 8, .layers = 2, .max_length = 6, .block = {.heads = 2}};
}

TEST(TransformerLm, NamesAndCountsItsParameters) {
  State state;
  trace(state, [] {
    const nn::TransformerLm model("", small_lm());
    const std::int64_t block = 2 * 16 + (8 * 24 + 24) + (64 + 8) + (8 * 32 + 32) + (32 * 8 + 8);
    EXPECT_EQ(nn::parameter_count(), 11 * 8 + 6 * 8 + 2 * block + 16);
  });
  EXPECT_TRUE(state.has("positions.weight"));
  EXPECT_TRUE(state.has("layers.1.attention.qkv.weight"));
  EXPECT_FALSE(state.has("head.weight"));
}

TEST(TransformerLm, PositionsSeeThePastOnlyAndDiffer) {
  State state;
  const auto logits = [&](std::vector<std::int64_t> ids) {
    return evaluate(state, [&] {
      return nn::TransformerLm("",
                               small_lm())(constant(std::span<const std::int64_t>(ids), {1, 6}));
    });
  };
  const Values first = logits({1, 2, 3, 4, 5, 6});
  const Values second = logits({1, 2, 3, 4, 9, 6});
  ASSERT_EQ(first.size(), 66U);
  expect_near(Values(second.begin(), second.begin() + 44),
              Values(first.begin(), first.begin() + 44), f32_bound(64));
  EXPECT_NE(Values(first.begin() + 44, first.end()), Values(second.begin() + 44, second.end()));
  const Values same = logits({1, 1, 1, 1, 1, 1});
  EXPECT_NE(Values(same.begin(), same.begin() + 11), Values(same.begin() + 11, same.begin() + 22));
}

TEST(TransformerLm, AllParametersGetGradients) {
  State state;
  trace(state, [] {
    nn::TransformerLmOptions options = small_lm();
    options.tied = false;
    options.dropout = 0.1;
    options.compute = DType::bf16;
    const nn::TransformerLm model("", options);
    const std::vector<std::int64_t> ids = {1, 2, 3, 4};
    const Tensor tokens = constant(std::span(ids), {2, 2});
    backward(cross_entropy(model(tokens), tokens));
    for (const Tensor& parameter : parameters()) {
      EXPECT_TRUE(parameter.has_grad()) << parameter.name();
    }
  });
}

TEST(TransformerLm, RejectsLongerSequences) {
  const std::string message =
      trace_error([] { nn::TransformerLm("", small_lm())(zeros({1, 7}, DType::i64)); });
  EXPECT_NE(message.find("i64[1, 7], longer than the 6 learned positions"), std::string::npos)
      << message;
}

}  // namespace
}  // namespace weft
