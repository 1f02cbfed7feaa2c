#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "compiler/schedules/dot_device.h"

/// Operands of matrix products as tensor copies of sm_90a see them.
namespace weft::compiler {

/// Where an operand is a tensor in memory whose elements are at strides along the axes of the
/// batch, the free axis and the contracted one, with neighbours along one of the latter two.
struct OperandView {
  bool depth_inner = true;            ///< neighbours are along the contracted axis
  std::int64_t offset = 0;            ///< of the first element, in elements
  std::int64_t free = 1, depth = 1;   ///< extents
  std::int64_t outer_stride = 0;      ///< along the other of the two, in elements
  Shape batch;                        ///< axes of the batch, neighbours merged where they can be
  std::vector<std::int64_t> strides;  ///< of these, in elements; 0: the axis does not matter
};

/// Nothing where tensor copies cannot read it. `free` and `batch` are the operand's axes.
std::optional<OperandView> view_of(GroupEmitter& emitter, const TiledOperand& operand,
                                   const Product& product, bool columns, DType storage);

/// Brings tiles of an operand to shared memory, 64 steps of the contracted axis each, laid out for
/// group products (GroupTile).
class TileCopies {
 public:
  /// `free`: of a tile, a multiple of 64, at most 256.
  TileCopies(GroupEmitter& emitter, const TiledOperand& operand, const OperandView& view,
             DType storage, std::int64_t free, std::int64_t stages);

  bool depth_inner() const { return view_.depth_inner; }
  const loop::Buffer* buffer() const { return buffer_; }
  /// The first element of a stage.
  loop::Ex stage(loop::Ex number) const;
  /// Bytes that start() brings.
  std::int64_t bytes() const;
  /// Asks for a tile, which arrives at an mbarrier; one thread calls it.
  void start(loop::Ex stage, loop::Ex batch, loop::Ex free, loop::Ex depth,
             const loop::Address& arrival);

 private:
  loop::Arena& a_;
  loop::Builder& b_;
  OperandView view_;
  std::int64_t free_;
  std::vector<std::size_t> batch_axes_;  ///< those that the map has
  const loop::Buffer* buffer_ = nullptr;
  const loop::Buffer* map_ = nullptr;
};

}  // namespace weft::compiler
