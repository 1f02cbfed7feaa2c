#include "weft/optim.h"

#include <cmath>

#include "trace.h"
#include "weft/ops.h"

namespace weft::optim {

namespace {

template <typename... Arguments>
void require(bool condition, const Source& at, fmt::format_string<Arguments...> format,
             Arguments&&... arguments) {
  if (!condition) detail::fail(at, format, std::forward<Arguments>(arguments)...);
}

/// A state by its full name, whatever Scope encloses the step.
Tensor unscoped_state(const std::string& name, const Type& type, const Source& at) {
  detail::Trace& trace = detail::current("optimizer", at);
  return detail::Access::handle(trace.state_cell(name, type, detail::CellKind::state, {}));
}

/// 16-bit types are computed with in f32.
DType compute_type(DType dtype) {
  return dtype == DType::f16 || dtype == DType::bf16 ? DType::f32 : dtype;
}

Tensor in_type(const Tensor& x, DType dtype, const Source& at) {
  return x.dtype(at) == dtype ? x : cast(x, dtype, at);
}

/// a x + b y.
Tensor blend(double a, const Tensor& x, double b, const Tensor& y, const Source& at) {
  return add({mul({x, at}, {a, at}), at}, {mul({y, at}, {b, at}), at});
}

/// x + a y.
Tensor plus_scaled(const Tensor& x, double a, const Tensor& y, const Source& at) {
  return a == 0 ? x : add({x, at}, {mul({y, at}, {a, at}), at});
}

void check_coefficient(const char* optimizer, const char* what, double value, const Source& at) {
  require(value >= 0 && value < 1, at, "optim::{}: a {} of {}; expected 0 <= {} < 1", optimizer,
          what, value, what);
}

void check_weight_decay(const char* optimizer, double value, const Source& at) {
  require(value >= 0 && std::isfinite(value), at, "optim::{}: a weight decay of {}", optimizer,
          value);
}

}  // namespace

// ---- Optimizer ----------------------------------------------------------------------------------

Optimizer::Optimizer(std::string name, Rate rate, std::vector<Tensor> parameters)
    : name_(std::move(name)), rate_(std::move(rate)), parameters_(std::move(parameters)) {
  if (name_.empty()) throw Error("optimizer: its name is empty");
}

std::vector<Tensor> Optimizer::parameters() const {
  return parameters_.empty() ? weft::parameters() : parameters_;
}

void Optimizer::zero_grad(Source at) { weft::zero_grad(parameters(), at); }

Tensor Optimizer::rate(Source at) const {
  require(last_rate_.defined(), at, "optimizer '{}': no rate before the first step()", name_);
  return last_rate_;
}

Tensor Optimizer::moment(const std::string& parameter, const char* which, const Type& type,
                         Source at) const {
  return unscoped_state(fmt::format("{}.{}.{}", name_, parameter, which), type, at);
}

void Optimizer::step(Source at) {
  std::vector<Tensor> with_gradient;
  for (const Tensor& parameter : parameters()) {
    require(parameter.is_parameter(), at, "optimizer '{}': {} is no parameter", name_,
            parameter.defined() ? parameter.type(at).text() : "an undefined tensor");
    require(is_floating(parameter.dtype(at)), at, "optimizer '{}': '{}' is {}; expected floats",
            name_, parameter.name(at), parameter.type(at).text());
    if (parameter.has_grad()) with_gradient.push_back(parameter);
  }
  require(!with_gradient.empty(), at,
          "optimizer '{}': no parameter has a gradient: backward() must come first", name_);

  // Whole numbers, so that counting never stalls; the schedules' f32 is exact up to 2^24 steps.
  const Tensor taken = unscoped_state(name_ + ".step", {DType::i64, {}}, at);
  assign(taken, add({taken, at}, {1, at}), at);
  const Tensor count = cast(taken, DType::f32, at);
  last_rate_ = rate_(count, at);
  begin({count, last_rate_}, at);

  for (const Tensor& parameter : with_gradient) {
    const DType compute = compute_type(parameter.dtype(at));
    const Tensor updated = update(parameter.name(at), in_type(parameter, compute, at),
                                  in_type(parameter.grad(at), compute, at), at);
    assign(parameter, in_type(updated, parameter.dtype(at), at), at);
  }
}

// ---- Sgd ----------------------------------------------------------------------------------------

Sgd::Sgd(SgdOptions options, std::vector<Tensor> parameters, Source at)
    : Optimizer(options.name, options.lr, std::move(parameters)), options_(std::move(options)) {
  check_coefficient("Sgd", "momentum", options_.momentum, at);
  check_weight_decay("Sgd", options_.weight_decay, at);
  require(!options_.nesterov || options_.momentum > 0, at, "optim::Sgd: nesterov needs a momentum");
}

void Sgd::begin(const Step& step, Source) { lr_ = step.rate; }

Tensor Sgd::update(const std::string& parameter, const Tensor& value, const Tensor& gradient,
                   Source at) {
  const Tensor slope = plus_scaled(gradient, options_.weight_decay, value, at);
  Tensor direction = slope;
  if (options_.momentum > 0) {
    const Tensor velocity = moment(parameter, "velocity", value.type(at), at);
    assign(velocity, plus_scaled(slope, options_.momentum, velocity, at), at);
    direction = options_.nesterov ? plus_scaled(slope, options_.momentum, velocity, at) : velocity;
  }
  const Tensor lr = in_type(lr_, value.dtype(at), at);
  return sub({value, at}, {mul({direction, at}, {lr, at}), at});
}

// ---- Adam ---------------------------------------------------------------------------------------

Adam::Adam(AdamOptions options, std::vector<Tensor> parameters, bool decoupled, Source at)
    : Optimizer(options.name, options.lr, std::move(parameters)),
      options_(std::move(options)),
      decoupled_(decoupled) {
  const char* name = decoupled ? "AdamW" : "Adam";
  check_coefficient(name, "beta1", options_.beta1, at);
  check_coefficient(name, "beta2", options_.beta2, at);
  check_weight_decay(name, options_.weight_decay, at);
  require(options_.epsilon > 0, at, "optim::{}: an epsilon of {}", name, options_.epsilon);
}

Adam::Adam(AdamOptions options, std::vector<Tensor> parameters, Source at)
    : Adam(std::move(options), std::move(parameters), false, at) {}

AdamW::AdamW(AdamOptions options, std::vector<Tensor> parameters, Source at)
    : Adam(std::move(options), std::move(parameters), true, at) {}

namespace {

/// 1 - beta^step. In f32 the difference loses up to half its digits for a beta next to 1 and a
/// small step; with u = tanh(-step log(beta) / 2) it is 2 u / (1 + u), which loses none.
Tensor correction(double beta, const Tensor& step, const Source& at) {
  if (beta == 0) return constant(1, DType::f32, at);
  const Tensor u = weft::tanh(mul({step, at}, {-std::log(beta) / 2, at}), at);
  return div({mul({u, at}, {2, at}), at}, {add({u, at}, {1, at}), at});
}

}  // namespace

void Adam::begin(const Step& step, Source at) {
  lr_ = step.rate;
  // Kept: a handful of scalar operations once a step, not once an element.
  step_size_ = keep(div({lr_, at}, {correction(options_.beta1, step.count, at), at}), at);
  scale_ = keep(rsqrt(correction(options_.beta2, step.count, at), at), at);
}

Tensor Adam::update(const std::string& parameter, const Tensor& value, const Tensor& gradient,
                    Source at) {
  const Type type = value.type(at);
  const double decay = options_.weight_decay;
  const Tensor slope = decoupled_ ? gradient : plus_scaled(gradient, decay, value, at);
  const Tensor m = moment(parameter, "m", type, at);
  const Tensor v = moment(parameter, "v", type, at);
  assign(m, blend(options_.beta1, m, 1 - options_.beta1, slope, at), at);
  assign(v, blend(options_.beta2, v, 1 - options_.beta2, square(slope, at), at), at);

  const Tensor step_size = in_type(step_size_, type.dtype, at);
  const Tensor scale = in_type(scale_, type.dtype, at);
  const Tensor root = mul({sqrt(v, at), at}, {scale, at});
  const Tensor change =
      div({mul({m, at}, {step_size, at}), at}, {add({root, at}, {options_.epsilon, at}), at});
  Tensor start = value;
  if (decoupled_ && decay != 0) {
    const Tensor lr = in_type(lr_, type.dtype, at);
    start = sub({value, at}, {mul({value, at}, {mul({lr, at}, {decay, at}), at}), at});
  }
  return sub({start, at}, {change, at});
}

// ---- clipping -----------------------------------------------------------------------------------

Tensor clip_grad_norm(const std::vector<Tensor>& parameters, double max_norm, Source at) {
  require(max_norm > 0, at, "clip_grad_norm: a norm of at most {}", max_norm);
  std::vector<Tensor> with_gradient;
  Tensor total;
  for (const Tensor& parameter : parameters) {
    if (!parameter.has_grad()) continue;
    require(is_floating(parameter.dtype(at)), at, "clip_grad_norm: '{}' is {}; expected floats",
            parameter.name(at), parameter.type(at).text());
    const Tensor gradient = parameter.grad(at);
    const DType compute = compute_type(gradient.dtype(at));
    const Tensor squares = sum(square(in_type(gradient, compute, at), at), {}, false, at);
    const Tensor part = in_type(squares, DType::f32, at);
    total = total.defined() ? add({total, at}, {part, at}) : part;
    with_gradient.push_back(parameter);
  }
  require(total.defined(), at,
          "clip_grad_norm: no parameter has a gradient: backward() must come first");
  const Tensor norm = sqrt(total, at);
  // The small term keeps gradients of zero as they are.
  const Tensor ratio = div({max_norm, at}, {add({norm, at}, {1e-6, at}), at});
  const Tensor factor = keep(minimum({ratio, at}, {1, at}), at);
  for (Tensor& parameter : with_gradient) {
    const Tensor gradient = parameter.grad(at);
    const DType dtype = gradient.dtype(at);
    const DType compute = compute_type(dtype);
    const Tensor scaled =
        mul({in_type(gradient, compute, at), at}, {in_type(factor, compute, at), at});
    parameter.set_grad(in_type(scaled, dtype, at), at);
  }
  return norm;
}

Tensor clip_grad_norm(double max_norm, Source at) {
  return clip_grad_norm(parameters(), max_norm, at);
}

}  // namespace weft::optim
