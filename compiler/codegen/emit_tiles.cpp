#include <llvm/IR/Constants.h>
#include <llvm/IR/IntrinsicsX86.h>

#include <vector>

#include "compiler/codegen/emitter.h"

/// Products of tiles: through tile registers (AMX), or as loops with the same meaning.
namespace weft::compiler {

using llvm::Value;
using loop::MatrixView;
using loop::TileProduct;

namespace {

constexpr int granule = TileProduct::granule;

}  // namespace

void Emitter::tile_product(const TileProduct& product) {
  if (target_.has_tiles()) {
    tiles_in_registers(product);
  } else {
    tiles_in_loops(product);
  }
  wrote(bit(product.sums.buffer));
}

/// At most two tiles of rows by two of columns: four of sums and four of operands are all that the
/// machine has. Each is full, so that one configuration does for the whole function; LLVM loads it.
void Emitter::tiles_in_registers(const TileProduct& product) {
  constexpr std::uint64_t element = 4;
  llvm::Type* tile = llvm::Type::getX86_AMXTy(module_.getContext());
  Value* rows = builder_.getInt16(granule);
  Value* bytes = builder_.getInt16(granule * element);
  const int down = product.rows / granule;
  const int across = product.columns / granule;

  const auto place = [&](const MatrixView& view, Value* row, Value* column) {
    Value* stride = builder_.getInt64(static_cast<std::uint64_t>(view.stride));
    Value* index = builder_.CreateAdd(evaluate(view.index).scalar,
                                      builder_.CreateAdd(builder_.CreateMul(row, stride), column));
    return address(view.buffer, index);
  };
  const auto stride_bytes = [&](const MatrixView& view) {
    return builder_.getInt64(static_cast<std::uint64_t>(view.stride) * element);
  };
  const auto load = [&](const MatrixView& view, Value* row, Value* column) -> Value* {
    return builder_.CreateIntrinsic(llvm::Intrinsic::x86_tileloadd64_internal, {},
                                    {rows, bytes, place(view, row, column), stride_bytes(view)});
  };
  const auto at = [&](int number) {
    return builder_.getInt64(static_cast<std::uint64_t>(number) * granule);
  };

  std::vector<Value*> sums;
  for (int i = 0; i < down; ++i) {
    for (int j = 0; j < across; ++j) {
      sums.push_back(product.accumulate
                         ? load(product.sums, at(i), at(j))
                         : builder_.CreateIntrinsic(llvm::Intrinsic::x86_tilezero_internal, {},
                                                    {rows, bytes}));
    }
  }
  Value* steps = evaluate(product.steps).scalar;
  llvm::BasicBlock* before = builder_.GetInsertBlock();
  std::vector<llvm::PHINode*> carried;
  counted_loop(builder_.getInt64(0), steps, granule, true, [&](Value* step) {
    for (Value* sum : sums) {
      carried.push_back(builder_.CreatePHI(tile, 2));
      carried.back()->addIncoming(sum, before);
    }
    std::vector<Value*> left, right;
    for (int i = 0; i < down; ++i) left.push_back(load(product.left, at(i), step));
    for (int j = 0; j < across; ++j) right.push_back(load(product.right, step, at(j)));
    for (std::size_t i = 0; i < sums.size(); ++i) {
      const auto width = static_cast<std::size_t>(across);
      sums[i] = builder_.CreateIntrinsic(
          llvm::Intrinsic::x86_tdpbf16ps_internal, {},
          {rows, bytes, bytes, carried[i], left[i / width], right[i % width]});
    }
    for (std::size_t i = 0; i < sums.size(); ++i) {
      carried[i]->addIncoming(sums[i], builder_.GetInsertBlock());
    }
  });
  auto sum = sums.begin();
  for (int i = 0; i < down; ++i) {
    for (int j = 0; j < across; ++j) {
      builder_.CreateIntrinsic(
          llvm::Intrinsic::x86_tilestored64_internal, {},
          {rows, bytes, place(product.sums, at(i), at(j)), stride_bytes(product.sums), *sum++});
    }
  }
}

/// Row by row, with vectors along columns.
void Emitter::tiles_in_loops(const TileProduct& product) {
  llvm::Type* pair = arithmetic_.type(loop::Scalar::i32);
  llvm::Type* pairs = arithmetic_.type(loop::Scalar::i32, granule);
  llvm::Type* values = arithmetic_.type(loop::Scalar::f32, granule);
  const llvm::Align alignment(4);
  const auto place = [&](const MatrixView& view, Value* row, Value* column) {
    Value* stride = builder_.getInt64(static_cast<std::uint64_t>(view.stride));
    Value* index = builder_.CreateAdd(evaluate(view.index).scalar,
                                      builder_.CreateAdd(builder_.CreateMul(row, stride), column));
    return address(view.buffer, index);
  };
  const auto load = [&](const MatrixView& view, llvm::Type* type, Value* row,
                        Value* column) -> Value* {
    return tag(builder_.CreateAlignedLoad(type, place(view, row, column), alignment), view.buffer);
  };
  llvm::AllocaInst* sum = allocate(values, "tile");
  Value* zero = builder_.getInt64(0);
  Value* steps = evaluate(product.steps).scalar;
  // In scope for the loops below.
  for (const MatrixView* view : {&product.sums, &product.left, &product.right}) {
    evaluate(view->index);
  }
  for (int c = 0; c < product.columns; c += granule) {
    Value* column = builder_.getInt64(static_cast<std::uint64_t>(c));
    Value* last = builder_.getInt64(static_cast<std::uint64_t>(product.rows));
    counted_loop(zero, last, 1, true, [&](Value* row) {
      Value* first = product.accumulate ? load(product.sums, values, row, column)
                                        : llvm::Constant::getNullValue(values);
      builder_.CreateStore(first, sum);
      counted_loop(zero, steps, 1, true, [&](Value* step) {
        Value* left = load(product.left, pair, row, step);
        Value* right = load(product.right, pairs, step, column);
        Value* next = arithmetic_.dot_pair(builder_.CreateVectorSplat(granule, left), right,
                                           builder_.CreateLoad(values, sum));
        builder_.CreateStore(next, sum);
      });
      tag(builder_.CreateAlignedStore(builder_.CreateLoad(values, sum),
                                      place(product.sums, row, column), alignment),
          product.sums.buffer);
    });
  }
}

}  // namespace weft::compiler
