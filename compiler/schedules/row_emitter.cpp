#include "compiler/schedules/row_emitter.h"

#include "compiler/schedules/reduce.h"

namespace weft::compiler {

using ir::Node;
using ir::Value;
using loop::Ex;

RowEmitter::RowEmitter(GroupEmitter& emitter)
    : emitter_(emitter), a_(emitter.arena()), b_(emitter.builder()), passes_(emitter.group()) {}

void RowEmitter::emit(const Row& row) {
  row_values_.clear();
  for (std::size_t p = 0; p < passes_.passes().size(); ++p) {
    const RowPasses::Pass& pass = passes_.passes()[p];
    for (const Value root : pass.row_wise) row_wise(row, root);
    if (pass.whole.empty() && pass.anchors.empty()) continue;
    std::vector<Reducer> reducers;
    for (const Node* anchor : pass.anchors) reducers.push_back(declare(emitter_, *anchor));
    row.for_columns([&](Ex column, Ex place) {
      emitter_.reset();
      bind_row_values();
      for (const auto& [node, users] : passes_.needed()) {
        if (users.count(static_cast<int>(p)) == 0) continue;
        const Value root{const_cast<Node*>(node), 0};
        emitter_.bind(root, {kept(row, root, column, place), nullptr});
      }
      for (const Value root : pass.whole) whole(row, root, column, place);
      for (std::size_t i = 0; i < reducers.size(); ++i) {
        const Value operand = pass.anchors[i]->operands[0];
        const std::vector<Ex> at = passes_.index_in(a_, operand.shape(), row.number, column);
        accumulate(emitter_, reducers[i], emitter_.value(operand, at));
      }
    });
    for (std::size_t i = 0; i < reducers.size(); ++i) {
      const Node& anchor = *pass.anchors[i];
      bind_row_value(row, {const_cast<Node*>(&anchor), 0},
                     row.found(anchor, read(emitter_, reducers[i]).re));
    }
  }
}

void RowEmitter::bind_row_values() {
  for (const auto& [node, element] : row_values_) {
    emitter_.bind({const_cast<Node*>(node), 0}, {element, nullptr});
  }
}

void RowEmitter::bind_row_value(const Row& row, Value value, Ex element) {
  row_values_[value.node] = element;
  if (emitter_.is_output(value)) emitter_.store(value, row.number, {element, nullptr}, row.first);
}

void RowEmitter::row_wise(const Row& row, Value root) {
  emitter_.reset();
  bind_row_values();
  const std::vector<Ex> at = a_.delinearize(row.number, root.shape());
  bind_row_value(row, root, b_.let(emitter_.value(root, at).re));
}

void RowEmitter::whole(const Row& row, Value root, Ex column, Ex place) {
  const std::vector<Ex> at = passes_.index_in(a_, root.shape(), row.number, column);
  const ops::Element element{b_.let(emitter_.value(root, at).re), nullptr};
  emitter_.bind(root, element);
  if (emitter_.is_output(root)) {
    emitter_.store(root, passes_.position(a_, row.number, column), element);
  }
  if (const auto found = kept_.find(root.node); found != kept_.end()) {
    b_.store(found->second, place, element.re);
  }
}

Ex RowEmitter::kept(const Row& row, Value root, Ex column, Ex place) {
  const auto found = kept_.find(root.node);
  if (found != kept_.end()) return a_.load(found->second, place);
  return a_.load(emitter_.output_buffer(root), passes_.position(a_, row.number, column));
}

}  // namespace weft::compiler
