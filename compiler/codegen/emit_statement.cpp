#include <llvm/IR/Constants.h>
#include <llvm/IR/IntrinsicsX86.h>
#include <llvm/TargetParser/Triple.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <stdexcept>

#include "compiler/codegen/emitter.h"

namespace weft::compiler {

using llvm::BasicBlock;
using llvm::Value;
using loop::Accumulator;
using loop::Role;
using loop::Statement;
using loop::StatementKind;

Emitter::Emitter(const loop::Kernel& kernel, const HostTarget& target, const Storage& storage,
                 llvm::Module& module)
    : kernel_(kernel),
      storage_(storage),
      module_(module),
      builder_(module.getContext()),
      arithmetic_(builder_, module, ArithmeticFeatures::of(target)),
      target_(target),
      device_(false) {}

Emitter::Emitter(const loop::Kernel& kernel, const HostTarget& target, const Storage& storage,
                 llvm::Module& module, const ArithmeticFeatures& features)
    : kernel_(kernel),
      storage_(storage),
      module_(module),
      builder_(module.getContext()),
      arithmetic_(builder_, module, features),
      target_(target),
      device_(true) {}

void Emitter::begin_function() {
  entry_ = BasicBlock::Create(module_.getContext(), "entry", function_);
  builder_.SetInsertPoint(entry_);
  bases_.clear();
  registers_.clear();
  lane_widths_.clear();
  lane_loops_.clear();
  scopes_.clear();
  dependences_.clear();
  written_.assign(64, 0);
  epoch_ = 0;
  streams_ = false;
}

llvm::Function* Emitter::phase(const loop::Phase& phase, const std::string& name) {
  llvm::Type* pointer = builder_.getPtrTy();
  llvm::Type* integer = builder_.getInt64Ty();
  auto* type =
      llvm::FunctionType::get(builder_.getVoidTy(), {pointer, pointer, integer, integer}, false);
  function_ = llvm::Function::Create(type, llvm::Function::ExternalLinkage, name, module_);
  function_->setDoesNotThrow();
  function_->addFnAttr("target-cpu", target_.cpu);
  function_->addFnAttr("target-features", target_.features);
  function_->addFnAttr("prefer-vector-width", std::to_string(target_.vector_bits));
  function_->addFnAttr("no-trapping-math", "true");
  // Nobody else has the worker's scratch, and nothing writes the list of arguments.
  function_->addParamAttr(1, llvm::Attribute::NoAlias);
  function_->addParamAttr(0, llvm::Attribute::NoAlias);
  function_->addParamAttr(0, llvm::Attribute::ReadOnly);

  begin_function();
  for (const loop::Buffer* buffer : kernel_.arguments) {
    Value* slot = builder_.CreateConstGEP1_64(pointer, function_->getArg(0),
                                              static_cast<std::uint64_t>(buffer->index));
    bases_[buffer] = builder_.CreateLoad(pointer, slot, buffer->name);
  }
  std::vector<const Accumulator*> inside;
  prepare(phase.body, nullptr, inside);
  counted_loop(function_->getArg(2), function_->getArg(3), 1, false, [&](Value* index) {
    bind(phase.block, uniform(index));
    block(phase.body);
  });
  // Stores past the caches of x86-64 are not ordered with what tells other threads of the end.
  if (streams_ && llvm::Triple(module_.getTargetTriple()).isX86()) {
    builder_.CreateIntrinsic(llvm::Intrinsic::x86_sse_sfence, {}, {});
  }
  builder_.CreateRetVoid();
  return function_;
}

unsigned Emitter::effective_width(const Statement& statement) {
  if (statement.role != Role::vector) return 1;
  if (statement.extent->kind != loop::ExprKind::constant) {
    throw std::logic_error("a vector loop without a constant extent");
  }
  const auto extent =
      static_cast<std::uint64_t>(std::max<std::int64_t>(statement.extent->integer, 1));
  return static_cast<unsigned>(
      std::min<std::uint64_t>(static_cast<std::uint64_t>(statement.width), std::bit_ceil(extent)));
}

std::uint64_t Emitter::prepare(const loop::Block& block, const Statement* vector_loop,
                               std::vector<const Accumulator*>& inside) {
  std::uint64_t all = 0;
  for (const Statement* statement : block) {
    std::uint64_t stored = 0;
    switch (statement->kind) {
      case StatementKind::loop:
        if (effective_width(*statement) > 1) {
          if (vector_loop) throw std::logic_error("a vector loop inside a vector loop");
          std::vector<const Accumulator*> own;
          stored = prepare(statement->body, statement, own);
        } else {
          stored = prepare(statement->body, vector_loop, inside);
        }
        break;
      case StatementKind::condition:
        stored = prepare(statement->body, vector_loop, inside);
        break;
      case StatementKind::store:
        stored = bit(statement->buffer);
        break;
      case StatementKind::tile_product:
        if (vector_loop) throw std::logic_error("a product of tiles in a vector loop");
        stored = bit(statement->tile.sums.buffer);
        break;
      case StatementKind::barrier:
      case StatementKind::intrinsic:
        stored = written_by(*statement);
        break;
      case StatementKind::declare:
        if (vector_loop) inside.push_back(statement->accumulator);
        break;
      case StatementKind::accumulate: {
        const Accumulator* accumulator = statement->accumulator;
        if (!vector_loop || std::find(inside.begin(), inside.end(), accumulator) != inside.end()) {
          break;
        }
        unsigned& width = lane_widths_[accumulator];
        width = std::max(width, effective_width(*vector_loop));
        lane_loops_[accumulator].push_back(vector_loop);
        break;
      }
      default:
        break;
    }
    stores_[statement] = stored;
    all |= stored;
  }
  return all;
}

void Emitter::block(const loop::Block& block) {
  for (std::size_t i = 0; i < block.size();) {
    if (width_ > 0 && i + 1 < block.size() && store_pair(*block[i], *block[i + 1])) {
      i += 2;
    } else if (const std::size_t stored = width_ > 0 ? store_transposed(block, i) : 0; stored > 0) {
      i += stored;
    } else if (const std::size_t read = width_ == 0 ? read_together(block, i) : 0; read > 0) {
      i += read;
    } else {
      statement(*block[i++]);
    }
  }
}

void Emitter::statement(const Statement& statement) {
  switch (statement.kind) {
    case StatementKind::loop:
      loop(statement);
      break;
    case StatementKind::store:
      store(statement);
      break;
    case StatementKind::tile_product:
      tile_product(statement.tile);
      break;
    case StatementKind::prefetch:
      prefetch(statement);
      break;
    case StatementKind::let:
      bind(statement.variable,
           statement.value ? evaluate(statement.value) : read(*statement.accumulator));
      break;
    case StatementKind::declare:
      declare(*statement.accumulator);
      break;
    case StatementKind::accumulate:
      accumulate(statement);
      break;
    case StatementKind::assign:
      assign(statement);
      break;
    case StatementKind::condition:
      condition(statement);
      break;
    case StatementKind::barrier:
      barrier();
      break;
    case StatementKind::intrinsic:
      intrinsic(statement);
      break;
  }
}

void Emitter::counted_loop(Value* from, Value* to, std::int64_t step, bool known,
                           const std::function<void(Value*)>& body) {
  BasicBlock* inside = BasicBlock::Create(module_.getContext(), "loop", function_);
  BasicBlock* after = BasicBlock::Create(module_.getContext(), "end", function_);
  if (!known) {
    BasicBlock* ahead = BasicBlock::Create(module_.getContext(), "ahead", function_, inside);
    builder_.CreateCondBr(builder_.CreateICmpSLT(from, to), ahead, after);
    builder_.SetInsertPoint(ahead);
  }
  BasicBlock* before = builder_.GetInsertBlock();
  llvm::Instruction* enter = builder_.CreateBr(inside);
  builder_.SetInsertPoint(inside);
  llvm::Type* type = from->getType();
  llvm::PHINode* index = builder_.CreatePHI(type, 2);
  index->addIncoming(from, before);
  {
    const Nest nest(*this, enter);
    body(builder_.CreateSExt(index, builder_.getInt64Ty()));
  }
  Value* next =
      builder_.CreateNSWAdd(index, llvm::ConstantInt::get(type, static_cast<std::uint64_t>(step)));
  index->addIncoming(next, builder_.GetInsertBlock());
  builder_.CreateCondBr(builder_.CreateICmpSLT(next, to), inside, after);
  // Keeps the order of blocks that of the program, for readers of the assembly.
  after->moveAfter(builder_.GetInsertBlock());
  builder_.SetInsertPoint(after);
}

void Emitter::loop(const Statement& s) {
  const unsigned width = effective_width(s);
  if (width > 1) {
    vector_loop(s, width);
    return;
  }
  const bool constant = s.extent->kind == loop::ExprKind::constant;
  if (constant && s.extent->integer <= 0) return;
  if (s.role == Role::unrolled) {
    if (!constant) throw std::logic_error("an unrolled loop without a constant extent");
    for (std::int64_t i = 0; i < s.extent->integer; ++i) {
      const Nest nest(*this);
      bind(s.variable, uniform(arithmetic_.integer(loop::Scalar::i64, i)));
      block(s.body);
    }
    return;
  }
  Value* extent = scalar(s.extent, "the extent of a loop");
  // Later stores of the body come before the next iteration's reads.
  wrote(stores_[&s]);
  Value* from = builder_.getInt64(0);
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  if (device_ && s.extent->maximum <= most && s.extent->minimum >= -most) {
    from = builder_.getInt32(0);
    extent = builder_.CreateTrunc(extent, builder_.getInt32Ty());
  }
  counted_loop(from, extent, 1, constant, [&](Value* index) {
    bind(s.variable, uniform(index));
    block(s.body);
  });
}

void Emitter::vector_loop(const Statement& s, unsigned width) {
  const std::int64_t extent = s.extent->integer;
  const std::int64_t full = extent - extent % width;
  const auto rest = static_cast<unsigned>(extent % width);
  const auto group = [&](Value* start, Congruence congruence, unsigned active) {
    width_ = width;
    active_ = active;
    vector_loop_ = ++vector_loops_;
    vector_statement_ = &s;
    conditional_ = false;
    mask_ = nullptr;
    if (active < width) {
      std::vector<llvm::Constant*> lanes;
      for (unsigned lane = 0; lane < width; ++lane)
        lanes.push_back(builder_.getInt1(lane < active));
      mask_ = llvm::ConstantVector::get(lanes);
    }
    Lanes index;
    index.scalar = start;
    index.stride = 1;
    index.congruence = congruence;
    bind(s.variable, index);
    block(s.body);
    width_ = active_ = 0;
    vector_loop_ = 0;
    vector_statement_ = nullptr;
    mask_ = nullptr;
  };
  const auto at = [&](std::int64_t start, unsigned active) {
    const Nest nest(*this);
    group(arithmetic_.integer(loop::Scalar::i64, start), Congruence::exactly(start), active);
  };
  if (full == width) {
    at(0, width);
  } else if (full > 0) {
    wrote(stores_[&s]);
    counted_loop(builder_.getInt64(0), builder_.getInt64(static_cast<std::uint64_t>(full)), width,
                 true, [&](Value* start) { group(start, {width, 0}, width); });
  }
  if (rest > 0) at(full, rest);
}

void Emitter::branch(Value* condition, const std::function<void()>& body) {
  BasicBlock* then = BasicBlock::Create(module_.getContext(), "then", function_);
  BasicBlock* after = BasicBlock::Create(module_.getContext(), "endif", function_);
  builder_.CreateCondBr(condition, then, after);
  builder_.SetInsertPoint(then);
  {
    const Nest nest(*this, nullptr, true);
    body();
  }
  builder_.CreateBr(after);
  after->moveAfter(builder_.GetInsertBlock());
  builder_.SetInsertPoint(after);
}

void Emitter::condition(const Statement& s) {
  const Lanes value = evaluate(s.value);
  if (value.uniform()) {
    branch(value.scalar, [&] { block(s.body); });
    return;
  }
  // Lanes that do not take part are masked.
  const Nest nest(*this, nullptr, true);
  Value* const mask = mask_;
  const bool conditional = conditional_;
  mask_ = both(mask_, vector(value, loop::Scalar::boolean));
  conditional_ = true;
  block(s.body);
  mask_ = mask;
  conditional_ = conditional;
}

llvm::AllocaInst* Emitter::allocate(llvm::Type* type, const char* name) {
  llvm::IRBuilder<> top(entry_, entry_->begin());
  return top.CreateAlloca(type, nullptr, name);
}

Emitter::Register& Emitter::find(const Accumulator& accumulator) {
  const auto found = registers_.find(&accumulator);
  if (found == registers_.end()) {
    throw std::logic_error("kernel " + kernel_.name +
                           ": an accumulator is used before it is declared");
  }
  Register& target = found->second;
  if (target.loop != vector_loop_ && target.loop != 0) {
    throw std::logic_error("kernel " + kernel_.name +
                           ": an accumulator of a vector loop is used outside of it");
  }
  return target;
}

void Emitter::declare(const Accumulator& accumulator) {
  Register target;
  const Lanes initial = evaluate(accumulator.initial);
  if (width_ > 0) {
    target.loop = vector_loop_;
    target.width = width_;
    target.mask = mask_;
    target.lanes = allocate(arithmetic_.type(accumulator.type, width_), "lanes");
    builder_.CreateStore(vector(initial, accumulator.type), target.lanes);
  } else {
    target.scalar = allocate(arithmetic_.type(accumulator.type), "scalar");
    builder_.CreateStore(initial.scalar, target.scalar);
    if (const auto width = lane_widths_.find(&accumulator); width != lane_widths_.end()) {
      target.width = width->second;
      target.lanes = allocate(arithmetic_.type(accumulator.type, target.width), "lanes");
      builder_.CreateStore(
          builder_.CreateVectorSplat(target.width,
                                     arithmetic_.identity(accumulator.combine, accumulator.type)),
          target.lanes);
    }
  }
  registers_[&accumulator] = target;
}

/// The lanes to which an update is confined; null where all may change.
Value* Emitter::lane_mask(const Register& target) const {
  return target.loop != 0 && target.mask == mask_ ? nullptr : mask_;
}

Value* Emitter::combined(const Accumulator& accumulator, loop::Ex value, Value* old,
                         unsigned width) {
  const auto operand = [&](loop::Ex expr) {
    const Lanes lanes = evaluate(expr);
    return width > 0 ? vector(lanes, expr->type) : lanes.scalar;
  };
  const bool product = value->kind == loop::ExprKind::binary &&
                       static_cast<loop::Binary>(value->code) == loop::Binary::multiply;
  if (product && accumulator.combine == loop::Combine::add && loop::is_float(accumulator.type) &&
      arithmetic_.fuses()) {
    return arithmetic_.fma(accumulator.type, operand(value->arguments[0]),
                           operand(value->arguments[1]), old);
  }
  return arithmetic_.combine(accumulator.combine, accumulator.type, old, operand(value));
}

void Emitter::accumulate(const Statement& s) {
  const Accumulator& accumulator = *s.accumulator;
  Register& target = find(accumulator);
  if (width_ == 0) {
    Value* old = builder_.CreateLoad(arithmetic_.type(accumulator.type), target.scalar);
    builder_.CreateStore(combined(accumulator, s.value, old, 0), target.scalar);
    return;
  }
  llvm::Type* type = arithmetic_.type(accumulator.type, target.width);
  Value* whole = builder_.CreateLoad(type, target.lanes);
  Value* old = whole;
  std::vector<int> part(width_);
  for (unsigned lane = 0; lane < width_; ++lane) part[lane] = static_cast<int>(lane);
  if (width_ < target.width) old = builder_.CreateShuffleVector(whole, part);
  Value* value = combined(accumulator, s.value, old, width_);
  if (Value* mask = lane_mask(target)) value = builder_.CreateSelect(mask, value, old);
  if (width_ < target.width) {
    part.resize(target.width, -1);
    value = builder_.CreateShuffleVector(value, part);
    std::vector<int> blend(target.width);
    for (unsigned lane = 0; lane < target.width; ++lane) {
      blend[lane] = static_cast<int>(lane < width_ ? target.width + lane : lane);
    }
    value = builder_.CreateShuffleVector(whole, value, blend);
  }
  builder_.CreateStore(value, target.lanes);
}

void Emitter::assign(const Statement& s) {
  const Accumulator& accumulator = *s.accumulator;
  Register& target = find(accumulator);
  const Lanes value = evaluate(s.value);
  if (width_ == 0) {
    builder_.CreateStore(value.scalar, target.scalar);
    if (target.lanes) {
      Value* identity = arithmetic_.identity(accumulator.combine, accumulator.type);
      builder_.CreateStore(builder_.CreateVectorSplat(target.width, identity), target.lanes);
    }
    return;
  }
  if (target.loop == 0) {
    throw std::logic_error("kernel " + kernel_.name +
                           ": assignment in a vector loop to an accumulator declared outside");
  }
  Value* lanes = vector(value, accumulator.type);
  if (Value* mask = lane_mask(target)) {
    Value* old = builder_.CreateLoad(arithmetic_.type(accumulator.type, width_), target.lanes);
    lanes = builder_.CreateSelect(mask, lanes, old);
  }
  builder_.CreateStore(lanes, target.lanes);
}

/// Halves are combined until one lane is left: the same order always.
Value* Emitter::reduce(const Accumulator& accumulator, Value* lanes) {
  auto width = llvm::cast<llvm::FixedVectorType>(lanes->getType())->getNumElements();
  if (!std::has_single_bit(width)) {
    Value* sum = builder_.CreateExtractElement(lanes, std::uint64_t{0});
    for (unsigned lane = 1; lane < width; ++lane) {
      sum = arithmetic_.combine(accumulator.combine, accumulator.type, sum,
                                builder_.CreateExtractElement(lanes, lane));
    }
    return sum;
  }
  while (width > 1) {
    width /= 2;
    std::vector<int> low(width), high(width);
    for (unsigned lane = 0; lane < width; ++lane) {
      low[lane] = static_cast<int>(lane);
      high[lane] = static_cast<int>(lane + width);
    }
    lanes = arithmetic_.combine(accumulator.combine, accumulator.type,
                                builder_.CreateShuffleVector(lanes, low),
                                builder_.CreateShuffleVector(lanes, high));
  }
  return builder_.CreateExtractElement(lanes, std::uint64_t{0});
}

Lanes Emitter::read(const Accumulator& accumulator) {
  const Register& target = find(accumulator);
  if (target.loop != 0) {
    Lanes result;
    result.vector =
        builder_.CreateLoad(arithmetic_.type(accumulator.type, target.width), target.lanes);
    return result;
  }
  if (vector_statement_) {
    const auto loops = lane_loops_.find(&accumulator);
    if (loops != lane_loops_.end() && std::find(loops->second.begin(), loops->second.end(),
                                                vector_statement_) != loops->second.end()) {
      throw std::logic_error("kernel " + kernel_.name +
                             ": an accumulator is read in the vector loop that adds to it");
    }
  }
  Value* value = builder_.CreateLoad(arithmetic_.type(accumulator.type), target.scalar);
  if (target.lanes) {
    Value* lanes =
        builder_.CreateLoad(arithmetic_.type(accumulator.type, target.width), target.lanes);
    value = arithmetic_.combine(accumulator.combine, accumulator.type, value,
                                reduce(accumulator, lanes));
  }
  return uniform(value);
}

/// Halves of two vectors that are to be combined are combined for both in one instruction: the
/// same pairs in the same order as one after the other.
std::size_t Emitter::read_together(const loop::Block& block, std::size_t first) {
  const auto kept = [&](std::size_t i) -> const Register* {
    const Statement& s = *block[i];
    if (s.kind != StatementKind::let || s.value) return nullptr;
    const auto found = registers_.find(s.accumulator);
    if (found == registers_.end() || found->second.loop != 0 || !found->second.lanes)
      return nullptr;
    return std::has_single_bit(found->second.width) ? &found->second : nullptr;
  };
  const Register* head = kept(first);
  if (!head) return 0;
  const Accumulator& model = *block[first]->accumulator;
  std::size_t count = 1;
  for (; count < head->width && first + count < block.size(); ++count) {
    const Register* next = kept(first + count);
    if (!next || next->width != head->width) break;
    const Accumulator& other = *block[first + count]->accumulator;
    if (other.combine != model.combine || other.type != model.type) break;
  }
  count = std::bit_floor(count);
  if (count < 2) return 0;
  const auto combine = [&](Value* a, Value* b) {
    return arithmetic_.combine(model.combine, model.type, a, b);
  };
  std::vector<Value*> parts;
  for (std::size_t i = 0; i < count; ++i) {
    parts.push_back(builder_.CreateLoad(arithmetic_.type(model.type, head->width),
                                        find(*block[first + i]->accumulator).lanes));
  }
  // Neighbours become one vector: lane 2k of it belongs to the one, lane 2k + 1 to the other.
  const unsigned width = head->width;
  while (parts.size() > 1) {
    const std::size_t half = parts.size() / 2;
    for (std::size_t i = 0; i < half; ++i) {
      std::vector<int> low(width), high(width);
      for (unsigned lane = 0; lane < width; ++lane) {
        low[lane] = static_cast<int>(lane / 2 + (lane % 2) * width);
        high[lane] = low[lane] + static_cast<int>(width / 2);
      }
      Value* a = parts[i];
      Value* b = parts[i + half];
      parts[i] = combine(builder_.CreateShuffleVector(a, b, low),
                         builder_.CreateShuffleVector(a, b, high));
    }
    parts.resize(half);
  }
  Value* sums = parts[0];
  for (unsigned rest = width; rest > count; rest /= 2) {
    std::vector<int> low(rest / 2), high(rest / 2);
    for (unsigned lane = 0; lane < rest / 2; ++lane) {
      low[lane] = static_cast<int>(lane);
      high[lane] = static_cast<int>(lane + rest / 2);
    }
    sums =
        combine(builder_.CreateShuffleVector(sums, low), builder_.CreateShuffleVector(sums, high));
  }
  for (std::size_t i = 0; i < count; ++i) {
    const Statement& s = *block[first + i];
    Value* initial = builder_.CreateLoad(arithmetic_.type(model.type), find(*s.accumulator).scalar);
    bind(s.variable, uniform(combine(initial, builder_.CreateExtractElement(sums, i))));
  }
  return count;
}

}  // namespace weft::compiler
