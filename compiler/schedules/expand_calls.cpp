#include "compiler/schedules/expand_calls.h"

#include <unordered_map>
#include <unordered_set>

#include "compiler/loop/math_f64.h"

namespace weft::compiler {
namespace {

using loop::Binary;
using loop::Ex;
using loop::ExprKind;
using loop::Unary;

bool is_call(Ex e) {
  if (e->kind == ExprKind::unary) return loop::is_library_call(static_cast<Unary>(e->code));
  return e->kind == ExprKind::binary && static_cast<Binary>(e->code) == Binary::call_pow;
}

class Expander {
 public:
  explicit Expander(loop::Kernel& kernel) : kernel_(kernel), a_(kernel.arena) {}

  void run() {
    const auto each = [&](const auto& visit) {
      for (loop::Accumulator& accumulator : kernel_.accumulators) visit(accumulator.initial);
      for (loop::Statement& s : kernel_.statements) {
        for (Ex* e : {&s.extent, &s.value, &s.predicate, &s.index}) visit(*e);
        for (Ex& operand : s.operands) visit(operand);
        for (loop::Address& address : s.addresses) visit(address.index);
      }
    };
    bool any = false;
    each([&](Ex& e) { any = any || calls(e); });
    if (any) each([&](Ex& e) { e = rewritten(e); });
  }

 private:
  bool calls(Ex e) {
    if (e == nullptr || !seen_.insert(e).second) return false;
    if (is_call(e)) return true;
    for (const Ex argument : e->arguments) {
      if (calls(argument)) return true;
    }
    return false;
  }

  Ex rewritten(Ex e) {
    if (e == nullptr || e->kind == ExprKind::constant || e->kind == ExprKind::variable) return e;
    if (const auto found = rewritten_.find(e); found != rewritten_.end()) return found->second;
    return rewritten_[e] = rebuilt(e);
  }

  Ex rebuilt(Ex e) {
    const Ex x = rewritten(e->arguments[0]);
    const Ex y = rewritten(e->arguments[1]);
    const Ex z = rewritten(e->arguments[2]);
    if (is_call(e)) {
      return e->kind == ExprKind::binary ? loop::expand_pow(a_, x, y)
                                         : loop::expand_call(a_, static_cast<Unary>(e->code), x);
    }
    if (x == e->arguments[0] && y == e->arguments[1] && z == e->arguments[2]) return e;
    switch (e->kind) {
      case ExprKind::load:
        return a_.load(e->buffer, x, y);
      case ExprKind::unary:
        return a_.unary(static_cast<Unary>(e->code), x);
      case ExprKind::binary:
        return a_.binary(static_cast<Binary>(e->code), x, y);
      case ExprKind::select:
        return a_.select(x, y, z);
      case ExprKind::fma:
        return a_.fma(x, y, z);
      case ExprKind::dot_pair:
        return a_.dot_pair(x, y, z);
      case ExprKind::cast:
        return static_cast<loop::Cast>(e->code) == loop::Cast::bits ? a_.bits(x, e->type)
                                                                    : a_.cast(x, e->type);
      default:
        return e;
    }
  }

  loop::Kernel& kernel_;
  loop::Arena& a_;
  std::unordered_set<Ex> seen_;
  std::unordered_map<Ex, Ex> rewritten_;
};

}  // namespace

void expand_library_calls(loop::Kernel& kernel) { Expander(kernel).run(); }

}  // namespace weft::compiler
