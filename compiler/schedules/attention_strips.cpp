#include "compiler/schedules/attention_strips.h"

#include <numbers>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/thread_indices.h"

namespace weft::compiler {

using loop::Binary;
using loop::Ex;

AttentionStrips::AttentionStrips(GroupEmitter& emitter)
    : emitter_(emitter),
      a_(emitter.arena()),
      b_(emitter.builder()),
      x_(*emitter.group().anchor),
      device_(emitter, x_),
      mask_(b_, x_) {}

void AttentionStrips::phase(std::int64_t rows, std::int64_t strip, std::int64_t threads,
                            bool backwards, const std::function<void()>& body) {
  const std::int64_t strips = divide_up(rows, strip);
  b_.phase(x_.batches * strips, threads, [&](Ex block, Ex thread) {
    const std::vector<Ex> at = a_.delinearize(block, {strips, x_.batches});
    batch_ = b_.let(at[1]);
    const Ex number = backwards ? a_.sub(a_.integer(strips - 1), at[0]) : at[0];
    first_ = b_.let(a_.mul(number, a_.integer(strip)));
    thread_ = thread;
    body();
  });
}

TilePipeline AttentionStrips::passing(TileLoader& first, TileLoader& second, std::int64_t rows,
                                      std::int64_t tile, const TilePipeline::Depth& turns) {
  std::vector<TileLoader*> tiles = {&first, &second};
  const std::int64_t most = divide_up(rows, tile);
  return {b_, tiles, turns, thread_, [this, tiles, tile, most](Ex number, Ex stage) {
            const Ex row = a_.mul(b_.let_within(number, 0, most - 1), a_.integer(tile));
            for (TileLoader* loader : tiles) {
              loader->start(stage, batch_, row, a_.integer(0), thread_);
            }
          }};
}

Ex AttentionStrips::key_tiles(std::int64_t strip, std::int64_t tile) {
  const std::int64_t most = divide_up(x_.m, tile);
  const Ex all = a_.integer(most);
  if (!x_.causal) return all;
  const Ex last = a_.add(first_, a_.integer(strip + x_.offset() + tile - 1));
  return b_.let_within(a_.binary(Binary::minimum, all, a_.floor_div(last, tile)), 1, most);
}

Ex AttentionStrips::first_query_tile(std::int64_t tile) {
  if (!x_.causal) return a_.integer(0);
  const Ex query =
      a_.binary(Binary::maximum, a_.integer(0), a_.sub(first_, a_.integer(x_.offset())));
  return b_.let_within(a_.floor_div(query, tile), 0, divide_up(x_.m, tile));
}

AttentionStrips::Statistics AttentionStrips::statistics(Ex query) {
  const Ex own = at_most_last(b_, query, x_.n);
  return {b_.let(a_.mul(device_.of_query(3, batch_, own), real(std::numbers::log2e))),
          device_.of_query(4, batch_, own)};
}

void AttentionStrips::store(
    AttentionProducts& products, const WarpSums& sums, Ex first_row, std::uint32_t result,
    std::int64_t rows, std::int64_t columns,
    const std::function<Ex(Ex value, std::size_t fragment, std::size_t half)>& finish) {
  RowStore row_store(b_, rows, columns, device_.store_width(result));
  products.store(sums, first_row, row_store, finish,
                 [&](Ex row, Ex column, const std::vector<Ex>& value) {
                   device_.store_result(result, batch_, row, column, value[0]);
                 });
}

}  // namespace weft::compiler
