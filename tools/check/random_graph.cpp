#include "tools/check/random_graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "ops/build.h"
#include "ops/op.h"
#include "ops/support.h"

namespace weft::check {

namespace {

using ir::Value;
using ops::Builder;
using Integers = std::vector<std::int64_t>;

Integers extents(const Shape& shape) { return {shape.begin(), shape.end()}; }

class RandomProgram {
 public:
  explicit RandomProgram(std::uint64_t seed)
      : graph_(fmt::format("random{}", seed)), random_(seed), b_(graph_, graph_.body()) {}

  ir::Graph run() {
    for (std::int64_t& extent : extents_) extent = ops::random_extent(random_);
    // Large enough for kernels of many blocks.
    if (chance(0.15)) extents_ = {draw(60, 260), draw(40, 160), extents_[2]};
    Pool pool;
    const std::int64_t states = draw(2, 5);
    for (std::int64_t i = 0; i < states; ++i) pool.push_back(state(base_type()));
    if (chance(0.3)) pool.push_back(feeder(b_, base_type()));
    const std::int64_t nodes = draw(4, 14);
    for (std::int64_t i = 0; i < nodes; ++i) append(b_, pool, 0);
    if (chance(0.7)) append_loop(b_, pool, 0);
    for (std::int64_t i = draw(0, 3); i > 0; --i) append(b_, pool, 0);
    write_states(pool);
    if (chance(0.3)) receive(b_, pool);
    return std::move(graph_);
  }

 private:
  /// Values that may be used where the builder stands, the last ones made at the end.
  using Pool = std::vector<Value>;

  std::int64_t draw(std::int64_t low, std::int64_t high) {
    return ops::random_integer(random_, low, high);
  }
  bool chance(double probability) { return ops::random_chance(random_, probability); }
  template <typename T>
  const T& pick(const std::vector<T>& values) {
    return values[static_cast<std::size_t>(draw(0, static_cast<std::int64_t>(values.size()) - 1))];
  }
  std::string_view pick_name(std::initializer_list<std::string_view> names) {
    return pick(std::vector<std::string_view>(names));
  }
  /// Late values more often than early ones, so that chains grow long.
  Value pick_value(const Pool& pool) {
    const std::int64_t last = static_cast<std::int64_t>(pool.size()) - 1;
    return pool[static_cast<std::size_t>(std::max(draw(0, last), draw(0, last)))];
  }
  std::string fresh(std::string_view prefix) { return fmt::format("{}{}", prefix, names_++); }

  // ---- sources ----------------------------------------------------------------------------------

  /// Of few shapes, so that values meet others of their type.
  Type base_type() {
    const std::int64_t m = extents_[0];
    const std::int64_t n = extents_[1];
    const std::int64_t k = std::min<std::int64_t>(extents_[2], 9);
    const std::vector<Shape> shapes = {{m, n}, {m, n}, {m, n}, {n},    {n, k},
                                       {m, k}, {m, 1}, {},     {k, n}, {2, m, k}};
    const std::vector<DType> dtypes = {
        DType::f32, DType::f32, DType::f32,  DType::f32, DType::f32, DType::f32,     DType::f64,
        DType::i32, DType::f16, DType::bf16, DType::c64, DType::i64, DType::boolean, DType::u8};
    return {pick(dtypes), pick(shapes)};
  }

  Value source(Builder& b, std::string_view op, const std::string& name, const Type& type) {
    return b.emit1(op, {}, {{"name", name}, {"dtype", type.dtype}, {"shape", extents(type.shape)}});
  }
  Value state(const Type& type) {
    const Value value = source(b_, "state", fresh("x"), type);
    states_.push_back(value);
    return value;
  }
  Value feeder(Builder& b, const Type& type) { return source(b, "feeder", fresh("feed"), type); }

