#include <llvm/Analysis/CGSCCPassManager.h>
#include <llvm/Analysis/LoopAnalysisManager.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/Verifier.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/Target/TargetMachine.h>
#include <llvm/Transforms/InstCombine/InstCombine.h>
#include <llvm/Transforms/Scalar/ADCE.h>
#include <llvm/Transforms/Scalar/EarlyCSE.h>
#include <llvm/Transforms/Scalar/GVN.h>
#include <llvm/Transforms/Scalar/LICM.h>
#include <llvm/Transforms/Scalar/LoopPassManager.h>
#include <llvm/Transforms/Scalar/SROA.h>
#include <llvm/Transforms/Scalar/SimplifyCFG.h>

#include <stdexcept>

#include "compiler/codegen/module.h"
#include "runtime/plan/error.h"

namespace weft::compiler {
namespace {

constexpr std::int64_t alignment = 64;

llvm::Constant* table_element(llvm::LLVMContext& context, const loop::Buffer& buffer,
                              double value) {
  const auto integer = [&](unsigned bits, std::uint64_t word) {
    return llvm::ConstantInt::get(llvm::Type::getIntNTy(context, bits), word);
  };
  llvm::APFloat real(value);
  bool loses = false;
  switch (buffer.dtype) {
    case DType::f32:
      return llvm::ConstantFP::get(llvm::Type::getFloatTy(context), value);
    case DType::f64:
      return llvm::ConstantFP::get(llvm::Type::getDoubleTy(context), value);
    case DType::f16:
    case DType::bf16:
      real.convert(buffer.dtype == DType::f16 ? llvm::APFloat::IEEEhalf() : llvm::APFloat::BFloat(),
                   llvm::APFloat::rmNearestTiesToEven, &loses);
      return integer(16, real.bitcastToAPInt().getZExtValue());
    case DType::i32:
      return integer(32, static_cast<std::uint32_t>(static_cast<std::int64_t>(value)));
    case DType::i64:
      return integer(64, static_cast<std::uint64_t>(static_cast<std::int64_t>(value)));
    case DType::u8:
      return integer(8, static_cast<std::uint8_t>(value));
    case DType::boolean:
      return integer(8, value != 0);
    case DType::c64:
      break;
  }
  throw std::logic_error("a table of c64");
}

}  // namespace

llvm::GlobalVariable* make_table(llvm::Module& module, const loop::Buffer& buffer) {
  llvm::LLVMContext& context = module.getContext();
  llvm::Constant* data = nullptr;
  if (buffer.dtype == DType::f32) {
    const std::vector<float> values(buffer.values.begin(), buffer.values.end());
    data = llvm::ConstantDataArray::get(context, values);
  } else if (buffer.dtype == DType::f64) {
    data = llvm::ConstantDataArray::get(context, buffer.values);
  } else {
    std::vector<llvm::Constant*> values;
    for (const double value : buffer.values) {
      values.push_back(table_element(context, buffer, value));
    }
    llvm::Type* type = values.empty() ? llvm::Type::getInt8Ty(context) : values[0]->getType();
    data = llvm::ConstantArray::get(llvm::ArrayType::get(type, values.size()), values);
  }
  auto* table = new llvm::GlobalVariable(module, data->getType(), true,
                                         llvm::GlobalValue::PrivateLinkage, data, "table");
  table->setAlignment(llvm::Align(alignment));
  table->setUnnamedAddr(llvm::GlobalValue::UnnamedAddr::Global);
  return table;
}

void optimise(llvm::Module& module, llvm::TargetMachine& machine) {
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager components;
  llvm::ModuleAnalysisManager modules;
  llvm::PassBuilder builder(&machine);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(components);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, components, modules);

  llvm::FunctionPassManager passes;
  passes.addPass(llvm::SROAPass(llvm::SROAOptions::PreserveCFG));
  passes.addPass(llvm::EarlyCSEPass(true));
  passes.addPass(llvm::InstCombinePass());
  passes.addPass(llvm::SimplifyCFGPass());
  passes.addPass(llvm::createFunctionToLoopPassAdaptor(llvm::LICMPass(llvm::LICMOptions()),
                                                       /*UseMemorySSA=*/true));
  passes.addPass(llvm::GVNPass());
  passes.addPass(llvm::InstCombinePass());
  passes.addPass(llvm::ADCEPass());
  passes.addPass(llvm::SimplifyCFGPass());
  for (llvm::Function& function : module) {
    if (!function.isDeclaration()) passes.run(function, functions);
  }
}

void emit(llvm::Module& module, llvm::TargetMachine& machine, llvm::CodeGenFileType kind,
          const std::string& kernel, std::string& text) {
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  llvm::legacy::PassManager passes;
  if (machine.addPassesToEmitFile(passes, stream, nullptr, kind)) {
    throw Error("kernel " + kernel + ": LLVM cannot emit code for this machine");
  }
  passes.run(module);
  text.assign(bytes.begin(), bytes.end());
}

void verify_module(const llvm::Module& module, const std::string& kernel) {
  std::string message;
  llvm::raw_string_ostream stream(message);
  if (llvm::verifyModule(module, &stream)) {
    throw Error("kernel " + kernel + ": LLVM rejects the code: " + stream.str());
  }
}

}  // namespace weft::compiler
