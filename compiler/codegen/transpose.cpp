#include "compiler/codegen/transpose.h"

#include <llvm/IR/DerivedTypes.h>

namespace weft::compiler {

using llvm::Value;

namespace {

/// Elements of the pieces that a machine's shuffles move without an operand of indices.
constexpr std::size_t block = 4;

/// Lanes a and b of each block of the first vector, and the same of the second one: in turns, or
/// one after the other.
std::vector<int> within_blocks(std::size_t lanes, int a, int b, bool in_turns) {
  std::vector<int> mask;
  for (std::size_t first = 0; first < lanes; first += block) {
    const int x = static_cast<int>(first);
    const int y = static_cast<int>(first + lanes);
    if (in_turns) {
      mask.insert(mask.end(), {x + a, y + a, x + b, y + b});
    } else {
      mask.insert(mask.end(), {x + a, x + b, y + a, y + b});
    }
  }
  return mask;
}

/// Whole blocks, numbered through both vectors.
std::vector<int> of_blocks(const std::vector<int>& blocks) {
  std::vector<int> mask;
  for (const int number : blocks) {
    for (int i = 0; i < static_cast<int>(block); ++i) {
      mask.push_back(number * static_cast<int>(block) + i);
    }
  }
  return mask;
}

std::vector<Value*> slices(llvm::IRBuilder<>& builder, Value* whole, std::size_t count,
                           std::size_t length) {
  if (count == 1) return {whole};
  std::vector<Value*> parts;
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<int> mask;
    for (std::size_t lane = 0; lane < length; ++lane) {
      mask.push_back(static_cast<int>(i * length + lane));
    }
    parts.push_back(builder.CreateShuffleVector(whole, mask));
  }
  return parts;
}

/// Row i meets row i + count / 2: after all rounds lane k of all rows is in a row.
std::vector<Value*> by_interleaving(llvm::IRBuilder<>& builder, std::vector<Value*> rows,
                                    std::size_t lanes) {
  const std::size_t count = rows.size();
  std::size_t width = lanes;
  while (rows.size() > 1) {
    std::vector<int> mask;
    for (std::size_t i = 0; i < width; ++i) {
      mask.push_back(static_cast<int>(i));
      mask.push_back(static_cast<int>(i + width));
    }
    const std::size_t half = rows.size() / 2;
    for (std::size_t i = 0; i < half; ++i) {
      rows[i] = builder.CreateShuffleVector(rows[i], rows[i + half], mask);
    }
    rows.resize(half);
    width *= 2;
  }
  return slices(builder, rows[0], lanes, count);
}

}  // namespace

std::vector<Value*> transpose(llvm::IRBuilder<>& builder, std::vector<Value*> rows) {
  auto* type = llvm::cast<llvm::FixedVectorType>(rows[0]->getType());
  const std::size_t lanes = type->getNumElements();
  const std::size_t groups = rows.size() / block;
  const std::size_t blocks = lanes / block;
  const bool in_blocks = type->getScalarSizeInBits() == 32 && (blocks == 2 || blocks == 4) &&
                         (groups == 1 || groups == 2 || (groups == 4 && blocks == 4));
  if (!in_blocks) return by_interleaving(builder, std::move(rows), lanes);
  const auto shuffle = [&](Value* a, Value* b, const std::vector<int>& mask) {
    return builder.CreateShuffleVector(a, b, mask);
  };
  // In block l of column[c][g]: lane 4 l + c of rows 4 g to 4 g + 3.
  std::vector<std::vector<Value*>> column(block);
  for (std::size_t g = 0; g < groups; ++g) {
    Value** r = &rows[g * block];
    const std::vector<int> low = within_blocks(lanes, 0, 1, true);
    const std::vector<int> high = within_blocks(lanes, 2, 3, true);
    const std::vector<int> first = within_blocks(lanes, 0, 1, false);
    const std::vector<int> second = within_blocks(lanes, 2, 3, false);
    Value* low01 = shuffle(r[0], r[1], low);
    Value* low23 = shuffle(r[2], r[3], low);
    Value* high01 = shuffle(r[0], r[1], high);
    Value* high23 = shuffle(r[2], r[3], high);
    column[0].push_back(shuffle(low01, low23, first));
    column[1].push_back(shuffle(low01, low23, second));
    column[2].push_back(shuffle(high01, high23, first));
    column[3].push_back(shuffle(high01, high23, second));
  }
  std::vector<Value*> result(lanes);
  for (std::size_t c = 0; c < block; ++c) {
    const std::vector<Value*>& v = column[c];
    const auto put = [&](Value* whole, const std::vector<std::size_t>& at) {
      const std::vector<Value*> parts = slices(builder, whole, at.size(), rows.size());
      for (std::size_t i = 0; i < at.size(); ++i) result[at[i] * block + c] = parts[i];
    };
    if (groups == 1) {
      put(v[0],
          blocks == 2 ? std::vector<std::size_t>{0, 1} : std::vector<std::size_t>{0, 1, 2, 3});
    } else if (groups == 2 && blocks == 2) {
      put(shuffle(v[0], v[1], of_blocks({0, 2})), {0});
      put(shuffle(v[0], v[1], of_blocks({1, 3})), {1});
    } else if (groups == 2) {
      put(shuffle(v[0], v[1], of_blocks({0, 4, 1, 5})), {0, 1});
      put(shuffle(v[0], v[1], of_blocks({2, 6, 3, 7})), {2, 3});
    } else {
      Value* even_low = shuffle(v[0], v[1], of_blocks({0, 2, 4, 6}));
      Value* odd_low = shuffle(v[0], v[1], of_blocks({1, 3, 5, 7}));
      Value* even_high = shuffle(v[2], v[3], of_blocks({0, 2, 4, 6}));
      Value* odd_high = shuffle(v[2], v[3], of_blocks({1, 3, 5, 7}));
      put(shuffle(even_low, even_high, of_blocks({0, 2, 4, 6})), {0});
      put(shuffle(even_low, even_high, of_blocks({1, 3, 5, 7})), {2});
      put(shuffle(odd_low, odd_high, of_blocks({0, 2, 4, 6})), {1});
      put(shuffle(odd_low, odd_high, of_blocks({1, 3, 5, 7})), {3});
    }
  }
  return result;
}

}  // namespace weft::compiler
