#include <deque>
#include <string>

#include "compiler/loop/intrinsic_rows.h"

namespace weft::loop {
namespace {

using Access = Intrinsic::Access;

constexpr Intrinsic::Operand i32{Scalar::i32};
/// A phase of an mbarrier counts up to so many arrivals.
constexpr Intrinsic::Operand arrivals{Scalar::i32, true, (1 << 20) - 1, 1};
/// Registers of a thread.
constexpr Intrinsic::Operand registers{Scalar::i32, true, 240, 24, 8};
const Intrinsic::Address mbarrier{Space::shared, Access::update, 8, 8, DType::i64, true};
constexpr int box_alignment = 128;

}  // namespace

/// An mbarrier is an element of shared memory that completes one phase after the other: each when
/// as many arrivals as it was initialised with have come, and all bytes that arrivals have
/// announced. What arrives has finished what stands before it, and a wait for the phase sees it.
/// Phases are told apart by the parity of their number: a wait for parity p returns unless the
/// phase that has not completed is of parity p, so on a fresh mbarrier one for parity 1 does.
std::vector<Intrinsic> tensor_copy_rows() {
  // By one thread, before any other use; then the fence, and a barrier of the block.
  std::vector<Intrinsic> rows;
  rows.push_back({.name = "mbarrier_initialise",
                  .operands = {arrivals},
                  .results = {},
                  .addresses = {mbarrier},
                  .ordered = true,
                  .capability = 90,
                  .meaning = meaning::mbarrier_initialise,
                  .ptx = "mbarrier.init.shared::cta.b64 [$1], $0;"});
  // By the thread that has initialised mbarriers: copies find them so.
  rows.push_back({.name = "mbarrier_fence",
                  .operands = {},
                  .results = {},
                  .addresses = {},
                  .ordered = true,
                  .capability = 90,
                  .meaning = meaning::mbarrier_fence,
                  .ptx = "fence.mbarrier_init.release.cluster; fence.proxy.async.shared::cta;"});
  rows.push_back({.name = "mbarrier_arrive",
                  .operands = {},
                  .results = {},
                  .addresses = {mbarrier},
                  .ordered = true,
                  .capability = 90,
                  .meaning = meaning::mbarrier_arrive,
                  .ptx = "mbarrier.arrive.shared::cta.b64 _, [$0];"});
  // One arrival, and so many bytes that copies will bring in the same phase.
  rows.push_back({.name = "mbarrier_arrive_expect",
                  .operands = {i32},
                  .results = {},
                  .addresses = {mbarrier},
                  .ordered = true,
                  .capability = 90,
                  .meaning = meaning::mbarrier_arrive_expect,
                  .ptx = "mbarrier.arrive.expect_tx.shared::cta.b64 _, [$1], $0;"});
  // Operand: the parity, 0 or 1. Each thread that reads what it waits for waits itself.
  rows.push_back({.name = "mbarrier_wait",
                  .operands = {i32},
                  .results = {},
                  .addresses = {mbarrier},
                  .ordered = true,
                  .acquires = true,
                  .capability = 90,
                  .meaning = meaning::mbarrier_wait,
                  .ptx = "{ .reg .pred p; again: mbarrier.try_wait.parity.shared::cta.b64 p, "
                         "[$1], $0; @!p bra again; }"});
  // Called by one thread: a box of a tensor map at coordinates, innermost first, to shared memory.
  // It runs behind the thread's back and reports its bytes, those of a whole box, to the mbarrier's
  // phase that is not complete when it is called. A box lies at a multiple of 128 bytes, one whose
  // pieces are exchanged at a multiple of 1024.
  static std::deque<std::string> texts;
  for (std::size_t axes = 2; axes <= 5; ++axes) {
    std::string coordinates;
    for (std::size_t i = 0; i < axes; ++i) {
      coordinates += (i > 0 ? ", $" : "$") + std::to_string(i);
    }
    const std::string& name = texts.emplace_back("copy_tensor." + std::to_string(axes));
    const std::string& text =
        texts.emplace_back("cp.async.bulk.tensor." + std::to_string(axes) +
                           "d.shared::cluster.global.mbarrier::complete_tx::bytes [$" +
                           std::to_string(axes) + "], [$" + std::to_string(axes + 2) + ", {" +
                           coordinates + "}], [$" + std::to_string(axes + 1) + "];");
    rows.push_back({.name = name,
                    .operands = std::vector<Intrinsic::Operand>(axes, i32),
                    .results = {},
                    .addresses = {{.space = Space::shared,
                                   .access = Access::write,
                                   .bytes = 0,
                                   .alignment = box_alignment,
                                   .asynchronous = true},
                                  mbarrier,
                                  {.space = Space::tensor_map,
                                   .access = Access::read,
                                   .bytes = 0,
                                   .alignment = 1,
                                   .asynchronous = true}},
                    .ordered = true,
                    .capability = 90,
                    .meaning = meaning::copy_tensor,
                    .ptx = text});
  }
  // All warps of a group of four give registers back, or take what others gave: a thread has so
  // many from here on.
  for (const bool raise : {false, true}) {
    rows.push_back({.name = raise ? "registers_raise" : "registers_lower",
                    .operands = {registers},
                    .results = {},
                    .addresses = {},
                    .whole_warp = true,
                    .ordered = true,
                    .specific = true,
                    .capability = 90,
                    .meaning = meaning::registers,
                    .ptx = raise ? "setmaxnreg.inc.sync.aligned.u32 $0;"
                                 : "setmaxnreg.dec.sync.aligned.u32 $0;"});
  }
  return rows;
}

}  // namespace weft::loop
