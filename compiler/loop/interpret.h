#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/loop/kernel.h"

/// Runs kernels of any target on any machine, and reports what is wrong with them. Blocks run one
/// after the other; the warps of a GPU's block take turns that a seed decides, switching at
/// barriers, at waits for mbarriers, and around accesses of memory that they share. Arithmetic is
/// that of the language.
namespace weft::loop {

/// What the accesses of one buffer by one statement asked of memory, over all warps of a phase. A
/// request is what a warp's lanes access at once: an element each, or a piece of up to 16 bytes in
/// a vector loop; or a tensor copy's box.
struct Traffic {
  std::string kernel;
  std::size_t phase = 0;
  std::string statement;
  std::string buffer;
  Space space = Space::argument;
  bool write = false;
  std::int64_t requests = 0;
  /// Global memory: sectors of 32 bytes that were touched. Shared memory: passes over its 32 banks;
  /// a bank gives one word of 4 bytes a pass.
  std::int64_t transactions = 0;
  std::int64_t least = 0;  ///< transactions if the same bytes lay side by side
};
/// One line, with what a request takes.
std::string print(const Traffic& traffic);

struct InterpretOptions {
  /// Decides whose turn it is and when asynchronous and tensor copies land. 0: as late as they may.
  std::uint64_t seed = 0;
  /// Denormal f32 count as zero, as in kernels on the host and with PTX's .ftz.
  bool flush_denormals = true;
  /// GPU: a vector loop's accesses of neighbouring elements must be aligned as a whole.
  bool vector_alignment = true;
  /// Only this phase, on what those before it have left in the arguments.
  std::optional<std::size_t> only_phase = std::nullopt;
  /// GPU: where not null, what each access asked of memory is added here.
  std::vector<Traffic>* traffic = nullptr;
};

struct Report {
  enum class Kind : std::uint8_t {
    out_of_range,   ///< an access outside of its buffer; it does not happen, a load gives 0
    uninitialised,  ///< a read of shared or local memory that nothing was written to
    race,  ///< two threads of a block, or a tensor copy and one that has not waited for it,
           ///< with nothing that orders them
    race_of_blocks,  ///< two blocks of one phase
    in_flight,       ///< an access of what an asynchronous copy is writing, before its wait
    barrier,         ///< not reached by all threads of a block, which ends here
    partial_warp,    ///< an intrinsic for whole warps called by some lanes
    misaligned,
    proxy,     ///< a group product or a tensor copy of what a thread has accessed before, ordered,
               ///< but with no fence_async_shared of that thread in between
    mbarrier,  ///< used as it may not be
    stuck      ///< a wait for an mbarrier's phase that nothing completes; the block ends here
  };
  Kind kind;
  std::string kernel;
  std::size_t phase;
  std::string statement;
  std::int64_t block;
  int warp;
  int lane;
  std::string text;        ///< what happened
  std::int64_t count = 1;  ///< how often with this statement and kind; the rest is of the first
};
std::string_view name(Report::Kind kind);
/// "kernel k, phase 0, block 3, warp 1, lane 7: race: ...: <statement>".
std::string print(const Report& report);

/// `arguments`: the memory of each of the kernel's arguments, of exactly its size. Two arguments
/// may be the same memory. Throws std::logic_error where they do not fit or the kernel is not one.
std::vector<Report> interpret(const Kernel& kernel, std::span<const std::span<std::byte>> arguments,
                              const InterpretOptions& options = {});

}  // namespace weft::loop
