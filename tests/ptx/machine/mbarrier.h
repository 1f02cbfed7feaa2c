#pragma once

#include <cstdint>

/// An mbarrier object: the PTX ISA's "Contents of the mbarrier object", "Phase of the mbarrier
/// object", "Tracking asynchronous operations" and "Phase completion". The ISA keeps the 64 bits
/// opaque; here they hold, from the low end, the arrivals expected of a phase and those pending in
/// the current one (20 bits each), the tx-count (21 bits, signed), the current phase's parity and
/// two bits that tell an object from other bytes.
///
/// A phase completes when no arrival is pending and the tx-count is zero; the next one begins at
/// once. All functions but init() throw std::logic_error where the ISA leaves undefined what
/// happens: no object, counts outside of their ranges, more arrivals than are pending.
namespace weft::ptx::mbarrier {

/// Arrivals and the absolute value of the tx-count.
constexpr std::uint32_t kMaximumCount = (1U << 20) - 1;

/// Throws std::logic_error of a count that is not 1 to kMaximumCount. Any earlier object is
/// overwritten: memory is not told from an object with certainty, so this is not an error here,
/// although the ISA asks for an inval between.
void init(std::uint64_t& object, std::uint32_t count);
void invalidate(std::uint64_t& object);

/// Arrives `count` times and returns the state before: the phase that test_state() then asks about.
std::uint64_t arrive(std::uint64_t& object, std::uint32_t count);
/// The same, for .noComplete: throws std::logic_error if the phase completes.
std::uint64_t arrive_no_complete(std::uint64_t& object, std::uint32_t count);
/// The same for arrive_drop: the following phases also expect `count` arrivals fewer.
std::uint64_t arrive_drop(std::uint64_t& object, std::uint32_t count);

void expect_tx(std::uint64_t& object, std::uint32_t bytes);
/// May come before the expect_tx() that it belongs to.
void complete_tx(std::uint64_t& object, std::uint32_t bytes);

/// Whether the phase of this parity is complete: the current phase (the first one has parity 0) is
/// not, the one before it is. So a fresh object's phase of parity 1 is.
bool test_parity(std::uint64_t object, bool parity);
/// Whether the phase that arrive() returned is complete.
bool test_state(std::uint64_t object, std::uint64_t state);

/// Arrivals that were pending in a state that arrive() returned.
std::uint32_t pending_count(std::uint64_t state);

}  // namespace weft::ptx::mbarrier
