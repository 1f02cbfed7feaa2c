#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace weft::ptx {

/// What the blocks of a launch do, an instruction of the text each: what bounds a kernel on a GPU,
/// where nothing can be measured.
struct Counts {
  struct Instruction {
    std::int32_t line = 0;
    std::string text;
    std::uint64_t warps = 0;    ///< that executed it
    std::uint64_t threads = 0;  ///< of these, whose guard held
    /// Of 32 bytes of global memory, each counted once for a warp's access.
    std::uint64_t sectors = 0;
    /// Cycles that shared memory takes: 32 banks of 4 bytes, threads that meet in the same word of
    /// one being served together; 8 or 16 bytes by half or quarter warps.
    std::uint64_t wavefronts = 0;
  };
  std::vector<Instruction> instructions;
  std::uint64_t blocks = 0;
};

/// Adds the access of a warp's threads in `mask` to `bytes` bytes each, to global memory.
void count_global(Counts::Instruction& counts, const std::uint64_t* addresses, std::uint32_t mask,
                  std::int64_t bytes);
/// The same, to shared memory.
void count_shared(Counts::Instruction& counts, const std::uint64_t* addresses, std::uint32_t mask,
                  std::int64_t bytes);

}  // namespace weft::ptx
