// Attention as one kernel, forward and backward, against the definition in double precision.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "weft/weft.h"

namespace weft {
namespace {

using Values = std::vector<double>;

struct Case {
  std::int64_t batch, heads, n, m, d, e;
  bool causal;
  bool joint = false;  ///< queries, keys and values are slices of one tensor (n = m, d = e)
  DType dtype = DType::f32;
  double magnitude = 2;  ///< of queries and keys
  double scale = 0;

  std::string text() const {
    return std::to_string(batch) + "x" + std::to_string(heads) + " " + std::to_string(n) + "x" +
           std::to_string(m) + " d " + std::to_string(d) + " e " + std::to_string(e) +
           (causal ? " causal" : "") + (joint ? " joint" : "");
  }
};

const std::vector<std::string> results = {"y", "dq", "dk", "dv"};

/// y = attention(q, k, v) and the gradients of sum(y * w), to State.
Executable compile(State& state, const Case& c, int threads, bool composites) {
  const Program program = trace(
      state,
      [&] {
        const auto operand = [&](const char* name, std::int64_t rows, std::int64_t columns,
                                 double magnitude) {
          return weft::state(name, {c.batch, c.heads, rows, columns}, c.dtype,
                             init::uniform(-magnitude, magnitude));
        };
        Tensor q, k, v;
        if (c.joint) {
          const std::int64_t width = c.heads * c.d;
          const Tensor qkv = weft::state("qkv", {c.batch, c.n, 3 * width}, c.dtype,
                                         init::uniform(-c.magnitude, c.magnitude));
          const auto part = [&](std::int64_t i) {
            return permute(
                reshape(slice(qkv, 2, i * width, (i + 1) * width), {c.batch, c.n, c.heads, c.d}),
                {0, 2, 1, 3});
          };
          q = part(0);
          k = part(1);
          v = part(2);
          assign(weft::state("q", q.shape(), c.dtype), q);
          assign(weft::state("k", k.shape(), c.dtype), k);
          assign(weft::state("v", v.shape(), c.dtype), v);
        } else {
          q = operand("q", c.n, c.d, c.magnitude);
          k = operand("k", c.m, c.d, c.magnitude);
          v = operand("v", c.m, c.e, 1);
        }
        const Tensor w = operand("w", c.n, c.e, 1);
        const Tensor y = attention(q, k, v, c.causal, c.scale);
        assign(weft::state("y", y.shape(), c.dtype), y);
        const std::vector<Tensor> gradients = grad(y, {q, k, v}, w);
        for (std::size_t i = 0; i < 3; ++i) {
          assign(weft::state(results[i + 1], gradients[i].shape(), c.dtype), gradients[i]);
        }
      },
      "gradients");
  CompileOptions options;
  options.threads = threads;
  options.composites = composites;
  return program.compile(options);
}

/// A value by the definition, and the sum of its absolute terms.
struct Bounded {
  Values value;
  Values terms;

