#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "weft/program.h"

/// Optimisers and learning rates. All of it is recorded in the graph: a step is part of the
/// program, and nothing is computed on the host while it runs.
///
///     optim::AdamW adam({.lr = optim::cosine(1e-3, 10000, 500), .weight_decay = 0.1});
///     loop(10000, [&](Tensor) {
///       backward(loss());
///       optim::clip_grad_norm(1);
///       adam.step();
///       adam.zero_grad();
///     });
namespace weft::optim {

/// A learning rate from the number of the step: an f32 scalar that is 1 in the first step. Any
/// function of that type will do; these are the usual ones.
using Schedule = std::function<Tensor(const Tensor& step)>;

/// rate min(1, step / warmup).
Schedule linear_warmup(double rate, std::int64_t warmup);
/// A linear warm-up to `rate`, then half a cosine down to `final_rate`, reached at step `total` and
/// kept from there on.
Schedule cosine(double rate, std::int64_t total, std::int64_t warmup = 0, double final_rate = 0);
/// rate min(step / warmup, sqrt(warmup / step)): the top is `rate`, at step `warmup`.
Schedule inverse_sqrt(double rate, std::int64_t warmup);
/// rate factor^k after k times `every` steps.
Schedule step_decay(double rate, std::int64_t every, double factor);
/// A schedule times min(1, step / warmup).
Schedule with_warmup(Schedule schedule, std::int64_t warmup);

/// A constant, a scalar tensor (weft::scalar("lr", 1e-3) can change without recompiling), or a
/// schedule.
class Rate {
 public:
  Rate(double value);         // NOLINT(google-explicit-constructor)
  Rate(const Tensor& value);  // NOLINT(google-explicit-constructor)
  template <typename F>
    requires(!std::is_same_v<F, Rate> && std::is_invocable_r_v<Tensor, F&, const Tensor&>)
  Rate(F schedule) : schedule_(std::move(schedule)) {}  // NOLINT(google-explicit-constructor)

  /// The rate of a step as an f32 scalar.
  Tensor operator()(const Tensor& step, Source at = Source::current()) const;

 private:
  Schedule schedule_;
};

/// What the optimisers share. Each keeps its states under its name: "optimizer.step" (i64, the
/// steps taken) and "optimizer.<parameter>.<moment>", so that a State that is saved and restored
/// goes on as if nothing had happened. Two optimisers in one program need two names.
///
/// Parameters are floating; 16-bit ones are updated in f32 and have moments of f32.
class Optimizer {
 public:
  virtual ~Optimizer() = default;

  /// Updates the parameters that have a gradient. Error where none has.
  void step(Source at = Source::current());
  /// Clears the parameters' gradients.
  void zero_grad(Source at = Source::current());
  /// Those given to the constructor, or all of the trace.
  std::vector<Tensor> parameters() const;
  /// The rate of the last step() (f32 scalar), for receivers; Error before the first.
  Tensor rate(Source at = Source::current()) const;

 protected:
  Optimizer(std::string name, Rate rate, std::vector<Tensor> parameters);
  Optimizer(const Optimizer&) = default;
  Optimizer& operator=(const Optimizer&) = default;

  struct Step {
    Tensor count;  ///< f32 scalar, from 1
    Tensor rate;   ///< f32 scalar
  };
  /// What is the same for all parameters of a step.
  virtual void begin(const Step& step, Source at) = 0;
  /// The new value of a parameter; both arguments and the result are of the compute type.
  virtual Tensor update(const std::string& parameter, const Tensor& value, const Tensor& gradient,
                        Source at) = 0;

  /// The state "<name>.<parameter>.<moment>", zeros at first.
  Tensor moment(const std::string& parameter, const char* which, const Type& type, Source at) const;

 private:
  std::string name_;
  Rate rate_;
  std::vector<Tensor> parameters_;  ///< empty: all of the trace
  Tensor last_rate_;
};

struct SgdOptions {
  Rate lr = 1e-2;
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;  ///< added to the gradient, times the value
  std::string name = "optimizer";
};

/// v = momentum v + g, p -= lr v (nesterov: p -= lr (g + momentum v)). States: "velocity".
class Sgd : public Optimizer {
 public:
  explicit Sgd(SgdOptions options = {}, std::vector<Tensor> parameters = {},
               Source at = Source::current());

 private:
  void begin(const Step& step, Source at) override;
  Tensor update(const std::string& parameter, const Tensor& value, const Tensor& gradient,
                Source at) override;
  SgdOptions options_;
  Tensor lr_;
};

struct AdamOptions {
  Rate lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;  ///< Adam: added to the gradient; AdamW: p -= lr weight_decay p
  std::string name = "optimizer";
};

/// p -= lr m' / (sqrt(v') + epsilon), with m and v the running means of g and g^2 and m' and v'
/// corrected for their start at 0. States: "m", "v".
class Adam : public Optimizer {
 public:
  explicit Adam(AdamOptions options = {}, std::vector<Tensor> parameters = {},
                Source at = Source::current());

 protected:
  Adam(AdamOptions options, std::vector<Tensor> parameters, bool decoupled, Source at);

 private:
  void begin(const Step& step, Source at) override;
  Tensor update(const std::string& parameter, const Tensor& value, const Tensor& gradient,
                Source at) override;
  AdamOptions options_;
  bool decoupled_ = false;
  Tensor lr_;
  Tensor step_size_;
  Tensor scale_;
};

/// Adam with weight decay apart from the gradient.
class AdamW : public Adam {
 public:
  explicit AdamW(AdamOptions options = {}, std::vector<Tensor> parameters = {},
                 Source at = Source::current());
};

/// Scales the gradients so that their norm, taken over all of them, is at most `max_norm`; returns
/// the norm before that (f32 scalar). Parameters without a gradient are left out; Error where none
/// has one. In the graph the scale is a factor: there is no branch.
Tensor clip_grad_norm(const std::vector<Tensor>& parameters, double max_norm,
                      Source at = Source::current());
/// Of all parameters of the trace.
Tensor clip_grad_norm(double max_norm, Source at = Source::current());

}  // namespace weft::optim
