#include "tools/check/perturbed.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>
#include <span>
#include <string_view>
#include <utility>

#include "compiler/passes/lower_scan.h"
#include "ops/evaluate.h"
#include "ops/support.h"
#include "tools/check/rounding.h"

namespace weft::check {

double smallest_normal(DType dtype) {
  return dtype == DType::f64 ? std::numeric_limits<double>::min()
                             : static_cast<double>(std::numeric_limits<float>::min());
}

namespace {

using ir::Node;
using ir::Region;
using ir::Value;
using ops::Array;

/// Errors put in, in roundings that are accounted for.
constexpr double safety = 8;
/// Half of the smallest denormal: what rounding to a type with gradual underflow adds at least.
constexpr double f16_underflow = 0x1p-25;

/// The type that an op of the table computes in.
DType computed_in(DType dtype) {
  return dtype == DType::f16 || dtype == DType::bf16 ? DType::f32 : dtype;
}

/// Terms of the result are added up inside the op.
bool sums(const Node& node) {
  const ir::Pattern pattern = node.op->pattern;
  return roundings(node) > 0 && pattern != ir::Pattern::elementwise &&
         pattern != ir::Pattern::movement && pattern != ir::Pattern::random;
}

/// An error of its operands, however small, may make a large one of its result.
bool jumps(const Node& node) {
  static constexpr std::string_view names[] = {
      "floor",     "ceil", "round",      "sign",          "remainder", "argmax", "equal",
      "not_equal", "less", "less_equal", "greater",       "sqrt",      "rsqrt",  "log",
      "log2",      "div",  "pow",        "greater_equal", "reciprocal"};
  if (node.operands.empty() || !is_floating(node.operand_type(0).dtype)) return false;
  if (node.is("cast")) return !is_differentiable(node.results[0].dtype);
  return std::find(std::begin(names), std::end(names), node.op->name) != std::end(names);
}

/// Calls visit(line) for each line of an array along the axis, line(i) being a position.
template <typename Visit>
void for_each_line(const Shape& shape, int axis, Visit&& visit) {
  const std::int64_t length = shape[axis];
  const std::int64_t stride = shape.strides()[static_cast<std::size_t>(axis)];
  const std::int64_t elements = shape.elements();
  for (std::int64_t first = 0; first < elements; ++first) {
    if (first / stride % length != 0) continue;  // not the start of a line
    visit([=](std::int64_t i) { return static_cast<std::size_t>(first + i * stride); });
  }
}

class Evaluation {
 public:
  Evaluation(const ir::Graph& graph, const Inputs& inputs, int samples, std::uint64_t seed)
      : inputs_(inputs),
        samples_(static_cast<std::size_t>(samples)),
        random_(seed),
        values_(graph.node_count()) {}

  PerturbedOutcome run(const ir::Graph& graph) {
    run(graph.body(), 0);
    return std::move(outcome_);
  }

 private:
  using Operands = std::vector<Samples>;

  static Samples exact(Array array) {
    std::vector<Array> one;
    one.push_back(std::move(array));
    return std::make_shared<const std::vector<Array>>(std::move(one));
  }
  static const Array& sample(const Samples& samples, std::size_t k) {
    return (*samples)[std::min(k, samples->size() - 1)];
  }

  void run(const Region& region, std::int64_t iteration) {
    for (const Node* node : region.nodes) run(*node, iteration);
  }
  void run(const Node& node, std::int64_t iteration);
  void run_loop(const Node& node, std::int64_t iteration);
  std::vector<Samples> compute(const Node& node, const Operands& operands);

  const Samples& get(Value value) const { return values_[value.node->id].at(value.index); }
  Operands get_all(std::span<const Value> values) const {
    Operands all;
    for (const Value value : values) all.push_back(get(value));
    return all;
  }

  // ---- errors -----------------------------------------------------------------------------------

