#include "compiler/schedules/attention_device.h"

#include <limits>
#include <numbers>

#include "compiler/loop/math.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/schedule.h"

/// Attention on a GPU's matrix units: a block has some queries and passes over tiles of keys and
/// values in shared memory; scores, probabilities and results are registers of the warp whose
/// queries they belong to, and the results so far are rescaled where a larger score is found.
namespace weft::compiler {
namespace {

using ir::Node;
using ir::Value;
using loop::Accumulator;
using loop::Combine;
using loop::Ex;
using loop::Scalar;

constexpr std::int64_t warp = 32;
constexpr std::int64_t warps = 4;
constexpr std::int64_t longest_row = 256;

class AttentionForward {
 public:
  AttentionForward(GroupEmitter& emitter, const DeviceOptions& options)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        x_(*emitter.group().anchor),
        device_(emitter, x_),
        width_(AttentionDevice::padded(x_.d)),
        result_width_(AttentionDevice::padded(x_.e)) {
    // Registers of a thread: scores and results, a row fragment's times their number.
    row_fragments_ = result_width_ <= 128 ? 2 : 1;
    keys_ = result_width_ <= 64 ? 64 : 32;
    // Shared memory: the queries, and two stages of keys and values.
    const auto bytes = [&] {
      return 2 * (row_fragments_ * 16 * warps * (width_ + 8) +
                  2 * keys_ * (width_ + result_width_ + 16));
    };
    while (bytes() > options.shared_bytes() && row_fragments_ > 1) row_fragments_ /= 2;
    strip_ = row_fragments_ * 16 * warps;
  }

  void run() {
    const std::int64_t strips = divide_up(x_.n, strip_);
    constexpr std::int64_t threads = warps * warp;
    TileLoader queries = device_.loader("queries", device_.matrix(0), strip_, 1, threads);
    TileLoader keys = device_.loader("keys", device_.matrix(1), keys_, 2, threads);
    TileLoader values = device_.loader("values", device_.matrix(2), keys_, 2, threads);
    b_.phase(x_.batches * strips, threads, [&](Ex block, Ex thread) {
      // Causal: strips that see most keys first.
      const std::vector<Ex> at = a_.delinearize(block, {strips, x_.batches});
      batch_ = b_.let(at[1]);
      first_ = b_.let(a_.mul(a_.sub(a_.integer(strips - 1), at[0]), a_.integer(strip_)));
      thread_ = thread;
      MatrixUnit unit(b_, device_.type(), b_.let(a_.floor_mod(thread, warp)));
      strip(unit, queries, keys, values);
    });
  }

 private:
  struct RowState {
    Accumulator* maximum;  ///< of scores, before the scale where that is positive
    Accumulator* total;    ///< of this thread's columns
  };

  Ex real(double value) { return a_.constant(Scalar::f32, value); }

  void strip(MatrixUnit& unit, TileLoader& queries, TileLoader& keys, TileLoader& values) {
    AttentionProducts products(b_, unit);
    const Ex own_warp = b_.let(a_.floor_div(thread_, warp));
    const FragmentSource query_source = unit.row_source(queries.buffer(), queries.pitch(), true);
    const FragmentSource key_source = unit.column_source(keys.buffer(), keys.pitch(), true);
    // For the second product keys are the contracted axis.
    const FragmentSource value_source = unit.column_source(values.buffer(), values.pitch(), false);
    const Ex own_row = b_.let(a_.mul(own_warp, a_.integer(16 * row_fragments_)));
    const Ex first_query = b_.let(queries.within(own_row, a_.integer(0)));
    const Ex zero = a_.integer(0);

    const WarpSums results = products.zero(row_fragments_, result_width_ / 8);
    std::vector<std::array<RowState, 2>> state(static_cast<std::size_t>(row_fragments_));
    for (auto& rows : state) {
      for (RowState& row : rows) {
        row.maximum = b_.declare(Scalar::f32, Combine::maximum,
                                 real(-std::numeric_limits<double>::infinity()));
        row.total = b_.declare(Scalar::f32, Combine::add, real(0));
      }
    }

    std::int64_t most = divide_up(x_.m, keys_);
    Ex count = a_.integer(most);
    if (x_.causal) {
      const Ex last = a_.add(first_, a_.integer(strip_ + x_.offset() + keys_ - 1));
      count = b_.let_within(a_.binary(loop::Binary::minimum, count, a_.floor_div(last, keys_)), 1,
                            most);
    }
    const auto start = [&](Ex number) {
      const Ex stage = b_.let(a_.floor_mod(number, 2));
      const Ex key = a_.mul(b_.let_within(number, 0, most - 1), a_.integer(keys_));
      keys.start(stage, batch_, key, zero, thread_);
      values.start(stage, batch_, key, zero, thread_);
    };
    const auto finish = [&](Ex number) {
      const Ex stage = b_.let(a_.floor_mod(number, 2));
      keys.finish(stage, thread_);
      values.finish(stage, thread_);
    };
    queries.start(zero, batch_, first_, zero, thread_);
    queries.finish(zero, thread_);
    start(zero);
    finish(zero);
    b_.call(loop::intrinsic("copy_commit"), {});
    b_.loop(count, [&](Ex number) {
      b_.call(loop::intrinsic("copy_wait"), {a_.integer(Scalar::i32, 0)});
      b_.barrier();
      const Ex next = a_.add(number, a_.integer(1));
      b_.condition(a_.less(next, count), [&] { start(next); });
      b_.call(loop::intrinsic("copy_commit"), {});
      const Ex stage = b_.let(a_.floor_mod(number, 2));
      const Ex first_key = b_.let(a_.mul(number, a_.integer(keys_)));

      const WarpSums scores = products.zero(row_fragments_, keys_ / 8);
      products.add(scores, query_source, first_query, key_source, b_.let(keys.stage(stage)),
                   width_);
      mask(unit, scores, own_row, first_key);
      const auto probabilities = exponentiate(unit, scores, results, state);
      products.add(results, probabilities, value_source, b_.let(values.stage(stage)));
      if (!keys.copies() || !values.copies()) {
        b_.condition(a_.less(next, count), [&] { finish(next); });
      }
    });
    store(unit, products, results, state, own_row);
  }

