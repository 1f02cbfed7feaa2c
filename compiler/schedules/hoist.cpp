#include "compiler/schedules/hoist.h"

#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace weft::compiler {
namespace {

using loop::Arena;
using loop::Block;
using loop::Ex;
using loop::ExprKind;
using loop::Statement;
using loop::StatementKind;

class Hoister {
 public:
  explicit Hoister(loop::Kernel& kernel) : kernel_(kernel) {}

  void run(Block& block) {
    Block out;
    for (Statement* statement : block) {
      run(statement->body);
      if (statement->kind == StatementKind::loop && !empty_loop(*statement)) {
        hoist(*statement, out);
      }
      out.push_back(statement);
    }
    block = std::move(out);
  }

 private:
  static bool empty_loop(const Statement& loop) {
    return loop.extent->kind == ExprKind::constant && loop.extent->integer <= 0;
  }

  void collect_bound(const Statement& statement, std::unordered_set<Ex>& bound) const {
    if (statement.variable != nullptr) bound.insert(statement.variable);
    bound.insert(statement.results.begin(), statement.results.end());
    for (const Statement* nested : statement.body) collect_bound(*nested, bound);
  }

  bool invariant(Ex e) {
    if (e == nullptr || e->kind == ExprKind::constant) return true;
    if (e->kind == ExprKind::variable) return bound_->count(e) == 0;
    if (e->reads_mutable) return false;
    const auto found = invariant_.find(e);
    if (found != invariant_.end()) return found->second;
    bool result = true;
    for (Ex argument : e->arguments) result = result && invariant(argument);
    invariant_[e] = result;
    return result;
  }

  /// Index arithmetic is left in place: the target's compiler moves it, and addresses stay visible.
  bool worthwhile(Ex e) {
    if (e == nullptr) return false;
    if (e->kind == ExprKind::constant || e->kind == ExprKind::variable) return false;
    if (e->kind == ExprKind::load) return true;
    if (loop::is_float(e->type)) return true;
    for (Ex argument : e->arguments) {
      if (worthwhile(argument)) return true;
    }
    return false;
  }

  Ex rewrite(Ex e) {
    if (e == nullptr || e->kind == ExprKind::constant || e->kind == ExprKind::variable) return e;
    const auto found = rewritten_.find(e);
    if (found != rewritten_.end()) return found->second;
    Ex result = nullptr;
    if (invariant(e) && worthwhile(e)) {
      result = kernel_.arena.variable(e->type, e->minimum, e->maximum);
      Statement& let = kernel_.statements.emplace_back();
      let.kind = StatementKind::let;
      let.variable = result;
      let.value = e;
      hoisted_.push_back(&let);
    } else {
      result = rebuild(e);
    }
    rewritten_[e] = result;
    return result;
  }

  Ex rebuild(Ex e) {
    Arena& a = kernel_.arena;
    const Ex x = rewrite(e->arguments[0]);
    const Ex y = rewrite(e->arguments[1]);
    const Ex z = rewrite(e->arguments[2]);
    if (x == e->arguments[0] && y == e->arguments[1] && z == e->arguments[2]) return e;
    switch (e->kind) {
      case ExprKind::load:
        return a.load(e->buffer, x, y);
      case ExprKind::unary:
        return a.unary(static_cast<loop::Unary>(e->code), x);
      case ExprKind::binary:
        return a.binary(static_cast<loop::Binary>(e->code), x, y);
      case ExprKind::select:
        return a.select(x, y, z);
      case ExprKind::fma:
        return a.fma(x, y, z);
      case ExprKind::dot_pair:
        return a.dot_pair(x, y, z);
      case ExprKind::cast:
        return static_cast<loop::Cast>(e->code) == loop::Cast::bits ? a.bits(x, e->type)
                                                                    : a.cast(x, e->type);
      default:
        return e;
    }
  }

  void rewrite_statement(Statement& statement) {
    statement.value = rewrite(statement.value);
    statement.predicate = rewrite(statement.predicate);
    statement.index = rewrite(statement.index);
    for (Ex& operand : statement.operands) operand = rewrite(operand);
    for (loop::Address& address : statement.addresses) address.index = rewrite(address.index);
    if (statement.kind == StatementKind::loop) statement.extent = rewrite(statement.extent);
    loop::TileProduct& tile = statement.tile;
    for (Ex* e : {&tile.sums.index, &tile.left.index, &tile.right.index, &tile.steps}) {
      *e = rewrite(*e);
    }
    for (Statement* nested : statement.body) rewrite_statement(*nested);
  }

  void hoist(Statement& loop, Block& out) {
    std::unordered_set<Ex> bound;
    collect_bound(loop, bound);
    bound_ = &bound;
    invariant_.clear();
    rewritten_.clear();
    hoisted_.clear();
    for (Statement* nested : loop.body) rewrite_statement(*nested);
    out.insert(out.end(), hoisted_.begin(), hoisted_.end());
    bound_ = nullptr;
  }

  loop::Kernel& kernel_;
  const std::unordered_set<Ex>* bound_ = nullptr;
  std::unordered_map<Ex, bool> invariant_;
  std::unordered_map<Ex, Ex> rewritten_;
  Block hoisted_;
};

}  // namespace

void hoist_invariants(loop::Kernel& kernel) {
  Hoister hoister(kernel);
  for (loop::Phase& phase : kernel.phases) hoister.run(phase.body);
}

}  // namespace weft::compiler
