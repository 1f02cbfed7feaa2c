#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tests/ptx/machine/counts.h"

/// A machine that runs PTX on the host, written from the PTX ISA alone, so that it is a second
/// reading of the text that weft generates.
///
/// Blocks run one after the other. The warps of a block take turns in an order drawn from the
/// launch's seed, so that races show; threads of a warp that are at the same instruction run in
/// lockstep. Asynchronous copies and matrix products happen as late as they may. What the ISA
/// leaves undefined and the machine can see is an Error: accesses out of range or misaligned,
/// deadlocks, instructions for a whole warp that a part of it reaches.
namespace weft::ptx {

struct TensorMap;  // tensor_copy.h
struct Program;    // the decoded instructions of an entry

/// What is wrong with PTX or with what it does:
/// "kernel NAME: line 12: ld.global.f32 %f1, [%rd1]: block 3, thread 17: ...".
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A parameter of an entry, as the driver lays it out.
struct Parameter {
  std::string name;
  std::int64_t bytes = 0;
  std::int64_t alignment = 1;
  std::int64_t offset = 0;  ///< bytes, in Launch::parameters
};

/// A kernel.
struct Entry {
  std::string name;
  std::vector<Parameter> parameters;
  std::int64_t parameter_bytes = 0;
  std::array<std::uint32_t, 3> required_threads{};  ///< .reqntid; zeros: none
  std::int64_t static_shared_bytes = 0;
  std::shared_ptr<const Program> program;
};

/// The entries of a text of PTX, decoded, and its variables, which live as long as the module.
/// Entries may be run by several threads at once.
class Module {
 public:
  /// Throws Error.
  explicit Module(const std::string& text);

  /// nullptr: there is none.
  const Entry* find(std::string_view name) const;
  const std::vector<Entry>& entries() const { return entries_; }
  /// The memory of a variable of state space .global or .const; empty: there is none.
  std::span<std::byte> variable(std::string_view name) const;

 private:
  std::vector<Entry> entries_;
  std::map<std::string, std::span<std::byte>, std::less<>> variables_;
};

/// What a launch needs to know of the device. Addresses of global memory are the host's.
struct Device {
  /// Whether `bytes` bytes of global memory may be accessed; a module's variables always may.
  /// Memory that may be is taken to remain so during a launch.
  std::function<bool(std::uint64_t address, std::int64_t bytes)> is_global;
  /// What the 128 bytes at `map` mean; nullptr: they are no tensor map.
  std::function<const TensorMap*(const std::byte* map)> tensor_map;
};

struct Launch {
  std::array<std::uint32_t, 3> grid{1, 1, 1};   ///< blocks
  std::array<std::uint32_t, 3> block{1, 1, 1};  ///< threads
  std::int64_t dynamic_shared_bytes = 0;
  std::span<const std::byte> parameters;
  std::uint64_t seed = 0;
  std::uint64_t most_blocks = 0;  ///< that run, spread over the grid; 0: all
  Counts* counts = nullptr;       ///< added to, where given
};

/// Runs all blocks of a launch. Throws Error.
void run(const Entry& entry, const Launch& launch, const Device& device);

}  // namespace weft::ptx
