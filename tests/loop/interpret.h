#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "compiler/loop/kernel.h"

namespace weft::tests {

/// A register: `integer` for integer types and boolean, `real` for floats (f32 already rounded).
struct Number {
  std::int64_t integer = 0;
  double real = 0;
};

/// The plain meaning of the loop language: one iteration after the other, nothing simplified.
/// Memory holds what registers hold; f16 and bf16 are rounded on a store.
class Interpreter {
 public:
  std::unordered_map<const loop::Buffer*, std::vector<Number>> memory;
  std::unordered_map<loop::Ex, Number> variables;

  /// Throws std::out_of_range where a load or store leaves its buffer.
  void run(const loop::Kernel& kernel);
  Number evaluate(loop::Ex expr);

 private:
  Number evaluate_unary(loop::Ex expr);
  Number evaluate_binary(loop::Ex expr);
  Number evaluate_cast(loop::Ex expr);
  void block(const loop::Block& block);
  void statement(const loop::Statement& statement);

  std::unordered_map<const loop::Accumulator*, Number> accumulators_;
};

/// The bits of a rounded 16-bit float, computed in double precision step by step.
double round_to_half(double value);
double round_to_bfloat(double value);

}  // namespace weft::tests
