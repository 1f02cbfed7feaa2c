#include "compiler/schedules/attention_device.h"

#include <algorithm>

namespace weft::compiler {

using ir::Node;
using ir::Value;
using loop::Ex;
using loop::Role;
using loop::Scalar;

AttentionDevice::AttentionDevice(GroupEmitter& emitter, const AttentionExtents& extents)
    : emitter_(emitter),
      a_(emitter.arena()),
      b_(emitter.builder()),
      node_(*emitter.group().anchor),
      x_(extents),
      type_(node_.operand_type(0).dtype) {}

std::vector<Ex> AttentionDevice::index(loop::Arena& a, Ex batch, Ex row, Ex column) const {
  std::vector<Ex> at = a.delinearize(batch, x_.leading);
  at.push_back(row);
  at.push_back(column);
  return at;
}

AttentionMatrix AttentionDevice::matrix(std::size_t operand) const {
  const Value value = node_.operands[operand];
  const Shape& shape = value.shape();
  return {value, shape[shape.rank() - 2], shape[shape.rank() - 1]};
}

TileLoader AttentionDevice::loader(const char* name, const AttentionMatrix& matrix,
                                   std::int64_t rows, std::int64_t stages, std::int64_t threads,
                                   bool exchanged) {
  TiledOperand operand;
  operand.name = name;
  operand.batches = x_.batches;
  operand.free = matrix.rows;
  operand.depth = matrix.columns;
  operand.value = [this, matrix](GroupEmitter& emitter, Ex batch, Ex row, Ex column) {
    emitter.reset();
    return emitter.value(matrix.value, index(emitter.arena(), batch, row, column)).re;
  };
  return {emitter_,
          operand,
          {.storage = type_,
           .free = rows,
           .depth = padded(matrix.columns),
           .stages = stages,
           .threads = threads,
           .order = TileOrder::depth_inner,
           .exchanged = exchanged}};
}

Ex AttentionDevice::of_query(std::size_t operand, Ex batch, Ex query) {
  std::vector<Ex> at = a_.delinearize(batch, x_.leading);
  at.push_back(query);
  emitter_.reset();
  return b_.let(emitter_.value(node_.operands[operand], at).re);
}

bool AttentionDevice::wanted(std::uint32_t result) const {
  return std::any_of(emitter_.group().outputs.begin(), emitter_.group().outputs.end(),
                     [&](const Value& output) {
                       const bool further = output.node == &node_ && output.index > 0;
                       return (further ? output.index : 0) == result;
                     });
}

std::int64_t AttentionDevice::store_width(std::uint32_t result) {
  const Value output{const_cast<Node*>(&node_), result};
  const Shape& shape = output.shape();
  const std::int64_t columns = shape[shape.rank() - 1];
  return aligned_columns(emitter_, columns, [&](GroupEmitter& probe, Ex column) {
    loop::Arena& a = probe.arena();
    const Ex batch = a.variable(Scalar::i64, 0, x_.batches - 1);
    const Ex row = a.variable(Scalar::i64, 0, shape[shape.rank() - 2] - 1);
    const std::vector<Ex> at = index(a, batch, row, column);
    if (result == 0) {
      probe.bind(output, {a.variable(Scalar::f32), nullptr});
      return output_accesses(probe, at, shape);
    }
    return std::vector<Ex>{a.load(probe.output_buffer(output), a.linearize(at, shape))};
  });
}

void AttentionDevice::store_result(std::uint32_t result, Ex batch, Ex row, Ex column, Ex value) {
  const Value output{const_cast<Node*>(&node_), result};
  const std::vector<Ex> at = index(a_, batch, row, column);
  emitter_.reset();
  if (result == 0) {
    emitter_.bind(output, {value, nullptr});
    emitter_.store_outputs(at, output.shape());
  } else {
    emitter_.store(output, a_.linearize(at, output.shape()), {value, nullptr});
  }
  emitter_.reset();
}

// ---- products -----------------------------------------------------------------------------------

WarpSums AttentionProducts::zero(std::int64_t row_fragments, std::int64_t column_fragments) {
  WarpSums sums(static_cast<std::size_t>(row_fragments));
  for (auto& row : sums) {
    for (std::int64_t c = 0; c < column_fragments; ++c) row.push_back(unit_.zero());
  }
  return sums;
}

void AttentionProducts::add(const WarpSums& sums, const FragmentSource& rows, Ex first_row,
                            const FragmentSource& columns, Ex first_column, std::int64_t depth) {
  b_.loop(depth / unit_.depth(), Role::unrolled, 1, [&](Ex step) {
    const Ex at = a_.mul(step, a_.integer(unit_.depth()));
    std::vector<MatrixUnit::Rows> left;
    for (std::size_t r = 0; r < sums.size(); ++r) {
      left.push_back(
          unit_.rounded(unit_.rows(rows, first_row, 16 * static_cast<std::int64_t>(r), at)));
    }
    add(sums, left, columns, first_column, at);
  });
}

void AttentionProducts::add(const WarpSums& sums, const WarpValues& values,
                            const FragmentSource& columns, Ex first_column) {
  // A product's depth has the columns of one or of two others.
  const auto fragments = static_cast<std::size_t>(unit_.depth() / 8);
  for (std::size_t step = 0; fragments * step < values[0].size(); ++step) {
    std::vector<MatrixUnit::Rows> left;
    for (const auto& row : values) {
      left.push_back(fragments == 1 ? unit_.rows_of(row[step])
                                    : unit_.rows_of(row[2 * step], row[2 * step + 1]));
    }
    add(sums, left, columns, first_column,
        a_.integer(unit_.depth() * static_cast<std::int64_t>(step)));
  }
}

void AttentionProducts::add(const WarpSums& sums, const std::vector<MatrixUnit::Rows>& rows,
                            const FragmentSource& columns, Ex first_column, Ex depth) {
  for (std::size_t c = 0; c < sums[0].size(); c += 2) {
    const auto both = unit_.columns(columns, first_column, 8 * static_cast<std::int64_t>(c), depth);
    for (std::size_t half = 0; half < 2; ++half) {
      const MatrixUnit::Columns right = unit_.rounded(both[half]);
      for (std::size_t r = 0; r < sums.size(); ++r) {
        unit_.multiply(sums[r][c + half], rows[r], right);
      }
    }
  }
}

void AttentionProducts::store(
    const WarpSums& sums, Ex first_row, RowStore& rows,
    const std::function<Ex(Ex value, std::size_t fragment, std::size_t half)>& finish,
    const RowStore::Body& body) {
  const Ex column = b_.let(unit_.neighbours_column());
  for (std::size_t r = 0; r < sums.size(); ++r) {
    for (std::size_t half = 0; half < 2; ++half) {
      const auto offset = static_cast<std::int64_t>(16 * r + 8 * half);
      const Ex row = a_.add(first_row, a_.add(unit_.group(), a_.integer(offset)));
      for (std::size_t c = 0; c < sums[r].size(); c += 2) {
        const auto pair = [&](std::size_t fragment) {
          std::array<Ex, 2> values{};
          for (std::size_t i = 0; i < 2; ++i) {
            values[i] = b_.let(finish(b_.read(sums[r][fragment][2 * half + i]), r, half));
          }
          return values;
        };
        const std::array<Ex, 4> four = unit_.neighbours(pair(c), pair(c + 1));
        rows.store(row, a_.add(column, a_.integer(8 * static_cast<std::int64_t>(c))),
                   {four.begin(), four.end()}, body);
      }
    }
  }
}

}  // namespace weft::compiler
