#include <algorithm>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/dot_tiled.h"

namespace weft::compiler {
namespace {

/// Bytes of a block's rows: they stay in a second-level cache of 1 MiB while strips of columns
/// pass.
constexpr std::int64_t rows_bytes = 384 << 10;
/// Between steps of columns that are read in place.
constexpr std::int64_t close_bytes = 2048;
/// Tiles up to which columns are read in place where their steps lie close together.
constexpr std::int64_t few_tiles = 64;
/// Bytes of columns that a block packs at a time.
constexpr std::int64_t columns_bytes = 128 << 10;
/// Strips up to which a tile of rows is copied as it is: with more, putting steps side by side
/// pays.
constexpr std::int64_t few_strips = 4;
/// Bytes of partial sums between chunks of the contracted axis.
constexpr std::int64_t sums_bytes = 256 << 10;
/// Contracted extent of a panel: a strip of f32 is then 256 KiB.
constexpr std::int64_t longest_chunk = 2048;
/// Blocks that a large product is cut into, so that a few threads end together.
constexpr std::int64_t enough_blocks = 24;
/// A block has this many tiles of rows where there are as many: each strip of columns comes from
/// the third-level cache once a block.
constexpr std::int64_t least_tiles = 4;
/// And so many strips: it packs or reads its rows once for them.
constexpr std::int64_t least_strips = 2;
/// Where cutting rows and columns gives fewer blocks, the contracted axis is cut as well,
constexpr std::int64_t few_blocks = 8;
/// into at most so many parts, of so many steps at least: sums of a part are a store and a load.
constexpr std::int64_t most_parts = 16;
constexpr std::int64_t shortest_part = 512;

/// The number of rows of a tile that wastes least: a step of the contracted axis takes a tile about
/// rows * vectors multiply-adds, at least eight to hide their latency, and two for the rest.
int best_tile(std::int64_t rows, int limit, int vectors) {
  if (rows <= limit) return static_cast<int>(rows);
  const auto cost = [&](std::int64_t tile) {
    const std::int64_t rest = rows % tile;
    const std::int64_t last = rest == 0 ? 0 : std::max<std::int64_t>(rest * vectors, 8) + 2;
    return (rows / tile) * (tile * vectors + 2) + last;
  };
  int best = limit;
  for (int tile = limit - 1; tile > limit / 2; --tile) {
    if (cost(tile) < cost(best)) best = tile;
  }
  return best;
}

/// What is true of all of them.
OperandLayout common_layout(std::span<const OperandLayout> layouts) {
  OperandLayout common = layouts[0];
  for (const OperandLayout& layout : layouts) {
    common.stored = common.stored && layout.stored;
    common.plain = common.plain && layout.plain;
    common.free_contiguous = common.free_contiguous && layout.free_contiguous;
    common.depth_contiguous = common.depth_contiguous && layout.depth_contiguous;
    if (layout.depth_stride != common.depth_stride) common.depth_stride = 0;
  }
  return common;
}

}  // namespace

Blocking choose_blocking(const Product& p, const OperandLayout& rows,
                         std::span<const OperandLayout> all_columns, const HostTarget& target) {
  const auto products = static_cast<int>(all_columns.size());
  const OperandLayout columns = common_layout(all_columns);
  const Type& type = p.node->results[0];
  const int lanes = target.vector_lanes(type.dtype);
  const std::int64_t element = type.dtype == DType::f64 ? 8 : 4;
  Blocking b;
  // 32 registers hold 24 of sums, two of columns and a broadcast one; 16 hold 12.
  int vectors = 2;
  int limit = target.vector_bits >= 512 ? 12 : 6;
  if (p.tiled_rows() <= limit / 2) {
    vectors = 4;
    limit /= 2;
  }
  // Long pieces of each row of columns: with one cache line of a page at a time, its address is all
  // the work.
  if (p.tiled_rows() <= limit / 2) {
    vectors = 8;
    limit /= 2;
  }
  while (vectors > 1 && lanes * vectors / 2 >= p.columns() * products) vectors /= 2;
  if (vectors == 1) limit *= 2;
  b.tile = best_tile(p.tiled_rows(), limit, vectors);
  b.width = std::max(lanes * vectors / products, lanes);
  b.pairs = type.dtype == DType::bf16 && target.has("avx512bf16") && p.tiled_rows() > limit;
  constexpr int granule = loop::TileProduct::granule;
  b.tile_registers = target.tile_products && type.dtype == DType::bf16 && products <= 2 &&
                     p.rows() > 2 && p.depth() >= granule && !p.with_sums;
  if (b.tile_registers) {
    b.pairs = true;
    b.tile = p.rows() <= granule ? granule : 2 * granule;
    b.width = (products == 1 && p.columns() <= granule ? granule : 2 * granule) / products;
  }
  const std::int64_t tiles = divide_up(p.tiled_rows(), b.tile);
  const std::int64_t strips = divide_up(p.columns(), b.width);
  b.steps = b.pairs ? divide_up(p.depth(), 2) : p.depth();
  // Broadcast loads of a tile walk along its rows. Rows that lie multiples of 4 KiB apart share one
  // set of the first-level cache (2 KiB: two sets, which is measured to do); other than that,
  // walking is as good as a panel, which pays off over several strips only.
  const bool crowded =
      b.tile > 4 && rows.depth_contiguous && rows.free_stride * element % 4096 == 0;
  const bool direct_rows =
      rows.plain && !crowded && (strips <= 2 || rows.depth_contiguous || p.depth() <= 4);
  // A strip that few tiles read is not worth the copy, nor one whose steps lie close together.
  const bool close = columns.plain && tiles <= few_tiles && columns.depth_stride > 0 &&
                     columns.depth_stride * element <= close_bytes;
  const bool direct_columns =
      !b.pairs && columns.stored && columns.free_contiguous && (tiles <= 2 || close);

  const std::int64_t work =
      (p.tiled_rows() + load_work) * p.columns() * products * std::max<std::int64_t>(b.steps, 8);
  const std::int64_t batches = p.batches();
  std::int64_t wanted =
      std::clamp<std::int64_t>(work * batches / product_block_work, 1, enough_blocks);
  const std::int64_t blocks =
      batches * divide_up(tiles, least_tiles) * divide_up(strips, least_strips);
  if (blocks < std::min(wanted, few_blocks)) {
    b.parts = std::clamp<std::int64_t>(b.steps / shortest_part, 1, std::min(wanted, most_parts));
    wanted /= b.parts;
  }
  // Chunks of equal length, whole vectors but the last, the same number in each part.
  const std::int64_t per_part = divide_up(std::max<std::int64_t>(b.steps, 1), b.parts);
  b.chunks_per_part = divide_up(per_part, longest_chunk);
  b.chunk = b.steps;
  if (b.chunks_per_part * b.parts > 1) {
    b.chunk = divide_up(divide_up(b.steps, b.chunks_per_part * b.parts), lanes) * lanes;
    b.parts = divide_up(b.steps, b.chunk * b.chunks_per_part);
  }
  const std::int64_t tile_bytes = std::max<std::int64_t>(b.chunk, 1) * b.tile * element;
  const std::int64_t most = std::max<std::int64_t>(rows_bytes / tile_bytes, 1);
  // Few rows: columns alone are cut, and each block packs its own.
  const bool one_row_block = tiles <= most && batches * (strips / least_strips) >= wanted;
  const std::int64_t balanced =
      one_row_block ? tiles : divide_up(tiles, divide_up(wanted, batches));
  b.tiles_per_block =
      std::min({tiles, most, std::max<std::int64_t>(balanced, std::min(most, least_tiles))});
  b.tiles_per_block = divide_up(tiles, divide_up(tiles, b.tiles_per_block));
  const std::int64_t row_blocks = divide_up(tiles, b.tiles_per_block);
  const std::int64_t column_blocks = std::clamp<std::int64_t>(
      (wanted + batches * row_blocks / 2) / (batches * row_blocks), 1, strips);
  b.strips_per_block = divide_up(strips, column_blocks);
  const bool local_columns = !direct_columns && row_blocks == 1;
  if (local_columns && columns.free_contiguous) {
    // Packed together, so that pages and lines of memory are read in long pieces.
    const std::int64_t strip_bytes =
        std::max<std::int64_t>(b.chunk, 1) * b.width * products * element;
    b.strips_per_block =
        std::clamp<std::int64_t>(columns_bytes / strip_bytes, 1, b.strips_per_block);
  }
  if (b.chunks_per_part > 1) {
    const std::int64_t strip_bytes = b.tiles_per_block * b.tile * b.width * products * element;
    b.strips_per_block = std::clamp<std::int64_t>(sums_bytes / strip_bytes, 1, b.strips_per_block);
  }
  if (b.parts == 1 && row_blocks == 1 && b.strips_per_block == strips) {
    b.batches_per_block =
        std::clamp<std::int64_t>(product_block_work / std::max<std::int64_t>(work, 1), 1, batches);
  }
  if (!direct_rows) b.rows = b.strips_per_block == strips ? Place::local : Place::shared;
  if (!direct_columns) b.columns = local_columns ? Place::local : Place::shared;
  b.rows_along =
      b.tile_registers || (rows.depth_contiguous && !rows.free_contiguous && strips <= few_strips);
  return b;
}

}  // namespace weft::compiler
