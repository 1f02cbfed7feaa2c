#include "tools/check/bounds.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "tools/check/inputs.h"
#include "tools/check/perturbed.h"

namespace weft::check {

namespace {

using ops::Array;

constexpr double infinity = std::numeric_limits<double>::infinity();
/// Elements in one list, re and im alternating; integers apart, as doubles do not hold all.
std::vector<double> reals(const Array& array) {
  return array.integers.empty() ? to_values(array) : std::vector<double>{};
}

bool same_class(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  if (std::isinf(a) || std::isinf(b)) return a == b;
  return true;
}

/// How far from the first of the samples each element may be: twice as far as any sample is.
std::vector<double> tolerances(const Samples& samples) {
  const Array& expected = samples->front();
  std::vector<double> tolerance(expected.re.size() + expected.im.size() + expected.integers.size());
  const std::vector<double> b = reals(expected);
  for (const Array& sample : *samples) {
    for (std::size_t i = 0; i < expected.integers.size(); ++i) {
      if (sample.integers[i] != expected.integers[i]) tolerance[i] = infinity;
    }
    const std::vector<double> a = reals(sample);
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (!same_class(a[i], b[i])) {
        tolerance[i] = infinity;
      } else if (std::isfinite(b[i])) {
        tolerance[i] = std::max(tolerance[i], 2 * std::fabs(a[i] - b[i]));
      }
    }
  }
  const double smallest = smallest_normal(expected.type.dtype);
  for (std::size_t i = 0; i < b.size(); ++i) {
    if (std::fabs(b[i]) < 2 * smallest) tolerance[i] = std::max(tolerance[i], 2 * smallest);
  }
  return tolerance;
}

/// One comparison of two tensors of one type.
class ElementComparison {
 public:
  ElementComparison(const Bounded& expected, const Array& compiled)
      : expected_(expected), compiled_(compiled) {}

  void run() {
    const Array& reference = expected_.expected.value;
    for (std::size_t i = 0; i < reference.integers.size(); ++i) {
      visit(i, static_cast<double>(compiled_.integers[i]),
            static_cast<double>(reference.integers[i]),
            compiled_.integers[i] == reference.integers[i] ? 0 : infinity);
    }
    const std::vector<double> a = reals(compiled_);
    const std::vector<double> b = reals(reference);
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double error = !same_class(a[i], b[i]) ? infinity
                           : std::isfinite(b[i])   ? std::fabs(a[i] - b[i])
                                                   : 0;
      visit(i, a[i], b[i], error);
    }
  }

  void add_to(Comparison& comparison) const {
    comparison.elements += static_cast<std::int64_t>(expected_.tolerance.size());
    comparison.undetermined += undetermined_;
    if (wrong_ == 0) return;
    comparison.mismatches.push_back(fmt::format(
        "{} {}: {} of {} elements are wrong, the worst is element {}: {} instead of {}, which may "
        "be off by {:.3g}",
        expected_.expected.what, expected_.expected.value.type.text(), wrong_,
        expected_.tolerance.size(), worst_, worst_compiled_, worst_expected_,
        expected_.tolerance[worst_]));
  }

 private:
  void visit(std::size_t i, double compiled, double expected, double error) {
    const double tolerance = expected_.tolerance[i];
    if (tolerance == infinity) {
      ++undetermined_;
      return;
    }
    if (error <= tolerance) return;
    const double ratio = error / std::max(tolerance, std::numeric_limits<double>::min());
    if (wrong_++ == 0 || ratio > worst_ratio_) {
      worst_ratio_ = ratio;
      worst_ = i;
      worst_compiled_ = compiled;
      worst_expected_ = expected;
    }
  }

  const Bounded& expected_;
  const Array& compiled_;
  std::int64_t wrong_ = 0;
  std::int64_t undetermined_ = 0;
  std::size_t worst_ = 0;
  double worst_ratio_ = 0;
  double worst_compiled_ = 0;
  double worst_expected_ = 0;
};

/// Says where the lists are not of the same tensors; "" where they are.
template <typename A, typename B>
std::string list_difference(std::size_t a_size, std::size_t b_size, const A& a, const B& b) {
  for (std::size_t i = 0; i < std::min(a_size, b_size); ++i) {
    if (a(i).what != b(i).what) return fmt::format("{} instead of {}", b(i).what, a(i).what);
    if (!(a(i).value.type == b(i).value.type)) {
      return fmt::format("{}: {} instead of {}", a(i).what, b(i).value.type.text(),
                         a(i).value.type.text());
    }
  }
  if (a_size == b_size) return {};
  return fmt::format("{} tensors instead of {}; the first in one list only is {}", b_size, a_size,
                     a_size > b_size ? a(b_size).what : b(a_size).what);
}

}  // namespace

std::vector<Tensor> tensors_of(const Outcome& outcome, const Interface& interface) {
  std::vector<Tensor> tensors;
  for (const auto& [name, value] : interface.written) {
    tensors.push_back({"state " + name, outcome.states.at(name)});
  }
  for (const auto& [name, calls] : outcome.received) {
    for (const Received& call : calls) {
      for (std::size_t i = 0; i < call.tensors.size(); ++i) {
        tensors.push_back({fmt::format("receiver {}[{}], iteration {}", name, i, call.iteration),
                           call.tensors[i]});
      }
    }
  }
  return tensors;
}

std::vector<Bounded> bound(const ir::Graph& graph, const Interface& interface, const Inputs& inputs,
                           int samples, std::uint64_t seed) {
  const PerturbedOutcome perturbed = evaluate_perturbed(graph, inputs, samples, seed);
  std::vector<Bounded> bounds;
  for (Tensor& tensor : tensors_of(run_reference(graph, inputs), interface)) {
    bounds.push_back({std::move(tensor), {}});
  }
  // In the order of tensors_of().
  std::size_t next = 0;
  for (const auto& [name, value] : perturbed.states)
    bounds.at(next++).tolerance = tolerances(value);
  for (const auto& [name, calls] : perturbed.received) {
    for (const PerturbedOutcome::Call& call : calls) {
      for (const Samples& value : call.tensors) bounds.at(next++).tolerance = tolerances(value);
    }
  }
  return bounds;
}

Comparison compare(const std::vector<Bounded>& expected, const std::vector<Tensor>& compiled) {
  Comparison comparison;
  const std::string difference = list_difference(
      expected.size(), compiled.size(),
      [&](std::size_t i) -> const Tensor& { return expected[i].expected; },
      [&](std::size_t i) -> const Tensor& { return compiled[i]; });
  if (!difference.empty()) {
    comparison.mismatches.push_back(difference);
    return comparison;
  }
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ElementComparison elements(expected[i], compiled[i].value);
    elements.run();
    elements.add_to(comparison);
  }
  return comparison;
}

std::vector<std::string> compare_bits(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  const std::string difference = list_difference(
      a.size(), b.size(), [&](std::size_t i) -> const Tensor& { return a[i]; },
      [&](std::size_t i) -> const Tensor& { return b[i]; });
  if (!difference.empty()) return {difference};
  std::vector<std::string> differences;
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::vector<std::byte> first(static_cast<std::size_t>(a[i].value.type.bytes()));
    std::vector<std::byte> second(first.size());
    to_bytes(a[i].value, first);
    to_bytes(b[i].value, second);
    if (first != second) differences.push_back(a[i].what + ": other bits");
  }
  return differences;
}

}  // namespace weft::check
