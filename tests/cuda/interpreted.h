#pragma once

#include "compiler/compile.h"
#include "frontend/load_hook.h"

namespace weft::runtime::testing {

/// Has the stand-in run a compilation's kernels by the interpreter of the loop language. What the
/// interpreter reports, and launches that are not as the kernels have them, fail the test.
void interpret_on_stand_in(const compiler::Compilation& compilation);

/// Does so with every program that is compiled while it lives.
class InterpretedPrograms {
 public:
  InterpretedPrograms() { detail::load_hook() = interpret_on_stand_in; }
  ~InterpretedPrograms() { detail::load_hook() = nullptr; }
  InterpretedPrograms(const InterpretedPrograms&) = delete;
  InterpretedPrograms& operator=(const InterpretedPrograms&) = delete;
};

}  // namespace weft::runtime::testing