  /// Uniform in [0, 1).
  double draw_unit() { return std::ldexp(static_cast<double>(random_() >> 11), -53); }
  /// Of either sign and never close to 0.
  double draw() {
    const double size = 0.5 + 0.5 * draw_unit();
    return (random_() & 1) != 0 ? size : -size;
  }

  void add_relative(Array& array, double relative);
  void add_terms(Array& result, const Node& node, std::span<const Array* const> operands);
  void add_to_channels(Array& result, const Node& node, std::size_t index,
                       std::span<const Array* const> operands);
  void add_to_lines(Array& result, const Node& node);
  std::vector<Array> perturbed(const Node& node, const Operands& operands, std::size_t k,
                               const std::vector<Array>& expected);
  static std::vector<double> radii(const Samples& operand);
  void push(const Node& node, const Samples& operand, std::size_t position, std::size_t k,
            const std::vector<Array>& expected, Array& pushed);
  static void unite(const Operands& operands, std::vector<Array>& copies);
  static void finish(Array& array);

  const Inputs& inputs_;
  std::size_t samples_;
  ops::Random random_;
  std::vector<std::vector<Samples>> values_;  ///< by node id
  PerturbedOutcome outcome_;
};

void Evaluation::run(const Node& node, std::int64_t iteration) {
  if (node.is("loop")) return run_loop(node, iteration);
  if (node.is("state")) {
    values_[node.id] = {exact(inputs_.states.at(node.attributes.text("name")))};
  } else if (node.is("state_write")) {
    outcome_.states[node.attributes.text("name")] = get(node.operands[0]);
  } else if (node.is("feeder")) {
    values_[node.id] = {
        exact(inputs_.feed(node.attributes.text("name"), node.results[0], iteration))};
  } else if (node.is("scalar")) {
    Array array(node.results[0]);
    array.set(0, ops::round_to(DType::f32, node.attributes.real("value")));
    values_[node.id] = {exact(std::move(array))};
  } else if (node.is("receiver")) {
    if (iteration % node.attributes.integer("every") != 0) return;
    outcome_.received[node.attributes.text("name")].push_back({iteration, get_all(node.operands)});
  } else if (!node.is("state_carry")) {
    values_[node.id] = compute(node, get_all(node.operands));
  }
}

void Evaluation::run_loop(const Node& node, std::int64_t iteration) {
  const Region& body = *node.regions[0];
  const std::int64_t count = node.attributes.integer("count");
  Operands carried = get_all(node.operands);
  for (std::int64_t i = 0; i < count; ++i) {
    Array index(Type{DType::i64, {}});
    index.integers[0] = i;
    values_[body.arguments[0]->id] = {exact(std::move(index))};
    for (std::size_t c = 0; c < carried.size(); ++c) {
      values_[body.arguments[c + 1]->id] = {carried[c]};
    }
    run(body, iteration * count + i);
    carried = get_all(body.yields);
  }
  values_[node.id] = std::move(carried);
}

std::vector<Samples> Evaluation::compute(const Node& node, const Operands& operands) {
  const bool reached = std::any_of(operands.begin(), operands.end(),
                                   [](const Samples& samples) { return samples->size() > 1; });
  const std::size_t count = reached || roundings(node) > 0 ? samples_ + 1 : 1;
  std::vector<std::vector<Array>> results(node.results.size());
  std::vector<Array> expected;
  for (std::size_t k = 0; k < count; ++k) {
    std::vector<const Array*> pointers;
    for (const Samples& operand : operands) pointers.push_back(&sample(operand, k));
    const std::vector<Array> copies = perturbed(node, operands, k, expected);
    for (std::size_t i = 0; i < copies.size(); ++i) pointers[i] = &copies[i];
    std::vector<Array> arrays = ops::evaluate_node(node, pointers);
    if (k == 0) expected = arrays;
    for (std::size_t r = 0; r < arrays.size(); ++r) {
      const DType dtype = arrays[r].type.dtype;
      if (k > 0 && is_differentiable(dtype)) {
        add_relative(arrays[r], roundings(node) * epsilon(dtype));
        add_terms(arrays[r], node, pointers);
        if (node.op->pattern == ir::Pattern::tno) add_to_channels(arrays[r], node, r, pointers);
        finish(arrays[r]);
      }
      results[r].push_back(std::move(arrays[r]));
    }
  }
  std::vector<Samples> all;
  for (std::vector<Array>& result : results) {
    all.push_back(std::make_shared<const std::vector<Array>>(std::move(result)));
  }
  return all;
}

/// The operands for sample k, or nothing where they stay as they are.
std::vector<Array> Evaluation::perturbed(const Node& node, const Operands& operands, std::size_t k,
                                         const std::vector<Array>& expected) {
  const bool summed = sums(node);
  const bool jumping = jumps(node);
  std::vector<Array> copies;
  if (k == 0 || (!summed && !jumping)) return copies;
  // Composites are computed by ops that round to their type.
  const auto composite = static_cast<bool>(ops::row(node).decompose);
  for (std::size_t i = 0; i < operands.size(); ++i) {
    copies.push_back(sample(operands[i], k));
    const DType dtype = copies.back().type.dtype;
    if (!is_differentiable(dtype)) continue;
    if (summed) {
      add_relative(copies.back(),
                   roundings(node) * epsilon(composite ? dtype : computed_in(dtype)));
    }
    if (jumping && operands[i]->size() > 1) {
      push(node, operands[i], i, k, expected, copies.back());
    }
  }
  if (k == 3 && ops::row(node).minimum_arity == 2 && jumping) unite(operands, copies);
  return copies;
}

/// How far each element may be from the first of its samples, at most.
std::vector<double> Evaluation::radii(const Samples& operand) {
  const std::vector<double>& middle = operand->front().re;
  std::vector<double> radius(middle.size());
  for (const Array& other : *operand) {
    for (std::size_t i = 0; i < radius.size(); ++i) {
      const double distance = 2 * std::fabs(other.re[i] - middle[i]);
      if (std::isfinite(distance)) radius[i] = std::max(radius[i], distance);
    }
  }
  return radius;
}

/// Makes the two operands equal where they may be.
void Evaluation::unite(const Operands& operands, std::vector<Array>& copies) {
  const std::vector<double>& a = operands[0]->front().re;
  const std::vector<double>& b = operands[1]->front().re;
  const std::vector<double> a_radius = radii(operands[0]);
  const std::vector<double> b_radius = radii(operands[1]);
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::fabs(a[i] - b[i]) > a_radius[i] + b_radius[i]) continue;
    copies[0].re[i] = copies[1].re[i] = std::clamp(b[i], a[i] - a_radius[i], a[i] + a_radius[i]);
  }
}

