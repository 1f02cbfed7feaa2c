#include <fmt/format.h>
#include <weft/weft.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "tools/bench/bench.h"
#include "tools/bench/cufft_transform.h"
#include "tools/bench/fftw_convolution.h"
#include "tools/bench/fftw_transform.h"
#include "tools/bench/measure.h"
#include "tools/bench/operations_peer.h"

/// Fourier transforms, complex and real, along the innermost axis and along the one before, beside
/// FFTW.
namespace weft::bench {
namespace {

using Kind = FftwTransform::Kind;
using Sizes = FftwTransform::Sizes;

constexpr std::array<std::int64_t, 11> lengths = {64,   256,  1000,  1024,  2047,   2048,
                                                  4096, 4099, 16384, 65536, 1048576};
constexpr std::int64_t longest_channels = 65536;
constexpr std::int64_t channels = 64;
/// Points of a case: operand and result together leave the second cache, and mostly fit the last.
constexpr std::int64_t case_points = std::int64_t{1} << 18;

std::vector<float> noise(std::size_t elements) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(elements);
  std::generate(values.begin(), values.end(), [&] { return uniform(random); });
  return values;
}

/// A state's numbers; of a complex one, re and im in turn.
std::span<float> parts(State& state, const std::string& name, bool complex) {
  if (!complex) return state.data<float>(name);
  const std::span<std::complex<float>> values = state.data<std::complex<float>>(name);
  return {reinterpret_cast<float*>(values.data()), 2 * values.size()};
}

Executable program(State& state, Kind kind, const Sizes& sizes, const Settings& settings,
                   CompileOptions::Transforms by = CompileOptions::Transforms::measured) {
  const std::int64_t bins = sizes.n / 2 + 1;
  const Shape points{sizes.b, sizes.n, sizes.d};
  const Shape half{sizes.b, bins, sizes.d};
  const Program traced = trace(
      state,
      [&] {
        if (kind == Kind::complex) {
          const Tensor x = weft::state("x", points, DType::c64);
          assign(weft::state("y", points, DType::c64), fft(x, 1));
        } else if (kind == Kind::from_real) {
          const Tensor x = weft::state("x", points);
          assign(weft::state("y", half, DType::c64), rfft(x, 1));
        } else {
          const Tensor x = weft::state("x", half, DType::c64);
          assign(weft::state("y", points), irfft(x, 1, sizes.n));
        }
      },
      "fft");
  CompileOptions options;
  options.threads = settings.threads;
  options.device = settings.device;
  options.cache = false;
  options.transforms = by;
  return traced.compile(options);
}

/// Throws where two results differ by more than rounding explains.
void check(const std::string& name, std::span<const float> ours, std::span<const float> theirs,
           double scale, std::int64_t n) {
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    const double difference = ours[i] - scale * static_cast<double>(theirs[i]);
    error += difference * difference;
    norm += static_cast<double>(ours[i]) * ours[i];
  }
  const double bound = 0x1p-24 * 16 * std::log2(static_cast<double>(n) + 2);
  if (!(std::sqrt(error) <= bound * std::sqrt(norm))) {
    throw Error(fmt::format("fft: {} differs from the other's by {:.3g}, {:.3g} is allowed", name,
                            std::sqrt(error / norm), bound));
  }
}

const char* text_of(Kind kind) {
  return kind == Kind::complex ? "c2c" : kind == Kind::from_real ? "r2c" : "c2r";
}

/// What weft adds to cuFFT: its program, where the library computes the transform, beside the
/// library called as it is.
void measure_library(Kind kind, const Sizes& sizes, const std::string& name,
                     const Settings& settings, const Report& report) {
  const std::optional<Work> bare = cufft_transform(settings.device, kind, sizes);
  if (!bare) return;
  State state;
  Executable executable =
      program(state, kind, sizes, settings, CompileOptions::Transforms::library);
  executable.run();
  const std::vector<Work> works{timed([&](std::int64_t count) { executable.run(0, count); }),
                                *bare};
  const Comparison comparison =
      compare(works, settings.seconds / (11.0 * static_cast<double>(works.size())));
  report({"fft", name, "time through cuFFT", 1e3 * comparison.timings[0].median, "ms",
          PeerValue{"cuFFT, called bare", 1e3 * comparison.timings[1].median},
          comparison.ratio(1)});
}

