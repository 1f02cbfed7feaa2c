#pragma once

#include <cstdint>
#include <map>

#include "compiler/loop/expr.h"

namespace weft::test {

/// A register's content: `real` for floats, `integer` for the others.
struct Scalar {
  double real = 0;
  std::int64_t integer = 0;
};

/// Evaluates expressions without loads, each operation rounded to its register type: what the
/// machine computes, apart from any code generator.
class Interpreter {
 public:
  void set(loop::Ex variable, Scalar value) { values_[variable] = value; }
  /// Throws std::logic_error for a variable that was not set and for loads.
  Scalar evaluate(loop::Ex expr);

 private:
  Scalar compute(const loop::Expr& expr);
  std::map<loop::Ex, Scalar> values_;
};

}  // namespace weft::test
