#pragma once

#include <llvm/IR/Module.h>
#include <llvm/Support/CodeGen.h>

#include <string>

#include "compiler/loop/kernel.h"

namespace llvm {
class TargetMachine;
}

/// What the generators of all targets do with LLVM modules. Included by compiler/codegen/*.cpp
/// only.
namespace weft::compiler {

/// A table as constant data of the module.
llvm::GlobalVariable* make_table(llvm::Module& module, const loop::Buffer& buffer);

/// Throws Error with LLVM's message where the module is not valid.
void verify_module(const llvm::Module& module, const std::string& kernel);

/// What the emitted code needs and no more: vectorisation and unrolling were decided by schedules.
void optimise(llvm::Module& module, llvm::TargetMachine& machine);

/// Machine code or assembly, as bytes of a file. Changes the module.
void emit(llvm::Module& module, llvm::TargetMachine& machine, llvm::CodeGenFileType kind,
          const std::string& kernel, std::string& text);

}  // namespace weft::compiler
