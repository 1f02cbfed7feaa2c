#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "compiler/schedules/emitter.h"

/// How a thread of a GPU's block stores the neighbours of a row that it has in registers.
namespace weft::compiler {

/// How many neighbouring columns (`most`, a power of 2, or half of it, ...) `accesses` allow
/// together: `accesses(probe, column)` are the values that are stored at a column, and loads in
/// place of the stores.
std::int64_t aligned_columns(
    GroupEmitter& emitter, std::int64_t columns,
    const std::function<std::vector<loop::Ex>(GroupEmitter& probe, loop::Ex column)>& accesses,
    std::int64_t most = 4);

/// The values of the group's outputs at an index of `shape`, and loads in place of their stores.
std::vector<loop::Ex> output_accesses(GroupEmitter& probe, const std::vector<loop::Ex>& index,
                                      const Shape& shape);

/// Stores neighbours in rows, within bounds, as vectors where they are aligned.
class RowStore {
 public:
  using Ex = loop::Ex;
  using Body = std::function<void(Ex row, Ex column, const std::vector<Ex>& values)>;

  /// `series`: values at each column, of several tensors.
  RowStore(loop::Builder& builder, std::int64_t rows, std::int64_t columns, std::int64_t width,
           std::int64_t series = 1)
      : b_(builder),
        a_(builder.arena()),
        rows_(rows),
        columns_(columns),
        width_(width),
        series_(series) {}

  /// `body` for each column from `column` on, a multiple of as many as `values` has for a series,
  /// and their values, which come one series after the other.
  void store(Ex row, Ex column, const std::vector<Ex>& values, const Body& body);

 private:
  loop::Builder& b_;
  loop::Arena& a_;
  std::int64_t rows_, columns_, width_, series_;
  const loop::Buffer* values_ = nullptr;
};

}  // namespace weft::compiler
