#include <llvm/IR/CallingConv.h>
#include <llvm/IR/Constants.h>
#include <llvm/IR/InlineAsm.h>
#include <llvm/IR/IntrinsicsNVPTX.h>

#include <stdexcept>

#include "compiler/codegen/device_memory.h"
#include "compiler/codegen/emitter.h"

/// Phases of a GPU: one thread of a block, barriers, and what only the device can do.
namespace weft::compiler {

using llvm::Value;
using loop::Scalar;
using loop::Statement;

llvm::Function* Emitter::device_phase(const loop::Phase& phase, const std::string& name,
                                      std::int64_t batch) {
  llvm::Type* pointer = builder_.getPtrTy(global_memory);
  std::vector<llvm::Type*> parameters(kernel_.arguments.size(), pointer);
  // Tensor maps are parameters of their own, by value.
  parameters.insert(parameters.end(), kernel_.tensor_maps.size(), builder_.getPtrTy());
  if (batch > 1) parameters.assign(1, builder_.getPtrTy());
  auto* type = llvm::FunctionType::get(builder_.getVoidTy(), parameters, false);
  function_ = llvm::Function::Create(type, llvm::Function::ExternalLinkage, name, module_);
  function_->setCallingConv(llvm::CallingConv::PTX_Kernel);
  function_->setDoesNotThrow();
  function_->addFnAttr("target-cpu", target_.cpu);
  function_->addFnAttr("target-features", target_.features);
  // On every worker denormals are flushed; the device does as they do.
  function_->addFnAttr("denormal-fp-math-f32", "preserve-sign,preserve-sign");
  function_->addFnAttr("no-trapping-math", "true");
  begin_function();
  const auto by_value = [&](unsigned number, llvm::Type* held, std::uint64_t alignment) {
    llvm::AttrBuilder attributes(module_.getContext());
    attributes.addByValAttr(held);
    attributes.addAlignmentAttr(llvm::Align(alignment));
    function_->getArg(number)->addAttrs(attributes);
  };
  Value* block_number =
      builder_.CreateIntrinsic(llvm::Intrinsic::nvvm_read_ptx_sreg_ctaid_x, {}, {});
  if (batch > 1) {
    const std::size_t arguments = kernel_.arguments.size();
    auto* table =
        llvm::ArrayType::get(builder_.getInt64Ty(), arguments * static_cast<std::uint64_t>(batch));
    by_value(0, table, alignof(std::uint64_t));
    Value* grid = builder_.getInt32(static_cast<std::uint32_t>(phase.grid));
    Value* execution = builder_.CreateUDiv(block_number, grid);
    block_number = builder_.CreateURem(block_number, grid);
    Value* first = builder_.CreateZExt(
        builder_.CreateMul(execution, builder_.getInt32(static_cast<std::uint32_t>(arguments))),
        builder_.getInt64Ty());
    for (const loop::Buffer* buffer : kernel_.arguments) {
      Value* at = builder_.CreateAdd(first, builder_.getInt64(buffer->index));
      Value* slot = builder_.CreateInBoundsGEP(builder_.getInt64Ty(), function_->getArg(0), {at});
      bases_[buffer] = builder_.CreateLoad(pointer, slot, buffer->name);
    }
  } else {
    for (const loop::Buffer* buffer : kernel_.arguments) {
      llvm::Argument* argument = function_->getArg(static_cast<unsigned>(buffer->index));
      argument->setName(buffer->name);
      bases_[buffer] = argument;
    }
  }
  for (const loop::Buffer& buffer : kernel_.buffers) {
    if (buffer.space != loop::Space::tensor_map) continue;
    constexpr std::uint64_t bytes = 128, alignment = 64;
    const unsigned number =
        static_cast<unsigned>(kernel_.arguments.size()) + static_cast<unsigned>(buffer.index);
    by_value(number, llvm::ArrayType::get(builder_.getInt8Ty(), bytes), alignment);
    llvm::Argument* argument = function_->getArg(number);
    argument->setName(buffer.name);
    bases_[&buffer] = argument;
  }
  std::vector<const loop::Accumulator*> inside;
  prepare(phase.body, nullptr, inside);
  {
    const Nest nest(*this);
    const auto wide = [&](Value* narrow) {
      return uniform(builder_.CreateSExt(narrow, builder_.getInt64Ty()));
    };
    bind(phase.block, wide(block_number));
    bind(phase.thread,
         wide(builder_.CreateIntrinsic(llvm::Intrinsic::nvvm_read_ptx_sreg_tid_x, {}, {})));
    block(phase.body);
  }
  builder_.CreateRetVoid();
  return function_;
}

void Emitter::barrier() {
  builder_.CreateIntrinsic(llvm::Intrinsic::nvvm_barrier0, {}, {});
  // What other threads wrote is there now.
  wrote(~std::uint64_t{0});
}

std::uint64_t Emitter::written_by(const Statement& s) {
  if (s.kind == loop::StatementKind::barrier) return ~std::uint64_t{0};
  const loop::Intrinsic& row = *s.intrinsic;
  // A wait: copies have landed, in memory that it does not name.
  if (row.acquires || (row.ordered && row.addresses.empty())) return ~std::uint64_t{0};
  std::uint64_t written = 0;
  for (std::size_t i = 0; i < row.addresses.size(); ++i) {
    if (row.addresses[i].access != loop::Intrinsic::Access::read) {
      written |= bit(s.addresses[i].buffer);
    }
  }
  return written;
}

void Emitter::intrinsic(const Statement& s) {
  const loop::Intrinsic& row = *s.intrinsic;
  const auto machine_type = [&](Scalar scalar) {
    return scalar == Scalar::boolean ? builder_.getInt32Ty() : arithmetic_.type(scalar);
  };
  // A row that is a function of its operands is called for each lane of a vector loop.
  const unsigned lanes = width_ == 0 ? 1 : width_;
  std::vector<std::vector<Value*>> results(row.results.size());
  std::vector<Lanes> operands;
  for (loop::Ex operand : s.operands) operands.push_back(evaluate(operand));
  llvm::Type* result = builder_.getVoidTy();
  std::vector<llvm::Type*> types;
  for (Scalar scalar : row.results) types.push_back(machine_type(scalar));
  if (types.size() == 1) result = types[0];
  if (types.size() > 1) result = llvm::StructType::get(module_.getContext(), types);
  for (unsigned lane = 0; lane < lanes; ++lane) {
    std::vector<Value*> arguments;
    std::vector<llvm::Type*> parameters;
    const auto add_operand = [&](std::size_t i) {
      const Scalar scalar = row.operands[i].type;
      Value* value = operands[i].uniform()
                         ? operands[i].scalar
                         : builder_.CreateExtractElement(vector(operands[i], scalar), lane);
      if (scalar == Scalar::boolean) value = builder_.CreateZExt(value, builder_.getInt32Ty());
      if (row.operands[i].immediate && !llvm::isa<llvm::Constant>(value)) {
        throw std::logic_error("kernel " + kernel_.name + ": " + std::string(row.name) +
                               ": an immediate operand is not a constant");
      }
      arguments.push_back(value);
    };
    const std::size_t untied = operands.size() - row.tied;
    for (std::size_t i = 0; i < untied; ++i) add_operand(i);
    for (const loop::Address& at : s.addresses) {
      Value* to = at.buffer->space == loop::Space::tensor_map
                      ? base(at.buffer)
                      : address(at.buffer, scalar(at.index, "the address of an intrinsic"));
      if (at.buffer->space == loop::Space::shared) {
        to = builder_.CreatePtrToInt(to, builder_.getInt32Ty());
      } else {
        to = builder_.CreatePtrToInt(to, builder_.getInt64Ty());
      }
      arguments.push_back(to);
    }
    for (std::size_t i = untied; i < operands.size(); ++i) add_operand(i);
    for (Value* argument : arguments) parameters.push_back(argument->getType());
    auto* type = llvm::FunctionType::get(result, parameters, false);
    llvm::InlineAsm* code =
        llvm::InlineAsm::get(type, std::string(row.ptx), loop::constraints(row), !row.pure());
    llvm::CallInst* call = builder_.CreateCall(type, code, arguments);
    // All lanes of a warp arrive together: the call may not move into a branch or out of one.
    if (row.whole_warp) call->addFnAttr(llvm::Attribute::Convergent);
    call->setDoesNotThrow();
    if (row.pure()) call->setDoesNotAccessMemory();
    for (std::size_t i = 0; i < row.results.size(); ++i) {
      Value* value = types.size() > 1 ? builder_.CreateExtractValue(call, static_cast<unsigned>(i))
                                      : static_cast<Value*>(call);
      if (row.results[i] == Scalar::boolean) {
        value = builder_.CreateICmpNE(value, builder_.getInt32(0));
      }
      results[i].push_back(value);
    }
  }
  if (const std::uint64_t written = written_by(s); written != 0) wrote(written);
  for (std::size_t i = 0; i < s.results.size(); ++i) {
    if (width_ == 0) {
      bind(s.results[i], uniform(results[i][0]));
      continue;
    }
    Value* all = llvm::PoisonValue::get(arithmetic_.type(row.results[i], width_));
    for (unsigned lane = 0; lane < lanes; ++lane) {
      all = builder_.CreateInsertElement(all, results[i][lane], lane);
    }
    Lanes value;
    value.vector = all;
    bind(s.results[i], value);
  }
}

}  // namespace weft::compiler
