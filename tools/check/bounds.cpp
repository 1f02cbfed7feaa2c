#include "tools/check/bounds.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

#include "ops/evaluate.h"
#include "ops/support.h"
#include "tools/check/inputs.h"
#include "tools/check/rounding.h"

namespace weft::check {

namespace {

using ops::Array;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double safety = 16;

/// The type that an op of the table computes in.
DType computed_in(DType dtype) {
  return dtype == DType::f16 || dtype == DType::bf16 ? DType::f32 : dtype;
}

/// Below this, kernels may flush to zero; those of f16 compute in f32.
double smallest_normal(DType dtype) {
  return dtype == DType::f64 ? std::numeric_limits<double>::min()
                             : static_cast<double>(std::numeric_limits<float>::min());
}

/// Half of the smallest denormal: what rounding to a type with gradual underflow adds at least.
constexpr double f16_underflow = 0x1p-25;

/// The reference evaluation with errors put in by chance.
class Perturbed {
 public:
  explicit Perturbed(std::uint64_t seed) : random_(seed) {}

  std::vector<Array> operator()(const ir::Node& node, std::span<const Array* const> operands) {
    std::vector<Array> copies;
    copies.reserve(operands.size());
    std::vector<const Array*> pointers(operands.begin(), operands.end());
    if (sums(node)) {
      // Composites are computed by ops that round to their type.
      const auto composite = static_cast<bool>(ops::row(node).decompose);
      for (const Array*& operand : pointers) {
        const DType dtype = operand->type.dtype;
        if (!is_differentiable(dtype)) continue;
        copies.push_back(*operand);
        operand = &copies.back();
        perturb(copies.back(), roundings(node) * epsilon(composite ? dtype : computed_in(dtype)));
      }
    }
    std::vector<Array> results = ops::evaluate_node(node, pointers);
    for (Array& result : results) {
      const DType dtype = result.type.dtype;
      if (!is_differentiable(dtype)) continue;
      perturb(result, roundings(node) * epsilon(dtype));
      add_error(result, node, operands);
      finish(result);
    }
    return results;
  }

 private:
  static bool sums(const ir::Node& node) {
    if (roundings(node) == 0) return false;
    const ir::Pattern pattern = node.op->pattern;
    return pattern != ir::Pattern::elementwise && pattern != ir::Pattern::movement &&
           pattern != ir::Pattern::random;
  }

  /// Of either sign and never close to 0.
  double draw() {
    const std::uint64_t bits = random_();
    const double size = 0.5 + std::ldexp(static_cast<double>(bits >> 12), -53);
    return (bits & 1) != 0 ? size : -size;
  }

  void perturb(Array& array, double relative) {
    if (relative == 0) return;
    for (std::size_t i = 0; i < array.re.size(); ++i) {
      double& re = array.re[i];
      if (array.im.empty()) {
        const double underflow = array.type.dtype == DType::f16 && re != 0 ? f16_underflow : 0;
        re += safety * std::max(relative * std::fabs(re), underflow) * draw();
        continue;
      }
      // Norm-wise: parts of products and sums cancel.
      double& im = array.im[i];
      const double size = safety * relative * std::hypot(re, im);
      re += size * draw();
      im += size * draw();
    }
  }

  /// Errors relative to terms of the op's definition that may be larger than the result.
  void add_error(Array& result, const ir::Node& node, std::span<const Array* const> operands) {
    const double unit = safety * epsilon(result.type.dtype);
    const bool gate = node.is("gelu") || node.is("gelu_tanh");  // x / 2 (1 + erf(...))
    double size = 0;
    if (node.is("random_normal")) size = 6;  // the largest radius, times a cosine
    if (node.is("log_softmax") || node.is("cross_entropy")) size = 1;  // log(sum), of a sum >= 1
    if (node.op->pattern == ir::Pattern::fft) return add_line_error(result, node);
    if (!gate && size == 0) return;
    for (std::size_t i = 0; i < result.re.size(); ++i) {
      result.re[i] += unit * (gate ? std::fabs(operands[0]->re[i]) : size) * draw();
    }
  }

