#pragma once

#include <cstddef>
#include <set>
#include <vector>

#include "compiler/fusion/fuse.h"

namespace weft::compiler {

/// A value that takes another's place at the end of a region: a state and what is written to it, a
/// loop's carried argument and what is yielded for it.
struct Update {
  ir::Value old_value;
  ir::Value new_value;
};
std::vector<Update> updates_of(const ir::Region& region);

/// Sorts a region's items by their dependences, feeders first, otherwise near their order in the
/// program; readers of a value that is updated come before the writer of its successor where that
/// makes no cycle, so that the update can be in place.
void order_items(FusedRegion& region);

/// For each item, those that must come after it: readers of what it writes, and writers of a
/// value's successor that order_items() has put behind the value's readers.
std::vector<std::set<std::size_t>> dependences(const FusedRegion& region);

}  // namespace weft::compiler
