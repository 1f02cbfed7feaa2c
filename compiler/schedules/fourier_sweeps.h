#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "compiler/schedules/emitter.h"
#include "compiler/schedules/fourier_tile.h"

namespace weft::compiler {

/// Transforms on a GPU of all lines of tensors (batch, groups, points, channels). A block has some
/// neighbouring channels of a line, or of several short lines of a group, and takes them from
/// operands to results in registers and shared memory. Lines that do not fit in a block's memory
/// are transformed in sweeps, each a phase: columns, that is the first levels of some neighbouring
/// points, through a workspace, and at last rows.
class FourierSweeps {
 public:
  using Ex = loop::Ex;

  struct Lines {
    std::int64_t batch = 1;
    std::int64_t groups = 1;
    std::int64_t channels = 1;
    std::int64_t rows() const { return batch * groups; }
  };
  struct Options {
    std::int64_t element_bytes = 4;  ///< of what is read and written
    std::int64_t shared_bytes = 0;   ///< that a block may have
    std::int64_t processors = 1;     ///< that there should be blocks for
    bool natural = false;            ///< FourierTile::Extents
    bool kept = false;
  };
  /// What is read and written of a line (batch * groups + group) and channel.
  struct Source {
    /// A point below `extent`, the others are zero. Where `inside` (may be null) is false nothing
    /// is read and the value is zero.
    std::function<ComplexEx(Ex line, Ex channel, Ex position, Ex inside)> read;
    std::int64_t extent = 0;
  };
  struct Sink {
    /// Takes the points below `wanted`.
    std::function<void(Ex line, Ex channel, Ex position, const ComplexEx& value)> write;
    std::int64_t wanted = 0;
  };
  /// Where a block is.
  struct Position {
    std::size_t sweep = 0;
    const FourierTile* tile = nullptr;
    Lines lines;
    Ex block = nullptr;
    Ex batch = nullptr;  ///< block of lines of a group
    Ex index = nullptr;  ///< of these in the block's chunk
    Ex part = nullptr;   ///< chunk
    Ex group = nullptr;
    Ex upper = nullptr;   ///< block of the sweep's first level
    Ex column = nullptr;  ///< first of the block's neighbouring points
    Ex strip = nullptr;   ///< of channels
  };
  using Body = std::function<void(const Position& at)>;

  FourierSweeps(GroupEmitter& emitter, const DevicePlan& plan, bool twisted, const Lines& lines,
                const Options& options);
  /// The same transform of other lines, whose blocks have as many channels.
  FourierSweeps(const FourierSweeps& like, const Lines& lines);
  FourierSweeps(const FourierSweeps&) = delete;
  FourierSweeps& operator=(const FourierSweeps&) = delete;

  /// Whether blocks take lines of so many points from operands to results, as they should where
  /// there are so many channels: with one of many at a time most of each sector would be moved in
  /// vain, and two sweeps over memory are faster.
  static bool in_one_sweep(std::int64_t points, std::int64_t channels, std::int64_t shared_bytes);

  bool several() const { return sweeps_.size() > 1; }
  const DevicePlan& plan() const { return plan_; }
  const Lines& lines() const { return lines_; }
  /// The tile of the last sweep.
  FourierTile& rows_tile() { return *tiles_.back(); }
  /// Blocks of the last sweep for one block of lines.
  std::int64_t blocks() const;
  /// Elements of f32 for a spectrum of each group, and for all lines between sweeps.
  std::int64_t spectrum_elements() const;
  std::int64_t lines_elements() const;
  void set_workspace(const loop::Buffer* workspace) { workspace_ = workspace; }
  /// Elements of f32 in shared memory; to be had by all kernels' tiles.
  std::int64_t shared_elements() const;
  void set_shared(const loop::Buffer* shared) { shared_ = shared; }
  const loop::Buffer* shared() const { return shared_; }

  /// Phases of the sweeps before the last one, forward, and after it, inverse. Points between
  /// sweeps are in the workspace from `base` on.
  void forward(const Source& source, std::int64_t base);
  void inverse(const Sink& sink, std::int64_t base);
  /// A phase of the last sweep; `chunk` blocks of lines are a block's in turn.
  void for_rows(const Body& body, std::int64_t chunk = 1);
  /// Inside of it.
  FourierTile::Load load(const Position& at, const Source& source, std::int64_t base);
  FourierTile::Save save(const Position& at, const Sink& sink, std::int64_t base);
  /// To bins where the tile is in natural order.
  FourierTile::Save save_bins(const Position& at, const Sink& sink);
  /// Point `point` of the line and channel of a place, where there is such a one.
  void put(const Position& at, const FourierTile::Place& place, Ex point, const ComplexEx& value,
           const Sink& sink);
  Ex line(const Position& at, const FourierTile::Place& place);
  Ex channel(const Position& at, const FourierTile::Place& place);
  /// Where a spectrum, in the workspace from its own base on, has point q of a butterfly of the
  /// last level; `channels`: of the spectrum's strips, 1 or those of the lines.
  Ex spectrum_at(const Position& at, const FourierTile::Butterfly& own, std::int64_t q,
                 bool of_channels = true);

  // The workspace holds complex numbers as pairs.
  ComplexEx fetch(Ex at, Ex predicate = nullptr);
  void store(Ex at, const ComplexEx& value);
  Ex part(Ex value);  ///< zero for null

 private:
  /// Levels [first, last) of the plan.
  struct Sweep {
    std::size_t first;
    std::size_t last;
  };

  void choose_sweeps();
  void choose_channels(const Options& options);
  void make_tiles(const Options& options);
  std::int64_t tile_points(const Sweep& sweep) const {
    return plan_.size(sweep.first) / plan_.size(sweep.last);
  }
  std::int64_t longest_tile() const;
  std::int64_t line_elements() const { return 2 * plan_.length * channels_; }
  void for_tiles(std::size_t sweep, std::int64_t chunk, const Body& body);
  Ex low(const Position& at, Ex fast);
  Ex upper(const Position& at, Ex fast);
  Ex position(const Position& at, const FourierTile::Place& place);
  Ex batch(const Position& at, const FourierTile::Place& place);
  Ex point_at(const Position& at, const FourierTile::Place& place, std::int64_t base);

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  DevicePlan plan_;
  Lines lines_;
  std::shared_ptr<const DeviceTurns> turns_;
  std::int64_t shared_bytes_;
  bool natural_ = false;
  std::vector<Sweep> sweeps_;
  std::int64_t channels_ = 1;  ///< of a block
  std::int64_t strips_ = 1;
  std::vector<std::unique_ptr<FourierTile>> tiles_;
  const loop::Buffer* shared_ = nullptr;
  const loop::Buffer* workspace_ = nullptr;
};

}  // namespace weft::compiler