  Value constant(Builder& b, const Type& type) {
    if (chance(0.3) && type.rank() > 0 && type.dtype != DType::boolean && !is_complex(type.dtype)) {
      return b.emit1("iota", {},
                     {{"dtype", type.dtype},
                      {"shape", extents(type.shape)},
                      {"axis", draw(0, type.rank() - 1)}});
    }
    const bool whole = !is_differentiable(type.dtype);
    const double value = whole ? static_cast<double>(draw(0, type.dtype == DType::boolean ? 1 : 3))
                               : pick(std::vector<double>{0, 1, -1, 0.5, 2, 0.1});
    return ops::constant(b, type.dtype, value, type.shape);
  }

  // ---- values made to measure -------------------------------------------------------------------

  Value to_dtype(Builder& b, Value x, DType dtype) {
    if (x.dtype() == dtype) return x;
    if (is_complex(dtype)) {
      x = to_dtype(b, x, DType::f32);
      return b.emit1("complex", {x, chance(0.5) ? x : constant(b, x.type())});
    }
    if (is_complex(x.dtype())) {
      return to_dtype(b, ops::unary(b, chance(0.5) ? "real" : "imag", x), dtype);
    }
    // A sum that cancels is zero here and rounding noise there: as booleans they are opposites.
    if (dtype == DType::boolean && is_floating(x.dtype())) {
      return b.emit1("greater", {x, ops::constant_like(b, x, 0.3)});
    }
    return ops::cast(b, x, dtype);
  }

  /// By movement alone: flattened, then cut, padded or repeated.
  Value to_shape(Builder& b, Value x, const Shape& shape) {
    const std::int64_t wanted = shape.elements();
    if (x.shape() == shape) return x;
    if (x.type().elements() == 0 || wanted == 0) {
      return ops::constant(b, x.dtype(), x.dtype() == DType::boolean ? 1 : 2, shape);
    }
    const Shape& from = x.shape();
    const bool tail = from.rank() > 0 && from.rank() < shape.rank() &&
                      std::equal(from.begin(), from.end(), shape.end() - from.rank());
    if (tail || from.elements() == 1) {
      if (from.elements() == 1) x = ops::reshape(b, x, {});
      return ops::broadcast_to(b, x, shape);
    }
    Value flat = ops::reshape(b, x, {x.type().elements()});
    const std::int64_t have = x.type().elements();
    if (have > wanted) {
      const std::int64_t start = draw(0, have - wanted);
      flat = ops::slice(b, flat, {start}, {start + wanted});
    } else if (have < wanted && chance(0.4)) {
      const std::int64_t low = draw(0, wanted - have);
      flat = ops::pad(b, flat, {low}, {wanted - have - low}, 1);
    } else if (have < wanted) {
      const std::int64_t copies = (wanted + have - 1) / have;
      flat = ops::reshape(b, ops::broadcast_to(b, flat, {copies, have}), {copies * have});
      flat = ops::slice(b, flat, {0}, {wanted});
    }
    return ops::reshape(b, flat, shape);
  }

  /// Into [low, high], smoothly where the type is.
  Value to_range(Builder& b, Value x, double low, double high) {
    if (x.dtype() == DType::boolean || is_complex(x.dtype())) return x;
    if (is_floating(x.dtype())) {
      const Value unit = ops::unary(b, "sigmoid", x);
      return ops::add(b, ops::mul(b, unit, high - low), low);
    }
    const auto [least, most] = ops::integer_range(x.dtype());
    const auto bottom = std::max<std::int64_t>(least, static_cast<std::int64_t>(low));
    const auto top = std::min<std::int64_t>(most, static_cast<std::int64_t>(high));
    const auto constant_of = [&](std::int64_t value) {
      return ops::constant(b, x.dtype(), static_cast<double>(value), x.shape());
    };
    if (top - bottom >= 255 && x.dtype() == DType::u8) return x;
    // x mod n has the sign of n or is 0, whatever x.
    const Value span = constant_of(top - bottom + 1);
    const Value rest = ops::binary(b, "remainder", x, span);
    const Value above =
        ops::where(b, ops::binary(b, "less", rest, constant_of(0)), ops::add(b, rest, span), rest);
    return ops::add(b, above, constant_of(bottom));
  }

