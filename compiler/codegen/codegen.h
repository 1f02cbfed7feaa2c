#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/codegen/target.h"
#include "compiler/loop/kernel.h"
#include "runtime/plan.h"

namespace weft::compiler {

struct CodegenOptions {
  bool assembly = false;   ///< also keep assembly text (WEFT_DUMP)
  bool llvm_ir = false;    ///< also keep LLVM IR after optimisation
  std::int64_t batch = 1;  ///< of a GPU: plan::Kernel::batch
};

struct GeneratedCode {
  plan::CodeObject object;
  std::int64_t scratch_bytes = 0;  ///< for one worker
  std::string assembly;
  std::string llvm_ir;
};

/// Differs where the same kernel may give other code: a hash of the generator's sources, and LLVM's
/// version.
const std::string& codegen_version();

/// The name of a phase's function.
std::string phase_symbol(const std::string& symbol, std::size_t phase);

/// Generates an object file with a function for each phase, named phase_symbol(), of plan::Phase's
/// signature. Safe to call from several threads at once. Throws Error with LLVM's
/// message and the kernel's name.
GeneratedCode generate_host(const loop::Kernel& kernel, const std::string& symbol,
                            const HostTarget& target, const CodegenOptions& options = {});

/// A GPU that code is generated for.
struct DeviceTarget {
  int capability = 80;            ///< compute capability, 10 * major + minor
  bool specific = false;          ///< with what only this capability has (sm_90a: wgmma)
  std::string processor() const;  ///< "sm_90a"
  std::string name() const { return "nvptx64/" + processor(); }
};
/// Of "sm_80", "sm_90a", ...; throws Error for other texts.
DeviceTarget device_target(std::string_view processor);

struct GeneratedDeviceCode {
  std::string ptx;
  std::int64_t shared_bytes = 0;  ///< of a block, at each launch
  std::string llvm_ir;
};

/// The name of a phase's entry in PTX, whose names have letters, digits and underscores only.
std::string device_phase_symbol(const std::string& symbol, std::size_t phase);

/// Generates PTX with an entry for each phase, named device_phase_symbol(), whose parameters are
/// the arguments' addresses in global memory, then the kernel's tensor maps, 128 bytes each by
/// value, or (CodegenOptions::batch) a table of several executions' arguments; blocks and threads
/// have one dimension. Throws Error with LLVM's message and the kernel's name, and where an
/// operation has no code for a GPU.
GeneratedDeviceCode generate_device(const loop::Kernel& kernel, const std::string& symbol,
                                    const DeviceTarget& target, const CodegenOptions& options = {});

}  // namespace weft::compiler
