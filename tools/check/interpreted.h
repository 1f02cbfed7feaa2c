#pragma once

#include <string>
#include <vector>

#include "compiler/compile.h"
#include "compiler/loop/interpret.h"
#include "tools/check/run.h"

/// A compiled graph without the machine that it was compiled for.
namespace weft::check {

struct Interpreted {
  Outcome outcome;
  std::vector<std::string> reports;  ///< of the interpreter, and launches that no device takes
};

/// Runs the whole plan once, as its runner would: its kernels by the interpreter, in the arena that
/// the plan lays out. `compilation` has kept its loop kernels. What kernels are to write first
/// starts as NaN. The kernels of a `together` step run in an order that the seed decides.
Interpreted run_interpreted(const compiler::Compilation& compilation, const Interface& interface,
                            const Inputs& inputs, const loop::InterpretOptions& options = {});

}  // namespace weft::check
