#include <fmt/format.h>
#include <weft/weft.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/plan/error.h"
#include "tools/bench/bench.h"
#include "tools/bench/measure.h"

/// Attention as one kernel beside the same program decomposed into products and softmax, which is
/// what a graph compiler makes of it without a schedule for the whole.
namespace weft::bench {
namespace {

struct Case {
  std::int64_t batch, heads, n, m, d;
  bool causal;
  bool gradients;

  /// Of the products that the definition needs: two forward, five more backward; keys that a query
  /// does not see need none.
  double operations() const {
    const auto queries = static_cast<double>(batch * heads * n);
    const double visible = static_cast<double>(m) - (causal ? static_cast<double>(n - 1) / 2 : 0);
    return 2 * queries * visible * static_cast<double>(d) * (gradients ? 7 : 2);
  }
  std::string text() const {
    return fmt::format("{} {}x{} {}x{} d {}{}", gradients ? "training" : "forward", batch, heads, n,
                       m, d, causal ? " causal" : "");
  }
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const bool gradients : {false, true}) {
    for (const bool causal : {false, true}) {
      all.push_back({8, 8, 128, 128, 32, causal, gradients});
      all.push_back({4, 8, 512, 512, 64, causal, gradients});
      all.push_back({1, 8, 1024, 1024, 64, causal, gradients});
    }
    all.push_back({1, 4, 4096, 4096, 64, true, gradients});
    all.push_back({1, 8, 512, 512, 128, true, gradients});
    all.push_back({4, 8, 255, 255, 40, true, gradients});
    all.push_back({4, 8, 33, 517, 64, false, gradients});
  }
  return all;
}

/// q, k, v as slices of one tensor (batch, n, 3 heads d) where the lengths agree, as models have
/// them. The results go to State.
Executable make(State& state, const Case& c, bool composites, int threads) {
  const Program program = trace(
      state,
      [&] {
        const auto by_head = [&](const Tensor& x, std::int64_t rows) {
          return permute(reshape(x, {c.batch, rows, c.heads, c.d}), {0, 2, 1, 3});
        };
        const std::int64_t width = c.heads * c.d;
        Tensor q = weft::state("q", {c.batch, c.n, 3 * width}, DType::f32, init::uniform(-1, 1));
        Tensor kv = weft::state("kv", {c.batch, c.m, 3 * width}, DType::f32, init::uniform(-1, 1));
        const Tensor o = attention(by_head(slice(q, 2, 0, width), c.n),
                                   by_head(slice(kv, 2, width, 2 * width), c.m),
                                   by_head(slice(kv, 2, 2 * width, 3 * width), c.m), c.causal);
        const Tensor y = reshape(permute(o, {0, 2, 1, 3}), {c.batch, c.n, width});
        assign(weft::state("y", {c.batch, c.n, width}), y);
        if (!c.gradients) return;
        const Tensor weights =
            weft::state("weights", {c.batch, c.n, width}, DType::f32, init::uniform(-1, 1));
        const std::vector<Tensor> gradients = grad(sum(y * weights), {q, kv});
        assign(weft::state("dq", q.shape()), gradients[0]);
        assign(weft::state("dkv", kv.shape()), gradients[1]);
      },
      "attention");
  CompileOptions options;
  options.threads = threads;
  options.composites = composites;
  return program.compile(options);
}

double norm(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

/// Throws where the two differ by more than rounding explains: scores are sums of d products with
/// an error of at most d epsilon times their terms (below d scale), which the exponential turns
/// into a relative one; sums over keys add sqrt(m) epsilon.
void check(const State& fused, const State& parts, const Case& c) {
  const auto d = static_cast<double>(c.d);
  const double bound = 8 * 0x1p-24 * (d + std::sqrt(static_cast<double>(c.m)) + 8);
  for (const char* name : {"y", "dq", "dkv"}) {
    if (!fused.has(name)) continue;
    std::vector<double> expected = parts.values(name);
    const std::vector<double> actual = fused.values(name);
    const double scale = norm(expected);
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] -= actual[i];
    const double error = norm(expected);
    if (!(error <= bound * scale)) {
      throw Error(fmt::format("{}: {} differs by {:.3g} in norm, more than {:.3g}", c.text(), name,
                              error, bound * scale));
    }
  }
}

}  // namespace

void attention(const Settings& settings, const Report& report) {
  constexpr int turns = 11;
  for (const Case& c : cases()) {
    if (!settings.wants(c.text())) continue;
    State fused_state;
    State parts_state;
    Executable fused = make(fused_state, c, true, settings.threads);
    Executable parts = make(parts_state, c, false, settings.threads);
    fused.run(0, 1);
    parts.run(0, 1);
    check(fused_state, parts_state, c);
    const std::vector<Work> works{timed([&](std::int64_t count) { fused.run(0, count); }),
                                  timed([&](std::int64_t count) { parts.run(0, count); })};
    const Comparison comparison = compare(works, settings.seconds / (2.0 * (turns + 1)), turns);
    const auto rate = [&](std::size_t i) {
      return 1e-9 * c.operations() / comparison.timings[i].lowest;
    };
    Row row{"attention", c.text(), "rate", rate(0), "GFLOP/s", {}, comparison.ratio(1)};
    row.peer = PeerValue{"weft, decomposed", rate(1)};
    report(row);
  }
}

}  // namespace weft::bench
