#include "compiler/schedules/attention_gradient.h"

#include <numbers>

#include "compiler/schedules/divide.h"

namespace weft::compiler {

using loop::Ex;

AttentionGradient::AttentionGradient(GroupEmitter& emitter)
    : a_(emitter.arena()),
      b_(emitter.builder()),
      x_(*emitter.group().anchor),
      device_(emitter, x_) {}

AttentionGradient::Statistics AttentionGradient::statistics(Ex query) {
  const Ex own =
      b_.let_within(a_.binary(loop::Binary::minimum, query, a_.integer(x_.n - 1)), 0, x_.n - 1);
  return {b_.let(a_.mul(device_.of_query(3, batch_, own), real(std::numbers::log2e))),
          device_.of_query(4, batch_, own)};
}

std::array<Ex, 2> AttentionGradient::pair(Ex score, Ex centred, const Statistics& of, Ex visible) {
  Ex probability = exp2(a_.fma(score, real(x_.scale * std::numbers::log2e), a_.neg(of.normaliser)));
  if (visible != nullptr) probability = b_.let(a_.select(visible, probability, real(0)));
  return {probability, b_.let(a_.mul(probability, a_.sub(centred, of.delta)))};
}

Ex AttentionGradient::visible(Ex query, Ex key, bool ragged_queries, bool ragged_keys) {
  Ex result = nullptr;
  const auto also = [&](Ex condition) {
    result = result == nullptr ? condition : a_.logical_and(result, condition);
  };
  if (x_.causal) also(a_.less_equal(key, a_.add(query, a_.integer(x_.offset()))));
  if (ragged_queries) also(a_.less(query, a_.integer(x_.n)));
  if (ragged_keys) also(a_.less(key, a_.integer(x_.m)));
  return result;
}

Ex AttentionGradient::key_tiles(std::int64_t strip, std::int64_t tile) {
  const std::int64_t most = divide_up(x_.m, tile);
  const Ex all = a_.integer(most);
  if (!x_.causal) return all;
  const Ex last = a_.add(first_, a_.integer(strip + x_.offset() + tile - 1));
  return b_.let_within(a_.binary(loop::Binary::minimum, all, a_.floor_div(last, tile)), 1, most);
}

Ex AttentionGradient::first_query_tile(std::int64_t tile) {
  if (!x_.causal) return a_.integer(0);
  const Ex query =
      a_.binary(loop::Binary::maximum, a_.integer(0), a_.sub(first_, a_.integer(x_.offset())));
  return b_.let_within(a_.floor_div(query, tile), 0, divide_up(x_.m, tile));
}

void AttentionGradient::store(AttentionProducts& products, const WarpSums& sums, Ex first_row,
                              std::uint32_t result, std::int64_t rows, std::int64_t columns,
                              double factor) {
  RowStore row_store(b_, rows, columns, device_.store_width(result));
  products.store(
      sums, first_row, row_store,
      [&](Ex value, std::size_t, std::size_t) {
        return factor == 1 ? value : a_.mul(value, real(factor));
      },
      [&](Ex row, Ex column, const std::vector<Ex>& value) {
        device_.store_result(result, batch_, row, column, value[0]);
      });
}

}  // namespace weft::compiler
