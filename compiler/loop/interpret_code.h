#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "compiler/loop/interpret_memory.h"
#include "compiler/loop/interpret_value.h"
#include "compiler/loop/kernel.h"

/// A phase in the form that the interpreter runs: expressions in order of evaluation, variables
/// and accumulators by number.
namespace weft::loop::interpreter {

/// An expression's node; what it depends on stands before it.
struct Step {
  ExprKind kind;
  std::uint8_t code = 0;
  Scalar type = Scalar::i64;
  Scalar from = Scalar::i64;                 ///< of the first argument
  std::array<int, 3> arguments{-1, -1, -1};  ///< slots
  int slot = -1;
  int variable = -1;
  Region* region = nullptr;  ///< load
  int site = -1;             ///< load inside of a vector loop
};

struct Code {
  const Statement* statement = nullptr;
  std::vector<Step> steps;
  /// A store's predicate is known after these; the rest is evaluated where it holds only.
  std::size_t unguarded = 0;
  /// Of the steps, and constants. Nothing else runs between evaluation and use of a statement's
  /// values, so all warps share them.
  std::vector<Lanes> values;
  /// Slots. `value` is a loop's extent or a tile product's steps as well; `factors` are those of a
  /// product that is added, which is contracted.
  int value = -1;
  int predicate = -1;
  int index = -1;
  std::array<int, 2> factors{-1, -1};
  std::vector<int> operands;
  std::vector<int> indices;
  std::vector<Region*> regions;  ///< of `indices`; store: one; tile product: sums, left, right
  int variable = -1;
  int accumulator = -1;
  std::vector<int> results;
  std::vector<Code> body;
  int site = -1;       ///< store inside of a vector loop
  int first_site = 0;  ///< vector loop: sites of its body
  int last_site = 0;
  bool shares = false;  ///< touches memory of other threads
};

struct Program {
  std::vector<Code> body;
  int block = -1;  ///< variables
  int thread = -1;
  std::size_t variables = 0;
  std::size_t accumulators = 0;
  std::vector<Region*> sites;
  std::vector<const Buffer*> written;
  bool clocks = false;                      ///< more than barriers of the block orders threads
  std::vector<const Buffer*> asynchronous;  ///< what the asynchronous proxy accesses
};

/// `memory` must outlive the program.
Program compile(const Kernel& kernel, const Phase& phase, Memory& memory);

}  // namespace weft::loop::interpreter
