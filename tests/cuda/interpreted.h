#pragma once

#include "compiler/compile.h"
#include "frontend/load_hook.h"

namespace weft::runtime::testing {

/// Has the stand-in run a compilation's kernels by the interpreter of the loop language. What the
/// interpreter reports, and launches that are not as the kernels have them, fail the test.
void interpret_on_stand_in(const compiler::Compilation& compilation);
/// Has the stand-in run them by their PTX, which may touch what the plan says and no more.
void emulate_on_stand_in(const compiler::Compilation& compilation);

/// How the stand-in runs the kernels of every program that is compiled while it lives.
class KernelsOfPrograms {
 public:
  using Hook = void (*)(const compiler::Compilation& compilation);
  explicit KernelsOfPrograms(Hook hook) { detail::load_hook() = hook; }
  ~KernelsOfPrograms() { detail::load_hook() = nullptr; }
  KernelsOfPrograms(const KernelsOfPrograms&) = delete;
  KernelsOfPrograms& operator=(const KernelsOfPrograms&) = delete;
};

}  // namespace weft::runtime::testing
