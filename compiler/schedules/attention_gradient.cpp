#include "compiler/schedules/attention_gradient.h"

#include <numbers>

namespace weft::compiler {

using loop::Ex;

void AttentionGradient::run(const std::function<void(Tiles& tiles)>& of_queries,
                            const std::function<void(Tiles& tiles)>& of_keys) {
  const Layout& layout = layout_;
  const AttentionMatrix queries = device_.matrix(0), keys = device_.matrix(1);
  const AttentionMatrix values = device_.matrix(2), gradient = device_.matrix(5);
  const auto own = [&](const char* name, const AttentionMatrix& matrix) {
    return device_.loader(name, matrix, layout.strip, 1, layout.threads, layout.exchanged);
  };
  const auto passing = [&](const char* name, const AttentionMatrix& matrix) {
    return device_.loader(name, matrix, layout.tile, layout.turns.stages, layout.threads,
                          layout.exchanged);
  };
  // Causal: last queries see most keys, first keys are seen by most queries. Those begin first.
  if (device_.wanted(0)) {
    Tiles tiles{own("queries", queries), own("gradient", gradient), passing("keys", keys),
                passing("values", values)};
    phase(x_.n, layout.strip, layout.threads, x_.causal, [&] { of_queries(tiles); });
  }
  if (device_.wanted(1) || device_.wanted(2)) {
    Tiles tiles{own("own_keys", keys), own("own_values", values),
                passing("passing_queries", queries), passing("passing_gradient", gradient)};
    phase(x_.m, layout.strip, layout.threads, false, [&] { of_keys(tiles); });
  }
}

void AttentionGradient::pass(Tiles& tiles, std::int64_t rows, Ex begin, Ex end,
                             const std::function<void(Ex first, Ex number, Ex stage)>& body) {
  TilePipeline pipeline =
      passing(tiles.passing, tiles.passing_second, rows, layout_.tile, layout_.turns);
  pipeline.keep(tiles.own, batch_, first_);
  pipeline.keep(tiles.own_second, batch_, first_);
  pipeline.run(begin, end, [&](Ex number) {
    const Ex stage = pipeline.stage(number);
    body(b_.let(a_.mul(number, a_.integer(layout_.tile))), number, stage);
  });
  // Nothing may be under way when the block ends.
  pipeline.drain();
}

std::array<Ex, 2> AttentionGradient::pair(Ex score, Ex centred, const Statistics& of, Ex visible) {
  Ex probability = exp2(a_.fma(score, real(x_.scale * std::numbers::log2e), a_.neg(of.normaliser)));
  if (visible != nullptr) probability = b_.let(a_.select(visible, probability, real(0)));
  return {probability, b_.let(a_.mul(probability, a_.sub(centred, of.delta)))};
}

void AttentionGradient::store(AttentionProducts& products, const WarpSums& sums, Ex first_row,
                              std::uint32_t result, std::int64_t rows, std::int64_t columns,
                              double factor) {
  AttentionStrips::store(products, sums, first_row, result, rows, columns,
                         [&](Ex value, std::size_t, std::size_t) {
                           return factor == 1 ? value : a_.mul(value, real(factor));
                         });
}

}  // namespace weft::compiler
