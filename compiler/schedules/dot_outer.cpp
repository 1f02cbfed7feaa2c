#include <algorithm>

#include "compiler/schedules/dot_product.h"
#include "compiler/schedules/schedule.h"

/// Products of a short contracted axis, such as a gradient over a batch of two: each result is a
/// few multiply-adds and what its epilogue reads and writes, so nothing is packed and rows stream
/// by.
namespace weft::compiler {

using loop::Ex;
using loop::Role;
using ops::Element;

namespace {

/// Rows whose results share a load of the column operand.
constexpr std::int64_t tile = 4;
/// Results of one block: few, since each moves memory rather than computes.
constexpr std::int64_t outer_block = 8192;

}  // namespace

void schedule_dot_outer(GroupEmitter& emitter, const Product& p, const HostTarget& target) {
  loop::Arena& a = emitter.arena();
  loop::Builder& b = emitter.builder();
  ProductAccess access(emitter, p);
  const loop::Scalar scalar = register_of(p.node->results[0].dtype);
  const int lanes = target.vector_lanes(p.node->results[0].dtype);
  const int width = static_cast<int>(std::min<std::int64_t>(2L * lanes, p.columns()));
  const auto tile_at = [&](Ex batch, Ex first, std::int64_t rows) {
    b.loop(p.columns(), Role::vector, width, [&](Ex column) {
      std::vector<Ex> sums;
      for (std::int64_t k = 0; k < p.depth(); ++k) {
        const Ex depth = a.integer(k);
        access.reset();
        const Ex y = b.let(access.column_operand(batch, column, depth).re);
        for (std::int64_t r = 0; r < rows; ++r) {
          const Ex x = access.row_operand(batch, a.add(first, a.integer(r)), depth).re;
          if (k == 0) {
            sums.push_back(a.mul(x, y));
            continue;
          }
          Ex& sum = sums[static_cast<std::size_t>(r)];
          sum = loop::is_float(scalar) ? a.fma(x, y, sum) : a.add(sum, a.mul(x, y));
        }
      }
      for (std::int64_t r = 0; r < rows; ++r) {
        access.store(batch, a.add(first, a.integer(r)), column,
                     {b.let(sums[static_cast<std::size_t>(r)]), nullptr});
      }
    });
  };
  const std::int64_t tiles =
      std::clamp<std::int64_t>(outer_block / (tile * p.columns()), 1, (p.rows() + tile - 1) / tile);
  const std::int64_t chunk = tiles * tile;
  const std::int64_t chunks = (p.rows() + chunk - 1) / chunk;
  const Shape grid{p.batches(), chunks};
  b.phase(grid.elements(), [&](Ex block) {
    const std::vector<Ex> at = a.delinearize(block, grid);
    for_chunk(emitter, at[1], p.rows(), chunk, [&](Ex first, std::int64_t extent) {
      if (extent >= tile) {
        b.loop(extent / tile, Role::serial, 1,
               [&](Ex t) { tile_at(at[0], a.add(first, a.mul(t, a.integer(tile))), tile); });
      }
      const std::int64_t rest = extent % tile;
      if (rest > 0) tile_at(at[0], a.add(first, a.integer(extent - rest)), rest);
    });
  });
}

}  // namespace weft::compiler