  Value of_type(Builder& b, const Pool& pool, const Type& type) {
    std::vector<Value> same;
    for (const Value value : pool) {
      if (value.type() == type) same.push_back(value);
    }
    if (!same.empty() && chance(0.7)) return pick_value(same);
    if (chance(0.15)) return constant(b, type);
    return to_shape(b, to_dtype(b, pick_value(pool), type.dtype), type.shape);
  }

  /// Keeps values from growing without end; as often as not by what fuses with the producer.
  Value bounded(Builder& b, Value x) {
    if (is_complex(x.dtype())) return ops::mul(b, x, ops::constant_like(b, x, 0.25));
    if (!is_floating(x.dtype())) return x;
    if (chance(0.5)) return ops::mul(b, x, 0.25);
    return ops::unary(b, pick_name({"tanh", "sin", "sigmoid"}), x);
  }

  // ---- nodes ------------------------------------------------------------------------------------

  void append(Builder& b, Pool& pool, int depth) {
    const std::int64_t kind = draw(0, 19);
    Value value;
    if (kind < 6) {
      value = pointwise(b, pool);
    } else if (kind < 9) {
      value = movement(b, pool);
    } else if (kind < 11) {
      value = reduction(b, pool);
    } else if (kind < 12) {
      value = product(b, pool);
    } else if (kind < 14) {
      value = along_axis(b, pool);
    } else if (kind < 19 || depth >= 2 || loops_ >= 3) {
      return from_table(b, pool);
    } else {
      return append_loop(b, pool, depth);
    }
    pool.push_back(value);
  }

  Value pointwise(Builder& b, const Pool& pool) {
    const Value x = pick_value(pool);
    if (x.dtype() == DType::boolean) {
      const Value y = of_type(b, pool, x.type());
      return ops::binary(b, pick_name({"logical_and", "logical_or", "logical_xor"}), x, y);
    }
    const Value y = of_type(b, pool, x.type());
    if (is_complex(x.dtype())) {
      return bounded(b, ops::binary(b, pick_name({"add", "sub", "mul"}), x, y));
    }
    if (is_integer(x.dtype())) {
      return ops::binary(
          b, pick_name({"add", "sub", "mul", "minimum", "maximum", "bitwise_xor", "bitwise_and"}),
          x, y);
    }
    switch (draw(0, 5)) {
      case 0:
        return ops::unary(b,
                          pick_name({"tanh", "sigmoid", "silu", "relu", "gelu", "sin", "softplus",
                                     "erf", "neg", "abs"}),
                          x);
      case 1:
        return ops::where(b, ops::binary(b, pick_name({"less", "greater_equal"}), x, y), y,
                          bounded(b, x));
      case 2:
        return ops::div(b, x, ops::add(b, ops::unary(b, "abs", y), 1));
      case 3:
        return bounded(b, ops::mul(b, x, y));
      default:
        return ops::binary(b, pick_name({"add", "sub", "minimum", "maximum"}), x, y);
    }
  }

