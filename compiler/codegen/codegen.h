#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/loop/kernel.h"
#include "runtime/plan.h"

namespace weft::compiler {

/// The machine that code is generated for.
struct HostTarget {
  std::string cpu;        ///< "znver4"
  std::string features;   ///< LLVM's "+avx2,..."
  int vector_bits = 256;  ///< 512 with AVX-512, else 256 (128 without AVX2)
  /// Products of bf16 are laid out for tile registers.
  bool tile_products = false;
  int vector_lanes(DType dtype) const;  ///< at least 1: vector_bits / bits of the register type
  bool has(std::string_view feature) const;  ///< such as "avx512bf16"
  bool has_tiles() const { return has("amx-tile") && has("amx-bf16"); }
  std::string name() const { return "x86-64/" + cpu; }
};
/// The machine that this process runs on. Tile registers are left out where the operating system
/// refuses them to this process.
HostTarget host_target();
/// A processor by LLVM's name for it, such as "x86-64-v3" or "sapphirerapids". Throws Error where
/// there is none.
HostTarget target_for(const std::string& cpu);
/// Whether code for `target` runs on the machine of this process.
bool runs_here(const HostTarget& target);

struct CodegenOptions {
  bool assembly = false;  ///< also keep assembly text (WEFT_DUMP)
  bool llvm_ir = false;   ///< also keep LLVM IR after optimisation
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
/// the arguments' addresses in global memory; blocks and threads have one dimension. Throws Error
/// with LLVM's message and the kernel's name, and where an operation has no code for a GPU.
GeneratedDeviceCode generate_device(const loop::Kernel& kernel, const std::string& symbol,
                                    const DeviceTarget& target, const CodegenOptions& options = {});

}  // namespace weft::compiler
