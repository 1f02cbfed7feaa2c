#pragma once

#include <functional>
#include <map>

#include "compiler/schedules/row_passes.h"

namespace weft::compiler {

/// Emits the passes over a row, whatever has the row: a thread, its lanes, or several threads.
class RowEmitter {
 public:
  using Ex = loop::Ex;

  /// How a row is passed over.
  struct Row {
    Ex number;
    /// Runs the body for each column; `place`: where the column's kept values are.
    std::function<void(const std::function<void(Ex column, Ex place)>& body)> for_columns;
    /// What a reduction has found, from what was found here.
    std::function<Ex(const ir::Node& anchor, Ex own)> found;
    Ex first = nullptr;  ///< whether this one stores a row's values; null: always
  };

  explicit RowEmitter(GroupEmitter& emitter);

  const RowPasses& passes() const { return passes_; }
  /// Keeps a root for later passes. What is not kept, though needed, is read from its output.
  void keep(ir::Value root, const loop::Buffer* buffer) { kept_[root.node] = buffer; }
  void emit(const Row& row);

 private:
  void bind_row_values();
  void bind_row_value(const Row& row, ir::Value value, Ex element);
  void row_wise(const Row& row, ir::Value root);
  void whole(const Row& row, ir::Value root, Ex column, Ex place);
  Ex kept(const Row& row, ir::Value root, Ex column, Ex place);

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  RowPasses passes_;
  std::map<const ir::Node*, const loop::Buffer*> kept_;
  std::map<const ir::Node*, Ex, RowPasses::ByNumber> row_values_;
};

}  // namespace weft::compiler