  Value movement(Builder& b, const Pool& pool) {
    const Value x = pick_value(pool);
    const int rank = x.type().rank();
    const Shape& shape = x.shape();
    if (rank == 0 || x.type().elements() == 0) return to_shape(b, x, base_type().shape);
    const int axis = static_cast<int>(draw(0, rank - 1));
    switch (draw(0, 7)) {
      case 0:
        return ops::permute(b, x, ops::random_order(random_, rank));
      case 1:
        return ops::flip(b, x, ops::random_axes(random_, rank, static_cast<int>(draw(1, rank))));
      case 2: {
        const std::int64_t start = draw(0, shape[axis] - 1);
        return ops::slice_axis(b, x, axis, start, draw(start + 1, shape[axis]), draw(1, 2));
      }
      case 3:
        return ops::pad_axis(b, x, axis, draw(0, 2), draw(0, 2), draw(0, 1) == 0 ? 0 : 1);
      case 4:
        return ops::concat(b, {x, of_type(b, pool, x.type())}, axis);
      case 5:
        return to_shape(b, x, base_type().shape);
      case 6: {
        std::vector<Value> operands{x};
        Integers sizes;
        for (const std::int64_t extent : extents(shape)) {
          operands.push_back(of_type(b, pool, {DType::i64, {}}));
          sizes.push_back(draw(1, extent));
        }
        return b.emit1("dynamic_slice", operands, {{"sizes", sizes}});
      }
      default: {
        Type type = x.type();
        for (int i = 0; i < rank; ++i) type.shape[i] = draw(1, shape[i]);
        std::vector<Value> operands{x, of_type(b, pool, type)};
        for (int i = 0; i < rank; ++i) operands.push_back(of_type(b, pool, {DType::i64, {}}));
        return b.emit1("dynamic_update_slice", operands);
      }
    }
  }

  Value reduction(Builder& b, const Pool& pool) {
    Value x = pick_value(pool);
    if (x.dtype() == DType::boolean || x.type().elements() == 0) x = to_dtype(b, x, DType::f32);
    const int rank = x.type().rank();
    if (rank == 0 || x.type().elements() == 0) return pointwise(b, pool);
    const bool keep = chance(0.5);
    const Integers axes = chance(0.5)
                              ? Integers{rank - 1}
                              : ops::random_axes(random_, rank, static_cast<int>(draw(1, rank)));
    Value reduced;
    if (is_complex(x.dtype()) || chance(0.6)) {
      reduced = bounded(b, ops::sum(b, x, axes, keep));
    } else {
      reduced = b.emit1(pick_name({"max", "min"}), {x}, {{"axes", axes}, {"keep", keep}});
    }
    // As in norms and softmaxes: back over the axes that were reduced.
    if (keep && chance(0.7)) {
      const Value wide = ops::broadcast_to(b, reduced, x.shape());
      return is_complex(x.dtype()) ? ops::add(b, x, wide) : ops::sub(b, x, wide);
    }
    return reduced;
  }

  /// Ops that treat lines along one axis, on values of any shape.
  Value along_axis(Builder& b, const Pool& pool) {
    Value x = pick_value(pool);
    if (x.type().rank() == 0 || x.type().elements() == 0) x = to_shape(b, x, {7, 5});
    if (!is_floating(x.dtype())) x = to_dtype(b, x, DType::f32);
    const int last = x.type().rank() - 1;
    const auto axis = draw(0, last);
    const std::int64_t length = x.shape()[static_cast<int>(axis)];
    switch (draw(0, 7)) {
      case 0:
        return bounded(
            b, b.emit1("cumsum", {x},
                       {{"axis", axis}, {"exclusive", chance(0.5)}, {"reverse", chance(0.5)}}));
      case 1:
        return b.emit1(pick_name({"softmax", "log_softmax"}), {x}, {{"axis", axis}});
      case 2:
        return b.emit1("simple_rms_norm", {x}, {{"epsilon", 1e-3}});
      case 3: {
        const Type row{x.dtype(), {x.shape()[last]}};
        return b.emit1("layer_norm", {x, of_type(b, pool, row), of_type(b, pool, row)},
                       {{"epsilon", 1e-3}});
      }
      case 4: {
        x = to_dtype(b, x, DType::f32);
        const Value spectrum = ops::rfft(b, x, static_cast<int>(axis), 2 * length);
        const Value scaled = ops::mul(b, spectrum, ops::constant_like(b, spectrum, 0.5));
        return ops::slice_axis(b, ops::irfft(b, scaled, static_cast<int>(axis), 2 * length),
                               static_cast<int>(axis), 0, length);
      }
      case 5: {
        const Value spectrum = ops::fft(b, to_dtype(b, x, DType::c64), static_cast<int>(axis));
        return ops::mul(b, spectrum, ops::constant_like(b, spectrum, 0.25));
      }
      case 6: {
        const Value indices = of_type(b, pool, {DType::i32, {draw(1, 9)}});
        return b.emit1("gather", {x, indices}, {{"axis", axis}});
      }
      default: {
        const Value indices = of_type(b, pool, {DType::i32, {draw(1, 9)}});
        Type updates = x.type();
        updates.shape[static_cast<int>(axis)] = indices.shape()[0];
        return bounded(
            b, b.emit1("scatter_add", {x, indices, of_type(b, pool, updates)}, {{"axis", axis}}));
      }
    }
  }

