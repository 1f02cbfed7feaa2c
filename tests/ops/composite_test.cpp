// Composite rows: their decomposition and their derivative against their reference.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "compiler/ir/text.h"
#include "compiler/passes/decompose.h"
#include "compiler/passes/differentiate.h"
#include "compiler/passes/simplify.h"
#include "gradient_check.h"
#include "ops/tno.h"
#include "support.h"

namespace weft::test {
namespace {

using ir::Value;
using ops::Array;
using ops::Builder;
using ops::Op;

std::vector<std::string> composite_ops() {
  std::vector<std::string> names;
  for (const Op* op : ops::all_ops()) {
    if (op->decompose) names.emplace_back(op->name);
  }
  return names;
}

class CompositeTest : public testing::TestWithParam<std::string> {
 protected:
  const Op& op() const { return ops::op(GetParam()); }
};

std::map<std::string, Array> states_of(const Use& use) {
  std::map<std::string, Array> states;
  for (std::size_t i = 0; i < use.values.size(); ++i) states[fmt::format("x{}", i)] = use.values[i];
  return states;
}

/// The reference evaluation works in double precision, but for constants, which have their type,
/// and casts: f64 is exact up to its own sums, the others have a few roundings of f32 relative to
/// the terms, and 16-bit types one rounding of the result (and half their smallest denormal).
double tolerance_for(DType dtype, const Array& expected, const std::vector<Array>& operands) {
  double terms = 1;
  for (const Array& operand : operands) {
    if (!operand.re.empty()) terms *= std::max(1.0, magnitude(operand));
  }
  const std::int64_t most = std::accumulate(
      operands.begin(), operands.end(), std::int64_t{1},
      [](std::int64_t count, const Array& a) { return std::max(count, a.elements()); });
  const auto length = static_cast<double>(std::min<std::int64_t>(most, 64));
  const double compute = epsilon(dtype == DType::f64 ? DType::f64 : DType::f32);
  double tolerance = 8 * compute * length * terms;
  if (dtype == DType::f16 || dtype == DType::bf16) {
    tolerance += epsilon(dtype) * magnitude(expected) + 0x1p-25;
  }
  return tolerance;
}

TEST_P(CompositeTest, DecompositionAgreesWithReference) {
  ops::Random random(11);
  for (const DType dtype : op().dtypes) {
    for (int repeat = 0; repeat < 24; ++repeat) {
      Use use = random_use(op(), dtype, random);
      Builder b(*use.graph, use.graph->body());
      write(b, "y", use.node->result());
      const std::string before = ir::print(*use.graph);
      SCOPED_TRACE(before);
      const Array expected = run(*use.graph, states_of(use)).at("y");
      const double tolerance = tolerance_for(dtype, expected, use.values);

      ASSERT_TRUE(compiler::decompose(*use.graph));
      ASSERT_NO_THROW(ir::verify(*use.graph, "decompose"));
      ir::walk(use.graph->body(),
               [](const ir::Node& node) { EXPECT_FALSE(ops::row(node).decompose); });
      EXPECT_FALSE(compiler::decompose(*use.graph));
      const Array decomposed = run(*use.graph, states_of(use)).at("y");
      ASSERT_NO_FATAL_FAILURE(expect_near(decomposed, expected, tolerance));

      compiler::simplify(*use.graph);
      ASSERT_NO_THROW(ir::verify(*use.graph, "simplify"));
      const Array simplified = run(*use.graph, states_of(use)).at("y");
      ASSERT_NO_FATAL_FAILURE(expect_near(simplified, expected, tolerance));
    }
  }
}

TEST_P(CompositeTest, SchedulesKeepTheirComposite) {
  ops::Random random(12);
  Use use = random_use(op(), op().dtypes.front(), random);
  Builder b(*use.graph, use.graph->body());
  write(b, "y", use.node->result());
  const std::string before = ir::print(*use.graph);
  const auto has_schedule = [&](const ir::Node& node) { return node.is(GetParam()); };
  EXPECT_FALSE(compiler::decompose(*use.graph, has_schedule));
  EXPECT_EQ(ir::print(*use.graph), before);
}

/// loss = sum(y * weights) over all results, gradients with respect to all operands that have one.
TEST_P(CompositeTest, DerivativeAgreesWithDifferences) {
  ops::Random random(13);
  const DType dtype =
      std::ranges::count(op().dtypes, DType::f64) > 0 ? DType::f64 : op().dtypes.front();
  for (int repeat = 0; repeat < 12; ++repeat) {
    Use use = random_use(op(), dtype, random);
    if (!use.smooth) continue;
    Builder b(*use.graph, use.graph->body());
    Value loss;
    std::map<std::string, Array> all_weights;
    for (std::uint32_t r = 0; r < use.node->results.size(); ++r) {
      const Value y = use.node->result(r);
      const std::string name = fmt::format("weights{}", r);
      Value term = ops::mul(b, y, state(b, name, y.type()));
      if (y.type().rank() > 0) {
        std::vector<std::int64_t> axes(static_cast<std::size_t>(y.type().rank()));
        std::iota(axes.begin(), axes.end(), 0);
        term = ops::sum(b, term, axes);
      }
      all_weights[name] = random_values(random, y.type());
      loss = r == 0 ? term : ops::add(b, loss, term);
    }
    write(b, "loss", loss);
    std::vector<std::string> names;
    const std::vector<Value> gradients = compiler::gradients(b, loss, use.inputs);
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      ASSERT_EQ(static_cast<bool>(gradients[i]), is_differentiable(use.inputs[i].dtype()));
      if (!gradients[i]) continue;
      names.push_back(fmt::format("x{}", i));
      write(b, "d" + names.back(), gradients[i]);
    }
    std::map<std::string, Array> states = states_of(use);
    states.merge(all_weights);
    SCOPED_TRACE(ir::print(*use.graph));
    ASSERT_NO_FATAL_FAILURE(check_gradients(*use.graph, states, names));

    // The same gradients once composites and needless nodes are gone.
    const std::map<std::string, Array> expected = run(*use.graph, states);
    compiler::decompose(*use.graph);
    compiler::simplify(*use.graph);
    ASSERT_NO_THROW(ir::verify(*use.graph, "simplify"));
    const std::map<std::string, Array> simplified = run(*use.graph, states);
    for (const std::string& name : names) {
      const Array& gradient = expected.at("d" + name);
      const double scale = std::max(1.0, magnitude(gradient));
      const double unit = epsilon(dtype == DType::f64 ? DType::f64 : DType::f32);
      ASSERT_NO_FATAL_FAILURE(expect_near(simplified.at("d" + name), gradient, 512 * unit * scale));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, CompositeTest, testing::ValuesIn(composite_ops()),
                         [](const auto& test) { return test.param; });

// ---- softmax and its relatives ------------------------------------------------------------------

Array decomposed(std::string_view op, const std::vector<Array>& operands,
                 ir::Attributes attributes) {
  ir::Graph graph;
  Builder b(graph, graph.body());
  std::map<std::string, Array> states;
  std::vector<Value> inputs;
  for (const Array& operand : operands) {
    const std::string name = fmt::format("x{}", inputs.size());
    inputs.push_back(state(b, name, operand.type));
    states[name] = operand;
  }
  write(b, "y", b.emit1(op, inputs, std::move(attributes)));
  compiler::decompose(graph);
  return run(graph, states).at("y");
}

TEST(Softmax, LargeLogitsDoNotOverflow) {
  const Array x = array({DType::f64, {3}}, {1e4, 1e4 - 1, -1e4});
  const Array y = decomposed("softmax", {x}, {{"axis", std::int64_t{0}}});
  EXPECT_NEAR(y.re[0], 1 / (1 + std::exp(-1.0)), 1e-15);
  EXPECT_NEAR(y.re[1], 1 / (1 + std::exp(1.0)), 1e-15);
  EXPECT_EQ(y.re[2], 0);
}

TEST(CrossEntropy, MinusInfinityElsewhereIsNoNaN) {
  const double infinity = std::numeric_limits<double>::infinity();
  const Array x = array({DType::f64, {1, 3}}, {2, -infinity, 1});
  const Array loss = decomposed("cross_entropy", {x, array({DType::i32, {1}}, {2})}, {});
  EXPECT_NEAR(loss.re[0], std::log(1 + std::exp(1.0)), 1e-15);
}

TEST(CrossEntropy, TargetsOutOfRangeAreClamped) {
  const Array x = array({DType::f64, {2, 3}}, {0, 1, 2, 0, 1, 2});
  const Array outside = array({DType::i64, {2}}, {-5, 9});
  const Array inside = array({DType::i64, {2}}, {0, 2});
  for (const auto& evaluate : {apply, decomposed}) {
    EXPECT_EQ(evaluate("cross_entropy", {x, outside}, {}).re,
              evaluate("cross_entropy", {x, inside}, {}).re);
  }
}

TEST(Attention, CausalQueriesSeeNoLaterKey) {
  // Two queries, three keys: query 0 sees keys 0 and 1, and the value of key 2 is far away.
  const Array q = array({DType::f64, {2, 1}}, {0, 0});
  const Array k = array({DType::f64, {3, 1}}, {1, 2, 3});
  const Array v = array({DType::f64, {3, 1}}, {1, 2, 300});
  const Array y = decomposed("attention", {q, k, v}, {{"scale", 1.0}, {"causal", true}});
  EXPECT_NEAR(y.re[0], 1.5, 1e-14);
  EXPECT_NEAR(y.re[1], 101, 1e-12);
}

TEST(Attention, CausalNeedsAsManyKeysAsQueries) {
  ir::Graph graph;
  Builder b(graph, graph.body());
  const Value q = state(b, "q", {DType::f32, {4, 2}});
  const Value k = state(b, "k", {DType::f32, {3, 2}});
  try {
    b.emit1("attention", {q, k, k}, {{"scale", 1.0}, {"causal", true}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("at least as many keys, got 3"), std::string::npos)
        << error.what();
  }
}

// ---- tno ----------------------------------------------------------------------------------------

TEST(Tno, GoodLengthsAreEvenAndSmooth) {
  for (std::int64_t minimum = 1; minimum < 300; ++minimum) {
    const std::int64_t length = ops::good_fft_length(minimum);
    const auto is_good = [](std::int64_t value) {
      for (const std::int64_t factor : {2, 3, 5}) {
        while (value % factor == 0) value /= factor;
      }
      return value == 1;
    };
    EXPECT_GE(length, minimum);
    EXPECT_TRUE(length % 2 == 0 && is_good(length)) << length;
    for (std::int64_t smaller = minimum + minimum % 2; smaller < length; smaller += 2) {
      EXPECT_FALSE(is_good(smaller)) << smaller << " for " << minimum;
    }
  }
}

/// All forms forward, and the gradients of both forms for the same upstream gradient.
std::map<std::string, Array> run_forms(const Array& x, const Array& t, const Array& g,
                                       bool causal) {
  ir::Graph graph;
  Builder b(graph, graph.body());
  const Value vx = state(b, "x", x.type);
  const Value vt = state(b, "t", t.type);
  const Value vg = state(b, "g", g.type);
  write(b, "reference", b.emit1("tno", {vx, vt}, {{"causal", causal}}));
  write(b, "direct", ops::tno_direct(b, vx, vt, causal));
  write(b, "fft", ops::tno_fft(b, vx, vt, causal));
  const ops::TnoGradients direct = ops::tno_direct_gradients(b, vx, vt, causal, vg, true, true);
  const ops::TnoGradients fft = ops::tno_fft_gradients(b, vx, vt, causal, vg, true, true);
  write(b, "direct_x", direct.x);
  write(b, "direct_t", direct.t);
  write(b, "fft_x", fft.x);
  write(b, "fft_t", fft.t);
  ir::verify(graph, "the test");
  return run(graph, {{"x", x}, {"t", t}, {"g", g}});
}

TEST(Tno, FormsAgree) {
  ops::Random random(14);
  for (const bool causal : {false, true}) {
    for (const std::int64_t n : {1, 2, 3, 5, 8, 31, 33, 40}) {
      for (const bool grouped : {false, true}) {
        SCOPED_TRACE(fmt::format("n {} causal {} grouped {}", n, causal, grouped));
        const std::int64_t lags = causal ? n : 2 * n - 1;
        const Array x = random_values(random, {DType::f32, {2, 3, n, 2}});
        const Array g = random_values(random, x.type);
        const Array t =
            random_values(random, {DType::f32, grouped ? Shape{3, lags, 2} : Shape{lags, 2}});
        const std::map<std::string, Array> results = run_forms(x, t, g, causal);

        // By the definition: o_i = sum_j t_(i-j) x_j and its transposes.
        Array o(x.type), gx(x.type), gt(t.type);
        for (std::int64_t batch = 0; batch < 6; ++batch) {
          for (std::int64_t i = 0; i < n; ++i) {
            for (std::int64_t j = 0; j < n; ++j) {
              if (causal && j > i) continue;
              for (std::int64_t c = 0; c < 2; ++c) {
                const std::int64_t lag = causal ? i - j : i - j + n - 1;
                const auto at = [&](std::int64_t row) {
                  return static_cast<std::size_t>((batch * n + row) * 2 + c);
                };
                const auto coefficient =
                    static_cast<std::size_t>(((grouped ? batch % 3 : 0) * lags + lag) * 2 + c);
                o.re[at(i)] += t.re[coefficient] * x.re[at(j)];
                gx.re[at(j)] += t.re[coefficient] * g.re[at(i)];
                gt.re[coefficient] += g.re[at(i)] * x.re[at(j)];
              }
            }
          }
        }
        // Sums of at most 6 n products of values below 1, in double precision by any form.
        const double tolerance = 64 * epsilon(DType::f64) * 6 * static_cast<double>(n);
        for (const char* form : {"reference", "direct", "fft"}) {
          SCOPED_TRACE(form);
          ASSERT_NO_FATAL_FAILURE(expect_near(results.at(form), o, tolerance));
        }
        for (const std::string form : {"direct", "fft"}) {
          SCOPED_TRACE(form);
          ASSERT_NO_FATAL_FAILURE(expect_near(results.at(form + "_x"), gx, tolerance));
          ASSERT_NO_FATAL_FAILURE(expect_near(results.at(form + "_t"), gt, tolerance));
        }
      }
    }
  }
}

/// Forward and backward share the spectra of x and t: of five transforms and more without sharing,
/// three forward ones (x, t, g) remain.
TEST(Tno, SpectraAreShared) {
  ir::Graph graph;
  Builder b(graph, graph.body());
  const std::int64_t n = 64;
  const Value x = state(b, "x", {DType::f32, {2, n, 4}});
  const Value t = state(b, "t", {DType::f32, {2 * n - 1, 4}});
  const Value y = b.emit1("tno", {x, t}, {{"causal", false}});
  const Value loss = ops::sum(b, ops::mul(b, y, y), {0, 1, 2});
  const std::vector<Value> xs = {x, t};
  const std::vector<Value> gradients = compiler::gradients(b, loss, xs);
  write(b, "x", gradients[0]);
  write(b, "t", gradients[1]);
  compiler::decompose(graph);
  compiler::simplify(graph);
  int forward = 0;
  int inverse = 0;
  ir::walk(graph.body(), [&](const ir::Node& node) {
    forward += node.is("rfft") ? 1 : 0;
    inverse += node.is("irfft") ? 1 : 0;
  });
  EXPECT_EQ(forward, 3);
  EXPECT_EQ(inverse, 3);
}

}  // namespace
}  // namespace weft::test
