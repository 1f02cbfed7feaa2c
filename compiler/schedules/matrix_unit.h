#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "compiler/loop/kernel.h"

/// A warp's products on a GPU's matrix units: fragments of 16 rows or 8 columns by 16 (tf32: 8)
/// steps of the contracted axis, and how they come from shared memory.
namespace weft::compiler {

/// Where a warp reads fragments of an operand: a tile in shared memory.
struct FragmentSource {
  const loop::Buffer* buffer = nullptr;
  std::int64_t pitch = 0;   ///< elements from row to row; those of 8 rows are in different banks
  bool depth_inner = true;  ///< neighbours are along the contracted axis
  loop::Ex lane = nullptr;  ///< the lane's place in a fragment
  std::int64_t second = 4;  ///< tf32, not depth_inner: steps to a register's second half
};

class MatrixUnit {
 public:
  using Ex = loop::Ex;
  using Rows = std::array<Ex, 4>;
  using Columns = std::array<Ex, 2>;
  /// Of 16 rows by 8 columns: rows lane / 4 (0, 1) and 8 further (2, 3), columns 2 (lane % 4) and
  /// the next.
  using Sums = std::array<loop::Accumulator*, 4>;

  /// `type`: f16, bf16, or f32 for tf32. `lane`: in [0, 32).
  MatrixUnit(loop::Builder& builder, DType type, Ex lane);

  /// Of the contracted axis, in one product.
  std::int64_t depth() const { return type_ == DType::f32 ? 8 : 16; }
  Ex lane() const { return lane_; }
  Ex group() const { return group_; }    ///< lane / 4
  Ex thread() const { return thread_; }  ///< lane % 4

  FragmentSource row_source(const loop::Buffer* buffer, std::int64_t pitch, bool depth_inner);
  FragmentSource column_source(const loop::Buffer* buffer, std::int64_t pitch, bool depth_inner);
  /// Of columns for rows that rows_of() makes of sums; neighbours are along the columns.
  FragmentSource across_source(const loop::Buffer* buffer, std::int64_t pitch);

  /// 16 rows from element `first` of the source's buffer on, the tile's place (0, 0), and
  /// (free, depth) further.
  Rows rows(const FragmentSource& source, Ex first, std::int64_t free, Ex depth);
  /// 16 columns.
  std::array<Columns, 2> columns(const FragmentSource& source, Ex first, std::int64_t free,
                                 Ex depth);
  /// What was loaded of f32, rounded to tf32; the rest is as it is.
  template <typename Fragment>
  Fragment rounded(Fragment fragment) {
    if (type_ == DType::f32) {
      for (Ex& word : fragment) {
        word = b_.call(loop::intrinsic("round_tf32"), {a_.bits(word, loop::Scalar::f32)})[0];
      }
    }
    return fragment;
  }

  Sums zero();
  void multiply(const Sums& sums, const Rows& rows, const Columns& columns);

  /// Two values of 16 bits in a register, the first in the lower half.
  Ex pack(Ex low, Ex high);
  /// Rows whose contracted axis is the columns of products: of two neighbours, for tf32 of one.
  Rows rows_of(const std::array<Ex, 4>& left, const std::array<Ex, 4>& right);
  Rows rows_of(const std::array<Ex, 4>& values);

  /// Over the four lanes that have the columns of a row.
  Ex over_columns(Ex value, loop::Combine combine);
  /// Two neighbouring products' values of a row, 2 each, to four neighbours: even lanes have them
  /// of the left one, odd ones of the right, from column 4 (thread() / 2) on.
  std::array<Ex, 4> neighbours(const std::array<Ex, 2>& left, const std::array<Ex, 2>& right);
  Ex neighbours_column();  ///< the first of them, in the 16 columns of both

 private:
  std::array<Ex, 4> load(const FragmentSource& source, Ex at);
  Ex place(const FragmentSource& source, Ex first, std::int64_t free, Ex depth);
  Ex word(const FragmentSource& source, Ex first, std::int64_t free, Ex depth);

  loop::Builder& b_;
  loop::Arena& a_;
  DType type_;
  Ex lane_, group_, thread_, odd_;
  const loop::Intrinsic* multiply_;
};

}  // namespace weft::compiler
