#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "compiler/schedules/dot_tiled.h"

/// Operands of tiled matrix products as panels: where their values lie, and how they get there.
namespace weft::compiler {

/// The index space of one operand's free axis, in panels of `size`: tiles of rows, strips of
/// columns. A panel holds, for each step of the contracted axis, `size` neighbours of each product;
/// or, where `along`, the steps of each row in a line: a copy of rows that lie along the axis,
/// which are then not so far apart that they share a cache's sets.
struct Panels {
  bool columns;
  std::int64_t total;  ///< rows or columns
  std::int64_t extra;  ///< of which are no part of the operand: the row of ones
  std::int64_t size;
  std::int64_t per_block;
  std::vector<OperandLayout> layouts;  ///< of each product's operand; rows are of all of them
  Place place;
  bool along = false;       ///< of rows only
  std::int64_t length = 0;  ///< steps that a panel has room for
  const loop::Buffer* buffer = nullptr;
  std::int64_t offset = 0;  ///< of the panels in the buffer

  std::int64_t count() const { return (total + size - 1) / size; }
  std::size_t products() const { return layouts.size(); }
  /// Values of a panel at one step.
  std::int64_t step_values() const { return size * static_cast<std::int64_t>(products()); }
  std::int64_t room() const { return step_values() * length; }
  std::int64_t step_stride() const { return along ? 1 : step_values(); }
  std::int64_t free_stride() const { return along ? length : 1; }
  /// Whether a block packs its panels one after the other: strips that are transposed.
  bool one_at_a_time() const {
    return columns && !std::all_of(layouts.begin(), layouts.end(), [](const OperandLayout& layout) {
             return layout.free_contiguous;
           });
  }
};

/// A serial loop over the part of [0, total) that belongs to one block.
void for_part(loop::Builder& builder, loop::Ex block, std::int64_t part, std::int64_t total,
              const std::function<void(loop::Ex)>& body);

/// `extra` of the `count` rows or columns are no part of the operand.
using PanelBody =
    std::function<void(loop::Ex panel, loop::Ex local, std::int64_t count, std::int64_t extra)>;
/// `body` for the panels of one part: full ones in a loop, then the last one if it is smaller or
/// has an extra row.
void for_panels(loop::Builder& builder, const Panels& panels, loop::Ex part, std::int64_t per_part,
                const PanelBody& body);

/// Evaluates what is fused before the product, once for each value, into panels.
class PanelPacker {
 public:
  PanelPacker(GroupEmitter& emitter, ProductAccess& access, const Product& product,
              const Blocking& blocking, int lanes);

  /// Packs the panels of a part, along the contracted axis from `begin` on.
  void pack(const Panels& panels, loop::Ex batch, loop::Ex part, std::int64_t per_part,
            loop::Ex begin, loop::Ex extent);
  /// Packs one that is one of `count` neighbours.
  void pack_one(const Panels& panels, loop::Ex batch, loop::Ex panel, std::int64_t count,
                loop::Ex begin, loop::Ex extent);

  /// An operand's value where it is.
  loop::Ex fetch(const Panels& panels, std::size_t product, loop::Ex batch, loop::Ex free,
                 loop::Ex depth);
  /// Where a panel's values begin for one chunk, in elements.
  loop::Ex base(const Panels& panels, loop::Ex batch, loop::Ex panel, loop::Ex local,
                loop::Ex begin);
  /// Of one value, from there on.
  loop::Ex within(const Panels& panels, loop::Ex free, loop::Ex step);

 private:
  /// Where values go: a panel of one product.
  struct Destination {
    loop::Ex batch, panel, local;
    std::int64_t count;  ///< rows or columns that there are
    std::size_t product;
  };

  loop::Ex fetch_step(const Panels& panels, std::size_t product, loop::Ex batch, loop::Ex free,
                      loop::Ex step, bool whole = true);
  loop::Ex whole_extent(loop::Ex begin, loop::Ex extent);
  void for_last_step(loop::Ex begin, loop::Ex extent,
                     const std::function<void(loop::Ex step)>& body);
  void for_groups(loop::Ex begin, loop::Ex extent,
                  const std::function<void(loop::Ex from, std::int64_t steps)>& group);
  loop::Ex product_base(const Panels& panels, const Destination& to, loop::Ex begin);
  void pack_product(const Panels& panels, std::size_t product, loop::Ex batch, loop::Ex part,
                    std::int64_t per_part, loop::Ex begin, loop::Ex extent);
  void copy(const Panels& panels, const Destination& to, loop::Ex begin, loop::Ex step, bool whole);
  void transpose(const Panels& panels, const Destination& to, loop::Ex begin, loop::Ex extent);
  void transpose_rows(const Panels& panels, const Destination& to, loop::Ex begin, loop::Ex extent);
  void fill_up(const Panels& panels, loop::Ex base, loop::Ex begin, loop::Ex extent);

  loop::Arena& a_;
  loop::Builder& b_;
  ProductAccess& access_;
  const Blocking& blocking_;
  std::int64_t whole_steps_;  ///< of an odd number of pairs the last step has one value only
  int lanes_;
};

}  // namespace weft::compiler
