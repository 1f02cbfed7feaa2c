#include "compiler/loop/accesses.h"

#include <unordered_set>

namespace weft::loop {
namespace {

class Collector {
 public:
  explicit Collector(const Kernel& kernel)
      : kernel_(kernel), accesses_(kernel.arguments.size(), {false, false}) {}

  void block(const Block& statements) {
    for (const Statement* statement : statements) visit(*statement);
  }

  void touch(const Buffer* buffer, bool reads, bool writes) {
    if (buffer != nullptr && buffer->space == Space::tensor_map) {
      buffer = kernel_.tensor_maps.at(static_cast<std::size_t>(buffer->index)).buffer;
    }
    if (buffer == nullptr || buffer->space != Space::argument) return;
    plan::Phase::Access& access = accesses_[static_cast<std::size_t>(buffer->index)];
    access.reads = access.reads || reads;
    access.writes = access.writes || writes;
  }

  std::vector<plan::Phase::Access> take() { return std::move(accesses_); }

 private:
  void visit(Ex expr) {
    if (expr == nullptr || !seen_.insert(expr).second) return;
    if (expr->kind == ExprKind::load) touch(expr->buffer, true, false);
    for (Ex argument : expr->arguments) visit(argument);
  }

  void visit(const Statement& s) {
    for (Ex expr : {s.extent, s.value, s.predicate, s.index}) visit(expr);
    if (s.accumulator != nullptr) visit(s.accumulator->initial);
    for (Ex operand : s.operands) visit(operand);
    if (s.kind == StatementKind::store) touch(s.buffer, false, true);
    for (std::size_t i = 0; i < s.addresses.size(); ++i) {
      const Intrinsic::Access access = s.intrinsic->addresses[i].access;
      touch(s.addresses[i].buffer, access != Intrinsic::Access::write,
            access != Intrinsic::Access::read);
      visit(s.addresses[i].index);
    }
    if (s.kind == StatementKind::tile_product) {
      for (const MatrixView* view : {&s.tile.left, &s.tile.right, &s.tile.sums}) {
        visit(view->index);
        touch(view->buffer, true, view == &s.tile.sums);
      }
      visit(s.tile.steps);
    }
    block(s.body);
  }

  const Kernel& kernel_;
  std::vector<plan::Phase::Access> accesses_;
  std::unordered_set<Ex> seen_;
};

}  // namespace

std::vector<plan::Phase::Access> argument_accesses(const Kernel& kernel, std::size_t phase) {
  const Phase& of = kernel.phases.at(phase);
  Collector collector(kernel);
  if (of.transform) {
    // What is read of complex bins may be spoilt.
    collector.touch(kernel.arguments.at(of.transform->from.argument), true,
                    of.transform->kind == plan::Transform::Kind::to_real);
    collector.touch(kernel.arguments.at(of.transform->to.argument), false, true);
  }
  collector.block(of.body);
  return collector.take();
}

}  // namespace weft::loop
