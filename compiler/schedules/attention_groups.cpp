#include <string>

#include "compiler/schedules/attention_device.h"

namespace weft::compiler {

using loop::Accumulator;
using loop::Ex;
using loop::Scalar;

namespace {

/// Of a row of 128 bytes: longer rows lie in blocks of so many elements of all rows.
constexpr std::int64_t row_elements = 64;

/// That may be waited for to be under way.
constexpr std::int64_t most_groups = 7;

/// Element `depth` of the first row, in a tile of so many.
std::int64_t along_rows(std::int64_t rows, std::int64_t depth) {
  return depth / row_elements * rows * row_elements + depth % row_elements;
}

std::string width(const WarpSums& sums) { return std::to_string(8 * sums[0].size()); }

}  // namespace

AttentionGroups::AttentionGroups(loop::Builder& builder, DType type)
    : b_(builder), a_(builder.arena()), type_(type) {}

void AttentionGroups::settle(const WarpSums& sums) {
  // Registers go through an instruction, which waits for nothing: fewer groups are ever under way.
  wait(sums, most_groups);
}

void AttentionGroups::fence() { b_.call(loop::intrinsic("group_product_fence"), {}); }

void AttentionGroups::commit() { b_.call(loop::intrinsic("group_product_commit"), {}); }

void AttentionGroups::call(const std::string& name, std::vector<Ex> operands, const WarpSums& sums,
                           std::vector<loop::Address> addresses) {
  for (const MatrixUnit::Sums& fragment : sums[0]) {
    for (Accumulator* sum : fragment) operands.push_back(b_.read(sum));
  }
  const std::vector<Ex> values =
      b_.call(loop::intrinsic(name), std::move(operands), std::move(addresses));
  for (std::size_t i = 0; i < values.size(); ++i) b_.assign(sums[0][i / 4][i % 4], values[i]);
}

void AttentionGroups::wait(const WarpSums& sums, std::int64_t pending) {
  call("group_product_wait.n" + width(sums), {a_.integer(Scalar::i32, pending)}, sums, {});
}

void AttentionGroups::add(const WarpSums& sums, const std::vector<Ex>& fragment,
                          const TileLoader& passing, Ex stage, Axis axis, std::int64_t depth) {
  const bool along = axis == Axis::along;
  const std::string name = "group_product_registers.n" + width(sums) +
                           (type_ == DType::f16 ? ".f16." : ".bf16.") + (along ? "k" : "n");
  const std::int64_t place = along ? along_rows(tile, depth) : depth * row_elements;
  std::vector<Ex> operands = {a_.boolean(true)};
  operands.insert(operands.end(), fragment.begin(), fragment.end());
  call(name, std::move(operands), sums,
       {{passing.buffer(), a_.add(passing.stage(stage), a_.integer(place))}});
}

void AttentionGroups::add(const WarpSums& sums, const TileLoader& own, std::int64_t own_rows,
                          Ex first, const TileLoader& passing, Ex stage, std::int64_t depth) {
  const std::string name =
      "group_product.n" + width(sums) + (type_ == DType::f16 ? ".f16.kk" : ".bf16.kk");
  const Ex own_place = a_.mul(first, a_.integer(row_elements));
  const Ex place = passing.stage(stage);
  for (std::int64_t step = 0; step < depth; step += step_depth) {
    call(name, {a_.boolean(true)}, sums,
         {{own.buffer(), a_.add(own_place, a_.integer(along_rows(own_rows, step)))},
          {passing.buffer(), a_.add(place, a_.integer(along_rows(tile, step)))}});
  }
}

}  // namespace weft::compiler
