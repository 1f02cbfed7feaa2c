#pragma once

#include <cstdint>
#include <functional>

#include "compiler/loop/kernel.h"

/// Which elements the threads of a GPU's block have, and indices that may lie past the end.
namespace weft::compiler {

/// Threads that run together.
inline constexpr std::int64_t warp = 32;

/// Threads that keep a large GPU busy.
inline constexpr std::int64_t enough_threads = 1 << 16;

/// Into how many parts, `most` at most, to cut what so many threads would do, until they are
/// enough.
std::int64_t parts_to_fill(std::int64_t threads, std::int64_t most);

/// `body(index)` where an index, which is not negative, is below `extent`.
void if_below(loop::Builder& b, loop::Ex index, std::int64_t extent,
              const std::function<void(loop::Ex index)>& body);

/// An index, which is not negative, or the last one of `extent`.
loop::Ex at_most_last(loop::Builder& b, loop::Ex index, std::int64_t extent);

/// The `i`th element of a thread that has pieces of neighbours, those of `threads` threads side by
/// side.
loop::Ex in_pieces(loop::Arena& a, loop::Ex thread, std::int64_t threads, std::int64_t piece,
                   std::int64_t i);

/// Shares [0, total) out among `threads` threads, neighbours to neighbours: `body(number)` for each
/// of this one's.
void for_own_numbers(loop::Builder& b, loop::Ex thread, std::int64_t threads, std::int64_t total,
                     const std::function<void(loop::Ex number)>& body);

}  // namespace weft::compiler
