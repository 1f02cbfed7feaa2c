#pragma once

#include <optional>
#include <vector>

#include "compiler/schedules/attention_tiles.h"
#include "compiler/schedules/device_store.h"
#include "compiler/schedules/device_tile.h"
#include "compiler/schedules/matrix_unit.h"
#include "compiler/schedules/schedule.h"

/// What the schedules of attention and its gradients on a GPU's matrix units share. The operands
/// are matrices whose rows are queries or keys; a block has some rows of one side, sixteen or more
/// a warp, and the other side's rows pass in tiles.
namespace weft::compiler {

/// A matrix of the operands: rows of `columns` elements.
struct AttentionMatrix {
  ir::Value value;
  std::int64_t rows;
  std::int64_t columns;
};

/// Scores or sums of a warp: 16 rows by 8 columns each, [row fragment][column fragment].
using WarpSums = std::vector<std::vector<MatrixUnit::Sums>>;
/// Values of a warp, [row fragment][column fragment][4].
using WarpValues = std::vector<std::vector<std::array<loop::Ex, 4>>>;

class AttentionDevice {
 public:
  using Ex = loop::Ex;

  AttentionDevice(GroupEmitter& emitter, const AttentionExtents& extents);

  const AttentionExtents& extents() const { return x_; }
  DType type() const { return type_; }
  /// A row's length in a tile: whole fragments, zero past the end.
  static std::int64_t padded(std::int64_t columns) { return (columns + 15) / 16 * 16; }
  /// Bytes of a tile of so many rows of a padded length.
  std::int64_t tile_bytes(std::int64_t rows, std::int64_t columns) const {
    return rows * (columns * static_cast<std::int64_t>(size_of(type_)) + 16);
  }

  AttentionMatrix matrix(std::size_t operand) const;
  /// A loader of tiles of `rows` rows; `exchanged` as in TileShape.
  TileLoader loader(const char* name, const AttentionMatrix& matrix, std::int64_t rows,
                    std::int64_t stages, std::int64_t threads, bool exchanged = false);

  /// One value for each query.
  Ex of_query(std::size_t operand, Ex batch, Ex query);

  /// Vectors in which a result's rows are stored.
  std::int64_t store_width(std::uint32_t result);
  void store_result(std::uint32_t result, Ex batch, Ex row, Ex column, Ex value);

  /// Whether this result, or for the first one what is computed from it, is stored.
  bool wanted(std::uint32_t result) const;

 private:
  std::vector<Ex> index(loop::Arena& a, Ex batch, Ex row, Ex column) const;

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const ir::Node& node_;
  AttentionExtents x_;
  DType type_;
};

/// A warp's products of tiles in shared memory.
class AttentionProducts {
 public:
  using Ex = loop::Ex;

  AttentionProducts(loop::Builder& builder, MatrixUnit& unit)
      : b_(builder), a_(builder.arena()), unit_(unit) {}

  WarpSums zero(std::int64_t row_fragments, std::int64_t column_fragments);

  /// sums += rows * columns^T over `depth` elements; rows from `first_row` of their source on.
  void add(const WarpSums& sums, const FragmentSource& rows, Ex first_row,
           const FragmentSource& columns, Ex first_column, std::int64_t depth);
  /// sums += values * columns, where `columns` is an across_source() of the unit.
  void add(const WarpSums& sums, const WarpValues& values, const FragmentSource& columns,
           Ex first_column);

  /// Stores a warp's rows, `rows` from `first_row` on, by `store`; each value through `finish`.
  void store(const WarpSums& sums, Ex first_row, RowStore& rows,
             const std::function<Ex(Ex value, std::size_t fragment, std::size_t half)>& finish,
             const RowStore::Body& body);

 private:
  /// One step of the contracted axis; rows as registers, [row fragment].
  void add(const WarpSums& sums, const std::vector<MatrixUnit::Rows>& rows,
           const FragmentSource& columns, Ex first_column, Ex depth);

  loop::Builder& b_;
  loop::Arena& a_;
  MatrixUnit& unit_;
};

/// Which scores count: those of keys that a query may see, and of what is there.
class AttentionMask {
 public:
  using Ex = loop::Ex;

  AttentionMask(loop::Builder& builder, const AttentionExtents& extents)
      : b_(builder), a_(builder.arena()), x_(extents) {}

  /// Whether a query sees a key; null where all do. `ragged`: some of the tile may not be there.
  Ex visible(Ex query, Ex key, bool ragged_queries, bool ragged_keys) const;
  /// Whether a tile of keys has one that a query from `first_query` on does not see; null where no
  /// tile has.
  Ex hides_keys(Ex first_query, Ex first_key, std::int64_t keys) const;
  /// Whether a tile of queries has one that does not see a key up to `last_key`; null likewise.
  Ex hides_queries(Ex first_query, std::int64_t queries, Ex last_key) const;
  /// Puts `lowest` in place of scores that are not visible(row, column); `row` and `column`: the
  /// lane's first.
  void hide(const WarpSums& scores, Ex row, Ex column, double lowest,
            const std::function<Ex(Ex row, Ex column)>& visible) const;

