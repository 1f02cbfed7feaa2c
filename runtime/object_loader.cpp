#include <llvm/ExecutionEngine/Orc/Core.h>
#include <llvm/ExecutionEngine/Orc/LLJIT.h>
#include <llvm/Support/MemoryBuffer.h>
#include <llvm/Support/TargetSelect.h>

#include <cmath>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "runtime/executable.h"
#include "runtime/plan/error.h"

namespace weft::runtime {
namespace {

void initialise_llvm() {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
  });
}

[[noreturn]] void fail(const std::string& plan, llvm::Error error) {
  throw Error("plan " + plan + ": loading machine code: " + llvm::toString(std::move(error)));
}

/// What generated code may call. An object that wants anything else does not load.
llvm::orc::SymbolMap library(const llvm::orc::LLJIT& jit) {
  llvm::orc::SymbolMap symbols;
  const auto define = [&](const char* name, void* address) {
    symbols[jit.mangleAndIntern(name)] = {
        llvm::orc::ExecutorAddr::fromPtr(address),
        llvm::JITSymbolFlags::Exported | llvm::JITSymbolFlags::Callable};
  };
  using One = double (*)(double);
  using Two = double (*)(double, double);
  const auto one = [&](const char* name, One function) {
    define(name, reinterpret_cast<void*>(function));
  };
  one("exp", std::exp);
  one("exp2", std::exp2);
  one("log", std::log);
  one("log2", std::log2);
  one("sin", std::sin);
  one("cos", std::cos);
  one("tanh", std::tanh);
  one("erf", std::erf);
  define("pow", reinterpret_cast<void*>(static_cast<Two>(std::pow)));
  // Rounding where the machine has no instruction for it.
  one("floor", std::floor);
  one("roundeven", [](double x) { return std::nearbyint(x); });
  define("floorf", reinterpret_cast<void*>(
                       static_cast<float (*)(float)>([](float x) { return std::floor(x); })));
  define("roundevenf", reinterpret_cast<void*>(static_cast<float (*)(float)>(
                           [](float x) { return std::nearbyint(x); })));
  define("memcpy", reinterpret_cast<void*>(&std::memcpy));
  define("memmove", reinterpret_cast<void*>(&std::memmove));
  define("memset", reinterpret_cast<void*>(&std::memset));
  return symbols;
}

class LoadedCode : public Code {
 public:
  explicit LoadedCode(const plan::Plan& plan) : plan_(plan.name) {
    initialise_llvm();
    auto jit = llvm::orc::LLJITBuilder().create();
    if (!jit) fail(plan_, jit.takeError());
    jit_ = std::move(*jit);
    llvm::orc::JITDylib& main = jit_->getMainJITDylib();
    if (auto error = main.define(llvm::orc::absoluteSymbols(library(*jit_)))) {
      fail(plan_, std::move(error));
    }
    for (std::size_t i = 0; i < plan.objects.size(); ++i) {
      // A copy: the code may outlive the plan.
      auto buffer = llvm::MemoryBuffer::getMemBufferCopy(plan.objects[i].bytes,
                                                         plan_ + "." + std::to_string(i));
      if (auto error = jit_->addObjectFile(std::move(buffer))) fail(plan_, std::move(error));
    }
    // Everything is linked here and now, so that a run cannot fail for want of a symbol.
    llvm::orc::SymbolLookupSet wanted;
    std::unordered_map<std::string, llvm::orc::SymbolStringPtr> names;
    for (const plan::Kernel& kernel : plan.kernels) {
      for (const plan::Phase& phase : kernel.phases) {
        const auto [name, added] = names.try_emplace(phase.symbol);
        if (!added) continue;
        name->second = jit_->mangleAndIntern(phase.symbol);
        wanted.add(name->second);
      }
    }
    auto found = jit_->getExecutionSession().lookup(llvm::orc::makeJITDylibSearchOrder(&main),
                                                    std::move(wanted));
    if (!found) fail(plan_, found.takeError());
    for (const auto& [name, symbol] : names) {
      functions_[name] = found->find(symbol)->second.getAddress().toPtr<PhaseFunction>();
    }
  }

  PhaseFunction find(const std::string& symbol) const override {
    const auto found = functions_.find(symbol);
    if (found == functions_.end()) {
      throw Error("plan " + plan_ + ": no machine code for \"" + symbol + "\"");
    }
    return found->second;
  }

 private:
  std::string plan_;
  std::unique_ptr<llvm::orc::LLJIT> jit_;
  std::unordered_map<std::string, PhaseFunction> functions_;
};

}  // namespace

std::unique_ptr<Code> load_objects(const plan::Plan& plan) {
  return std::make_unique<LoadedCode>(plan);
}

}  // namespace weft::runtime
