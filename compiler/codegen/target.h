#pragma once

#include <string>
#include <string_view>

#include "runtime/plan/type.h"

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

}  // namespace weft::compiler
