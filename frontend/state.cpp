#include <cmath>

#include "trace.h"

namespace weft {

namespace init {

namespace {
void require_positive(std::string_view what, std::int64_t fan) {
  if (fan <= 0) throw Error(fmt::format("init::{}: a fan of {} must be positive", what, fan));
}
}  // namespace

Initializer zeros() { return {}; }
Initializer ones() { return constant(1); }
Initializer constant(double value) { return {Initializer::Kind::constant, value, 0, {}}; }
Initializer uniform(double low, double high) { return {Initializer::Kind::uniform, low, high, {}}; }
Initializer normal(double mean, double deviation) {
  return {Initializer::Kind::normal, mean, deviation, {}};
}
Initializer kaiming_uniform(std::int64_t fan_in, double gain) {
  require_positive("kaiming_uniform", fan_in);
  const double bound = gain * std::sqrt(3.0 / static_cast<double>(fan_in));
  return uniform(-bound, bound);
}
Initializer kaiming_normal(std::int64_t fan_in, double gain) {
  require_positive("kaiming_normal", fan_in);
  return normal(0, gain / std::sqrt(static_cast<double>(fan_in)));
}
Initializer xavier_uniform(std::int64_t fan_in, std::int64_t fan_out, double gain) {
  require_positive("xavier_uniform", fan_in);
  require_positive("xavier_uniform", fan_out);
  const double bound = gain * std::sqrt(6.0 / static_cast<double>(fan_in + fan_out));
  return uniform(-bound, bound);
}
Initializer xavier_normal(std::int64_t fan_in, std::int64_t fan_out, double gain) {
  require_positive("xavier_normal", fan_in);
  require_positive("xavier_normal", fan_out);
  return normal(0, gain * std::sqrt(2.0 / static_cast<double>(fan_in + fan_out)));
}
Initializer values(std::vector<double> values) {
  return {Initializer::Kind::values, 0, 0, std::move(values)};
}

}  // namespace init

namespace detail {

std::shared_ptr<Cell> Trace::state_cell(const std::string& full_name, const Type& type,
                                        CellKind kind, const Initializer& initializer) {
  const Location& at = builder.location();
  const std::string_view what = kind == CellKind::parameter ? "parameter" : "state";
  if (const auto found = state_by_name.find(full_name); found != state_by_name.end()) {
    const auto& cell = found->second;
    if (cell->type != type) {
      fail(at, "{}: '{}' is {} in this trace, not {}", what, full_name, cell->type.text(),
           type.text());
    }
    if (cell->kind != kind) {
      fail(at, "{}: '{}' is a {} in this trace", what, full_name,
           kind == CellKind::parameter ? "state" : "parameter");
    }
    return cell;
  }
  if (full_name.empty()) fail(at, "{}: the name is empty", what);
  if (state.has(full_name)) {
    if (state.type(full_name) != type) {
      fail(at, "{}: '{}' is {} in State, not {}", what, full_name, state.type(full_name).text(),
           type.text());
    }
  } else {
    state.add(full_name, type);
    created.push_back(full_name);
    try {
      initialise(state, full_name, initializer, seed);
    } catch (const Error& error) {
      fail(at, "{}: '{}': {}", what, full_name, error.what());
    }
  }
  // Read once, before everything else: at the top level, whichever body asks for it.
  ir::Region& region = builder.region();
  builder.set_region(graph.body());
  const std::vector<std::int64_t> extents(type.shape.begin(), type.shape.end());
  const Value value =
      builder.emit1("state", {}, {{"name", full_name}, {"dtype", type.dtype}, {"shape", extents}});
  builder.set_region(region);
  auto made = cell(value, kind, 0);
  made->name = full_name;
  if (kind == CellKind::parameter) {
    made->gradient = cell({}, CellKind::gradient, 0);
    made->gradient->type = type;
    made->gradient->name = full_name + ".grad";
  }
  states.push_back(made);
  state_by_name.emplace(full_name, made);
  return made;
}

}  // namespace detail

Tensor parameter(const std::string& name, const Shape& shape, const Initializer& initializer,
                 DType dtype, Source at) {
  detail::Trace& trace = detail::current("parameter", at);
  if (!is_differentiable(dtype)) {
    detail::fail(at, "parameter: '{}' of type {} has no gradient; use state()", name,
                 weft::name(dtype));
  }
  return detail::Access::handle(trace.state_cell(trace.prefix + name, {dtype, shape},
                                                 detail::CellKind::parameter, initializer));
}

Tensor state(const std::string& name, const Shape& shape, DType dtype,
             const Initializer& initializer, Source at) {
  detail::Trace& trace = detail::current("state", at);
  return detail::Access::handle(
      trace.state_cell(trace.prefix + name, {dtype, shape}, detail::CellKind::state, initializer));
}

void assign(const Tensor& to, const Tensor& value, Source at) {
  detail::Recorder record("assign", at);
  const auto& cell = detail::Access::cell(to);
  record.require(cell != nullptr, "to an undefined tensor");
  detail::Trace& trace = record.trace();
  trace.check(*cell, "assign");
  trace.write(cell, record(value), trace.depth(), "assign");
}

std::vector<Tensor> parameters() {
  std::vector<Tensor> result;
  if (const detail::Trace* trace = detail::running()) {
    for (const auto& cell : trace->states) {
      if (cell->kind == detail::CellKind::parameter) {
        result.push_back(detail::Access::handle(cell));
      }
    }
  }
  return result;
}

Scope::Scope(const std::string& name, Source at) {
  detail::Trace& trace = detail::current("Scope", at);
  serial_ = trace.serial;
  length_ = trace.prefix.size();
  if (!name.empty()) trace.prefix += name + ".";
}

Scope::~Scope() {
  detail::Trace* trace = detail::running();
  if (trace != nullptr && trace->serial == serial_) trace->prefix.resize(length_);
}

void set_seed(std::uint64_t seed, Source at) { detail::current("set_seed", at).seed = seed; }
void set_training(bool training, Source at) {
  detail::current("set_training", at).training = training;
}
bool is_training(Source at) { return detail::current("is_training", at).training; }

Tensor iteration(Source at) {
  detail::Trace& trace = detail::current("iteration", at);
  return trace.handle(trace.iteration());
}

}  // namespace weft
