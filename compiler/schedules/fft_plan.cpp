#include "compiler/schedules/fft_plan.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "compiler/schedules/butterfly.h"

namespace weft::compiler {
namespace {

using Complex = std::complex<double>;
using Plan = std::shared_ptr<const FftPlan>;

/// Longest prime that may be transformed by the definition.
constexpr std::int64_t longest_definition = 127;

bool is_prime(std::int64_t n) {
  for (std::int64_t f = 2; f * f <= n; ++f) {
    if (n % f == 0) return false;
  }
  return n > 1;
}

/// Whether no prime factor is above 7.
bool is_smooth(std::int64_t n) {
  for (const std::int64_t factor : {2, 3, 5, 7}) {
    while (n % factor == 0) n /= factor;
  }
  return n == 1;
}

/// Cycles a point of writing the points between the two halves of a split and reading them again,
/// for as many points of a line in each of 16 lanes.
double exchange_cycles(std::int64_t points) {
  constexpr std::int64_t inner_cache = 224;
  constexpr std::int64_t outer_cache = 6144;
  return points <= inner_cache ? 2 : points <= outer_cache ? 6 : 16;
}

/// A part that long reads or writes places in too many pages at a time.
constexpr std::int64_t longest_part = 512;
constexpr double page_cycles = 12;

/// y_k = sum_j x_j w^(jk) of data[first + j step], for lengths with small prime factors.
std::vector<Complex> transform(const std::vector<Complex>& data, std::size_t first,
                               std::size_t step, std::size_t n) {
  if (n == 1) return {data[first]};
  std::size_t p = 2;
  while (n % p != 0) ++p;
  const std::size_t shorter = n / p;
  std::vector<Complex> result(n);
  for (std::size_t r = 0; r < p; ++r) {
    const std::vector<Complex> part = transform(data, first + r * step, step * p, shorter);
    for (std::size_t k = 0; k < n; ++k) {
      const auto turn = static_cast<std::int64_t>(r * k % n);
      result[k] += part[k % shorter] * root_of_unity(turn, static_cast<std::int64_t>(n));
    }
  }
  return result;
}

}  // namespace

std::complex<double> root_of_unity(std::int64_t j, std::int64_t n) {
  j %= n;
  if (j < 0) j += n;
  // Angles of up to an eighth of a turn, by symmetry.
  if (2 * j > n) return std::conj(root_of_unity(n - j, n));
  if (4 * j > n) {
    const Complex mirrored = root_of_unity(n - 2 * j, 2 * n);
    return {-mirrored.real(), mirrored.imag()};
  }
  const double angle = 2 * std::numbers::pi * static_cast<double>(j) / static_cast<double>(n);
  if (8 * j > n) {
    const double rest =
        2 * std::numbers::pi * static_cast<double>(n - 4 * j) / (4 * static_cast<double>(n));
    return {std::sin(rest), -std::cos(rest)};
  }
  return {std::cos(angle), -std::sin(angle)};
}

std::vector<std::int64_t> proper_divisors(std::int64_t n) {
  std::vector<std::int64_t> divisors;
  for (std::int64_t f = 2; f * f <= n; ++f) {
    if (n % f != 0) continue;
    divisors.push_back(f);
    if (f * f != n) divisors.push_back(n / f);
  }
  std::sort(divisors.begin(), divisors.end());
  return divisors;
}

Chirp make_chirp(std::int64_t n, std::int64_t padded) {
  Chirp chirp;
  std::vector<Complex> filter(static_cast<std::size_t>(padded));
  for (std::int64_t j = 0; j < n; ++j) {
    // j^2 modulo 2n is what counts.
    const Complex factor = root_of_unity(j * j % (2 * n), 2 * n);
    chirp.factors.push_back(factor);
    filter[static_cast<std::size_t>(j)] = std::conj(factor);
    if (j > 0) filter[static_cast<std::size_t>(padded - j)] = std::conj(factor);
  }
  chirp.spectrum = transform(filter, 0, 1, static_cast<std::size_t>(padded));
  for (Complex& value : chirp.spectrum) value /= static_cast<double>(padded);
  return chirp;
}

std::shared_ptr<const FftPlan> FftPlanner::plan(std::int64_t length) {
  if (const auto found = plans_.find(length); found != plans_.end()) return found->second;
  FftPlan best;
  best.length = length;
  const auto points = static_cast<double>(length);
  if (length <= largest_butterfly) {
    best.cycles = points * butterfly_cycles(length);
    return plans_[length] = std::make_shared<const FftPlan>(best);
  }
  const auto consider = [&](FftPlan::Kind kind, double cycles, Plan first, Plan second) {
    if (best.cycles > 0 && best.cycles <= cycles) return;
    best.kind = kind;
    best.cycles = cycles;
    best.first = std::move(first);
    best.second = std::move(second);
  };
  for (const std::int64_t divisor : proper_divisors(length)) {
    Plan first = plan(divisor);
    Plan second = plan(length / divisor);
    double cycles = static_cast<double>(second->length) * first->cycles +
                    static_cast<double>(first->length) * second->cycles +
                    points * exchange_cycles(length);
    if (std::max(first->length, second->length) > longest_part) cycles += points * page_cycles;
    consider(FftPlan::Kind::split, cycles, std::move(first), std::move(second));
  }
  if (length <= longest_definition && is_prime(length)) {
    consider(FftPlan::Kind::definition, points * points * 1.1 + points * 4, nullptr, nullptr);
  }
  if (!is_smooth(length)) {
    const std::int64_t padded = convenient_length(2 * length - 1, 1);
    Plan inner = plan(padded);
    const double cycles = 2 * inner->cycles + static_cast<double>(padded) * 8 + points * 8;
    consider(FftPlan::Kind::chirp, cycles, std::move(inner), nullptr);
  }
  return plans_[length] = std::make_shared<const FftPlan>(best);
}

std::int64_t FftPlanner::convenient_length(std::int64_t minimum, std::int64_t multiple) {
  std::int64_t best = 0;
  double cycles = 0;
  const std::int64_t first = (minimum + multiple - 1) / multiple * multiple;
  for (std::int64_t n = first; n <= first + first / 8 || best == 0; n += multiple) {
    if (!is_smooth(n)) continue;
    const double cost = plan(n)->cycles;
    if (best == 0 || cost < cycles) {
      best = n;
      cycles = cost;
    }
  }
  return best;
}

}  // namespace weft::compiler