/// The first samples see the ends of what may be there and its middle, or zero if that may be
/// there; the others anything between.
void Evaluation::push(const Node& node, const Samples& operand, std::size_t position, std::size_t k,
                      const std::vector<Array>& expected, Array& pushed) {
  const std::vector<double>& middle = operand->front().re;
  const std::vector<double> radius = radii(operand);
  const double side = position == 0 ? 1 : -1;
  for (std::size_t i = 0; i < radius.size(); ++i) {
    if (!std::isfinite(middle[i])) continue;
    double& x = pushed.re[i];
    if (k == 3) {
      x = radius[i] >= std::fabs(middle[i]) ? 0 : middle[i];
    } else {
      const double part = k == 1 ? side : k == 2 ? -side : 2 * draw_unit() - 1;
      x = middle[i] + part * radius[i];
    }
  }
  if (!node.is("argmax") || k > 2) return;
  // All but the largest go up, as far as they may.
  const Array& winners = expected[0];
  std::size_t line_number = 0;
  const Shape& shape = pushed.type.shape;
  const auto axis = static_cast<int>(node.attributes.integer("axis"));
  for_each_line(shape, axis, [&](const auto& line) {
    const std::int64_t winner = winners.integers[line_number++];
    for (std::int64_t i = 0; i < shape[axis]; ++i) {
      const std::size_t at = line(i);
      if (std::isfinite(middle[at])) {
        pushed.re[at] = middle[at] + (i == winner ? -radius[at] : radius[at]);
      }
    }
  });
}

