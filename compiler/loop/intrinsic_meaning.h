#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "runtime/plan/type.h"

/// What the rows of compiler/loop/intrinsic.h mean, for all 32 lanes of a warp at once.
namespace weft::loop {

inline constexpr int warp_lanes = 32;
/// A register's bits: integers with their sign extended, f32 in the lower half.
using Word = std::uint64_t;
using Lanes = std::array<Word, warp_lanes>;

/// A call as its meaning sees it.
class IntrinsicCall {
 public:
  IntrinsicCall() = default;
  IntrinsicCall(const IntrinsicCall&) = delete;
  IntrinsicCall& operator=(const IntrinsicCall&) = delete;
  virtual ~IntrinsicCall() = default;

  std::uint32_t active = 0;  ///< bit l: lane l calls
  std::vector<Lanes> operands;
  std::vector<Lanes> results;

  /// The memory from the lane's address on, which is one of the row's addresses.
  virtual void read(int lane, std::size_t address, std::span<std::byte> to) = 0;
  virtual void atomic_add(int lane, std::size_t address, float value) = 0;
  /// Starts a copy of the row's bytes; writes zeros where `copies` is false.
  virtual void copy_async(int lane, std::size_t to, std::size_t from, bool copies) = 0;
  virtual void copy_commit(int lane) = 0;
  virtual void copy_wait(int lane, std::int64_t groups) = 0;

  /// The lanes of the warp have met, and see what each has done.
  virtual void sync_warp() = 0;
  /// What the lane did before is ordered before what the asynchronous proxy does.
  virtual void fence_async(int lane) = 0;

  /// Of the lane's mbarrier, one of the row's addresses.
  virtual void mbarrier_initialise(int lane, std::size_t address, std::int64_t arrivals) = 0;
  virtual void mbarrier_fence(int lane) = 0;
  virtual void mbarrier_arrive(int lane, std::size_t address, std::int64_t bytes) = 0;
  /// The lane goes on when the phase of that parity has completed.
  virtual void mbarrier_wait(int lane, std::size_t address, std::int64_t parity) = 0;
  /// Starts the copy of a box of `map` at coordinates.
  virtual void copy_tensor(int lane, std::size_t to, std::size_t mbarrier, std::size_t map,
                           std::vector<std::int64_t> coordinates) = 0;
  /// The warp goes on with so many registers a thread.
  virtual void registers(std::int64_t count) = 0;

  /// Work of the warp that is under way until its group has been waited for: it reads memory then
  /// and gives its results, which stand for them until then are its number.
  struct Deferred {
    std::vector<Lanes> operands;  ///< sums before, which may be results of other work
    std::function<void(std::vector<Lanes>& sums)> work;
  };
  /// Reads the memory at a distance in bytes from the lane's address, whenever it is called.
  using Reader = std::function<void(std::int64_t bytes, std::span<std::byte> to)>;
  virtual Reader reader(int lane, std::size_t address) = 0;
  virtual std::int64_t place(int lane, std::size_t address) = 0;  ///< bytes from its buffer's start
  virtual int warp() const = 0;                                   ///< its number in the block
  virtual void defer(Deferred deferred) = 0;                      ///< sets results
  virtual void defer_commit() = 0;
  /// Does the work of all but the latest groups; operands become results where they are those of
  /// work that is done.
  virtual void defer_wait(std::int64_t groups, std::span<const Lanes> operands) = 0;
};

/// Sets the results of the active lanes.
using Meaning = void (*)(IntrinsicCall&);

namespace meaning {

void shuffle_xor(IntrinsicCall& call);
void shuffle_down(IntrinsicCall& call);
void shuffle_index(IntrinsicCall& call);
void ballot(IntrinsicCall& call);
void any(IntrinsicCall& call);
void all(IntrinsicCall& call);
void reduce_add(IntrinsicCall& call);
void reduce_min(IntrinsicCall& call);
void reduce_max(IntrinsicCall& call);
void reduce_and(IntrinsicCall& call);
void reduce_or(IntrinsicCall& call);
void reduce_xor(IntrinsicCall& call);
void load_matrix(IntrinsicCall& call);  ///< as many matrices as results
void load_matrix_transposed(IntrinsicCall& call);
void mma_f16(IntrinsicCall& call);
void mma_bf16(IntrinsicCall& call);
void mma_tf32(IntrinsicCall& call);
void round_tf32(IntrinsicCall& call);
void pack_f16(IntrinsicCall& call);
void pack_bf16(IntrinsicCall& call);
void copy_async(IntrinsicCall& call);
void copy_commit(IntrinsicCall& call);
void copy_wait(IntrinsicCall& call);
void atomic_add(IntrinsicCall& call);
void sync_warp(IntrinsicCall& call);
void fence_async(IntrinsicCall& call);
void mbarrier_initialise(IntrinsicCall& call);
void mbarrier_fence(IntrinsicCall& call);
void mbarrier_arrive(IntrinsicCall& call);
void mbarrier_arrive_expect(IntrinsicCall& call);
void mbarrier_wait(IntrinsicCall& call);
void copy_tensor(IntrinsicCall& call);
void registers(IntrinsicCall& call);
void exp2(IntrinsicCall& call);
void log2(IntrinsicCall& call);
void reciprocal(IntrinsicCall& call);
void rsqrt(IntrinsicCall& call);
void tanh(IntrinsicCall& call);
void sin(IntrinsicCall& call);
void cos(IntrinsicCall& call);
void nothing(IntrinsicCall& call);
/// Of four warps; an operand is `across` where its rows are along the contracted axis.
template <DType dtype, bool a_across, bool b_across>
void group_product(IntrinsicCall& call);
template <DType dtype, bool b_across>
void group_product_registers(IntrinsicCall& call);
void group_product_commit(IntrinsicCall& call);
void group_product_wait(IntrinsicCall& call);

}  // namespace meaning
}  // namespace weft::loop
