#include "compiler/schedules/matrix_unit.h"

#include "compiler/schedules/across_threads.h"

namespace weft::compiler {

using loop::Ex;
using loop::Scalar;

namespace {

const loop::Intrinsic& product_of(DType type) {
  if (type == DType::f16) return loop::intrinsic("mma.m16n8k16.f16");
  if (type == DType::bf16) return loop::intrinsic("mma.m16n8k16.bf16");
  return loop::intrinsic("mma.m16n8k8.tf32");
}

/// Elements in 16 bytes, a row of the matrices that are loaded.
std::int64_t row_elements(DType type) { return 16 / static_cast<std::int64_t>(size_of(type)); }

}  // namespace

MatrixUnit::MatrixUnit(loop::Builder& builder, DType type, Ex lane)
    : b_(builder),
      a_(builder.arena()),
      type_(type),
      lane_(lane),
      group_(b_.let(a_.floor_div(lane, 4))),
      thread_(b_.let(a_.floor_mod(lane, 4))),
      odd_(b_.let(a_.equal(a_.floor_mod(lane, 2), a_.integer(1)))),
      multiply_(&product_of(type)) {}

// Matrices 0 to 3 of a load, of 8 rows of 16 bytes: rows 0-7, rows 8-15 of the first half of the
// contracted axis, then of the second half, for A; both halves of columns 0-7, then of columns
// 8-15, for B. Lane l has the address of row l % 8 of matrix l / 8.

FragmentSource MatrixUnit::row_source(const loop::Buffer* buffer, std::int64_t pitch,
                                      bool depth_inner) {
  FragmentSource source{buffer, pitch, depth_inner};
  const std::int64_t run = row_elements(type_);
  const auto at = [&](Ex outer, Ex inner) {
    return b_.let(a_.add(a_.mul(outer, a_.integer(pitch)), inner));
  };
  if (depth_inner) {
    source.lane = at(a_.floor_mod(lane_, 16), a_.mul(a_.floor_div(lane_, 16), a_.integer(run)));
  } else if (type_ == DType::f32) {
    source.lane = at(thread_, group_);
  } else {
    const Ex depth = a_.add(a_.floor_mod(lane_, 8), a_.mul(a_.floor_div(lane_, 16), a_.integer(8)));
    source.lane = at(depth, a_.mul(a_.floor_mod(a_.floor_div(lane_, 8), 2), a_.integer(8)));
  }
  return source;
}

FragmentSource MatrixUnit::column_source(const loop::Buffer* buffer, std::int64_t pitch,
                                         bool depth_inner) {
  FragmentSource source{buffer, pitch, depth_inner};
  const std::int64_t run = row_elements(type_);
  const auto at = [&](Ex outer, Ex inner) {
    return b_.let(a_.add(a_.mul(outer, a_.integer(pitch)), inner));
  };
  const Ex half = a_.floor_mod(a_.floor_div(lane_, 8), 2);
  const Ex second = a_.mul(a_.floor_div(lane_, 16), a_.integer(8));
  if (depth_inner) {
    source.lane = at(a_.add(a_.floor_mod(lane_, 8), second), a_.mul(half, a_.integer(run)));
  } else if (type_ == DType::f32) {
    source.lane = at(thread_, group_);
  } else {
    source.lane = at(a_.add(a_.floor_mod(lane_, 8), a_.mul(half, a_.integer(8))), second);
  }
  return source;
}

FragmentSource MatrixUnit::across_source(const loop::Buffer* buffer, std::int64_t pitch) {
  if (type_ != DType::f32) return column_source(buffer, pitch, false);
  // A lane has sums of two neighbouring columns, and they are its steps t and t + 4 of the next
  // product: in which order that goes through the contracted axis does not matter.
  const Ex steps = a_.mul(a_.mul(thread_, a_.integer(2)), a_.integer(pitch));
  return {buffer, pitch, false, b_.let(a_.add(steps, group_)), 1};
}

Ex MatrixUnit::place(const FragmentSource& source, Ex first, std::int64_t free, Ex depth) {
  const Ex along = a_.integer(free);
  const Ex outer = source.depth_inner ? along : depth;
  const Ex inner = source.depth_inner ? depth : along;
  return a_.add(a_.add(first, source.lane), a_.add(a_.mul(outer, a_.integer(source.pitch)), inner));
}

std::array<Ex, 4> MatrixUnit::load(const FragmentSource& source, Ex at) {
  const std::vector<Ex> words =
      b_.call(loop::intrinsic(source.depth_inner ? "load_matrix.x4" : "load_matrix.x4.transposed"),
              {}, {{source.buffer, at}});
  return {words[0], words[1], words[2], words[3]};
}

/// A single f32: there is no transposed load of those.
Ex MatrixUnit::word(const FragmentSource& source, Ex first, std::int64_t free, Ex depth) {
  return b_.let(a_.bits(a_.load(source.buffer, place(source, first, free, depth)), Scalar::i32));
}

MatrixUnit::Rows MatrixUnit::rows(const FragmentSource& source, Ex first, std::int64_t free,
                                  Ex depth) {
  if (type_ != DType::f32 || source.depth_inner) {
    return load(source, place(source, first, free, depth));
  }
  const Ex second = a_.add(depth, a_.integer(source.second));
  return {word(source, first, free, depth), word(source, first, free + 8, depth),
          word(source, first, free, second), word(source, first, free + 8, second)};
}

std::array<MatrixUnit::Columns, 2> MatrixUnit::columns(const FragmentSource& source, Ex first,
                                                       std::int64_t free, Ex depth) {
  if (type_ != DType::f32 || source.depth_inner) {
    const std::array<Ex, 4> words = load(source, place(source, first, free, depth));
    return {Columns{words[0], words[1]}, Columns{words[2], words[3]}};
  }
  const Ex second = a_.add(depth, a_.integer(source.second));
  return {Columns{word(source, first, free, depth), word(source, first, free, second)},
          Columns{word(source, first, free + 8, depth), word(source, first, free + 8, second)}};
}

MatrixUnit::Sums MatrixUnit::zero() {
  Sums sums{};
  for (loop::Accumulator*& sum : sums) {
    sum = b_.declare(Scalar::f32, loop::Combine::add, a_.constant(Scalar::f32, 0));
  }
  return sums;
}

void MatrixUnit::multiply(const Sums& sums, const Rows& rows, const Columns& columns) {
  std::vector<Ex> operands(rows.begin(), rows.end());
  operands.insert(operands.end(), columns.begin(), columns.end());
  for (loop::Accumulator* sum : sums) operands.push_back(b_.read(sum));
  const std::vector<Ex> results = b_.call(*multiply_, operands);
  for (std::size_t i = 0; i < sums.size(); ++i) b_.assign(sums[i], results[i]);
}

Ex MatrixUnit::pack(Ex low, Ex high) {
  return b_.call(loop::intrinsic(type_ == DType::f16 ? "pack.f16" : "pack.bf16"), {low, high})[0];
}

MatrixUnit::Rows MatrixUnit::rows_of(const std::array<Ex, 4>& left,
                                     const std::array<Ex, 4>& right) {
  return {pack(left[0], left[1]), pack(left[2], left[3]), pack(right[0], right[1]),
          pack(right[2], right[3])};
}

MatrixUnit::Rows MatrixUnit::rows_of(const std::array<Ex, 4>& values) {
  const auto word = [&](std::size_t i) { return a_.bits(b_.let(values[i]), Scalar::i32); };
  return rounded(Rows{word(0), word(2), word(1), word(3)});
}

Ex MatrixUnit::over_columns(Ex value, loop::Combine combine) {
  return across_lanes(b_, combine, value, 4);
}

std::array<Ex, 4> MatrixUnit::neighbours(const std::array<Ex, 2>& left,
                                         const std::array<Ex, 2>& right) {
  std::array<Ex, 2> own{}, other{};
  for (std::size_t i = 0; i < 2; ++i) {
    const Ex sent = b_.let(a_.select(odd_, left[i], right[i]));
    own[i] = b_.let(a_.select(odd_, right[i], left[i]));
    other[i] = b_.call(loop::intrinsic("shuffle_xor.f32"), {sent, a_.integer(Scalar::i32, 1)})[0];
  }
  return {b_.let(a_.select(odd_, other[0], own[0])), b_.let(a_.select(odd_, other[1], own[1])),
          b_.let(a_.select(odd_, own[0], other[0])), b_.let(a_.select(odd_, own[1], other[1]))};
}

Ex MatrixUnit::neighbours_column() {
  return a_.add(a_.mul(a_.floor_mod(lane_, 2), a_.integer(8)),
                a_.mul(a_.floor_div(thread_, 2), a_.integer(4)));
}

}  // namespace weft::compiler
