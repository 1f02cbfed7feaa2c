#include <fmt/format.h>
#include <weft/weft.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "runtime/plan/error.h"
#include "tools/bench/bench.h"
#include "tools/bench/measure.h"
#include "tools/bench/operations_peer.h"

/// Attention as one kernel beside the same program decomposed into products and softmax, which is
/// what a graph compiler makes of it without a schedule for the whole.
namespace weft::bench {
namespace {

struct Case {
  std::int64_t batch, heads, n, m, d;
  bool causal;
  bool gradients;
  DType dtype = DType::f32;

  /// Of the products that the definition needs: two forward, five more backward; keys that a query
  /// does not see need none.
  double operations() const {
    const auto queries = static_cast<double>(batch * heads * n);
    const double visible = static_cast<double>(m) - (causal ? static_cast<double>(n - 1) / 2 : 0);
    return 2 * queries * visible * static_cast<double>(d) * (gradients ? 7 : 2);
  }
  std::string text() const {
    return fmt::format(
        "{}{} {}x{} {}x{} d {}{}", dtype == DType::f32 ? "" : std::string(weft::name(dtype)) + " ",
        gradients ? "training" : "forward", batch, heads, n, m, d, causal ? " causal" : "");
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

/// Of a size that fills a GPU.
std::vector<Case> gpu_cases() {
  std::vector<Case> all;
  for (const DType dtype : {DType::bf16, DType::f32}) {
    for (const bool gradients : {false, true}) {
      all.push_back({4, 8, 512, 512, 64, true, gradients, dtype});
      all.push_back({4, 8, 2048, 2048, 64, true, gradients, dtype});
      all.push_back({4, 8, 2048, 2048, 128, true, gradients, dtype});
      all.push_back({4, 8, 2048, 2048, 64, false, gradients, dtype});
      if (dtype == DType::bf16) all.push_back({1, 8, 8192, 8192, 128, true, gradients, dtype});
    }
  }
  return all;
}

nlohmann::json peer_case(const Case& c) {
  return {{"kind", "attention"},
          {"dtype", weft::name(c.dtype)},
          {"batch", c.batch},
          {"heads", c.heads},
          {"n", c.n},
          {"m", c.m},
          {"d", c.d},
          {"causal", c.causal},
          {"gradients", c.gradients}};
}

/// q, k, v as slices of one tensor (batch, n, 3 heads d) where the lengths agree, as models have
/// them. The results go to State.
Executable make(State& state, const Case& c, bool composites, const Settings& settings) {
  const Program program = trace(
      state,
      [&] {
        const auto by_head = [&](const Tensor& x, std::int64_t rows) {
          return permute(reshape(x, {c.batch, rows, c.heads, c.d}), {0, 2, 1, 3});
        };
        const std::int64_t width = c.heads * c.d;
        Tensor q = weft::state("q", {c.batch, c.n, 3 * width}, c.dtype, init::uniform(-1, 1));
        Tensor kv = weft::state("kv", {c.batch, c.m, 3 * width}, c.dtype, init::uniform(-1, 1));
        const Tensor o = attention(by_head(slice(q, 2, 0, width), c.n),
                                   by_head(slice(kv, 2, width, 2 * width), c.m),
                                   by_head(slice(kv, 2, 2 * width, 3 * width), c.m), c.causal);
        const Tensor y = reshape(permute(o, {0, 2, 1, 3}), {c.batch, c.n, width});
        assign(weft::state("y", {c.batch, c.n, width}, c.dtype), y);
        if (!c.gradients) return;
        const Tensor weights =
            weft::state("weights", {c.batch, c.n, width}, c.dtype, init::uniform(-1, 1));
        const std::vector<Tensor> gradients = grad(sum(y * weights), {q, kv});
        assign(weft::state("dq", q.shape(), c.dtype), gradients[0]);
        assign(weft::state("dkv", kv.shape(), c.dtype), gradients[1]);
      },
      "attention");
  CompileOptions options;
  options.threads = settings.threads;
  options.device = settings.device;
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
  // Stored in 16 bits, what stands between the parts is rounded once more, a few times over.
  const double rounding = c.dtype == DType::bf16 ? 0x1p-5 : 0;
  const double bound = rounding + 8 * 0x1p-24 * (d + std::sqrt(static_cast<double>(c.m)) + 8);
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

namespace {

void measure(const Case& c, const Settings& settings, OperationsPeer& gpu_peer,
             const Report& report) {
  constexpr int turns = 11;
  State fused_state;
  State parts_state;
  Executable fused = make(fused_state, c, true, settings);
  Executable parts = make(parts_state, c, false, settings);
  fused.run(0, 1);
  parts.run(0, 1);
  check(fused_state, parts_state, c);
  std::vector<Work> works{timed([&](std::int64_t count) { fused.run(0, count); }),
                          timed([&](std::int64_t count) { parts.run(0, count); })};
  const std::optional<Work> beside = gpu_peer.work(peer_case(c));
  if (beside) works.push_back(*beside);
  const Comparison comparison = compare(works, settings.seconds / (2.0 * (turns + 1)), turns);
  const auto rate = [&](std::size_t i) {
    return 1e-9 * c.operations() / comparison.timings[i].lowest;
  };
  Row row{"attention", c.text(), "rate", rate(0), "GFLOP/s", {}, comparison.ratio(1)};
  row.peer = PeerValue{"weft, decomposed", rate(1)};
  report(row);
  if (!beside) return;
  row.peer = PeerValue{gpu_peer.name(), rate(2)};
  row.ratio = comparison.ratio(2);
  report(row);
}

}  // namespace

void attention(const Settings& settings, const Report& report) {
  OperationsPeer gpu_peer(settings);
  for (const Case& c : settings.on_gpu() ? gpu_cases() : cases()) {
    if (!settings.wants(c.text())) continue;
    run_case(report, "attention", c.text(), [&] { measure(c, settings, gpu_peer, report); });
  }
}

}  // namespace weft::bench
