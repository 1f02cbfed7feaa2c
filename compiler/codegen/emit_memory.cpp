#include <llvm/IR/Constants.h>

#include <algorithm>
#include <bit>
#include <numeric>
#include <stdexcept>

#include "compiler/codegen/emitter.h"
#include "compiler/codegen/transpose.h"

namespace weft::compiler {

using llvm::Value;
using loop::Buffer;
using loop::Ex;
using loop::Scalar;
using loop::Statement;

namespace {

/// Lanes first, first + step, ...
std::vector<int> sequence(int first, int step, unsigned count) {
  std::vector<int> lanes(count);
  for (unsigned i = 0; i < count; ++i) lanes[i] = first + step * static_cast<int>(i);
  return lanes;
}

/// {0, 0, 1, 1, ...} or {0, count, 1, count + 1, ...}
std::vector<int> interleaved(unsigned count, bool two_sources) {
  std::vector<int> lanes(2 * std::size_t{count});
  for (unsigned i = 0; i < count; ++i) {
    lanes[2 * std::size_t{i}] = static_cast<int>(i);
    lanes[2 * std::size_t{i} + 1] = static_cast<int>(two_sources ? i + count : i);
  }
  return lanes;
}

llvm::Align element_alignment(const Buffer* buffer) { return llvm::Align(size_of(buffer->dtype)); }

/// Whether b is a + distance, for indices in the arena's canonical form.
bool is_distance(Ex a, Ex b, std::int64_t distance) {
  const auto split = [](Ex expr) {
    if (expr->kind == loop::ExprKind::binary &&
        static_cast<loop::Binary>(expr->code) == loop::Binary::add &&
        expr->arguments[1]->kind == loop::ExprKind::constant) {
      return std::pair{expr->arguments[0], expr->arguments[1]->integer};
    }
    return std::pair{expr, std::int64_t{0}};
  };
  const auto [first, first_offset] = split(a);
  const auto [second, second_offset] = split(b);
  return first == second && second_offset - first_offset == distance;
}

}  // namespace

Value* Emitter::both(Value* a, Value* b) {
  if (!a) return b;
  if (!b) return a;
  return builder_.CreateAnd(a, b);
}

Value* Emitter::widened(Value* mask) {
  return mask ? builder_.CreateShuffleVector(mask, interleaved(width_, false)) : nullptr;
}

Value* Emitter::reversed(Value* value) {
  return value ? builder_.CreateShuffleVector(value,
                                              sequence(static_cast<int>(width_) - 1, -1, width_))
               : nullptr;
}

Value* Emitter::base(const Buffer* buffer) {
  if (const auto found = bases_.find(buffer); found != bases_.end()) return found->second;
  const Storage::Place& place = storage_.places.at(buffer);
  Value* pointer = nullptr;
  if (place.table) {
    pointer = place.table;
  } else if (place.shared) {
    pointer = llvm::ConstantExpr::getGetElementPtr(
        builder_.getInt8Ty(), storage_.shared,
        builder_.getInt64(static_cast<std::uint64_t>(place.offset)));
  } else if (place.on_stack) {
    const auto elements = static_cast<std::uint64_t>(std::max<std::int64_t>(buffer->elements, 1));
    llvm::AllocaInst* memory =
        allocate(llvm::ArrayType::get(arithmetic_.memory_type(buffer->dtype), elements), "local");
    memory->setAlignment(llvm::Align(64));
    pointer = memory;
  } else {
    llvm::IRBuilder<> top(entry_, entry_->getTerminator()->getIterator());
    pointer = top.CreateConstGEP1_64(builder_.getInt8Ty(), function_->getArg(1),
                                     static_cast<std::uint64_t>(place.offset));
  }
  bases_[buffer] = pointer;
  return pointer;
}

Value* Emitter::address(const Buffer* buffer, Value* index) {
  return builder_.CreateGEP(arithmetic_.memory_type(buffer->dtype), base(buffer), index);
}

Value* Emitter::addresses(const Buffer* buffer, Ex index, const Lanes& lanes) {
  const bool narrow_index = index->minimum >= std::numeric_limits<std::int32_t>::min() &&
                            index->maximum <= std::numeric_limits<std::int32_t>::max();
  // A machine gathers twice as many lanes by 32-bit indices.
  return address(buffer, narrow_index ? narrow(lanes) : vector(lanes, Scalar::i64));
}

llvm::Instruction* Emitter::tag(llvm::Instruction* access, const Buffer* buffer) {
  if (buffer->space == loop::Space::argument) return access;
  const Storage::Place& place = storage_.places.at(buffer);
  if (place.scope) access->setMetadata(llvm::LLVMContext::MD_alias_scope, place.scope);
  if (place.others) access->setMetadata(llvm::LLVMContext::MD_noalias, place.others);
  return access;
}

/// One element; where `guard` is given and false, 0 and no element outside of the buffer is read.
Value* Emitter::scalar_load(const Buffer* buffer, Value* index, Value* guard, unsigned aligned) {
  const Scalar type = loop::register_type(buffer->dtype);
  if (guard) {
    if (buffer->elements <= 0) return arithmetic_.zero(type);
    index = builder_.CreateSelect(guard, index, builder_.getInt64(0));
  }
  llvm::LoadInst* memory =
      builder_.CreateAlignedLoad(arithmetic_.memory_type(buffer->dtype), address(buffer, index),
                                 llvm::Align(size_of(buffer->dtype) * aligned));
  tag(memory, buffer);
  Value* value = arithmetic_.from_memory(buffer->dtype, memory);
  return guard ? builder_.CreateSelect(guard, value, arithmetic_.zero(type)) : value;
}

/// `count` elements from `index` on, as in memory; 0 where the mask is false.
Value* Emitter::contiguous_load(const Buffer* buffer, Value* index, unsigned count, Value* mask,
                                unsigned together) {
  const llvm::Align alignment(size_of(buffer->dtype) * together);
  llvm::Type* type = arithmetic_.memory_type(buffer->dtype, count);
  Value* pointer = address(buffer, index);
  llvm::Instruction* memory = nullptr;
  if (mask) {
    memory = builder_.CreateMaskedLoad(type, pointer, alignment, mask,
                                       llvm::Constant::getNullValue(type));
  } else {
    memory = builder_.CreateAlignedLoad(type, pointer, alignment);
  }
  return tag(memory, buffer);
}

/// Every second element, for the halves of complex numbers.
Value* Emitter::pair_load(const Buffer* buffer, const Lanes& index, Value* mask) {
  const std::int64_t parity = index.congruence.modulo(2);
  if (parity >= 0 && buffer->elements % 2 == 0) {
    // Whole pairs: both halves come from the same loads.
    Value* even = builder_.CreateSub(index.scalar, builder_.getInt64(parity));
    Value* pairs = contiguous_load(buffer, even, 2 * width_, widened(mask));
    return builder_.CreateShuffleVector(pairs, sequence(static_cast<int>(parity), 2, width_));
  }
  if (mask) return nullptr;
  // Two loads that end at the last element wanted, so that nothing past it is read.
  Value* low = contiguous_load(buffer, index.scalar, width_, nullptr);
  Value* start = builder_.CreateAdd(index.scalar, builder_.getInt64(width_ - 1));
  Value* high = contiguous_load(buffer, start, width_, nullptr);
  std::vector<int> lanes(width_);
  for (unsigned lane = 0; lane < width_; ++lane) {
    const unsigned place = 2 * lane;
    lanes[lane] = static_cast<int>(place < width_ ? place : width_ + place - (width_ - 1));
  }
  return builder_.CreateShuffleVector(low, high, lanes);
}

Lanes Emitter::load(Ex expr) {
  const Buffer* buffer = expr->buffer;
  const Ex predicate_expr = expr->arguments[1];
  const Lanes index = evaluate(expr->arguments[0]);
  Lanes predicate;
  if (predicate_expr) predicate = evaluate(predicate_expr);
  const bool uniform_predicate = !predicate_expr || predicate.uniform();

  if (index.uniform() && uniform_predicate) {
    Value* guard = predicate.scalar;
    if (conditional_) guard = both(guard, builder_.CreateOrReduce(mask_));
    return uniform(
        scalar_load(buffer, index.scalar, guard, aligned_elements(buffer, index.congruence)));
  }
  Value* mask = mask_;
  if (predicate_expr) mask = both(mask, vector(predicate, Scalar::boolean));
  Lanes result;
  if (index.uniform()) {
    Value* value = scalar_load(buffer, index.scalar, builder_.CreateOrReduce(mask));
    const Scalar type = expr->type;
    result.vector = builder_.CreateSelect(mask, builder_.CreateVectorSplat(width_, value),
                                          arithmetic_.zero(type, width_));
    return result;
  }
  Value* memory = nullptr;
  if (index.affine()) {
    if (index.stride == 1 && device_ && !mask_ && predicate_expr && predicate.uniform() &&
        buffer->elements >= static_cast<std::int64_t>(width_)) {
      // One vector from elsewhere in place of a branch for each lane.
      Value* start = builder_.CreateSelect(predicate.scalar, index.scalar, builder_.getInt64(0));
      memory = contiguous_load(buffer, start, width_, nullptr, together(buffer, index));
      memory = builder_.CreateSelect(predicate.scalar, memory,
                                     llvm::Constant::getNullValue(memory->getType()));
    } else if (index.stride == 1) {
      memory = contiguous_load(buffer, index.scalar, width_, mask, together(buffer, index));
    } else if (index.stride == -1) {
      Value* start = builder_.CreateSub(index.scalar, builder_.getInt64(width_ - 1));
      memory = reversed(contiguous_load(buffer, start, width_, reversed(mask)));
    } else if (index.stride == 2) {
      memory = pair_load(buffer, index, mask);
    }
  }
  if (!memory) {
    llvm::Type* type = arithmetic_.memory_type(buffer->dtype, width_);
    if (!mask) mask = llvm::Constant::getAllOnesValue(arithmetic_.type(Scalar::boolean, width_));
    memory = tag(builder_.CreateMaskedGather(type, addresses(buffer, expr->arguments[0], index),
                                             element_alignment(buffer), mask,
                                             llvm::Constant::getNullValue(type)),
                 buffer);
  }
  result.vector = arithmetic_.from_memory(buffer->dtype, memory);
  return result;
}

void Emitter::contiguous_store(const Buffer* buffer, Value* index, Value* value, Value* mask,
                               unsigned together) {
  const llvm::Align alignment(size_of(buffer->dtype) * together);
  Value* pointer = address(buffer, index);
  if (mask) {
    tag(builder_.CreateMaskedStore(value, pointer, alignment, mask), buffer);
  } else {
    tag(builder_.CreateAlignedStore(value, pointer, alignment), buffer);
  }
}

unsigned Emitter::together(const Buffer* buffer, const Lanes& index) const {
  if (!device_ || !std::has_single_bit(width_)) return 1;
  return std::min(aligned_elements(buffer, index.congruence), width_);
}

unsigned Emitter::aligned_elements(const Buffer* buffer, const Congruence& index) const {
  constexpr std::size_t widest_access = 16;
  if (!device_) return 1;
  auto count = static_cast<unsigned>(widest_access / size_of(buffer->dtype));
  while (count > 1 && index.modulo(count) != 0) count /= 2;
  return count;
}

/// Whether the lanes from an index on are whole cache lines: arguments are aligned to them.
bool Emitter::whole_lines(const Buffer* buffer, const Lanes& index) const {
  constexpr std::int64_t line_bytes = 64;
  const auto element_bytes = static_cast<std::int64_t>(size_of(buffer->dtype));
  return buffer->space == loop::Space::argument &&
         static_cast<std::int64_t>(width_) * element_bytes % line_bytes == 0 &&
         index.congruence.modulo(line_bytes / element_bytes) == 0;
}

void Emitter::stream(const Buffer* buffer, Value* index, Value* value) {
  constexpr std::uint64_t line_bytes = 64;
  llvm::StoreInst* instruction =
      builder_.CreateAlignedStore(value, address(buffer, index), llvm::Align(line_bytes));
  llvm::Metadata* one = llvm::ConstantAsMetadata::get(builder_.getInt32(1));
  instruction->setMetadata(llvm::LLVMContext::MD_nontemporal,
                           llvm::MDNode::get(module_.getContext(), {one}));
  tag(instruction, buffer);
  streams_ = true;
}

void Emitter::prefetch(const Statement& s) {
  const Lanes index = evaluate(s.index);
  if (!index.affine()) return;  // lanes at places of their own
  constexpr std::uint32_t second_level_cache = 2;
  constexpr std::uint32_t data = 1;
  llvm::Value* pointer = address(s.buffer, index.scalar);
  builder_.CreateIntrinsic(llvm::Intrinsic::prefetch, {pointer->getType()},
                           {pointer, builder_.getInt32(s.buffer->writable ? 1 : 0),
                            builder_.getInt32(second_level_cache), builder_.getInt32(data)});
}

void Emitter::store(const Statement& s) {
  const Buffer* buffer = s.buffer;
  const Lanes index = evaluate(s.index);
  Lanes predicate;
  if (s.predicate) predicate = evaluate(s.predicate);
  const bool uniform_predicate = !s.predicate || predicate.uniform();
  // What only a predicated store needs is evaluated in its branch.
  const llvm::Align alignment(size_of(buffer->dtype) * aligned_elements(buffer, index.congruence));
  if (width_ == 0 && predicate.scalar) {
    branch(predicate.scalar, [&] {
      Value* value = arithmetic_.to_memory(buffer->dtype, evaluate(s.value).scalar);
      tag(builder_.CreateAlignedStore(value, address(buffer, index.scalar), alignment), buffer);
    });
    wrote(bit(buffer));
    return;
  }
  const Lanes value = evaluate(s.value);
  if (index.uniform() && value.uniform() && uniform_predicate) {
    Value* memory = arithmetic_.to_memory(buffer->dtype, value.scalar);
    const auto write = [&] {
      tag(builder_.CreateAlignedStore(memory, address(buffer, index.scalar), alignment), buffer);
    };
    Value* guard = predicate.scalar;
    if (conditional_) guard = both(guard, builder_.CreateOrReduce(mask_));
    if (guard) {
      branch(guard, write);
    } else {
      write();
    }
    wrote(bit(buffer));
    return;
  }
  Value* mask = mask_;
  Value* memory = arithmetic_.to_memory(buffer->dtype, vector(value, s.value->type));
  if (device_ && !mask_ && s.predicate && predicate.uniform() && index.affine() &&
      index.stride == 1) {
    branch(predicate.scalar, [&] {
      contiguous_store(buffer, index.scalar, memory, nullptr, together(buffer, index));
    });
    wrote(bit(buffer));
    return;
  }
  if (s.predicate) mask = both(mask, vector(predicate, Scalar::boolean));
  if (index.affine() && index.stride == 1) {
    if (s.streaming && !device_ && !mask && whole_lines(buffer, index)) {
      stream(buffer, index.scalar, memory);
    } else {
      contiguous_store(buffer, index.scalar, memory, mask, together(buffer, index));
    }
  } else if (index.affine() && index.stride == -1) {
    Value* start = builder_.CreateSub(index.scalar, builder_.getInt64(width_ - 1));
    contiguous_store(buffer, start, reversed(memory), reversed(mask));
  } else {
    // Lanes that store to one element do so in order: the last remains.
    tag(builder_.CreateMaskedScatter(memory, addresses(buffer, s.index, index),
                                     element_alignment(buffer), mask),
        buffer);
  }
  wrote(bit(buffer));
}

bool Emitter::store_pair(const Statement& first, const Statement& second) {
  if (first.kind != loop::StatementKind::store || second.kind != first.kind ||
      first.buffer != second.buffer || first.predicate != second.predicate) {
    return false;
  }
  const bool ascending = is_distance(first.index, second.index, 1);
  if (!ascending && !is_distance(first.index, second.index, -1)) return false;
  // The second value must not see the first store.
  const std::uint64_t reads = mutable_buffers(second.value) | mutable_buffers(second.index) |
                              (second.predicate ? mutable_buffers(second.predicate) : 0);
  if ((reads & bit(first.buffer)) != 0) return false;
  const Statement& even = ascending ? first : second;
  const Statement& odd = ascending ? second : first;
  const Lanes index = evaluate(even.index);
  if (!index.affine() || index.stride != 2) return false;
  Value* mask = mask_;
  if (even.predicate) mask = both(mask, vector(evaluate(even.predicate), Scalar::boolean));
  const Scalar type = even.value->type;
  Value* low = arithmetic_.to_memory(even.buffer->dtype, vector(evaluate(even.value), type));
  Value* high = arithmetic_.to_memory(odd.buffer->dtype, vector(evaluate(odd.value), type));
  Value* pairs = builder_.CreateShuffleVector(low, high, interleaved(width_, true));
  if (even.streaming && odd.streaming && !mask && whole_lines(even.buffer, index)) {
    stream(even.buffer, index.scalar, pairs);
  } else {
    contiguous_store(even.buffer, index.scalar, pairs, widened(mask));
  }
  wrote(bit(even.buffer));
  return true;
}

std::size_t Emitter::store_transposed(const loop::Block& block, std::size_t first) {
  const Statement& head = *block[first];
  // Without a condition, the active lanes are the first `active_`.
  if (head.kind != loop::StatementKind::store || head.predicate || conditional_) return 0;
  if (!std::has_single_bit(width_)) return 0;
  const Lanes index = evaluate(head.index);
  if (!index.affine() || index.stride < 2) return 0;
  // As many as a vector register holds, and a power of 2.
  const auto register_lanes = static_cast<std::size_t>(target_.vector_lanes(head.buffer->dtype));
  const std::size_t most = std::min(register_lanes, static_cast<std::size_t>(index.stride));
  std::size_t count = 1;
  for (; count < most && first + count < block.size(); ++count) {
    const Statement& next = *block[first + count];
    if (next.kind != loop::StatementKind::store || next.predicate || next.buffer != head.buffer ||
        !is_distance(head.index, next.index, static_cast<std::int64_t>(count)) ||
        (mutable_buffers(next.value) & bit(head.buffer)) != 0) {
      break;
    }
  }
  // Square at most: more rows than lanes would only be put together.
  count = std::min(std::bit_floor(count), std::max<std::size_t>(width_, 2));
  if (count < 2) return 0;
  std::vector<Value*> rows;
  for (std::size_t i = 0; i < count; ++i) {
    const Ex value = block[first + i]->value;
    rows.push_back(arithmetic_.to_memory(head.buffer->dtype, vector(evaluate(value), value->type)));
  }
  const std::vector<Value*> parts = transpose(builder_, std::move(rows));
  for (unsigned lane = 0; lane < active_; ++lane) {
    const auto offset = static_cast<std::uint64_t>(index.stride) * lane;
    contiguous_store(head.buffer, builder_.CreateAdd(index.scalar, builder_.getInt64(offset)),
                     parts[lane], nullptr);
  }
  wrote(bit(head.buffer));
  return count;
}

}  // namespace weft::compiler