void Evaluation::add_relative(Array& array, double relative) {
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
void Evaluation::add_terms(Array& result, const Node& node,
                           std::span<const Array* const> operands) {
  if (node.op->pattern == ir::Pattern::fft) return add_to_lines(result, node);
  const double unit = safety * epsilon(result.type.dtype);
  const bool gate = node.is("gelu") || node.is("gelu_tanh");  // x / 2 (1 + erf(...))
  double size = 0;
  if (node.is("random_normal")) size = 6;  // the largest radius, times a cosine
  if (node.is("log_softmax") || node.is("cross_entropy")) size = 1;  // log(sum), of a sum >= 1
  if (!gate && size == 0) return;
  for (std::size_t i = 0; i < result.re.size(); ++i) {
    result.re[i] += unit * (gate ? std::fabs(operands[0]->re[i]) : size) * draw();
  }
}

/// A transform's errors are relative to the norm of all that it transforms together.
void Evaluation::add_to_lines(Array& result, const Node& node) {
  const auto axis = static_cast<int>(node.attributes.integer("axis"));
  const std::int64_t length = result.type.shape[axis];
  const double relative = safety * roundings(node) * epsilon(result.type.dtype);
  for_each_line(result.type.shape, axis, [&](const auto& line) {
    const auto for_each_part = [&](auto&& visit) {
      for (std::int64_t i = 0; i < length; ++i) {
        visit(result.re[line(i)]);
        if (!result.im.empty()) visit(result.im[line(i)]);
      }
    };
    double square = 0;
    for_each_part([&](double& part) { square += part * part; });
    const double size = relative * std::sqrt(square / static_cast<double>(length));
    for_each_part([&](double& part) { part += size * draw(); });
  });
}

/// Convolutions through transforms: relative to the norms of both sequences of a channel, which the
/// whole convolution has, and not only the part of it that is wanted.
void Evaluation::add_to_channels(Array& result, const Node& node, std::size_t index,
                                 std::span<const Array* const> operands) {
  const auto is_result = [&](std::size_t operand) {
    return node.is("tno_gradients") && operand == index;  // the gradient of x needs t and g
  };
  const Shape& shape = result.type.shape;
  const std::int64_t channels = shape[shape.rank() - 1];
  const auto n = static_cast<double>(node.operand_type(0).shape[node.operand_type(0).rank() - 2]);
  const double relative = safety * roundings(node) * epsilon(result.type.dtype);
  for (std::int64_t c = 0; c < channels; ++c) {
    double size = relative / std::sqrt(n);
    for (std::size_t i = 0; i < operands.size(); ++i) {
      if (is_result(i)) continue;
      double square = 0;
      for (std::int64_t at = c; at < operands[i]->elements(); at += channels) {
        square += operands[i]->at(at) * operands[i]->at(at);
      }
      size *= std::sqrt(square);
    }
    for (std::int64_t at = c; at < result.elements(); at += channels) {
      result.re[static_cast<std::size_t>(at)] += size * draw();
    }
  }
}

void Evaluation::finish(Array& array) {
  const DType dtype = is_complex(array.type.dtype) ? DType::f32 : array.type.dtype;
  const double smallest = smallest_normal(dtype);
  for (std::vector<double>* part : {&array.re, &array.im}) {
    for (double& value : *part) {
      value = ops::round_to(dtype, value);
      if (std::fabs(value) < smallest) value = 0;
    }
  }
}

}  // namespace

PerturbedOutcome evaluate_perturbed(const ir::Graph& graph, const Inputs& inputs, int samples,
                                    std::uint64_t seed) {
  ir::Graph lowered = graph.clone();
  compiler::lower_scan(lowered);
  return Evaluation(lowered, inputs, samples, seed).run(lowered);
}

}  // namespace weft::check
