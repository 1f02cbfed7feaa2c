#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "weft/program.h"

/// Programs run by the reference evaluation, and plain computations to compare them with.
namespace weft::plain {

using Values = std::vector<double>;

struct Outcome {
  /// What receivers got, by their names, one entry for each call: the tensors one after the other.
  std::map<std::string, std::vector<Values>> received;
  std::map<std::string, Values> states;  ///< after the run
};

/// Runs the traced graph in double precision, from the values in State, which stay as they are.
Outcome evaluate(Program& program);
/// Traces `body` and returns the value of the tensor that it returns.
Values evaluate(State& state, const std::function<Tensor()>& body);
/// As above, compiled and run on this machine.
Values compiled(State& state, const std::function<Tensor()>& body);

/// `tolerance` is relative to the largest expected magnitude.
void expect_near(const Values& actual, const Values& expected, double tolerance,
                 const std::string& what = "");
/// Error bound of f32 for sums of `length` terms, with room for a few operations around them.
double f32_bound(std::int64_t length);

/// Uniform in [low, high), rounded to f32.
Values random_values(std::int64_t count, unsigned seed, double low = -1, double high = 1);

/// Random values in [-1, 1) for all of State, so that no weight is 1 and no bias 0.
void randomise(State& state, unsigned seed);

/// The message of the Error that `call` throws; a failure where it throws none.
std::string error_of(const std::function<void()>& call);
/// As above in a trace of an empty State.
std::string trace_error(const std::function<void()>& body);

// ---- plain layers -------------------------------------------------------------------------------

/// (n, d), row-major.
struct Rows {
  std::int64_t n = 0;
  std::int64_t d = 0;
  Values values;

  Rows() = default;
  Rows(std::int64_t rows, std::int64_t columns, Values given = {});
  double& at(std::int64_t i, std::int64_t j);
  double at(std::int64_t i, std::int64_t j) const;
};

Rows map(Rows x, const std::function<double(double)>& f);
Rows combine(const Rows& x, const Rows& y, const std::function<double(double, double)>& f);
Rows plus(const Rows& x, const Rows& y);
Rows times(const Rows& x, const Rows& y);
/// A layer's parameters from State: "<name>.weight" (in, out) and, where there is one, its bias.
Rows linear(const Rows& x, const State& state, const std::string& name);
std::function<double(double)> activation(const std::string& name);
/// By the name of a norm's type, over the rows.
Rows norm(const std::string& type, const Rows& x, const State& state, const std::string& name);

}  // namespace weft::plain