/// A GPU beside PyTorch there; results are checked against the host's.
void measure_gpu(Kind kind, const Sizes& sizes, const std::string& name, const Settings& settings,
                 OperationsPeer& peer, const Report& report) {
  State state;
  State host_state;
  Executable executable = program(state, kind, sizes, settings);
  Settings on_host = settings;
  on_host.device = "cpu";
  Executable host = program(host_state, kind, sizes, on_host);
  for (State* one : {&state, &host_state}) {
    const std::span<float> x = parts(*one, "x", kind != Kind::from_real);
    const std::vector<float> values = noise(x.size());
    std::copy(values.begin(), values.end(), x.begin());
  }
  executable.run();
  host.run();
  const bool complex = kind != Kind::to_real;
  check(name, parts(state, "y", complex), parts(host_state, "y", complex), 1, sizes.n);
  std::vector<Work> works = {timed([&](std::int64_t count) { executable.run(0, count); })};
  const std::optional<Work> beside = peer.work({{"kind", "fft"},
                                                {"transform", text_of(kind)},
                                                {"batch", sizes.b},
                                                {"n", sizes.n},
                                                {"d", sizes.d}});
  if (beside) works.push_back(*beside);
  const Comparison comparison =
      compare(works, settings.seconds / (11.0 * static_cast<double>(works.size())));
  Row row{"fft", name, "time", 1e3 * comparison.timings[0].median, "ms", {}, {}};
  if (beside) {
    row.peer = PeerValue{peer.name(), 1e3 * comparison.timings[1].median};
    row.ratio = comparison.ratio(1);
  }
  report(row);
  measure_library(kind, sizes, name, settings, report);
}

void measure(Kind kind, const Sizes& sizes, const std::string& name, const Settings& settings,
             const Report& report) {
  State state;
  const double start = processor_seconds();
  Executable executable = program(state, kind, sizes, settings);
  const double compiled = processor_seconds() - start;
  const std::span<float> x = parts(state, "x", kind != Kind::from_real);
  const std::span<float> y = parts(state, "y", kind != Kind::to_real);
  const std::vector<float> values = noise(x.size());
  // One thread does not wait for others: what else runs on the machine is left out.
  const auto timing = settings.threads == 1 ? timed_by_processor : timed;
  std::vector<Work> works = {timing([&](std::int64_t count) { executable.run(0, count); })};
#ifdef WEFT_WITH_FFTW
  std::vector<float> operand(x.size());
  std::vector<float> result(y.size());
  FftwTransform peer(kind, sizes, operand.data(), result.data(), settings.threads);
  std::copy(values.begin(), values.end(), operand.begin());
  works.push_back(timing([&](std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) peer.run();
  }));
#endif
  std::copy(values.begin(), values.end(), x.begin());
  executable.run();
#ifdef WEFT_WITH_FFTW
  peer.run();
  // FFTW does not scale, and takes the imaginary parts of real bins for zero as well.
  check(name, y, result, kind == Kind::to_real ? 1 / static_cast<double>(sizes.n) : 1, sizes.n);
#endif
  const Comparison comparison =
      compare(works, settings.seconds / (11.0 * static_cast<double>(works.size())));
  Row row{"fft",
          name,
          settings.threads == 1 ? "processor time" : "time",
          1e3 * comparison.timings[0].median,
          "ms",
          {},
          {}};
#ifdef WEFT_WITH_FFTW
  row.peer = PeerValue{FftwConvolution::version(), 1e3 * comparison.timings[1].median};
  row.ratio = comparison.ratio(1);
#endif
  report(row);
  report({"fft", name, "compile, processor time", 1e3 * compiled, "ms", {}, {}});
}

}  // namespace

void fft(const Settings& settings, const Report& report) {
  OperationsPeer gpu_peer(settings);
  for (const Kind kind : {Kind::complex, Kind::from_real, Kind::to_real}) {
    for (const std::int64_t d : {channels, std::int64_t{1}}) {
      for (const std::int64_t n : lengths) {
        if (d > 1 && n > longest_channels) continue;
        const Sizes sizes{std::max<std::int64_t>(d > 1 ? 2 : 1, case_points / (n * d)), n, d};
        const std::string name = fmt::format("{} {} {}x{}x{}", text_of(kind),
                                             d > 1 ? "channels" : "innermost", sizes.b, n, d);
        if (!settings.wants(name)) continue;
        run_case(report, "fft", name, [&] {
          if (settings.on_gpu()) {
            measure_gpu(kind, sizes, name, settings, gpu_peer, report);
          } else {
            measure(kind, sizes, name, settings, report);
          }
        });
      }
    }
  }
}

}  // namespace weft::bench
