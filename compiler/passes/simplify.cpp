#include "compiler/passes/simplify.h"

#include "compiler/passes/algebra.h"
#include "compiler/passes/cse.h"
#include "compiler/passes/dead_code.h"
#include "compiler/passes/fold_constants.h"
#include "compiler/passes/hoist.h"
#include "compiler/passes/movement.h"

namespace weft::compiler {

bool simplify(ir::Graph& graph) {
  // Every rule makes the graph smaller or is not undone by another, so that this ends; the bound
  // is there so that a mistake in a rule costs time and not the process.
  constexpr int most_rounds = 100;
  bool changed = false;
  for (int round = 0; round < most_rounds; ++round) {
    // Dead code first: rules then see only what is used.
    bool again = dead_code(graph);
    again |= fold_constants(graph);
    again |= algebra(graph);
    again |= movement(graph);
    again |= common_subexpressions(graph);
    again |= hoist_invariants(graph);
    if (!again) break;
    changed = true;
  }
  return changed;
}

}  // namespace weft::compiler
