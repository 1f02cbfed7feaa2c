#pragma once

#include <array>
#include <cstdint>

#include "tests/ptx/machine/decode.h"
#include "tests/ptx/machine/warp.h"

namespace weft::ptx {

using Pointers = std::array<std::byte*, kWarpThreads>;

/// Where the lanes of `mask` access `bytes` bytes each, checked for bounds and for alignment to
/// `bytes`, a power of two. The other lanes have the pointer of the first one. Throws Fault.
void locate(Warp& warp, const Instruction& instruction, std::uint32_t mask, std::int64_t bytes,
            bool writes, Pointers& pointers);

/// The addresses of all lanes.
void addresses(Warp& warp, const Instruction& instruction,
               std::array<std::uint64_t, kWarpThreads>& result);

/// The address of an operand as a register of 64 bits; may emit an instruction that computes it.
std::uint32_t address_register(Decode& decode, const Operand& operand, Space space);

/// Whether all threads of the warp execute an instruction that they have to execute together.
bool whole_warp(Warp& warp, std::uint32_t mask);

/// The state space that the next modifiers name; generic: none does.
Space take_space(Decode& decode);

}  // namespace weft::ptx
