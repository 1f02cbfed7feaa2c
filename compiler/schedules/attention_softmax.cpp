#include <limits>
#include <numbers>

#include "compiler/loop/math.h"
#include "compiler/schedules/attention_device.h"

namespace weft::compiler {

using ir::Node;
using ir::Value;
using loop::Accumulator;
using loop::Combine;
using loop::Ex;
using loop::Scalar;

// ---- what is seen -------------------------------------------------------------------------------

Ex AttentionMask::visible(Ex query, Ex key, bool ragged_queries, bool ragged_keys) const {
  Ex result = nullptr;
  const auto also = [&](Ex condition) {
    result = result == nullptr ? condition : a_.logical_and(result, condition);
  };
  if (x_.causal) also(a_.less_equal(key, a_.add(query, a_.integer(x_.offset()))));
  if (ragged_queries) also(a_.less(query, a_.integer(x_.n)));
  if (ragged_keys) also(a_.less(key, a_.integer(x_.m)));
  return result;
}

Ex AttentionMask::hides_keys(Ex first_query, Ex first_key, std::int64_t keys) const {
  const Ex end = a_.add(first_key, a_.integer(keys));
  const Ex past = x_.m % keys == 0 ? nullptr : a_.less(a_.integer(x_.m), end);
  if (!x_.causal) return past;
  const Ex unseen = a_.less(a_.add(first_query, a_.integer(x_.offset() + 1)), end);
  return past == nullptr ? unseen : a_.logical_or(unseen, past);
}

Ex AttentionMask::hides_queries(Ex first_query, std::int64_t queries, Ex last_key) const {
  const Ex end = a_.add(first_query, a_.integer(queries));
  const Ex past = x_.n % queries == 0 ? nullptr : a_.less(a_.integer(x_.n), end);
  if (!x_.causal) return past;
  const Ex unseen = a_.less(a_.add(first_query, a_.integer(x_.offset())), last_key);
  return past == nullptr ? unseen : a_.logical_or(unseen, past);
}

void AttentionMask::hide(const WarpSums& scores, Ex row, Ex column, double lowest,
                         const std::function<Ex(Ex row, Ex column)>& visible) const {
  for (std::size_t r = 0; r < scores.size(); ++r) {
    for (std::size_t c = 0; c < scores[r].size(); ++c) {
      for (std::size_t i = 0; i < 4; ++i) {
        const auto down = static_cast<std::int64_t>(16 * r + 8 * (i / 2));
        const auto across = static_cast<std::int64_t>(8 * c + i % 2);
        const Ex seen = visible(a_.add(row, a_.integer(down)), a_.add(column, a_.integer(across)));
        Accumulator* score = scores[r][c][i];
        b_.assign(score, a_.select(seen, b_.read(score), a_.constant(Scalar::f32, lowest)));
      }
    }
  }
}

// ---- softmax ------------------------------------------------------------------------------------

AttentionSoftmax::AttentionSoftmax(GroupEmitter& emitter, const AttentionExtents& extents,
                                   MatrixUnit& unit, Ex first_row, std::int64_t row_fragments)
    : emitter_(emitter),
      b_(emitter.builder()),
      a_(emitter.arena()),
      x_(extents),
      mask_(b_, x_),
      unit_(unit),
      first_row_(first_row),
      state_(static_cast<std::size_t>(row_fragments)) {
  for (auto& rows : state_) {
    for (RowState& row : rows) {
      row.maximum =
          b_.declare(Scalar::f32, Combine::maximum, real(-std::numeric_limits<double>::infinity()));
      row.total = b_.declare(Scalar::f32, Combine::add, real(0));
    }
  }
}

double AttentionSoftmax::factor() const { return x_.scale * std::numbers::log2e; }

Ex AttentionSoftmax::exp2(Ex x) { return b_.call(loop::intrinsic("fast_exp2"), {b_.let(x)})[0]; }

void AttentionSoftmax::mask(const WarpSums& scores, Ex first_key) {
  if (x_.scale <= 0) {
    // The largest score is to be found after scaling.
    for (const auto& row : scores) {
      for (const MatrixUnit::Sums& sums : row) {
        for (Accumulator* sum : sums) b_.assign(sum, a_.mul(b_.read(sum), real(factor())));
      }
    }
  }
  const auto keys = static_cast<std::int64_t>(8 * scores[0].size());
  // Only tiles that have such keys are looked at.
  const Ex hidden = mask_.hides_keys(first_row_, first_key, keys);
  if (hidden == nullptr) return;
  b_.condition(hidden, [&] {
    const Ex column = b_.let(a_.add(first_key, a_.mul(unit_.thread(), a_.integer(2))));
    const Ex row = b_.let(a_.add(first_row_, unit_.group()));
    mask_.hide(
        scores, row, column, -std::numeric_limits<double>::infinity(),
        [&](Ex query, Ex key) { return mask_.visible(query, key, false, x_.m % keys != 0); });
  });
}

WarpValues AttentionSoftmax::exponentiate(const WarpSums& scores, RowFactors& rescale) {
  const Ex scale = real(x_.scale > 0 ? factor() : 1);
  WarpValues probabilities(scores.size());
  rescale.resize(scores.size());
  for (std::size_t r = 0; r < scores.size(); ++r) {
    probabilities[r].resize(scores[r].size());
    for (std::size_t half = 0; half < 2; ++half) {
      RowState& row = state_[r][half];
      Ex maximum = nullptr;
      std::vector<std::array<Ex, 2>> values;
      for (const MatrixUnit::Sums& sums : scores[r]) {
        values.push_back({b_.read(sums[2 * half]), b_.read(sums[2 * half + 1])});
        for (const Ex value : values.back()) {
          maximum = maximum == nullptr ? value : a_.binary(loop::Binary::maximum, maximum, value);
        }
      }
      maximum = unit_.over_columns(maximum, Combine::maximum);
      const Ex before = b_.read(row.maximum);
      const Ex now = b_.let(a_.binary(loop::Binary::maximum, before, maximum));
      rescale[r][half] = exp2(a_.mul(a_.sub(before, now), scale));
      const Ex shift = b_.let(a_.neg(a_.mul(now, scale)));
      b_.assign(row.maximum, now);
      Ex total = nullptr;
      for (std::size_t c = 0; c < values.size(); ++c) {
        for (std::size_t i = 0; i < 2; ++i) {
          const Ex value = exp2(a_.fma(values[c][i], scale, shift));
          probabilities[r][c][2 * half + i] = value;
          total = total == nullptr ? value : b_.let(a_.add(total, value));
        }
      }
      b_.assign(row.total, a_.fma(b_.read(row.total), rescale[r][half], total));
    }
  }
  return probabilities;
}

void AttentionSoftmax::rescale(const WarpSums& results, const RowFactors& factors) {
  for (std::size_t r = 0; r < results.size(); ++r) {
    for (const MatrixUnit::Sums& sums : results[r]) {
      for (std::size_t i = 0; i < sums.size(); ++i) {
        b_.assign(sums[i], a_.mul(b_.read(sums[i]), factors[r][i / 2]));
      }
    }
  }
}

RowFactors AttentionSoftmax::finish(Ex batch) {
  const Value normaliser{const_cast<Node*>(emitter_.group().anchor), 1};
  RowFactors reciprocals(state_.size());
  for (std::size_t r = 0; r < state_.size(); ++r) {
    for (std::size_t half = 0; half < 2; ++half) {
      const RowState& row = state_[r][half];
      const Ex total = unit_.over_columns(b_.read(row.total), Combine::add);
      reciprocals[r][half] = b_.let(a_.div(real(1), total));
      if (!emitter_.is_output(normaliser)) continue;
      const auto offset = static_cast<std::int64_t>(16 * r + 8 * half);
      const Ex query = a_.add(first_row_, a_.add(unit_.group(), a_.integer(offset)));
      const Ex maximum = b_.read(row.maximum);
      b_.condition(
          a_.logical_and(a_.equal(unit_.thread(), a_.integer(0)), a_.less(query, a_.integer(x_.n))),
          [&] {
            const Ex own = b_.let_within(query, 0, x_.n - 1);
            const Ex position = a_.add(a_.mul(batch, a_.integer(x_.n)), own);
            const Ex scale = real(x_.scale > 0 ? x_.scale : std::numbers::ln2);
            const Ex logarithm = a_.fma(maximum, scale, loop::log(a_, total));
            emitter_.store(normaliser, position, {logarithm, nullptr});
          });
    }
  }
  return reciprocals;
}

}  // namespace weft::compiler
