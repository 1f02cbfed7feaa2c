#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "compiler/schedules/emitter.h"
#include "compiler/schedules/schedule.h"

/// What the schedules of attention and its gradients share. Both run along strips of neighbouring
/// rows of one operand, a row a vector lane, and multiply register tiles: a few rows of another
/// operand, read one element at a time as they lie in memory, by a strip.
namespace weft::compiler {

/// Leading axes merged: queries [batches, n, d], keys [batches, m, d], values [batches, m, e].
struct AttentionExtents {
  explicit AttentionExtents(const ir::Node& node);

  Shape leading;
  std::int64_t batches, n, m, d, e;
  double scale;
  bool causal;

  /// Query i sees keys up to i + offset().
  std::int64_t offset() const { return m - n; }
};

/// An operand [batches, rows, columns] of which single elements are read.
struct AttentionRows {
  ir::Value value;
  std::int64_t rows;
  std::int64_t columns;
  const loop::Buffer* packed = nullptr;  ///< null: read from its tensor
  std::int64_t offset = 0;               ///< in `packed`
};

/// Work of one block, in multiply-adds.
inline constexpr std::int64_t attention_block_work = 1 << 20;

class AttentionTiles {
 public:
  using Ex = loop::Ex;

  /// `rows`: how many there are along the strips.
  AttentionTiles(GroupEmitter& emitter, const HostTarget& target, const AttentionExtents& extents,
                 std::int64_t rows);

  int lanes() const { return lanes_; }
  int width() const { return width_; }  ///< of a strip
  std::int64_t strips() const { return (rows_ + width_ - 1) / width_; }
  /// Rows of a register tile, at most.
  int tile() const { return tile_; }
  /// The number of rows of tiles that cut `total` rows evenly.
  std::int64_t even_tile(std::int64_t total) const;

  Ex zero() const { return a_.constant(loop::Scalar::f32, 0); }
  Ex real(double value) const { return a_.constant(loop::Scalar::f32, value); }
  Ex at(std::int64_t value) const { return a_.integer(value); }
  Ex smaller(Ex x, Ex y) const { return a_.binary(loop::Binary::minimum, x, y); }
  /// The larger of two floats; one comparison where `maximum` also looks for NaN.
  Ex larger(Ex x, Ex y) const { return a_.select(a_.less(x, y), y, x); }

  /// Copies those operands to a workspace, in a phase ahead, that are costly to read by elements:
  /// computed or of 16 bits, or with rows that share the sets of a first-level cache.
  /// The workspace has `further` elements more, from the returned offset on.
  std::int64_t pack(std::vector<AttentionRows*> operands, std::int64_t further = 0);
  const loop::Buffer* workspace() const { return workspace_; }
  Ex element(const AttentionRows& operand, Ex batch, Ex row, Ex column);

  /// A phase over parts of all batches, each of `work` multiply-adds: body(batch, part). The order
  /// of a batch's parts alternates between first and last, so that causal work is shared evenly.
  void for_parts(std::int64_t parts, std::int64_t work,
                 const std::function<void(Ex batch, Ex part)>& body);

  /// A vector loop over the rows of a strip.
  void for_lanes(const std::function<void(Ex lane)>& body);
  /// body(first, count) for tiles of [0, total): full ones in a loop, then the rest.
  void for_tiles(std::int64_t total, std::int64_t size,
                 const std::function<void(Ex first, std::int64_t count)>& body);
  /// The same for the part [begin, end) of [0, total), where begin is a multiple of `size` and end
  /// is rounded up to one (or to total); `first` counts from begin. `part` bounds end - begin.
  void for_tiles_within(Ex begin, Ex end, std::int64_t part, std::int64_t total, std::int64_t size,
                        const std::function<void(Ex first, std::int64_t count)>& body);

  /// to[c * width + lane] = factor * operand[batch, first + lane, c]; 0 past the last row.
  void transpose(const loop::Buffer* to, ir::Value operand, Ex batch, Ex first, double factor);
  /// Result of the node at [batch, first + lane, c] from from[c * width + lane] * factor(lane),
  /// by way of `scratch`, of as many elements.
  void store_transposed(const loop::Buffer* from, const loop::Buffer* scratch, std::uint32_t result,
                        Ex batch, Ex first, const std::function<Ex(Ex lane)>& factor);
  void store_result(std::uint32_t result, Ex batch, Ex row, Ex column, Ex value);
  void fill(const loop::Buffer* buffer, std::int64_t columns, Ex value);

  /// Sums over `steps` of x(row, step) * y(step, lane) for `rows` rows of a strip, or of as many
  /// lanes as given.
  struct Multiply {
    std::int64_t rows;
    Ex steps;
    std::function<Ex(std::int64_t row, Ex lane)> initial;
    std::function<Ex(std::int64_t row, Ex step)> x;
    std::function<Ex(Ex step, Ex lane)> y;
    std::function<void(Ex lane, const std::vector<Ex>& sums)> finish;
    std::int64_t lanes = 0;
  };
  void multiply(const Multiply& m);
  /// Position of a lane in a buffer of strips.
  Ex in_strip(Ex row, Ex lane) const { return a_.add(a_.mul(row, a_.integer(width_)), lane); }

 private:
  std::vector<Ex> index(Ex batch, Ex row, Ex column);
  Ex read(ir::Value value, Ex batch, Ex row, Ex column, Ex predicate);
  bool is_costly(const AttentionRows& operand);
  bool rows_are_neighbours(ir::Value value, std::int64_t rows, std::int64_t columns);

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const ir::Node& node_;
  const AttentionExtents& x_;
  std::int64_t rows_;
  int lanes_;
  int width_;
  int tile_;
  const loop::Buffer* workspace_ = nullptr;
};

}  // namespace weft::compiler
