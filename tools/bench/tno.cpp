#include <fmt/format.h>
#include <weft/weft.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "tools/bench/bench.h"
#include "tools/bench/fftw_convolution.h"
#include "tools/bench/measure.h"
#include "tools/bench/operations_peer.h"

/// The causal Toeplitz operator with its gate, forward and backward, beside pipelines of FFTW.
namespace weft::bench {
namespace {

constexpr std::int64_t batch = 8;
constexpr std::array<std::int64_t, 2> channels = {64, 512};
constexpr std::array<std::int64_t, 12> lengths = {64,   128,  256,  512,  1000, 1024,
                                                  2047, 2048, 4096, 4099, 8192, 16384};

std::vector<float> noise(std::int64_t elements, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(static_cast<std::size_t>(elements));
  std::generate(values.begin(), values.end(), [&] { return uniform(random); });
  return values;
}

/// Sums of n products of unit size are of size sqrt(n).
float incoming_scale(std::int64_t n) { return 1 / std::sqrt(static_cast<float>(n)); }

struct Tensors {
  Tensors(std::int64_t n, std::int64_t d)
      : v(noise(batch * n * d, 1)),
        u(noise(batch * n * d, 2)),
        g(noise(batch * n * d, 3)),
        t(noise(n * d, 4)) {}
  std::vector<float> v;
  std::vector<float> u;
  std::vector<float> g;
  std::vector<float> t;
};

CompileOptions compile_options(const Settings& settings) {
  CompileOptions options;
  options.threads = settings.threads;
  options.device = settings.device;
  return options;
}

Executable forward_program(State& state, std::int64_t n, std::int64_t d,
                           const CompileOptions& options, DType dtype = DType::f32) {
  const Program program = trace(
      state,
      [&] {
        const Tensor u = weft::state("u", {batch, n, d}, dtype);
        const Tensor v = weft::state("v", {batch, n, d}, dtype);
        const Tensor t = weft::state("t", {n, d}, dtype);
        assign(weft::state("z", {batch, n, d}, dtype), u * weft::tno(v, t, true));
      },
      "tno_forward");
  return program.compile(options);
}

Executable backward_program(State& state, std::int64_t n, std::int64_t d,
                            const CompileOptions& options, DType dtype = DType::f32) {
  const Program program = trace(
      state,
      [&] {
        const Tensor u = weft::state("u", {batch, n, d}, dtype);
        const Tensor v = weft::state("v", {batch, n, d}, dtype);
        const Tensor t = weft::state("t", {n, d}, dtype);
        const Tensor g = weft::state("g", {batch, n, d}, dtype);
        const Tensor z = u * weft::tno(v, t, true);
        // As of a loss: what flows in depends on the result.
        const Tensor h = g * z * incoming_scale(n);
        const std::vector<Tensor> gradients = grad(z, {u, v, t}, h);
        assign(weft::state("z", {batch, n, d}, dtype), z);
        assign(weft::state("gu", {batch, n, d}, dtype), gradients[0]);
        assign(weft::state("gv", {batch, n, d}, dtype), gradients[1]);
        assign(weft::state("gt", {n, d}, dtype), gradients[2]);
      },
      "tno_forward_backward");
  return program.compile(options);
}

void fill(State& state, const Tensors& tensors) {
  const auto set = [&](const std::string& name, const std::vector<float>& values) {
    if (state.has(name)) state.set_values(name, std::vector<double>(values.begin(), values.end()));
  };
  set("v", tensors.v);
  set("u", tensors.u);
  set("g", tensors.g);
  set("t", tensors.t);
}

/// Throws where two results of `terms` products differ by more than rounding explains. `rounding`:
/// what storing them may change, relative to the largest.
template <typename Value>
void check(const std::string& what, std::span<const Value> ours, std::span<const Value> theirs,
           double terms, double rounding = 0) {
  // Values of variance 1/3 and below: a sum of products has a norm of about sqrt(terms) / 3, and
  // transforms err by a few epsilon of it for each of their log2 levels.
  double largest = 0;
  for (const Value value : theirs) largest = std::max(largest, std::abs(double{value}));
  const double bound = 64 * 1.2e-7 * std::sqrt(terms) * std::log2(terms + 2) + rounding * largest;
  double worst = 0;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    const double difference = std::abs(static_cast<double>(ours[i]) - theirs[i]);
    // NaN counts as wrong.
    if (!(difference <= worst)) worst = difference;
  }
  if (!(worst <= bound)) {
    throw Error(fmt::format("tno: {} differs from the other by {:.3g}, {:.3g} are allowed", what,
                            worst, bound));
  }
}

struct Case {
  std::string name;
  std::string metric;
};

void report_case(const Case& shown, Executable& executable, const std::vector<Work>& peers,
                 const std::vector<std::string>& peer_names, const Settings& settings,
                 const Report& report) {
  std::vector<Work> works = {timed([&](std::int64_t count) { executable.run(0, count); })};
  works.insert(works.end(), peers.begin(), peers.end());
  const Comparison comparison =
      compare(works, settings.seconds / (11.0 * static_cast<double>(works.size())));
  Row row{"tno", shown.name, shown.metric, 1e3 * comparison.timings[0].median, "ms", {}, {}};
  if (works.size() > 1) {
    // The better of the peer's pipelines.
    std::size_t best = 1;
    for (std::size_t i = 2; i < works.size(); ++i) {
      if (comparison.timings[i].median < comparison.timings[best].median) best = i;
    }
    row.peer = PeerValue{peer_names[best - 1], 1e3 * comparison.timings[best].median};
    row.ratio = comparison.ratio(best);
  }
  report(row);
}

constexpr std::int64_t heads = 8;  ///< of the attention beside it
constexpr std::int64_t head_width = 64;

/// Both ways to compute 16-bit operators, of which the case before has the one that was measured to
/// be faster.
void measure_ways(std::int64_t n, std::int64_t d, DType dtype, bool gradients,
                  const std::string& name, const Tensors& tensors, const Settings& settings,
                  const Report& report) {
  using Toeplitz = CompileOptions::Toeplitz;
  std::vector<Work> works;
  // Their states are theirs: neither finds what the other has left in a cache.
  std::array<State, 2> states;
  std::vector<Executable> executables;
  for (const Toeplitz way : {Toeplitz::products, Toeplitz::transforms}) {
    CompileOptions options = compile_options(settings);
    options.toeplitz = way;
    State& state = states[executables.size()];
    const auto make = gradients ? backward_program : forward_program;
    executables.push_back(make(state, n, d, options, dtype));
    fill(state, tensors);
  }
  for (Executable& executable : executables) {
    works.push_back(timed([&](std::int64_t count) { executable.run(0, count); }));
  }
  const Comparison comparison =
      compare(works, settings.seconds / (11.0 * static_cast<double>(works.size())));
  report({"tno", name, fmt::format("{}, by products", gradients ? "forward+backward" : "forward"),
          1e3 * comparison.timings[0].median, "ms",
          PeerValue{"by transforms", 1e3 * comparison.timings[1].median}, comparison.ratio(1)});
}

/// A GPU beside PyTorch there; results are checked against the host's where those take a moment.
void measure_gpu(std::int64_t n, std::int64_t d, DType dtype, const std::string& name,
                 const Settings& settings, OperationsPeer& peer, const Report& report) {
  const Tensors tensors(n, d);
  const auto terms = static_cast<double>(n);
  for (const bool gradients : {false, true}) {
    const auto make = gradients ? backward_program : forward_program;
    const std::string metric = gradients ? "forward+backward" : "forward";
    State state;
    Executable executable = make(state, n, d, compile_options(settings), dtype);
    fill(state, tensors);
    executable.run();
    if (d == channels.front()) {
      State of_host;
      Executable host = make(of_host, n, d, {}, dtype);
      fill(of_host, tensors);
      host.run();
      // Stored once by either side, and the gradients' operand z before that.
      const double rounding = dtype == DType::f32 ? 0 : 0x1p-7;
      for (const char* result : {"z", "gu", "gv", "gt"}) {
        if (!state.has(result)) continue;
        check<double>(name + ", " + result, state.values(result), of_host.values(result),
                      result == std::string("gt") ? batch * terms : terms, rounding);
      }
    }
    std::vector<std::string> names;
    double best = 0;
    std::optional<nlohmann::json> better;
    // Of the two ways to write it, the faster one.
    for (const bool transposed : {false, true}) {
      const nlohmann::json which{
          {"kind", "tno"}, {"dtype", weft::name(dtype)}, {"batch", batch},          {"n", n},
          {"d", d},        {"gradients", gradients},     {"transposed", transposed}};
      const std::optional<Work> one = peer.work(which);
      if (!one) continue;
      constexpr int turns = 3;
      const double seconds =
          compare({*one}, settings.seconds / (10 * turns), turns).timings[0].median;
      if (better && seconds >= best) continue;
      best = seconds;
      better = which;
    }
    std::vector<Work> peers;
    if (const std::optional<Work> work = better ? peer.work(*better) : std::nullopt) {
      peers.push_back(*work);
      names.push_back(peer.name() + (better->at("transposed") ? " (transposed)" : " (strided)"));
    }
    report_case({name, metric}, executable, peers, names, settings, report);
    if (dtype != DType::f32) {
      measure_ways(n, d, dtype, gradients, name, tensors, settings, report);
    }
    // What else mixes positions: attention on tensors of this size.
    if (dtype == DType::f32 || d != heads * head_width) continue;
    const std::optional<Work> attention = peer.work({{"kind", "attention"},
                                                     {"dtype", weft::name(dtype)},
                                                     {"batch", batch},
                                                     {"heads", heads},
                                                     {"n", n},
                                                     {"m", n},
                                                     {"d", head_width},
                                                     {"causal", true},
                                                     {"gradients", gradients}});
    if (!attention) continue;
    report_case({name, metric + ", attention beside it"}, executable, {*attention},
                {peer.name() + " scaled_dot_product_attention"}, settings, report);
  }
}

void measure(std::int64_t n, std::int64_t d, const std::string& name, const Settings& settings,
             const Report& report) {
  const Tensors tensors(n, d);
  const auto elements = static_cast<std::size_t>(batch * n * d);
  std::vector<Work> forward;
  std::vector<Work> both;
  std::vector<std::string> peers;
  std::vector<float> z(elements);
  std::vector<float> gu(elements);
  std::vector<float> gv(elements);
  std::vector<float> gt(static_cast<std::size_t>(n * d));
#ifdef WEFT_WITH_FFTW
  FftwConvolution strided({batch, n, d}, FftwConvolution::Layout::strided, settings.threads);
  FftwConvolution transposed({batch, n, d}, FftwConvolution::Layout::transposed, settings.threads);
  for (FftwConvolution* peer : {&strided, &transposed}) {
    forward.push_back(timed([&, peer](std::int64_t count) {
      for (std::int64_t i = 0; i < count; ++i) {
        peer->forward(tensors.u.data(), tensors.v.data(), tensors.t.data(), z.data());
      }
    }));
    both.push_back(timed([&, peer](std::int64_t count) {
      for (std::int64_t i = 0; i < count; ++i) {
        peer->forward_backward(tensors.u.data(), tensors.v.data(), tensors.t.data(),
                               tensors.g.data(), incoming_scale(n), z.data(),
                               {gu.data(), gv.data(), gt.data()});
      }
    }));
    peers.push_back(FftwConvolution::version() +
                    (peer == &strided ? " (strided)" : " (transposed)"));
  }
#endif
  const auto terms = static_cast<double>(n);
  {
    State state;
    Executable executable = forward_program(state, n, d, compile_options(settings));
    fill(state, tensors);
    executable.run();
    for (const Work& peer : forward) {
      peer(1);
      check<float>(name + ", z", state.data<float>("z"), z, terms);
    }
    report_case({name, "forward"}, executable, forward, peers, settings, report);
  }
  State state;
  Executable executable = backward_program(state, n, d, compile_options(settings));
  fill(state, tensors);
  executable.run();
  for (const Work& peer : both) {
    peer(1);
    check<float>(name + ", z", state.data<float>("z"), z, terms);
    check<float>(name + ", gradient of u", state.data<float>("gu"), gu, terms);
    check<float>(name + ", gradient of v", state.data<float>("gv"), gv, terms);
    check<float>(name + ", gradient of t", state.data<float>("gt"), gt, batch * terms);
  }
  report_case({name, "forward+backward"}, executable, both, peers, settings, report);
}

}  // namespace

void tno(const Settings& settings, const Report& report) {
  OperationsPeer gpu_peer(settings);
  std::vector<DType> types{DType::f32};
  if (settings.on_gpu()) types.push_back(DType::bf16);
  for (const DType dtype : types) {
    for (const std::int64_t d : channels) {
      for (const std::int64_t n : lengths) {
        const std::string name =
            fmt::format("b {} n {} d {}{}", batch, n, d, dtype == DType::f32 ? "" : " bf16");
        if (!settings.wants(name)) continue;
        run_case(report, "tno", name, [&] {
          if (settings.on_gpu()) {
            measure_gpu(n, d, dtype, name, settings, gpu_peer, report);
          } else {
            measure(n, d, name, settings, report);
          }
        });
      }
    }
  }
}

}  // namespace weft::bench
