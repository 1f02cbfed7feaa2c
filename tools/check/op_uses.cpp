#include "tools/check/op_uses.h"

#include <fmt/format.h>

#include <cstddef>
#include <utility>

#include "compiler/passes/differentiate.h"
#include "ops/build.h"
#include "ops/support.h"

namespace weft::check {

namespace {

using ir::Value;
using ops::Array;
using ops::Builder;

std::vector<std::int64_t> extents(const Shape& shape) { return {shape.begin(), shape.end()}; }

class Uses {
 public:
  Uses(const ops::Op& op, std::uint64_t seed) : op_(op), random_(seed) {
    for (const DType dtype : op.dtypes) {
      const int repeats = dtype == DType::f32 ? 6 : 3;
      for (int i = 0; i < repeats; ++i) samples_.push_back(op.generate.function(random_, dtype));
    }
  }

  OpUses alone() && {
    append_direct();
    return std::move(made_);
  }
  OpUses in_loops() && {
    for (std::size_t u = 0; u < samples_.size(); ++u) append_loop(u);
    return std::move(made_);
  }

 private:
  void append_direct() {
    for (std::size_t u = 0; u < samples_.size(); ++u) {
      const std::vector<Value> operands = read(samples_[u], fmt::format("u{}_x", u));
      const ir::Node* node = b_.emit(op_, operands, samples_[u].attributes);
      for (std::uint32_t r = 0; r < node->results.size(); ++r) {
        const Value y{const_cast<ir::Node*>(node), r};
        write(fmt::format("u{}_y{}", u, r), y);
        if (op_.derivative && is_differentiable(y.dtype())) {
          append_gradients(r == 0 ? fmt::format("u{}", u) : fmt::format("u{}r{}", u, r), y,
                           operands);
        }
      }
    }
  }

  Value state(const std::string& name, const Type& type, double low, double high) {
    made_.inputs.states[name] = ops::random_array(random_, {type, low, high});
    return b_.emit1("state", {},
                    {{"name", name}, {"dtype", type.dtype}, {"shape", extents(type.shape)}});
  }

  std::vector<Value> read(const ops::Sample& sample, const std::string& prefix) {
    std::vector<Value> values;
    for (const ops::Sample::Operand& operand : sample.operands) {
      values.push_back(state(fmt::format("{}{}", prefix, values.size()), operand.type, operand.low,
                             operand.high));
    }
    return values;
  }

  void write(const std::string& name, Value value) {
    made_.inputs.states.emplace(name, Array(value.type()));
    b_.emit(ops::op("state_write"), {value}, {{"name", name}});
  }

  void append_gradients(const std::string& prefix, Value y, const std::vector<Value>& operands) {
    const Value weights = state(prefix + "_w", y.type(), -1, 1);
    Value seed = weights;
    if (is_complex(y.dtype())) {
      y = ops::unary(b_, "real", ops::mul(b_, weights, y));
      seed = Value{};
    }
    const std::vector<Value> gradients = compiler::gradients(b_, y, operands, seed);
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      if (gradients[i]) write(fmt::format("{}_d{}", prefix, i), gradients[i]);
    }
  }

  static Value accumulate(Builder& b, Value total, Value y) {
    if (y.dtype() == DType::boolean) return ops::binary(b, "logical_xor", total, y);
    if (is_differentiable(y.dtype())) {
      total = ops::mul(b, total, ops::constant_like(b, total, 0.5));
    }
    return ops::add(b, total, y);
  }

  void append_loop(std::size_t u) {
    const ops::Sample& sample = samples_[u];
    const std::string prefix = fmt::format("u{}_", u);
    std::vector<Value> carried = read(sample, prefix + "a");
    const std::size_t count = carried.size();
    for (const Value b : read(sample, prefix + "b")) carried.push_back(b);

    ir::Region* body = made_.graph.new_region(nullptr);
    Builder inner(made_.graph, *body);
    inner.argument(*body, {DType::i64, {}});
    std::vector<Value> arguments;
    for (const Value value : carried) arguments.push_back(inner.argument(*body, value.type()));
    const auto middle = arguments.begin() + static_cast<std::ptrdiff_t>(count);
    ir::Node* node = inner.emit(op_, {arguments.begin(), middle}, sample.attributes);
    body->yields.assign(middle, arguments.end());
    body->yields.insert(body->yields.end(), arguments.begin(), middle);
    for (std::uint32_t r = 0; r < node->results.size(); ++r) {
      const Type type = node->results[r];
      const double low = type.dtype == DType::boolean || type.dtype == DType::u8 ? 0 : -1;
      carried.push_back(state(fmt::format("{}sum{}", prefix, r), type, low, 1));
      const Value total = inner.argument(*body, type);
      body->yields.push_back(accumulate(inner, total, node->result(r)));
    }
    ir::Node* loop = b_.emit(ops::op("loop"), carried, {{"count", std::int64_t{3}}}, {body});
    for (std::uint32_t i = 0; i < carried.size(); ++i) {
      write(carried[i].node->attributes.text("name"), loop->result(i));
    }
  }

  const ops::Op& op_;
  ops::Random random_;
  OpUses made_;
  Builder b_{made_.graph, made_.graph.body()};
  std::vector<ops::Sample> samples_;
};

}  // namespace

OpUses uses_alone(const ops::Op& op, std::uint64_t seed) { return Uses(op, seed).alone(); }

OpUses uses_in_loops(const ops::Op& op, std::uint64_t seed) { return Uses(op, seed).in_loops(); }

std::vector<std::string> generated_ops() {
  std::vector<std::string> names;
  for (const ops::Op* op : ops::all_ops()) {
    if (op->generate) names.emplace_back(op->name);
  }
  return names;
}

}  // namespace weft::check
