#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "compiler/schedules/emitter.h"

/// What the schedules of matrix products share: the product as matrices, and access to them.
namespace weft::compiler {

/// A dot as a batch of matrix products: rows of one operand by columns of the other.
struct Product {
  const ir::Node* node;
  Shape batch, lhs_free, rhs_free, contracted;
  std::vector<std::int64_t> lhs_batch, rhs_batch, lhs_contract, rhs_contract;
  bool swapped = false;  ///< rows are the right operand's free axes
  /// The sums of the right operand over the contracted axes are one more row of the result.
  bool with_sums = false;

  std::int64_t batches() const { return batch.elements(); }
  std::int64_t rows() const { return (swapped ? rhs_free : lhs_free).elements(); }
  std::int64_t tiled_rows() const { return rows() + (with_sums ? 1 : 0); }
  std::int64_t columns() const { return (swapped ? lhs_free : rhs_free).elements(); }
  std::int64_t depth() const { return contracted.elements(); }
};

Product analyse_product(const ir::Node& dot);

/// Whether two products may be one kernel: equal but for one operand, and large enough for register
/// tiles. A kernel of two products reads the operand that they share once.
bool may_share_kernel(const ir::Node& a, const ir::Node& b);

/// How an operand lies in memory.
struct OperandLayout {
  bool stored = false;            ///< one load, no arithmetic
  bool plain = false;             ///< and of the type that is computed with
  bool free_contiguous = false;   ///< neighbouring rows (columns) are neighbours in memory
  bool depth_contiguous = false;  ///< neighbours along the contracted axis are
  std::int64_t free_stride = 0;   ///< plain, in elements; 0 where it is not one number
  std::int64_t depth_stride = 0;
};

/// Of the row operand, or the column operand.
OperandLayout operand_layout(const Group& group, const Product& product, bool columns);

/// Whether `sum` is of the dot's right operand over the contracted axes, so that the dot's kernel
/// can compute it as one more row of the product, whose left operand is 1.
bool may_sum_operand(const ir::Node& dot, const ir::Node& sum);

/// Reads operands and writes results at flattened (batch, row, column, depth) positions. Several
/// products are over equal shapes and share the row operand.
class ProductAccess {
 public:
  ProductAccess(GroupEmitter& emitter, const Product& product)
      : emitter_(emitter), p_(product), nodes_{product.node} {}
  ProductAccess(GroupEmitter& emitter, const Product& product, std::vector<const ir::Node*> nodes)
      : emitter_(emitter), p_(product), nodes_(std::move(nodes)) {}

  const Group& group() const { return emitter_.group(); }
  /// Forgets what was computed for other positions: at the start of a loop's body.
  void reset() { emitter_.reset(); }
  ops::Element row_operand(loop::Ex batch, loop::Ex row, loop::Ex depth, std::size_t product = 0);
  ops::Element column_operand(loop::Ex batch, loop::Ex column, loop::Ex depth,
                              std::size_t product = 0);
  void store(loop::Ex batch, loop::Ex row, loop::Ex column, const ops::Element& value) {
    store(batch, row, column, std::span(&value, 1));
  }
  /// One value for each product.
  void store(loop::Ex batch, loop::Ex row, loop::Ex column, std::span<const ops::Element> values);

 private:
  ops::Element read(const ir::Node& node, bool lhs, loop::Ex batch, loop::Ex free, loop::Ex depth);

  GroupEmitter& emitter_;
  const Product& p_;
  std::vector<const ir::Node*> nodes_;
};

/// Work of one block, in multiply-adds: enough to be worth handing to another thread.
inline constexpr std::int64_t product_block_work = 1 << 19;
/// Multiply-adds that take as long as loading an element of the column operand from memory: what
/// counts where rows are few.
inline constexpr std::int64_t load_work = 16;

// The schedules, one in each file of their names.
void schedule_dot_outer(GroupEmitter& emitter, const Product& product, const HostTarget& target);
void schedule_dot_inner(GroupEmitter& emitter, const Product& product, const HostTarget& target);
void schedule_dot_few_rows(GroupEmitter& emitter, const Product& product, const HostTarget& target);
void schedule_dot_tiled(GroupEmitter& emitter, const Product& product, const HostTarget& target);

}  // namespace weft::compiler