  Value product(Builder& b, const Pool& pool) {
    const DType dtype = pick(std::vector<DType>{DType::f32, DType::f32, DType::f32, DType::f64,
                                                DType::f16, DType::bf16});
    const std::int64_t m = extents_[0];
    const std::int64_t n = extents_[1];
    const std::int64_t k = std::min<std::int64_t>(extents_[2], 9);
    const bool left = chance(0.4);
    const bool right = chance(0.4);
    const Value lhs = of_type(b, pool, {dtype, left ? Shape{k, m} : Shape{m, k}});
    const Value rhs = of_type(b, pool, {dtype, right ? Shape{n, k} : Shape{k, n}});
    return bounded(b, ops::dot(b, lhs, rhs, {left ? 0 : 1}, {right ? 1 : 0}));
  }

  /// Any row of the table, on operands of the types and ranges that its generator asks for.
  void from_table(Builder& b, Pool& pool) {
    static const std::vector<const ops::Op*> rows = [] {
      std::vector<const ops::Op*> found;
      for (const ops::Op* op : ops::all_ops()) {
        if (op->generate) found.push_back(op);
      }
      return found;
    }();
    const ops::Op& op = *pick(rows);
    DType dtype = pick(op.dtypes);
    if (std::count(op.dtypes.begin(), op.dtypes.end(), DType::f32) > 0 && chance(0.6)) {
      dtype = DType::f32;
    }
    const ops::Sample sample = op.generate.function(random_, dtype);
    std::vector<Value> operands;
    for (const ops::Sample::Operand& operand : sample.operands) {
      operands.push_back(to_range(b, of_type(b, pool, operand.type), operand.low, operand.high));
    }
    ir::Node* node = b.emit(op, operands, sample.attributes);
    for (std::uint32_t i = 0; i < node->results.size(); ++i) {
      pool.push_back(bounded(b, node->result(i)));
    }
  }

  // ---- structure --------------------------------------------------------------------------------

  void receive(Builder& b, const Pool& pool) {
    std::vector<Value> values;
    for (std::int64_t i = draw(1, 2); i > 0; --i) values.push_back(pick_value(pool));
    b.emit(ops::op("receiver"), values, {{"name", fresh("out")}, {"every", draw(1, 2)}});
  }

