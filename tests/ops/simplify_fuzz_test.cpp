// Random graphs are worth the same before and after simplification.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "compiler/ir/text.h"
#include "compiler/passes/simplify.h"
#include "gradient_check.h"
#include "support.h"

namespace weft::test {
namespace {

using ir::Value;
using ops::Array;
using ops::Builder;
using Integers = std::vector<std::int64_t>;

/// Appends random nodes whose values stay of moderate size.
class RandomGraph {
 public:
  explicit RandomGraph(std::uint64_t seed) : random_(seed) {
    for (int i = 0; i < 3; ++i) {
      const DType dtype = i < 2 ? DType::f64 : DType::i32;
      const Type type{dtype, ops::random_shape(random_, 1, 3, false, 24)};
      const std::string name = fmt::format("x{}", i);
      states[name] = random_values(random_, type, -3, 3);
      pool_.push_back(state(b_, name, type));
    }
    for (int i = 0; i < 24; ++i) append(b_, pool_);
    for (std::size_t i = 0; i < 4; ++i) {
      write(b_, fmt::format("r{}", i), pool_[pool_.size() - 1 - i]);
    }
  }

  ir::Graph graph;
  std::map<std::string, Array> states;

 private:
  std::int64_t draw(std::int64_t low, std::int64_t high) {
    return ops::random_integer(random_, low, high);
  }
  template <typename T>
  T pick(const std::vector<T>& values) {
    return values[static_cast<std::size_t>(draw(0, static_cast<std::int64_t>(values.size()) - 1))];
  }

  /// Another value of the type: a constant, or one from the pool where there is one.
  Value partner(Builder& b, const std::vector<Value>& pool, const Type& type) {
    std::vector<Value> same;
    for (const Value value : pool) {
      if (value.type() == type) same.push_back(value);
    }
    if (draw(0, 2) > 0) return pick(same);
    const bool real = is_floating(type.dtype);
    const double value = pick(real ? std::vector<double>{0, 1, -1, 2, 3, 0.5, -8, 0.1}
                                   : std::vector<double>{0, 1, -1, 2, 3});
    return ops::constant(b, type.dtype, value, type.shape);
  }

  /// Halves values that have grown, so that no sum overflows or cancels beyond the tolerance.
  Value bounded(Builder& b, Value x) {
    if (!is_floating(x.dtype())) {
      return ops::binary(b, "remainder", x, ops::constant_like(b, x, 1000));
    }
    return draw(0, 1) == 0 ? ops::mul(b, x, 0.25) : ops::unary(b, "tanh", x);
  }

  Value elementwise(Builder& b, const std::vector<Value>& pool, Value x) {
    const Value y = partner(b, pool, x.type());
    switch (draw(0, 9)) {
      case 0:
        return ops::add(b, x, y);
      case 1:
        return ops::sub(b, x, y);
      case 2:
        return ops::sub(b, y, x);
      case 3:
        return bounded(b, ops::mul(b, y, x));
      case 4:
        return ops::neg(b, x);
      case 5:
        return ops::binary(b, pick<std::string_view>({"minimum", "maximum"}), x, y);
      case 6: {
        Value condition = ops::binary(b, "less", x, y);
        if (draw(0, 1) == 0) condition = ops::unary(b, "logical_not", condition);
        return ops::where(b, condition, x, y);
      }
      case 7: {
        if (!is_floating(x.dtype())) return ops::cast(b, x, DType::f64);
        const double divisor = pick<double>({1, 2, -4, 3, 0.7});
        return ops::div(b, x, ops::constant_like(b, x, divisor));
      }
      case 8:
        if (!is_floating(x.dtype())) return ops::cast(b, ops::cast(b, x, DType::f64), DType::i32);
        return ops::cast(b, ops::cast(b, x, DType::f32), DType::f64);
      default:
        return ops::unary(b, "stop_gradient", x);
    }
  }