  /// -inf where a key is not visible, in tiles that have such keys.
  void mask(MatrixUnit& unit, const WarpSums& scores, Ex own_row, Ex first_key) {
    if (x_.scale <= 0) {
      // The largest score is to be found after scaling.
      for (const auto& row : scores) {
        for (const MatrixUnit::Sums& sums : row) {
          for (Accumulator* sum : sums) b_.assign(sum, a_.mul(b_.read(sum), real(factor())));
        }
      }
    }
    const bool ragged = x_.m % keys_ != 0;
    if (!x_.causal && !ragged) return;
    Ex hidden = nullptr;
    const Ex end = a_.add(first_key, a_.integer(keys_));
    if (x_.causal) {
      hidden = a_.less(a_.add(first_, a_.add(own_row, a_.integer(x_.offset() + 1))), end);
    }
    if (ragged) {
      const Ex past = a_.less(a_.integer(x_.m), end);
      hidden = hidden == nullptr ? past : a_.logical_or(hidden, past);
    }
    b_.condition(hidden, [&] {
      const Ex column = b_.let(a_.add(first_key, a_.mul(unit.thread(), a_.integer(2))));
      const Ex row = b_.let(a_.add(a_.add(first_, own_row), unit.group()));
      for (std::size_t r = 0; r < scores.size(); ++r) {
        for (std::size_t c = 0; c < scores[r].size(); ++c) {
          for (std::size_t i = 0; i < 4; ++i) {
            const Ex key = a_.add(column, a_.integer(static_cast<std::int64_t>(8 * c + i % 2)));
            Ex visible = nullptr;
            if (x_.causal) {
              const auto offset = static_cast<std::int64_t>(16 * r + 8 * (i / 2));
              visible = a_.less_equal(key, a_.add(row, a_.integer(offset + x_.offset())));
            }
            if (ragged) {
              const Ex there = a_.less(key, a_.integer(x_.m));
              visible = visible == nullptr ? there : a_.logical_and(visible, there);
            }
            Accumulator* sum = scores[r][c][i];
            b_.assign(sum, a_.select(visible, b_.read(sum),
                                     real(-std::numeric_limits<double>::infinity())));
          }
        }
      }
    });
  }

  /// exp(x) is 2^(x log2 e).
  double factor() const { return x_.scale * std::numbers::log2e; }

  Ex exp2(Ex x) { return b_.call(loop::intrinsic("fast_exp2"), {b_.let(x)})[0]; }