  void append_loop(Builder& b, Pool& pool, int depth) {
    ++loops_;
    std::vector<Value> carried;
    for (std::int64_t i = draw(1, 4); i > 0; --i) carried.push_back(pick_value(pool));
    // Two of one type can be exchanged.
    if (chance(0.5)) carried.push_back(of_type(b, pool, carried[0].type()));
    ir::Region* body = graph_.new_region(nullptr);
    Builder inner(graph_, *body);
    Pool inside = pool;
    inside.push_back(inner.argument(*body, {DType::i64, {}}));
    Pool arguments;
    for (const Value value : carried) arguments.push_back(inner.argument(*body, value.type()));
    inside.insert(inside.end(), arguments.begin(), arguments.end());
    if (chance(0.4)) inside.push_back(feeder(inner, base_type()));
    if (chance(0.2)) {
      const Value state = pick(states_);
      inside.push_back(source(inner, "state", state.node->attributes.text("name"), state.type()));
    }
    if (chance(0.2)) receive(inner, inside);
    for (std::int64_t i = draw(2, 8); i > 0; --i) append(inner, inside, depth + 1);
    if (chance(0.3)) receive(inner, inside);
    for (const Value argument : arguments) {
      body->yields.push_back(next_value(inner, inside, arguments, argument));
    }
    const std::int64_t count = draw(0, 9) == 0 ? 0 : draw(1, 4);
    ir::Node* node = nullptr;
    if (chance(0.25)) {
      const std::int64_t number = static_cast<std::int64_t>(carried.size());
      const Value y = pick_value(inside);
      if (y.type().rank() < 6) body->yields.push_back(y);
      node = b.emit(ops::op("scan"), carried,
                    {{"length", count}, {"carried", number}, {"reverse", chance(0.5)}}, {body});
    } else {
      node = b.emit(ops::op("loop"), carried, {{"count", count}}, {body});
    }
    for (std::uint32_t i = 0; i < node->results.size(); ++i) pool.push_back(node->result(i));
    remember_updates(*node);
  }

  /// What is carried on: a value that was made, an argument in another place, or itself.
  Value next_value(Builder& b, const Pool& inside, const Pool& arguments, Value argument) {
    std::vector<Value> others;
    for (const Value other : arguments) {
      if (other.type() == argument.type() && other != argument) others.push_back(other);
    }
    if (!others.empty() && chance(0.4)) return pick(others);
    if (chance(0.1)) return argument;
    if (chance(0.5) && argument.dtype() != DType::boolean) {
      const Value change = of_type(b, inside, argument.type());
      return is_integer(argument.dtype()) ? ops::add(b, argument, change)
                                          : bounded(b, ops::add(b, argument, change));
    }
    return bounded(b, of_type(b, inside, argument.type()));
  }

  /// Results of loops that carried a state belong back into it, as a training loop's do.
  void remember_updates(ir::Node& loop) {
    for (std::uint32_t i = 0; i < loop.operands.size(); ++i) {
      for (const Value state : states_) {
        if (loop.operands[i] == state) updates_.push_back({state, loop.result(i)});
      }
    }
  }

  void write(const std::string& name, Value value) {
    if (std::find(written_.begin(), written_.end(), name) != written_.end()) return;
    written_.push_back(name);
    b_.emit(ops::op("state_write"), {value}, {{"name", name}});
  }

  void write_states(const Pool& pool) {
    for (const auto& [state, value] : updates_) {
      const bool top = value.node->parent == &graph_.body();
      if (top && chance(0.8)) write(state.node->attributes.text("name"), value);
    }
    for (const Value state : states_) {
      if (chance(0.2)) continue;
      if (chance(0.5)) {
        write(state.node->attributes.text("name"), next_value(b_, pool, states_, state));
        continue;
      }
      std::vector<Value> same;
      for (const Value value : pool) {
        if (value.type() == state.type() && value != state) same.push_back(value);
      }
      if (!same.empty()) write(state.node->attributes.text("name"), pick_value(same));
    }
    for (std::int64_t i = draw(1, 3); i > 0; --i) write(fresh("y"), pick_value(pool));
    write(fresh("y"), pool.back());
  }

  struct StateUpdate {
    Value state;
    Value value;
  };

  ir::Graph graph_;
  ops::Random random_;
  Builder b_;
  std::array<std::int64_t, 3> extents_{};
  std::vector<Value> states_;
  std::vector<StateUpdate> updates_;
  std::vector<std::string> written_;
  int names_ = 0;
  int loops_ = 0;
};

}  // namespace

ir::Graph random_graph(std::uint64_t seed) { return RandomProgram(seed).run(); }

}  // namespace weft::check
