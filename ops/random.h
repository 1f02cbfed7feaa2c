#pragma once

#include <array>
#include <cstdint>
#include <string_view>

/// The random bits of random_uniform and random_normal, exactly: one definition for the reference,
/// for tests and for whoever wants to reproduce them. They depend on a seed, a named stream, the
/// iteration and the logical index of an element, never on the order of nodes or threads.
namespace weft::ops {

/// Philox 4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
/// 2011).
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter,
                                    std::array<std::uint32_t, 2> key);

/// FNV-1a of the text, 32 bits: the counter's last word.
std::uint32_t hash32(std::string_view text);

/// The block of four words for elements 4 * group .. 4 * group + 3 (row-major): counter (group low,
/// group high, low 32 bits of iteration, hash32(stream)), key (seed low, seed high).
std::array<std::uint32_t, 4> random_words(std::int64_t seed, std::string_view stream,
                                          std::int64_t iteration, std::int64_t group);

}  // namespace weft::ops