 private:
  loop::Builder& b_;
  loop::Arena& a_;
  const AttentionExtents& x_;
};

/// Factors of a warp's rows, [row fragment][half].
using RowFactors = std::vector<std::array<loop::Ex, 2>>;

/// The softmax of a warp's rows of scores while tiles of keys pass.
class AttentionSoftmax {
 public:
  using Ex = loop::Ex;

  /// `first_row`: the warp's first query.
  AttentionSoftmax(GroupEmitter& emitter, const AttentionExtents& extents, MatrixUnit& unit,
                   Ex first_row, std::int64_t row_fragments);

  /// -inf where a key from `first_key` on is not visible.
  void mask(const WarpSums& scores, Ex first_key);
  /// 2^(score - maximum) of the rows; what was found before is to be multiplied by `rescale`.
  WarpValues exponentiate(const WarpSums& scores, RowFactors& rescale);
  void rescale(const WarpSums& results, const RowFactors& factors);
  /// Reciprocals of the rows' sums; stores their logarithms where these are wanted.
  RowFactors finish(Ex batch);

 private:
  struct RowState {
    loop::Accumulator* maximum;  ///< of scores, before the scale where that is positive
    loop::Accumulator* total;    ///< of this thread's columns
  };

  Ex real(double value) { return a_.constant(loop::Scalar::f32, value); }
  Ex exp2(Ex x);
  /// exp(x) is 2^(x log2 e).
  double factor() const;

  GroupEmitter& emitter_;
  loop::Builder& b_;
  loop::Arena& a_;
  AttentionExtents x_;
  AttentionMask mask_;
  MatrixUnit& unit_;
  Ex first_row_;
  std::vector<std::array<RowState, 2>> state_;
};

/// The products of four warps (64 rows, 16 of which are a warp's sums) with a tile of 64 rows that
/// pass, on the matrix units of sm_90a. They run behind the threads' backs: what they read and add
/// to is left alone until they have been waited for.
class AttentionGroups {
 public:
  using Ex = loop::Ex;
  static constexpr std::int64_t rows = 64;
  static constexpr std::int64_t threads = 128;
  static constexpr std::int64_t tile = 64;        ///< rows that pass together
  static constexpr std::int64_t step_depth = 16;  ///< of one instruction

  AttentionGroups(loop::Builder& builder, DType type);

  /// Has what was assigned to the sums in their registers from here on: values that are put there
  /// between products would have to wait for these.
  void settle(const WarpSums& sums);
  /// Before the first product, and where threads wrote registers that products use.
  void fence();
  /// Products so far are a group to wait for.
  void commit();
  /// Until at most so many groups are under way; the sums of those that have ended may be read.
  void wait(const WarpSums& sums, std::int64_t pending);

  /// Where the contracted axis is: along the tile's rows, or across, so that it is the rows.
  enum class Axis : std::uint8_t { along, across };
  /// sums += four registers of a row fragment, 16 of the contracted axis, by those of the tile from
  /// `depth` on.
  void add(const WarpSums& sums, const std::vector<Ex>& fragment, const TileLoader& passing,
           Ex stage, Axis axis, std::int64_t depth);
  /// sums += own rows by the tile's rows, over all of their `depth` elements. `own`: a tile of
  /// `own_rows` rows, of which this group's begin at row `first`.
  void add(const WarpSums& sums, const TileLoader& own, std::int64_t own_rows, Ex first,
           const TileLoader& passing, Ex stage, std::int64_t depth);

 private:
  void call(const std::string& name, std::vector<Ex> operands, const WarpSums& sums,
            std::vector<loop::Address> addresses);

  loop::Builder& b_;
  loop::Arena& a_;
  DType type_;
};

/// On the matrix units of sm_90a: where rows have 64 or 128 elements.
bool suits_attention_wgmma(const AttentionExtents& extents, const DeviceOptions& options);
void schedule_attention_wgmma(GroupEmitter& emitter, const DeviceOptions& options);
bool suits_attention_backward_wgmma(const AttentionExtents& extents, const DeviceOptions& options);
void schedule_attention_backward_wgmma(GroupEmitter& emitter, const DeviceOptions& options);

/// Forward and backward, of f32 without tf32.
void schedule_attention_exact_device(GroupEmitter& emitter, const DeviceOptions& options);

}  // namespace weft::compiler