  /// 2^(score - maximum) of the rows; what was found before is rescaled.
  std::vector<std::vector<std::array<Ex, 4>>> exponentiate(
      MatrixUnit& unit, const WarpSums& scores, const WarpSums& results,
      std::vector<std::array<RowState, 2>>& state) {
    const Ex scale = real(x_.scale > 0 ? factor() : 1);
    std::vector<std::vector<std::array<Ex, 4>>> probabilities(scores.size());
    for (std::size_t r = 0; r < scores.size(); ++r) {
      probabilities[r].resize(scores[r].size());
      for (std::size_t half = 0; half < 2; ++half) {
        RowState& row = state[r][half];
        Ex maximum = nullptr;
        std::vector<std::array<Ex, 2>> values;
        for (const MatrixUnit::Sums& sums : scores[r]) {
          values.push_back({b_.read(sums[2 * half]), b_.read(sums[2 * half + 1])});
          for (const Ex value : values.back()) {
            maximum = maximum == nullptr ? value : a_.binary(loop::Binary::maximum, maximum, value);
          }
        }
        maximum = unit.over_columns(maximum, Combine::maximum);
        const Ex before = b_.read(row.maximum);
        const Ex now = b_.let(a_.binary(loop::Binary::maximum, before, maximum));
        const Ex rescale = exp2(a_.mul(a_.sub(before, now), scale));
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
        b_.assign(row.total, a_.fma(b_.read(row.total), rescale, total));
        for (const MatrixUnit::Sums& sums : results[r]) {
          for (std::size_t i = 2 * half; i < 2 * half + 2; ++i) {
            b_.assign(sums[i], a_.mul(b_.read(sums[i]), rescale));
          }
        }
      }
    }
    return probabilities;
  }

  void store(MatrixUnit& unit, AttentionProducts& products, const WarpSums& results,
             std::vector<std::array<RowState, 2>>& state, Ex own_row) {
    const Ex first_row = b_.let(a_.add(first_, own_row));
    const Value normaliser{const_cast<Node*>(emitter_.group().anchor), 1};
    std::vector<std::array<Ex, 2>> reciprocals(state.size());
    for (std::size_t r = 0; r < state.size(); ++r) {
      for (std::size_t half = 0; half < 2; ++half) {
        const RowState& row = state[r][half];
        const Ex total = unit.over_columns(b_.read(row.total), Combine::add);
        reciprocals[r][half] = b_.let(a_.div(real(1), total));
        if (!emitter_.is_output(normaliser)) continue;
        const auto offset = static_cast<std::int64_t>(16 * r + 8 * half);
        const Ex query = a_.add(first_row, a_.add(unit.group(), a_.integer(offset)));
        const Ex maximum = b_.read(row.maximum);
        b_.condition(a_.logical_and(a_.equal(unit.thread(), a_.integer(0)),
                                    a_.less(query, a_.integer(x_.n))),
                     [&] {
                       const Ex own = b_.let_within(query, 0, x_.n - 1);
                       const Ex position = a_.add(a_.mul(batch_, a_.integer(x_.n)), own);
                       const Ex scale = real(x_.scale > 0 ? x_.scale : std::numbers::ln2);
                       const Ex logarithm = a_.fma(maximum, scale, loop::log(a_, total));
                       emitter_.store(normaliser, position, {logarithm, nullptr});
                     });
      }
    }
    RowStore rows(b_, x_.n, x_.e, device_.store_width(0));
    products.store(
        results, first_row, rows,
        [&](Ex value, std::size_t r, std::size_t half) {
          return a_.mul(value, reciprocals[r][half]);
        },
        [&](Ex row, Ex column, const std::vector<Ex>& value) {
          device_.store_result(0, batch_, row, column, value[0]);
        });
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  AttentionExtents x_;
  AttentionDevice device_;
  std::int64_t width_, result_width_;  ///< of a row of keys and of values, padded
  std::int64_t row_fragments_ = 1;     ///< of a warp
  std::int64_t keys_ = 0;              ///< of a tile
  std::int64_t strip_ = 0;             ///< queries of a block
  Ex batch_ = nullptr, first_ = nullptr, thread_ = nullptr;
};

}  // namespace

bool has_attention_device_schedule(const Node& node) {
  const AttentionExtents x(node);
  const DType type = node.operand_type(0).dtype;
  const bool units = type == DType::f16 || type == DType::bf16;
  const std::int64_t widest = units && node.is("attention") ? longest_row : longest_row / 2;
  return type != DType::f64 && x.batches > 0 && x.n > 0 && x.d >= 1 && x.d <= widest && x.e >= 1 &&
         x.e <= widest;
}

void schedule_attention_device(GroupEmitter& emitter, const DeviceOptions& options) {
  if (emitter.group().anchor->operand_type(0).dtype == DType::f32) {
    schedule_attention_exact_device(emitter, options);
  } else {
    AttentionForward(emitter, options).run();
  }
}

}  // namespace weft::compiler
