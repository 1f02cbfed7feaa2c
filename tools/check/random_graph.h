#pragma once

#include <cstdint>
#include <functional>

#include "compiler/ir/graph.h"

namespace weft::check {

/// A random program, a function of the seed: states that are read, updated and exchanged; nested
/// loops that carry, feed and receive values; ops of the whole table, by the table's generators, on
/// operands that are moved and scaled to fit; chains and products over few shapes, which fusion
/// finds more to do with. Values stay of moderate size.
ir::Graph random_graph(std::uint64_t seed);

/// Smaller graphs that still `fails`, one step after another: outputs are dropped, nodes replaced
/// by an operand or by a state, loops run fewer times. Ends after `seconds`.
ir::Graph shrink(const ir::Graph& graph, const std::function<bool(const ir::Graph&)>& fails,
                 double seconds);

}  // namespace weft::check
