#pragma once

#include <map>
#include <set>
#include <vector>

#include "compiler/schedules/emitter.h"

namespace weft::compiler {

/// How a kernel over rows runs, on any target: a row is passed over as often as reductions wait for
/// each other; a value that a later pass needs again is kept for the length of the row.
class RowPasses {
 public:
  /// What one pass over a row computes.
  struct Pass {
    std::vector<const ir::Node*> anchors;
    std::vector<ir::Value> whole;     ///< roots with a value for each element
    std::vector<ir::Value> row_wise;  ///< roots with a value for each row, known before the pass
  };
  struct ByNumber {
    bool operator()(const ir::Node* a, const ir::Node* b) const { return a->id < b->id; }
  };
  using Needed = std::map<const ir::Node*, std::set<int>, ByNumber>;

  explicit RowPasses(const Group& group);

  const std::vector<Pass>& passes() const { return passes_; }
  /// Roots that later passes need, with these.
  const Needed& needed() const { return needed_; }
  bool is_whole(ir::Value root) const {
    return root.type().elements() == group_.rows.rows * group_.rows.columns;
  }

  /// Row-major position of an element, and its index in a shape of as many elements.
  loop::Ex position(loop::Arena& a, loop::Ex row, loop::Ex column) const;
  std::vector<loop::Ex> index_in(loop::Arena& a, const Shape& shape, loop::Ex row,
                                 loop::Ex column) const;

 private:
  bool is_anchor(const ir::Node* node) const;
  /// The first pass that may use the value.
  int ready(const ir::Node* node);
  /// Remembers which roots of earlier passes a pass needs.
  void note_uses(const ir::Node& node, int pass);

  const Group& group_;
  Shape kept_shape_, reduced_shape_;
  std::set<const ir::Node*> members_;
  std::set<const ir::Node*, ByNumber> heads_;  ///< anchors and roots
  std::map<const ir::Node*, int> ready_;
  std::vector<Pass> passes_;
  Needed needed_;
};

}  // namespace weft::compiler