  /// A transform's errors are relative to the norm of all that it transforms together.
  void add_line_error(Array& result, const ir::Node& node) {
    const Shape& shape = result.type.shape;
    const auto axis = static_cast<int>(node.attributes.integer("axis"));
    const std::int64_t length = shape[axis];
    const std::int64_t stride = shape.strides()[static_cast<std::size_t>(axis)];
    const double relative = safety * roundings(node) * epsilon(result.type.dtype);
    const std::int64_t elements = result.elements();
    for (std::int64_t first = 0; first < elements; ++first) {
      if (first / stride % length != 0) continue;  // not the start of a line
      double square = 0;
      const auto for_each = [&](auto&& visit) {
        for (std::int64_t i = 0; i < length; ++i) {
          const auto at = static_cast<std::size_t>(first + i * stride);
          visit(result.re[at]);
          if (!result.im.empty()) visit(result.im[at]);
        }
      };
      for_each([&](double& part) { square += part * part; });
      const double size = relative * std::sqrt(square / static_cast<double>(length));
      for_each([&](double& part) { part += size * draw(); });
    }
  }

  static void finish(Array& array) {
    const DType dtype = is_complex(array.type.dtype) ? DType::f32 : array.type.dtype;
    const double smallest = smallest_normal(dtype);
    for (std::vector<double>* part : {&array.re, &array.im}) {
      for (double& value : *part) {
        value = ops::round_to(dtype, value);
        if (std::fabs(value) < smallest) value = 0;
      }
    }
  }

  ops::Random random_;
};

/// Elements in one list, re and im alternating; integers apart, as doubles do not hold all.
std::vector<double> reals(const Array& array) {
  return array.integers.empty() ? to_values(array) : std::vector<double>{};
}

bool same_class(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  if (std::isinf(a) || std::isinf(b)) return a == b;
  return true;
}

/// Widens the tolerances so that they admit the sample.
void admit(const Array& sample, Bounded& bounded) {
  const Array& expected = bounded.expected.value;
  if (!expected.integers.empty()) {
    for (std::size_t i = 0; i < expected.integers.size(); ++i) {
      if (sample.integers[i] != expected.integers[i]) bounded.tolerance[i] = infinity;
    }
    return;
  }
  const std::vector<double> a = reals(sample);
  const std::vector<double> b = reals(expected);
  for (std::size_t i = 0; i < a.size(); ++i) {
    double& tolerance = bounded.tolerance[i];
    if (!same_class(a[i], b[i])) {
      tolerance = infinity;
    } else if (std::isfinite(b[i])) {
      tolerance = std::max(tolerance, std::fabs(a[i] - b[i]));
    }
  }
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
  std::vector<Bounded> bounds;
  for (Tensor& tensor : tensors_of(run_reference(graph, inputs), interface)) {
    Bounded& bounded = bounds.emplace_back();
    bounded.expected = std::move(tensor);
    const Array& value = bounded.expected.value;
    bounded.tolerance.resize(value.re.size() + value.im.size() + value.integers.size());
    const double smallest = smallest_normal(value.type.dtype);
    const std::vector<double> elements = reals(value);
    for (std::size_t i = 0; i < elements.size(); ++i) {
      if (std::fabs(elements[i]) < 2 * smallest) bounded.tolerance[i] = 2 * smallest;
    }
  }
  for (int sample = 0; sample < samples; ++sample) {
    Perturbed perturbed(seed + static_cast<std::uint64_t>(sample));
    const Outcome outcome = run_reference(graph, inputs, std::ref(perturbed));
    const std::vector<Tensor> tensors = tensors_of(outcome, interface);
    for (std::size_t i = 0; i < tensors.size(); ++i) admit(tensors[i].value, bounds.at(i));
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
