#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "compiler/passes/differentiate.h"
#include "ops/build.h"
#include "ops/support.h"
#include "run.h"

// Graphs with the Toeplitz operator and its gradients among other work.
namespace weft::test {

struct TnoCase {
  Shape leading;   ///< of x before (n, d)
  int shared = 0;  ///< how many of these t has as well
  std::int64_t n = 1;
  std::int64_t d = 1;
  bool causal = true;
  DType dtype = DType::f32;
};

inline std::vector<std::int64_t> extents(const Shape& shape) {
  return {shape.begin(), shape.end()};
}

/// x, t and a gate u as states; writes states with the operator alone and gated, and the gradients
/// of the gated one for x, t and u.
struct TnoGraph {
  explicit TnoGraph(const TnoCase& c, unsigned seed) {
    ops::Builder b(graph, graph.body());
    Shape x_shape = c.leading;
    x_shape.push_back(c.n);
    x_shape.push_back(c.d);
    Shape t_shape;
    for (int axis = c.leading.rank() - c.shared; axis < c.leading.rank(); ++axis) {
      t_shape.push_back(c.leading[axis]);
    }
    t_shape.push_back(c.causal ? c.n : 2 * c.n - 1);
    t_shape.push_back(c.d);
    ops::Random random(seed);
    const ir::Value x = state(b, "x", {c.dtype, x_shape});
    const ir::Value t = state(b, "t", {c.dtype, t_shape});
    const ir::Value u = state(b, "u", {c.dtype, x_shape});
    const ir::Value weights = state(b, "weights", {c.dtype, x_shape});
    // Random work before, on both operands, and after.
    const char* const unary[] = {"tanh", "sin", "neg", "sigmoid"};
    const auto pick = [&] {
      return unary[static_cast<std::size_t>(ops::random_integer(random, 0, 3))];
    };
    const ir::Value signal = ops::random_chance(random, 0.5) ? ops::unary(b, pick(), x) : x;
    const ir::Value filter = ops::random_chance(random, 0.5) ? ops::mul(b, t, 0.5) : t;
    const ir::Value y = b.emit1("tno", {signal, filter}, {{"causal", c.causal}});
    ir::Value z = ops::mul(b, u, y);
    if (ops::random_chance(random, 0.5)) z = ops::add(b, z, ops::unary(b, pick(), x));
    write(b, "y", y);
    write(b, "z", z);
    const std::vector<ir::Value> sources = {x, t, u};
    const std::vector<ir::Value> gradients = compiler::gradients(b, z, sources, weights);
    write(b, "gx", gradients[0]);
    write(b, "gt", gradients[1]);
    write(b, "gu", gradients[2]);
    ir::verify(graph, "the test");
    unsigned next = seed;
    for (const ir::Value value : {x, t, u, weights}) {
      const auto count = static_cast<std::size_t>(value.type().elements());
      inputs[value.node->attributes.text("name")] = random_values(count, ++next);
    }
  }

  static ir::Value state(ops::Builder& b, const std::string& name, const Type& type) {
    return b.emit1("state", {},
                   {{"name", name}, {"dtype", type.dtype}, {"shape", extents(type.shape)}});
  }
  void write(ops::Builder& b, const std::string& name, ir::Value value) {
    b.emit(ops::op("state_write"), {value}, {{"name", name}});
    results.push_back(name);
  }

  ir::Graph graph{"gated"};
  Values inputs;
  std::vector<std::string> results;
};

/// Norm-wise: epsilon for each of the few roundings in each of the passes, 2 log2 n levels for each
/// of the two or three transforms in a row, and those of the pointwise work; results of 16-bit
/// types are rounded once more.
inline double tolerance(const TnoCase& c) {
  const double levels = 2 + std::log2(static_cast<double>(c.n) + 1);
  return 3 * levels * 0x1p-22 + (c.dtype == DType::f32 ? 0 : 4 * epsilon(c.dtype));
}

}  // namespace weft::test