  explicit Bounded(std::int64_t elements)
      : value(static_cast<std::size_t>(elements)), terms(value.size()) {}
  void add(std::int64_t position, double term, double magnitude) {
    value[static_cast<std::size_t>(position)] += term;
    terms[static_cast<std::size_t>(position)] += magnitude;
  }
};

struct Expected {
  std::vector<Bounded> of;       ///< as `results`
  double probability_error = 0;  ///< relative, over f32's unit roundoff
};

Expected definition(const State& state, const Case& c) {
  const Values q = state.values("q"), k = state.values("k"), v = state.values("v");
  const Values w = state.values("w");
  const auto at = [](const Values& x, std::int64_t i) { return x[static_cast<std::size_t>(i)]; };
  const std::int64_t heads = c.batch * c.heads;
  Expected expected{{Bounded(heads * c.n * c.e), Bounded(heads * c.n * c.d),
                     Bounded(heads * c.m * c.d), Bounded(heads * c.m * c.e)}};
  Bounded& y = expected.of[0];
  Bounded& dq = expected.of[1];
  Bounded& dk = expected.of[2];
  Bounded& dv = expected.of[3];
  const double scale = c.scale != 0 ? c.scale : 1 / std::sqrt(static_cast<double>(c.d));
  for (std::int64_t row = 0; row < heads * c.n; ++row) {
    const std::int64_t first = row / c.n * c.m;
    const std::int64_t visible = c.causal ? row % c.n + c.m - c.n + 1 : c.m;
    Values p(static_cast<std::size_t>(visible));
    double maximum = -std::numeric_limits<double>::infinity();
    double largest = 0;
    for (std::int64_t j = 0; j < visible; ++j) {
      double score = 0, terms = 0;
      for (std::int64_t x = 0; x < c.d; ++x) {
        const double term = scale * at(q, row * c.d + x) * at(k, (first + j) * c.d + x);
        score += term;
        terms += std::abs(term);
      }
      p[static_cast<std::size_t>(j)] = score;
      maximum = std::max(maximum, score);
      largest = std::max(largest, terms);
    }
    // A score is off by d + 4 roundings of its terms, and so is the denominator's logarithm.
    expected.probability_error =
        std::max(expected.probability_error,
                 2 * static_cast<double>(c.d + 4) * largest + 2 * std::abs(maximum) + 16);
    double total = 0;
    for (double& value : p) total += value = std::exp(value - maximum);
    for (double& value : p) value /= total;
    double delta = 0, delta_terms = 0;
    for (std::int64_t x = 0; x < c.e; ++x) {
      const std::int64_t position = row * c.e + x;
      for (std::int64_t j = 0; j < visible; ++j) {
        const double term = at(p, j) * at(v, (first + j) * c.e + x);
        y.add(position, term, std::abs(term));
        dv.add((first + j) * c.e + x, at(p, j) * at(w, position),
               std::abs(at(p, j) * at(w, position)));
      }
      delta += at(w, position) * at(y.value, position);
      delta_terms += std::abs(at(w, position)) * at(y.terms, position);
    }
    for (std::int64_t j = 0; j < visible; ++j) {
      double gp = 0, gp_terms = 0;
      for (std::int64_t x = 0; x < c.e; ++x) {
        const double term = at(w, row * c.e + x) * at(v, (first + j) * c.e + x);
        gp += term;
        gp_terms += std::abs(term);
      }
      const double gs = scale * at(p, j) * (gp - delta);
      const double gs_terms = scale * at(p, j) * (gp_terms + delta_terms);
      for (std::int64_t x = 0; x < c.d; ++x) {
        const double key = at(k, (first + j) * c.d + x);
        const double query = at(q, row * c.d + x);
        dq.add(row * c.d + x, gs * key, gs_terms * std::abs(key));
        dk.add((first + j) * c.d + x, gs * query, gs_terms * std::abs(query));
      }
    }
  }
  return expected;
}

void check(const State& state, const Case& c) {
  const Expected expected = definition(state, c);
  // Sums over keys, queries and columns of rounded terms; 16-bit types round results, and o in
  // delta.
  const auto length = static_cast<double>(c.n + c.m + c.d + c.e);
  double unit = 0x1p-24 * (expected.probability_error + length);
  if (c.dtype == DType::bf16) unit += 0x1p-7;
  if (c.dtype == DType::f16) unit += 0x1p-10;
  // Where a 16-bit result underflows.
  const double smallest = c.dtype == DType::f32 ? 1e-37 : 0x1p-20;
  for (std::size_t r = 0; r < results.size(); ++r) {
    const Values actual = state.values(results[r]);
    const Bounded& bounded = expected.of[r];
    ASSERT_EQ(actual.size(), bounded.value.size());
    for (std::size_t i = 0; i < actual.size(); ++i) {
      ASSERT_NEAR(actual[i], bounded.value[i], 2 * unit * bounded.terms[i] + smallest)
          << results[r] << "[" << i << "]";
    }
  }
}

void run_and_check(const Case& c, bool kernel) {
  SCOPED_TRACE(c.text());
  State state;
  Executable executable = compile(state, c, 1, true);
  const std::string graph = executable.dump("simplified");
  EXPECT_EQ(graph.find("attention_backward") != std::string::npos, kernel) << graph;
  executable.run();
  ASSERT_NO_FATAL_FAILURE(check(state, c));
  // The same bits on any number of threads.
  for (const int threads : {2, 5}) {
    State other;
    compile(other, c, threads, true).run();
    for (const std::string& name : results) EXPECT_EQ(other.values(name), state.values(name));
  }
}

TEST(AttentionKernel, ShapesOfAllKinds) {
  const std::vector<Case> cases = {
      {1, 1, 8, 1, 1, 1, false},      {2, 3, 33, 47, 5, 7, true},
      {1, 2, 100, 100, 64, 64, true}, {1, 1, 17, 300, 40, 16, false},
      {1, 1, 250, 250, 16, 24, true}, {2, 1, 9, 96, 256, 3, false},
      {1, 1, 64, 64, 32, 32, false},  {1, 1, 96, 192, 32, 48, true},
  };
  for (const Case& c : cases) ASSERT_NO_FATAL_FAILURE(run_and_check(c, true));
}

TEST(AttentionKernel, SlicesOfOneTensor) {
  for (const bool causal : {false, true}) {
    // Rows that lie 12 KiB apart are packed, others are read as they lie.
    for (const std::int64_t d : {20, 256}) {
      const Case c{1, 4, 70, 70, d, d, causal, true};
      ASSERT_NO_FATAL_FAILURE(run_and_check(c, true));
    }
  }
}

TEST(AttentionKernel, SixteenBits) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    Case c{1, 2, 40, 70, 24, 24, true};
    c.dtype = dtype;
    ASSERT_NO_FATAL_FAILURE(run_and_check(c, true));
  }
}

