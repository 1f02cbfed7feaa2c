#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/loop/expr.h"
#include "compiler/loop/intrinsic_meaning.h"

/// What only a GPU can do, as rows of one table. A call is a statement (Builder::call): it has
/// operands and results, registers of the thread that calls, and addresses, elements of buffers.
namespace weft::loop {

struct Intrinsic {
  struct Operand {
    Scalar type;
    bool immediate = false;  ///< a constant in [least, limit], part of the instruction
    std::int64_t limit = 0;
    std::int64_t least = 0;
    std::int64_t multiple = 1;  ///< of which the constant is one
  };
  enum class Access : std::uint8_t { read, write, update };
  struct Address {
    Space space;  ///< argument (global memory), shared or tensor_map
    Access access;
    int bytes;      ///< read or written from the element on; 0: a tensor map's box
    int alignment;  ///< of the element's address, bytes
    std::optional<DType> dtype = {};  ///< of the buffer; any where not given
    bool mbarrier = false;            ///< the element is one
    /// Through the asynchronous proxy: a thread fences its own accesses of the same memory that
    /// are to be ordered before (fence_async_shared).
    bool asynchronous = false;
  };

  std::string_view name;
  std::vector<Operand> operands;
  std::vector<Scalar> results;
  std::vector<Address> addresses;
  /// All 32 lanes of a warp call it together, with the same immediates; otherwise each lane for
  /// itself.
  bool whole_warp = false;
  /// Its order among other statements matters though it may have no address.
  bool ordered = false;
  /// What other threads have written may be there after it, whatever its addresses are.
  bool acquires = false;
  /// The last so many operands are the results' registers before the call, and not in the text.
  std::size_t tied = 0;
  bool specific = false;  ///< only where the target is of that very capability ("sm_90a")
  int capability = 70;    ///< least compute capability, 10 * major + minor
  Meaning meaning = nullptr;
  /// PTX, with $0, $1, ... for results, operands and addresses in this order. A boolean is a
  /// 32-bit register that holds 0 or 1. An address in shared memory is a 32-bit register (the
  /// shared window's own address), one in global memory or of a tensor map a 64-bit one.
  std::string_view ptx;

  /// A function of its operands, called by each lane for itself.
  bool pure() const { return !whole_warp && !ordered && addresses.empty(); }
};

/// All rows.
std::span<const Intrinsic> intrinsics();
/// Throws std::logic_error where there is none.
const Intrinsic& intrinsic(std::string_view name);
/// The constraints of LLVM's inline assembly for the row's text: "=r,=r,f,n,r,l,~{memory}".
std::string constraints(const Intrinsic& row);

}  // namespace weft::loop
