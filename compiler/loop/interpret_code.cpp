#include "compiler/loop/interpret_code.h"

#include <algorithm>
#include <stdexcept>

namespace weft::loop::interpreter {
namespace {

class Coder {
 public:
  Coder(const Kernel& kernel, Memory& memory) : kernel_(kernel), memory_(memory) {}

  Program run(const Phase& phase) {
    program_.block = variable(phase.block);
    if (phase.thread) program_.thread = variable(phase.thread);
    block(phase.body, program_.body);
    program_.variables = variables_.size();
    program_.accumulators = accumulators_.size();
    return std::move(program_);
  }

 private:
  int variable(Ex expr) {
    return variables_.try_emplace(expr, static_cast<int>(variables_.size())).first->second;
  }
  int accumulator(const Accumulator* accumulator) {
    return accumulators_.try_emplace(accumulator, static_cast<int>(accumulators_.size()))
        .first->second;
  }
  int new_site(Region* region) {
    if (!vector_) return -1;
    program_.sites.push_back(region);
    return static_cast<int>(program_.sites.size()) - 1;
  }
  static bool is_shared(const Buffer& buffer) {
    return buffer.space == Space::argument || buffer.space == Space::shared;
  }
  static void add(std::vector<const Buffer*>& buffers, const Buffer* buffer) {
    if (std::find(buffers.begin(), buffers.end(), buffer) == buffers.end()) {
      buffers.push_back(buffer);
    }
  }
  void writes(const Buffer* buffer) { add(program_.written, buffer); }
  void accesses_asynchronously(const Buffer& buffer) {
    const bool map = buffer.space == Space::tensor_map;
    add(program_.asynchronous,
        map ? kernel_.tensor_maps[static_cast<std::size_t>(buffer.index)].buffer : &buffer);
  }

  /// The slot of an expression in the statement at hand; equal ones share it.
  int expression(Code& code, Ex expr) {
    if (const auto found = slots_.find(expr); found != slots_.end()) return found->second;
    Step step{.kind = expr->kind, .code = expr->code, .type = expr->type};
    for (std::size_t i = 0; i < 3; ++i) {
      if (expr->arguments[i]) step.arguments[i] = expression(code, expr->arguments[i]);
    }
    const auto slot = static_cast<int>(code.values.size());
    step.slot = slot;
    slots_[expr] = slot;
    code.values.emplace_back();
    if (expr->kind == ExprKind::constant) {
      code.values.back().fill(constant(*expr));
      return slot;
    }
    if (expr->arguments[0]) step.from = expr->arguments[0]->type;
    if (expr->kind == ExprKind::variable) {
      const auto found = variables_.find(expr);
      if (found == variables_.end()) throw std::logic_error("interpret: an unbound variable");
      step.variable = found->second;
    }
    if (expr->kind == ExprKind::load) {
      step.region = &memory_.region(expr->buffer);
      step.site = new_site(step.region);
      code.shares = code.shares || is_shared(*expr->buffer);
    }
    code.steps.push_back(step);
    return slot;
  }

  int optional(Code& code, Ex expr) { return expr ? expression(code, expr) : -1; }

  void block(const Block& block, std::vector<Code>& out) {
    for (const Statement* s : block) {
      if (s->kind != StatementKind::prefetch) out.push_back(statement(*s));
    }
  }

  Code statement(const Statement& s) {
    slots_.clear();
    Code code;
    code.statement = &s;
    switch (s.kind) {
      case StatementKind::loop: {
        code.value = expression(code, s.extent);
        code.variable = variable(s.variable);
        const bool outer = vector_;
        vector_ = s.role == Role::vector && s.width > 1;
        code.first_site = static_cast<int>(program_.sites.size());
        block(s.body, code.body);
        code.last_site = static_cast<int>(program_.sites.size());
        vector_ = outer;
        break;
      }
      case StatementKind::store:
        code.predicate = optional(code, s.predicate);
        code.unguarded = code.steps.size();
        code.value = expression(code, s.value);
        code.index = expression(code, s.index);
        code.regions = {&memory_.region(s.buffer)};
        code.site = new_site(code.regions[0]);
        code.shares = code.shares || is_shared(*s.buffer);
        writes(s.buffer);
        break;
      case StatementKind::let:
        if (s.value) {
          code.value = expression(code, s.value);
        } else {
          code.accumulator = accumulator(s.accumulator);
        }
        code.variable = variable(s.variable);
        break;
      case StatementKind::declare:
        code.value = expression(code, s.accumulator->initial);
        code.accumulator = accumulator(s.accumulator);
        break;
      case StatementKind::accumulate:
        code.accumulator = accumulator(s.accumulator);
        if (s.accumulator->combine == Combine::add && is_float(s.accumulator->type) &&
            s.value->kind == ExprKind::binary &&
            static_cast<Binary>(s.value->code) == Binary::multiply) {
          for (std::size_t i = 0; i < 2; ++i) {
            code.factors[i] = expression(code, s.value->arguments[i]);
          }
        } else {
          code.value = expression(code, s.value);
        }
        break;
      case StatementKind::assign:
        code.accumulator = accumulator(s.accumulator);
        code.value = expression(code, s.value);
        break;
      case StatementKind::condition:
        code.value = expression(code, s.value);
        block(s.body, code.body);
        break;
      case StatementKind::prefetch:
      case StatementKind::barrier:
        break;
      case StatementKind::intrinsic:
        for (Ex operand : s.operands) code.operands.push_back(expression(code, operand));
        for (std::size_t i = 0; i < s.addresses.size(); ++i) {
          const Address& address = s.addresses[i];
          code.indices.push_back(expression(code, address.index));
          code.regions.push_back(&memory_.region(address.buffer));
          code.shares = true;
          const Intrinsic::Address& row = s.intrinsic->addresses[i];
          if (row.asynchronous) accesses_asynchronously(*address.buffer);
          program_.clocks = program_.clocks || row.mbarrier || row.asynchronous;
          if (row.access != Intrinsic::Access::read) writes(address.buffer);
        }
        if (s.intrinsic->meaning == meaning::sync_warp) program_.clocks = true;
        for (Ex result : s.results) code.results.push_back(variable(result));
        break;
      case StatementKind::tile_product:
        for (const MatrixView* view : {&s.tile.sums, &s.tile.left, &s.tile.right}) {
          code.indices.push_back(expression(code, view->index));
          code.regions.push_back(&memory_.region(view->buffer));
        }
        code.value = expression(code, s.tile.steps);
        code.shares = true;
        writes(s.tile.sums.buffer);
        break;
    }
    return code;
  }

  const Kernel& kernel_;
  Memory& memory_;
  Program program_;
  bool vector_ = false;
  std::unordered_map<Ex, int> variables_;
  std::unordered_map<const Accumulator*, int> accumulators_;
  std::unordered_map<Ex, int> slots_;
};

}  // namespace

Program compile(const Kernel& kernel, const Phase& phase, Memory& memory) {
  return Coder(kernel, memory).run(phase);
}

}  // namespace weft::loop::interpreter
