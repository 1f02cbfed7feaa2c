#include <cmath>
#include <numbers>

#include "trace.h"
#include "weft/ops.h"
#include "weft/optim.h"

namespace weft::optim {

namespace {

void require_positive(const char* schedule, const char* what, std::int64_t steps) {
  if (steps <= 0) throw Error(fmt::format("optim::{}: {} of {} steps", schedule, what, steps));
}

/// min(1, step / warmup).
Tensor ramp(const Tensor& step, std::int64_t warmup) {
  return minimum(step * (1 / static_cast<double>(warmup)), 1);
}

}  // namespace

Schedule linear_warmup(double rate, std::int64_t warmup) {
  require_positive("linear_warmup", "a warm-up", warmup);
  return [=](const Tensor& step) { return ramp(step, warmup) * rate; };
}

Schedule cosine(double rate, std::int64_t total, std::int64_t warmup, double final_rate) {
  if (warmup < 0 || total <= warmup) {
    throw Error(fmt::format("optim::cosine: {} steps with a warm-up of {}", total, warmup));
  }
  return [=](const Tensor& step) {
    const double span = static_cast<double>(total - warmup);
    const Tensor done = clamp((step - warmup) / span, 0, 1);
    // final + (rate - final) (1 + cos(pi done)) / 2.
    const double half = (rate - final_rate) / 2;
    const Tensor decayed = cos(done * std::numbers::pi) * half + (final_rate + half);
    return warmup == 0 ? decayed : where(step < warmup, ramp(step, warmup) * rate, decayed);
  };
}

Schedule inverse_sqrt(double rate, std::int64_t warmup) {
  require_positive("inverse_sqrt", "a warm-up", warmup);
  return [=](const Tensor& step) {
    const Tensor falling = rsqrt(step) * std::sqrt(static_cast<double>(warmup));
    return minimum(step * (1 / static_cast<double>(warmup)), falling) * rate;
  };
}

Schedule step_decay(double rate, std::int64_t every, double factor) {
  require_positive("step_decay", "a stage", every);
  if (!(factor > 0)) throw Error(fmt::format("optim::step_decay: a factor of {}", factor));
  return [=](const Tensor& step) { return pow(factor, floor((step - 1) / every)) * rate; };
}

Schedule with_warmup(Schedule schedule, std::int64_t warmup) {
  require_positive("with_warmup", "a warm-up", warmup);
  return [=, schedule = std::move(schedule)](const Tensor& step) {
    return schedule(step) * ramp(step, warmup);
  };
}

Rate::Rate(double value)
    : schedule_([value](const Tensor&) { return constant(value, DType::f32); }) {}

Rate::Rate(const Tensor& value) : schedule_([value](const Tensor&) { return value; }) {}

Tensor Rate::operator()(const Tensor& step, Source at) const {
  const Tensor rate = schedule_(step);
  if (!rate.defined() || rate.type(at) != Type{DType::f32, {}}) {
    detail::fail(at, "optim::Rate: a rate is an f32 scalar, not {}",
                 rate.defined() ? rate.type(at).text() : "undefined");
  }
  return rate;
}

}  // namespace weft::optim
