#pragma once

#include <llvm/IR/IRBuilder.h>

#include <vector>

/// Transposition of vectors. Included by compiler/codegen/*.cpp only.
namespace weft::compiler {

/// For each lane the vector of that lane of all rows. The numbers of rows and of lanes are powers
/// of 2.
std::vector<llvm::Value*> transpose(llvm::IRBuilder<>& builder, std::vector<llvm::Value*> rows);

}  // namespace weft::compiler