  Value movement(Builder& b, const std::vector<Value>& pool, Value x) {
    const auto rank = static_cast<std::size_t>(x.type().rank());
    const auto extent = [&](std::size_t axis) { return x.shape()[static_cast<int>(axis)]; };
    switch (draw(0, 8)) {
      case 0: {
        const std::int64_t elements = x.type().elements();
        const std::int64_t first = pick<std::int64_t>({1, 2, 3, elements});
        return elements % first == 0 ? ops::reshape(b, x, {first, elements / first}) : x;
      }
      case 1:
        return b.emit1("permute", {x}, {{"order", ops::random_order(random_, x.type().rank())}});
      case 2: {
        if (rank > 4 || x.type().elements() > 60) return x;
        Integers shape(x.shape().begin(), x.shape().end());
        shape.insert(shape.begin(), draw(1, 2));
        return b.emit1("broadcast", {x}, {{"shape", shape}});
      }
      case 3: {
        Integers start, limit, stride;
        for (std::size_t axis = 0; axis < rank; ++axis) {
          start.push_back(draw(0, std::max<std::int64_t>(0, extent(axis) / 2 - 1)));
          limit.push_back(draw(start.back() + 1, extent(axis)));
          stride.push_back(draw(1, 3));
        }
        return b.emit1("slice", {x}, {{"start", start}, {"limit", limit}, {"stride", stride}});
      }
      case 4: {
        if (x.type().elements() > 60) return x;
        Integers low, high;
        for (std::size_t axis = 0; axis < rank; ++axis) {
          low.push_back(draw(0, 2));
          high.push_back(draw(0, 1));
        }
        const double value = pick<double>({0, 0, 1});
        return b.emit1("pad", {x}, {{"low", low}, {"high", high}, {"value", value}});
      }
      case 5: {
        const auto count = static_cast<int>(draw(0, x.type().rank()));
        return b.emit1("flip", {x}, {{"axes", ops::random_axes(random_, x.type().rank(), count)}});
      }
      case 6: {
        if (rank == 0 || x.type().elements() > 60) return x;
        return b.emit1("concat", {x, partner(b, pool, x.type())},
                       {{"axis", draw(0, x.type().rank() - 1)}});
      }
      case 7: {
        const auto count = static_cast<int>(draw(0, x.type().rank()));
        const Integers axes = ops::random_axes(random_, x.type().rank(), count);
        return bounded(b, b.emit1("sum", {x}, {{"axes", axes}, {"keep", draw(0, 1) == 0}}));
      }
      default: {
        std::vector<Value> operands{x};
        Integers sizes;
        for (std::size_t axis = 0; axis < rank; ++axis) {
          operands.push_back(
              ops::constant(b, DType::i32, static_cast<double>(draw(-1, extent(axis)))));
          sizes.push_back(draw(1, extent(axis)));
        }
        return b.emit1("dynamic_slice", operands, {{"sizes", sizes}});
      }
    }
  }

  /// A loop or scan that carries two values, of which one may go through unchanged.
  Value loop(Builder& b, const std::vector<Value>& pool, Value x) {
    const Value y = partner(b, pool, x.type());
    ir::Region* body = graph.new_region(nullptr);
    Builder inner(graph, *body);
    inner.argument(*body, {DType::i64, {}});
    std::vector<Value> inside = pool;
    const Value first = inner.argument(*body, x.type());
    const Value second = inner.argument(*body, x.type());
    inside.push_back(first);
    inside.push_back(second);
    for (int i = 0; i < 5; ++i) append(inner, inside, false);
    const auto last_of_type = [&] {
      const auto found = std::find_if(inside.rbegin(), inside.rend(),
                                      [&](Value v) { return v.type() == x.type(); });
      return *found;
    };
    const Value next = bounded(inner, last_of_type());
    body->yields = {next, draw(0, 1) == 0 ? second : first};
    const std::int64_t count = draw(0, 3);
    if (draw(0, 1) == 0) {
      return b.emit(ops::op("loop"), {x, y}, {{"count", count}}, {body})
          ->result(static_cast<std::uint32_t>(draw(0, 1)));
    }
    body->yields.push_back(ops::add(inner, next, first));
    return b
        .emit(ops::op("scan"), {x, y},
              {{"length", count + 1}, {"carried", std::int64_t{2}}, {"reverse", false}}, {body})
        ->result(static_cast<std::uint32_t>(draw(0, 2)));
  }

  void append(Builder& b, std::vector<Value>& pool, bool loops = true) {
    const Value x = pick(pool);
    const std::int64_t kind = draw(0, 20);
    if (kind == 0 && loops && x.type().rank() < 6) {
      pool.push_back(loop(b, pool, x));
    } else if (kind < 10) {
      pool.push_back(elementwise(b, pool, x));
    } else if (x.type().rank() > 0 && x.type().rank() < 7) {
      pool.push_back(movement(b, pool, x));
    }
  }

  ops::Random random_;
  Builder b_{graph, graph.body()};
  std::vector<Value> pool_;
};

TEST(SimplifyFuzz, ValuesAreKept) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    RandomGraph sample(seed);
    const std::string before = ir::print(sample.graph);
    SCOPED_TRACE(fmt::format("seed {}\n{}", seed, before));
    const std::map<std::string, Array> expected = run(sample.graph, sample.states);
    compiler::simplify(sample.graph);
    SCOPED_TRACE(ir::print(sample.graph));
    ASSERT_NO_THROW(ir::verify(sample.graph, "simplify"));
    EXPECT_FALSE(compiler::simplify(sample.graph));
    const std::map<std::string, Array> simplified = run(sample.graph, sample.states);
    for (const auto& [name, array] : expected) {
      // Some factors are folded in another order; casts to f32 in the graph turn a difference of
      // one f64 rounding into one of f32.
      const double tolerance = 64 * epsilon(DType::f32) * (1 + magnitude(array));
      SCOPED_TRACE(name);
      ASSERT_NO_FATAL_FAILURE(expect_near(simplified.at(name), array, tolerance));
    }
  }
}

}  // namespace
}  // namespace weft::test
