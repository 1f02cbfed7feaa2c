#include <cmath>

#include "trace.h"
#include "weft/ops.h"

namespace weft {

using detail::Recorder;
using detail::Value;

namespace {

Tensor along(std::string_view op_name, const Tensor& x, int axis, const Source& at) {
  Recorder record(op_name, at);
  const Value value = record(x);
  const std::int64_t checked = record.axis(axis, value.type().rank());
  return record(record.build.emit1(op_name, {value}, {{"axis", checked}}));
}

Tensor reduce_loss(const Tensor& loss, Reduction reduction, const Source& at) {
  switch (reduction) {
    case Reduction::mean:
      return mean(loss, {}, false, at);
    case Reduction::sum:
      return sum(loss, {}, false, at);
    case Reduction::none:
      break;
  }
  return loss;
}

/// A weight or bias of the last axis, or the constant that stands for none.
Value last_axis(Recorder& record, const Tensor& given, const Value& x, double absent) {
  const int rank = x.type().rank();
  record.require(rank > 0, "of a scalar");
  const Type type{x.dtype(), {x.shape()[rank - 1]}};
  if (!given.defined()) return ops::constant(record.build, type.dtype, absent, type.shape);
  const Value value = record(given);
  record.require(value.type() == type, "a weight or bias of {} for {}", value.type().text(),
                 x.type().text());
  return value;
}

}  // namespace

Tensor softmax(const Tensor& x, int axis, Source at) { return along("softmax", x, axis, at); }
Tensor log_softmax(const Tensor& x, int axis, Source at) {
  return along("log_softmax", x, axis, at);
}

Tensor cross_entropy(const Tensor& logits, const Tensor& targets, Reduction reduction, Source at) {
  Recorder record("cross_entropy", at);
  const Tensor losses =
      record(record.build.emit1("cross_entropy", {record(logits), record(targets)}));
  return reduce_loss(losses, reduction, at);
}

Tensor mse_loss(const Tensor& x, const Tensor& y, Reduction reduction, Source at) {
  return reduce_loss(square(sub({x, at}, {y, at}), at), reduction, at);
}

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon,
                  Source at) {
  Recorder record("layer_norm", at);
  const Value value = record(x);
  const Value scale = last_axis(record, weight, value, 1);
  const Value shift = last_axis(record, bias, value, 0);
  return record(record.build.emit1("layer_norm", {value, scale, shift}, {{"epsilon", epsilon}}));
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon, Source at) {
  Recorder record("rms_norm", at);
  const Value value = record(x);
  const Value scale = last_axis(record, weight, value, 1);
  return record(record.build.emit1("rms_norm", {value, scale}, {{"epsilon", epsilon}}));
}

Tensor simple_rms_norm(const Tensor& x, double epsilon, Source at) {
  Recorder record("simple_rms_norm", at);
  return record(record.build.emit1("simple_rms_norm", {record(x)}, {{"epsilon", epsilon}}));
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, bool causal, double scale,
                 Source at) {
  Recorder record("attention", at);
  const Value query = record(q);
  const int rank = query.type().rank();
  record.require(rank >= 2, "the queries are {}; expected (..., n, d)", query.type().text());
  const auto width = static_cast<double>(query.shape()[rank - 1]);
  if (scale == 0) scale = width > 0 ? 1 / std::sqrt(width) : 1;
  return record(record.build.emit1("attention", {query, record(k), record(v)},
                                   {{"scale", scale}, {"causal", causal}}));
}

// ---- random numbers -----------------------------------------------------------------------------

namespace {

Value random(Recorder& record, std::string_view op_name, const Shape& shape,
             const std::string& stream, DType dtype) {
  detail::Trace& trace = record.trace();
  record.require(is_floating(dtype), "of {}; expected a floating type", weft::name(dtype));
  const std::string name =
      stream.empty() ? fmt::format("unnamed.{}", trace.unnamed_streams++) : stream;
  const std::vector<std::int64_t> extents(shape.begin(), shape.end());
  return record.build.emit1(op_name, {trace.iteration()},
                            {{"dtype", dtype},
                             {"shape", extents},
                             {"seed", static_cast<std::int64_t>(trace.seed)},
                             {"stream", name}});
}

}  // namespace

Tensor random_uniform(const Shape& shape, const std::string& stream, double low, double high,
                      DType dtype, Source at) {
  Recorder record("random_uniform", at);
  Value value = random(record, "random_uniform", shape, stream, dtype);
  if (low != 0 || high != 1) {
    value = ops::add(record.build, ops::mul(record.build, value, high - low), low);
  }
  return record(value);
}

Tensor random_normal(const Shape& shape, const std::string& stream, double mean, double deviation,
                     DType dtype, Source at) {
  Recorder record("random_normal", at);
  Value value = random(record, "random_normal", shape, stream, dtype);
  if (deviation != 1) value = ops::mul(record.build, value, deviation);
  if (mean != 0) value = ops::add(record.build, value, mean);
  return record(value);
}

Tensor dropout(const Tensor& x, double p, const std::string& stream, Source at) {
  Recorder record("dropout", at);
  ops::Builder& b = record.build;
  const Value value = record(x);
  record.require(p >= 0 && p < 1, "a probability of {}; expected 0 <= p < 1", p);
  record.require(is_floating(value.dtype()), "of {}", value.type().text());
  detail::Trace& trace = record.trace();
  if (!trace.training || p == 0) {
    // The stream's number is used up all the same: what follows keeps its own.
    if (stream.empty()) ++trace.unnamed_streams;
    return record(value);
  }
  const Value draw = random(record, "random_uniform", value.shape(), stream, DType::f32);
  const Value kept = ops::binary(b, "greater_equal", draw, ops::constant_like(b, draw, p));
  const Value scaled = ops::mul(b, value, 1 / (1 - p));
  return record(ops::where(b, kept, scaled, ops::constant_like(b, value, 0)));
}

}  // namespace weft
