#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "compiler/codegen/codegen.h"
#include "compiler/loop/kernel.h"
#include "runtime/executable.h"

namespace weft::tests {

/// A kernel, generated and loaded; runs its phases on the calling thread.
class Compiled {
 public:
  explicit Compiled(const loop::Kernel& kernel,
                    const compiler::HostTarget& target = compiler::host_target(),
                    const compiler::CodegenOptions& options = {})
      : code(compiler::generate_host(kernel, "k", target, options)) {
    plan::Plan plan;
    plan.name = "test";
    plan.objects.push_back(code.object);
    plan::Kernel entry;
    for (std::size_t i = 0; i < kernel.phases.size(); ++i) {
      entry.phases.push_back({"k." + std::to_string(i), kernel.phases[i].grid});
    }
    plan.kernels.push_back(entry);
    phases_ = entry.phases;
    loaded_ = runtime::load_objects(plan);
    for (const plan::Phase& phase : phases_) functions.push_back(loaded_->find(phase.symbol));
    const auto bytes = static_cast<std::size_t>((code.scratch_bytes + 127) / 64 * 64);
    scratch_.reset(static_cast<std::byte*>(std::aligned_alloc(64, bytes)));
  }

  void run(const std::vector<void*>& arguments) const {
    for (std::size_t i = 0; i < phases_.size(); ++i) {
      functions[i](arguments.data(), scratch_.get(), 0, phases_[i].grid);
    }
  }
  void* scratch() const { return scratch_.get(); }

  compiler::GeneratedCode code;
  std::vector<runtime::PhaseFunction> functions;

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::vector<plan::Phase> phases_;
  std::unique_ptr<runtime::Code> loaded_;
  std::unique_ptr<std::byte, Free> scratch_;
};

}  // namespace weft::tests
