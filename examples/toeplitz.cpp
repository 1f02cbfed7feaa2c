// The Toeplitz operator y_i = sum_j t_(i-j) x_j of each channel in four forms: nested loops on the
// host, a product with the Toeplitz matrix, Fourier transforms spelt out, and the operation tno.
#include <fmt/format.h>
#include <weft/weft.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace weft;

struct Sizes {
  std::int64_t batch = 2;
  std::int64_t length = 16;
  std::int64_t channels = 128;
};

/// Coefficients are of lags 0 .. n-1 where causal, else -(n-1) .. n-1.
std::int64_t lag_count(const Sizes& sizes, bool causal) {
  return causal ? sizes.length : 2 * sizes.length - 1;
}

/// By the definition, in double precision.
std::vector<double> naive(const Sizes& sizes, const std::vector<double>& x,
                          const std::vector<double>& t, bool causal) {
  const auto [b, n, d] = sizes;
  std::vector<double> y(x.size());
  for (std::int64_t batch = 0; batch < b; ++batch) {
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < (causal ? i + 1 : n); ++j) {
        const std::int64_t lag = causal ? i - j : i - j + n - 1;
        for (std::int64_t c = 0; c < d; ++c) {
          y[static_cast<std::size_t>((batch * n + i) * d + c)] +=
              t[static_cast<std::size_t>(lag * d + c)] *
              x[static_cast<std::size_t>((batch * n + j) * d + c)];
        }
      }
    }
  }
  return y;
}

/// x (b, n, d) by the matrices t[i - j] (n, n, d), one for each channel.
Tensor by_matrix(const Tensor& x, const Tensor& t, bool causal) {
  const std::int64_t n = x.extent(1);
  // Row i of column j is at i - j + n - 1; the lags that the causal operator lacks are zeros.
  const Tensor all_lags = causal ? pad(t, 0, n - 1, 0) : t;
  const Tensor positions = iota({n, n}, 0) - iota({n, n}, 1) + (n - 1);
  const Tensor matrices = gather(all_lags, positions);
  const Tensor y = dot(matrices, x, {1}, {1}, {2}, {2});  // (d, n, b)
  return permute(y, {2, 1, 0});
}

/// The circular convolution of length 2n that holds the operator in its first n entries.
Tensor by_transforms(const Tensor& x, const Tensor& t, bool causal) {
  const std::int64_t n = x.extent(1);
  Tensor period = t;
  if (!causal) {
    // Lags 0 .. n-1, one entry that nothing meets, lags -(n-1) .. -1.
    const Tensor gap = zeros({1, t.extent(1)});
    period = concat({slice(t, 0, n - 1, 2 * n - 1), gap, slice(t, 0, 0, n - 1)});
  }
  const Tensor product = rfft(x, 1, 2 * n) * rfft(period, 0, 2 * n);
  return slice(irfft(product, 1, 2 * n), 1, 0, n);
}

double norm_of_difference(const std::vector<double>& x, const std::vector<double>& y) {
  double total = 0;
  for (std::size_t i = 0; i < x.size(); ++i) total += (x[i] - y[i]) * (x[i] - y[i]);
  return std::sqrt(total);
}

/// Errors of f32 relative to |t| |x| of each channel. A term of the matrix product goes through n
/// roundings; a term of the transforms through 3 transforms of log2(2n) stages. Roundings being
/// independent, k of them add up as sqrt(k); the unit is 2^-23, twice the largest rounding.
double tolerance(const Sizes& sizes, const std::vector<double>& x, const std::vector<double>& t) {
  const auto [b, n, d] = sizes;
  const auto squares = [channels = d](const std::vector<double>& values, std::int64_t from,
                                      std::int64_t to) {
    std::vector<double> result(static_cast<std::size_t>(channels));
    for (std::int64_t i = from * channels; i < to * channels; ++i) {
      const double value = values[static_cast<std::size_t>(i)];
      result[static_cast<std::size_t>(i % channels)] += value * value;
    }
    return result;
  };
  const std::vector<double> of_t = squares(t, 0, static_cast<std::int64_t>(t.size()) / d);
  double total = 0;
  for (std::int64_t batch = 0; batch < b; ++batch) {
    const std::vector<double> of_x = squares(x, batch * n, (batch + 1) * n);
    for (std::size_t c = 0; c < of_x.size(); ++c) total += of_x[c] * of_t[c];
  }
  const double roundings = static_cast<double>(n) + 3 * std::log2(2 * static_cast<double>(n));
  return std::numeric_limits<float>::epsilon() * std::sqrt(roundings * total);
}

bool compare(const Sizes& sizes, bool causal, std::uint64_t seed, const CompileOptions& options) {
  State state;
  std::vector<std::vector<double>> results;
  const auto body = [&] {
    set_seed(seed);
    const Tensor x =
        weft::state("x", {sizes.batch, sizes.length, sizes.channels}, DType::f32, init::normal());
    const Tensor t =
        weft::state("t", {lag_count(sizes, causal), sizes.channels}, DType::f32, init::normal());
    receiver("forms", {by_matrix(x, t, causal), by_transforms(x, t, causal), tno(x, t, causal)},
             [&](std::int64_t, const std::vector<HostTensor>& tensors) {
               for (const HostTensor& tensor : tensors) results.push_back(tensor.values());
             });
  };
  trace(state, body, "toeplitz").compile(options).run();

  const std::vector<double> x = state.values("x");
  const std::vector<double> t = state.values("t");
  const std::vector<std::string> names{"naive", "matrix", "transforms", "tno"};
  results.insert(results.begin(), naive(sizes, x, t, causal));
  const double accepted = tolerance(sizes, x, t);
  fmt::print("{}, largest norm of a difference that is accepted: {:.1e}\n",
             causal ? "causal" : "not causal", accepted);
  bool good = results.size() == names.size();
  for (std::size_t i = 0; i < results.size(); ++i) {
    for (std::size_t j = i + 1; j < results.size(); ++j) {
      const double difference = norm_of_difference(results[i], results[j]);
      const bool close = difference <= accepted;  // false for NaN
      fmt::print("  {:<24} {:.2e}{}\n", names[i] + " - " + names[j], difference,
                 close ? "" : "  FAILED");
      good = good && close;
    }
  }
  return good;
}

int run(int argc, char** argv) {
  CLI::App app("Compares four forms of the Toeplitz operator.");
  Sizes sizes;
  std::uint64_t seed = 0;
  CompileOptions options;
  app.add_option("--batch", sizes.batch)->check(CLI::Range(1, 1 << 16))->capture_default_str();
  app.add_option("--length", sizes.length)->check(CLI::Range(1, 1 << 12))->capture_default_str();
  app.add_option("--channels", sizes.channels)
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  app.add_option("--seed", seed, "Of the random inputs")->capture_default_str();
  app.add_option("--device", options.device, "cpu, cuda or cuda:1")->capture_default_str();
  app.add_option("--threads", options.threads, "0: as many as cores")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const bool two_sided = compare(sizes, false, seed, options);
  const bool causal = compare(sizes, true, seed, options);
  return two_sided && causal ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "toeplitz: {}\n", error.what());
    return 2;
  }
}
