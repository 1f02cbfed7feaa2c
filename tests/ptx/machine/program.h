#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace weft::ptx {

struct Warp;
struct Instruction;

/// Where the threads that execute an instruction go.
enum class Flow : std::uint8_t {
  next,
  jump,   ///< to Warp::target
  exit,   ///< nowhere
  wait,   ///< they try again after an event: what they wait for has not come
  yield,  ///< next, but other warps take their turn
};

/// Executes an instruction for the lanes of `mask`, which is not 0. Throws Fault.
using Execute = Flow (*)(Warp& warp, const Instruction& instruction, std::uint32_t mask);

constexpr std::uint32_t kNone = 0xffffffff;

/// State spaces of memory.
enum class Space : std::uint8_t { generic, global, shared, constant, local, param };

struct Instruction {
  Execute execute = nullptr;
  /// Operands: offsets in bytes into the registers of a warp. Immediate operands, special registers
  /// and addresses of variables are registers too, which no instruction writes.
  std::uint32_t d = kNone;
  std::uint32_t a = kNone;
  std::uint32_t b = kNone;
  std::uint32_t c = kNone;
  std::uint32_t guard = kNone;
  bool guard_negated = false;
  /// Waits for other threads: those whose guard is false go on without the others.
  bool collective = false;
  bool uniform = false;       ///< .uni: all threads of the warp agree
  bool wide_address = false;  ///< `a` has 64 bits
  Space space = Space::generic;
  std::uint8_t count = 0;      ///< elements of a vector, entries in the list
  std::uint16_t mode = 0;      ///< what the modifiers say, as the family defines
  std::uint32_t target = 0;    ///< of a branch
  std::uint32_t list = 0;      ///< first of further operands in Program::lists
  std::int64_t immediate = 0;  ///< bytes added to an address, or a number
};

/// What is told about an instruction in errors.
struct Source {
  std::int32_t line = 0;
  std::string text;
};

enum class Special : std::uint8_t {
  tid_x,
  tid_y,
  tid_z,
  ntid_x,
  ntid_y,
  ntid_z,
  ctaid_x,
  ctaid_y,
  ctaid_z,
  nctaid_x,
  nctaid_y,
  nctaid_z,
  laneid,
  warpid,
  nwarpid,
  lanemask_eq,
  lanemask_le,
  lanemask_lt,
  lanemask_ge,
  lanemask_gt,
  dynamic_smem_size,
  total_smem_size,
  zero,  ///< what is 0 on a machine of one multiprocessor and clusters of one block
  one,
};

struct SpecialRegister {
  Special special{};
  std::uint32_t offset = 0;
};

/// A register with the same value in all lanes.
struct Constant {
  std::uint32_t offset = 0;
  bool wide = false;
  std::uint64_t value = 0;
};

/// Memory of a module's variables.
struct Variables {
  struct Variable {
    std::unique_ptr<std::byte[]> storage;
    std::byte* data = nullptr;  ///< in storage, aligned
    std::int64_t bytes = 0;
  };
  std::vector<Variable> variables;
};

struct Program {
  std::string name;
  std::vector<Instruction> code;
  std::vector<Source> sources;  ///< of the instructions
  std::vector<std::uint32_t> lists;
  std::vector<SpecialRegister> specials;
  std::vector<Constant> constants;
  std::uint32_t register_bytes = 0;      ///< of a warp
  std::uint32_t scratch = 0;             ///< 64-bit register for results that nothing takes
  std::int64_t static_shared_bytes = 0;  ///< with the padding before dynamic shared memory
  std::int64_t local_bytes = 0;          ///< of a thread
  std::int64_t parameter_bytes = 0;
  std::shared_ptr<const Variables> variables;
};

}  // namespace weft::ptx