TEST(AttentionKernel, LargeScoresDoNotOverflow) {
  Case c{1, 1, 40, 130, 16, 8, true};
  c.magnitude = 16;
  c.scale = 1;
  ASSERT_NO_FATAL_FAILURE(run_and_check(c, true));
}

TEST(AttentionKernel, RandomShapes) {
  std::mt19937_64 random(7);
  const auto draw = [&](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
  };
  for (int repeat = 0; repeat < 8; ++repeat) {
    const bool causal = draw(0, 1) == 1;
    const std::int64_t n = draw(8, 120);
    const std::int64_t m = causal ? n + draw(0, 60) * draw(0, 1) : draw(1, 250);
    const Case c{draw(1, 2), draw(1, 3), n, m, draw(1, 70), draw(1, 70), causal};
    ASSERT_NO_FATAL_FAILURE(run_and_check(c, true));
  }
}

TEST(AttentionKernel, FewQueriesAndEmptyBatchesAreDecomposed) {
  ASSERT_NO_FATAL_FAILURE(run_and_check({1, 2, 1, 40, 16, 16, true}, false));
  ASSERT_NO_FATAL_FAILURE(run_and_check({0, 2, 20, 40, 16, 16, true}, false));
}

TEST(AttentionKernel, AgreesWithItsParts) {
  const Case c{2, 2, 70, 90, 20, 12, true};
  State state;
  Executable parts = compile(state, c, 1, false);
  EXPECT_EQ(parts.dump("simplified").find("attention"), std::string::npos);
  parts.run();
  ASSERT_NO_FATAL_FAILURE(check(state, c));
}

/// What is read and written at the kernel's edges is fused with it: scaled by, and added to.
TEST(AttentionKernel, HasAnEpilogue) {
  State state;
  const Program program = trace(
      state,
      [] {
        const Tensor q = weft::state("q", {2, 20, 8}, DType::f32, init::uniform(-1, 1));
        const Tensor x = weft::state("x", {2, 20, 8}, DType::f32, init::uniform(-1, 1));
        const Tensor y = attention(q, q, q, true);
        assign(weft::state("plain", y.shape()), keep(y));
        assign(weft::state("y", y.shape()), x + 0.5 * attention(q, q, q, true));
      },
      "epilogue");
  Executable executable = program.compile();
  executable.run();
  const Values plain = state.values("plain"), x = state.values("x"), y = state.values("y");
  for (std::size_t i = 0; i < y.size(); ++i) {
    EXPECT_NEAR(y[i], x[i] + 0.5 * plain[i], 0x1p-23 * (std::abs(x[i]) + std::abs(plain[i])));
  }
}

}  // namespace
}  // namespace weft
