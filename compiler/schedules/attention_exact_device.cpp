#include <algorithm>
#include <limits>
#include <numbers>

#include "compiler/loop/math.h"
#include "compiler/schedules/across_threads.h"
#include "compiler/schedules/attention_strips.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/thread_indices.h"

/// Attention and its gradients on a GPU in exact f32: the schedules of attention_device.cpp and
/// attention_backward_device.cpp with sums of single threads in place of matrix units. A block's
/// 256 threads are 16 by 16; scores lie in shared memory between the products that make and use
/// them.
namespace weft::compiler {
namespace {

using ir::Node;
using ir::Value;
using loop::Accumulator;
using loop::Combine;
using loop::Ex;
using loop::Scalar;

constexpr std::int64_t threads = 256;
constexpr std::int64_t side = 16;
/// Neighbours that are read together.
constexpr std::int64_t piece = 4;
constexpr std::int64_t padding = 4;  ///< of rows: eight neighbours are in different banks

/// A thread's part of a matrix: rows thread_row + 16 i by columns.
using ThreadSums = std::vector<std::vector<Accumulator*>>;

class ExactAttention : AttentionStrips {
 public:
  ExactAttention(GroupEmitter& emitter, const DeviceOptions& options)
      : AttentionStrips(emitter),
        width_(AttentionDevice::padded(x_.d)),
        result_width_(AttentionDevice::padded(x_.e)) {
    // Four tiles and the scores.
    const auto bytes = [&] {
      return 4 * (2 * tile_ * (width_ + result_width_ + 2 * padding) + tile_ * (tile_ + padding));
    };
    for (tile_ = 64; bytes() > options.shared_bytes() && tile_ > side;) tile_ /= 2;
    own_ = tile_ / side;
  }

  void forward() {
    TileLoader queries = device_.loader("queries", device_.matrix(0), tile_, 1, threads);
    TileLoader keys = device_.loader("keys", device_.matrix(1), tile_, 1, threads);
    TileLoader values = device_.loader("values", device_.matrix(2), tile_, 1, threads);
    make_scores();
    phase(x_.n, x_.causal, [&] { forward(queries, keys, values); });
  }

  void backward() {
    const AttentionMatrix queries = device_.matrix(0), keys = device_.matrix(1);
    const AttentionMatrix values = device_.matrix(2), gradient = device_.matrix(5);
    TileLoader query_tile = device_.loader("queries", queries, tile_, 1, threads);
    TileLoader key_tile = device_.loader("keys", keys, tile_, 1, threads);
    TileLoader value_tile = device_.loader("values", values, tile_, 1, threads);
    TileLoader gradient_tile = device_.loader("gradient", gradient, tile_, 1, threads);
    make_scores();
    if (device_.wanted(0)) {
      phase(x_.n, x_.causal, [&] { of_queries(query_tile, gradient_tile, key_tile, value_tile); });
    }
    if (device_.wanted(1) || device_.wanted(2)) {
      phase(x_.m, false, [&] { of_keys(key_tile, value_tile, query_tile, gradient_tile); });
    }
  }

 private:
  Ex at(std::int64_t value) { return a_.integer(value); }
  double factor() const { return x_.scale * std::numbers::log2e; }

  void make_scores() {
    scores_ = b_.kernel().shared("scores", DType::f32, tile_ * (tile_ + padding));
  }

  void phase(std::int64_t rows, bool backwards, const std::function<void()>& body) {
    AttentionStrips::phase(rows, tile_, threads, backwards, [&] {
      row_ = b_.let(a_.floor_div(thread_, side));
      column_ = b_.let(a_.floor_mod(thread_, side));
      body();
    });
  }

  // ---- products ---------------------------------------------------------------------------------

  ThreadSums zero(std::int64_t columns) {
    ThreadSums sums(static_cast<std::size_t>(own_));
    for (auto& row : sums) {
      for (std::int64_t i = 0; i < columns; ++i) {
        row.push_back(b_.declare(Scalar::f32, Combine::add, real(0)));
      }
    }
    return sums;
  }

  /// Four neighbours from an element on.
  std::array<Ex, piece> four(const loop::Buffer* buffer, Ex first) {
    std::array<Ex, piece> values{};
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = b_.let(a_.load(buffer, a_.add(first, at(static_cast<std::int64_t>(i)))));
    }
    return values;
  }

  Ex own_row(std::size_t i) { return a_.add(row_, at(side * static_cast<std::int64_t>(i))); }
  Ex own_column(std::size_t j) { return a_.add(column_, at(side * static_cast<std::int64_t>(j))); }

  /// Scores: rows of one tile by rows of another, over their `length` elements.
  ThreadSums rows_by_rows(const TileLoader& rows, const TileLoader& columns, std::int64_t length) {
    const ThreadSums sums = zero(own_);
    b_.loop(at(length / piece), [&](Ex step) {
      const Ex depth = a_.mul(step, at(piece));
      std::vector<std::array<Ex, piece>> y;
      for (std::size_t j = 0; j < sums.size(); ++j) {
        y.push_back(four(columns.buffer(), columns.within(own_column(j), depth)));
      }
      for (std::size_t i = 0; i < sums.size(); ++i) {
        const std::array<Ex, piece> x = four(rows.buffer(), rows.within(own_row(i), depth));
        for (std::size_t j = 0; j < sums.size(); ++j) {
          for (std::size_t s = 0; s < x.size(); ++s) {
            b_.assign(sums[i][j], a_.fma(x[s], y[j][s], b_.read(sums[i][j])));
          }
        }
      }
    });
    return sums;
  }

  /// sums += the scores that are in shared memory times the rows of a tile. Columns of a thread are
  /// pieces of neighbours, the threads' pieces side by side.
  void add_scores_by_rows(const ThreadSums& sums, const TileLoader& tile) {
    const std::size_t columns = sums[0].size();
    b_.loop(at(tile_ / piece), [&](Ex step) {
      const Ex depth = a_.mul(step, at(piece));
      std::vector<std::array<Ex, piece>> x;
      for (std::size_t i = 0; i < sums.size(); ++i) {
        x.push_back(four(scores_, a_.add(a_.mul(own_row(i), at(tile_ + padding)), depth)));
      }
      for (std::size_t s = 0; s < piece; ++s) {
        const Ex row = a_.add(depth, at(static_cast<std::int64_t>(s)));
        for (std::size_t c = 0; c < columns; c += piece) {
          const std::array<Ex, piece> y =
              four(tile.buffer(), tile.within(row, read_column(tile, c)));
          for (std::size_t i = 0; i < sums.size(); ++i) {
            for (std::size_t j = 0; j < piece; ++j) {
              Accumulator* sum = sums[i][c + j];
              b_.assign(sum, a_.fma(x[i][s], y[j], b_.read(sum)));
            }
          }
        }
      }
    });
  }

  /// The first column of a thread's piece.
  Ex piece_column(std::size_t c) {
    return a_.add(a_.mul(column_, at(piece)), at(side * static_cast<std::int64_t>(c)));
  }
  /// The same, of those that the tile has: more are computed and not stored.
  Ex read_column(const TileLoader& tile, std::size_t c) {
    const std::int64_t pieces = (tile.pitch() - padding) / piece;
    const Ex number = a_.add(column_, at(side * static_cast<std::int64_t>(c) / piece));
    return a_.mul(at_most_last(b_, number, pieces), at(piece));
  }
  /// Columns of a thread in rows of a padded width.
  static std::int64_t own_columns(std::int64_t width) {
    return divide_up(width, side * piece) * piece;
  }

  void store_scores(std::size_t i, std::size_t j, Ex value) {
    b_.store(scores_, a_.add(a_.mul(own_row(i), at(tile_ + padding)), own_column(j)), value);
  }

  /// Over the threads of a row.
  Ex over_row(Ex value, Combine combine) { return across_lanes(b_, combine, value, side); }

  void fetch(TileLoader& tile, Ex first) {
    tile.start(at(0), batch_, first, at(0), thread_);
    tile.finish(at(0), thread_);
  }
  void commit() { b_.call(loop::intrinsic("copy_commit"), {}); }
  void arrive() {
    b_.call(loop::intrinsic("copy_wait"), {a_.integer(Scalar::i32, 0)});
    b_.barrier();
  }

  bool ragged_queries() const { return x_.n % tile_ != 0; }
  bool ragged_keys() const { return x_.m % tile_ != 0; }

  // ---- forward ----------------------------------------------------------------------------------

  void forward(TileLoader& queries, TileLoader& keys, TileLoader& values) {
    const ThreadSums results = zero(own_columns(result_width_));
    std::vector<Accumulator*> maxima, totals;
    for (std::int64_t i = 0; i < own_; ++i) {
      maxima.push_back(b_.declare(Scalar::f32, Combine::maximum,
                                  real(-std::numeric_limits<double>::infinity())));
      totals.push_back(b_.declare(Scalar::f32, Combine::add, real(0)));
    }
    const Ex count = key_tiles(tile_, tile_);
    fetch(queries, first_);
    fetch(keys, at(0));
    commit();
    b_.loop(count, [&](Ex number) {
      const Ex first_key = b_.let(a_.mul(number, at(tile_)));
      // The keys are there, and nobody reads the values before any more.
      arrive();
      fetch(values, first_key);
      commit();
      const ThreadSums scores = rows_by_rows(queries, keys, width_);
      for (std::size_t i = 0; i < scores.size(); ++i) {
        std::vector<Ex> row;
        Ex maximum = nullptr;
        const Ex query = a_.add(first_, own_row(i));
        for (std::size_t j = 0; j < scores[i].size(); ++j) {
          Ex value = a_.mul(b_.read(scores[i][j]), real(factor()));
          const Ex seen =
              mask_.visible(query, a_.add(first_key, own_column(j)), false, ragged_keys());
          if (seen != nullptr) {
            value = a_.select(seen, value, real(-std::numeric_limits<double>::infinity()));
          }
          row.push_back(b_.let(value));
          maximum = maximum == nullptr ? row.back()
                                       : a_.binary(loop::Binary::maximum, maximum, row.back());
        }
        maximum = over_row(maximum, Combine::maximum);
        const Ex before = b_.read(maxima[i]);
        const Ex now = b_.let(a_.binary(loop::Binary::maximum, before, maximum));
        const Ex rescale = b_.let(loop::exp2(a_, a_.sub(before, now)));
        b_.assign(maxima[i], now);
        Ex total = nullptr;
        for (std::size_t j = 0; j < row.size(); ++j) {
          const Ex value = b_.let(loop::exp2(a_, a_.sub(row[j], now)));
          store_scores(i, j, value);
          total = total == nullptr ? value : a_.add(total, value);
        }
        b_.assign(totals[i], a_.fma(b_.read(totals[i]), rescale, total));
        for (Accumulator* sum : results[i]) b_.assign(sum, a_.mul(b_.read(sum), rescale));
      }
      // The values and everybody's probabilities are there; nobody reads these keys any more.
      arrive();
      const Ex next = a_.add(number, at(1));
      b_.condition(a_.less(next, count), [&] {
        fetch(keys, a_.mul(b_.let_within(next, 0, count->maximum - 1), at(tile_)));
      });
      commit();
      add_scores_by_rows(results, values);
    });
    const Value normaliser{const_cast<Node*>(emitter_.group().anchor), 1};
    std::vector<Ex> reciprocals;
    for (std::size_t i = 0; i < results.size(); ++i) {
      const Ex total = over_row(b_.read(totals[i]), Combine::add);
      reciprocals.push_back(b_.let(a_.div(real(1), total)));
      if (!emitter_.is_output(normaliser)) continue;
      const Ex query = a_.add(first_, own_row(i));
      const Ex maximum = b_.read(maxima[i]);
      b_.condition(a_.logical_and(a_.equal(column_, at(0)), a_.less(query, at(x_.n))), [&] {
        const Ex own = b_.let_within(query, 0, x_.n - 1);
        emitter_.store(normaliser, a_.add(a_.mul(batch_, at(x_.n)), own),
                       {a_.fma(maximum, real(std::numbers::ln2), loop::log(a_, total)), nullptr});
      });
    }
    store(results, 0, x_.n, x_.e,
          [&](Ex value, std::size_t i) { return a_.mul(value, reciprocals[i]); });
  }

  // ---- backward ---------------------------------------------------------------------------------

  Ex probability(Ex score, const Statistics& of, Ex seen) {
    const Ex exponent = a_.fma(score, real(factor()), a_.neg(of.normaliser));
    Ex value = loop::exp2(a_, exponent);
    if (seen != nullptr) value = a_.select(seen, value, real(0));
    return b_.let(value);
  }

  void of_queries(TileLoader& queries, TileLoader& gradient, TileLoader& keys, TileLoader& values) {
    const ThreadSums sums = zero(own_columns(width_));
    std::vector<Statistics> of;
    for (std::int64_t i = 0; i < own_; ++i) {
      of.push_back(statistics(a_.add(first_, own_row(static_cast<std::size_t>(i)))));
    }
    fetch(queries, first_);
    fetch(gradient, first_);
    b_.loop(key_tiles(tile_, tile_), [&](Ex number) {
      const Ex first_key =
          b_.let(a_.mul(b_.let_within(number, 0, divide_up(x_.m, tile_) - 1), at(tile_)));
      fetch(keys, first_key);
      fetch(values, first_key);
      commit();
      arrive();
      const ThreadSums scores = rows_by_rows(queries, keys, width_);
      const ThreadSums centred = rows_by_rows(gradient, values, result_width_);
      for (std::size_t i = 0; i < scores.size(); ++i) {
        const Ex query = a_.add(first_, own_row(i));
        for (std::size_t j = 0; j < scores[i].size(); ++j) {
          const Ex seen = mask_.visible(query, a_.add(first_key, own_column(j)), ragged_queries(),
                                        ragged_keys());
          const Ex p = probability(b_.read(scores[i][j]), of[i], seen);
          store_scores(i, j, a_.mul(p, a_.sub(b_.read(centred[i][j]), of[i].delta)));
        }
      }
      b_.barrier();
      add_scores_by_rows(sums, keys);
      // Nobody reads the tiles any more.
      b_.barrier();
    });
    store(sums, 0, x_.n, x_.d,
          [&](Ex value, std::size_t) { return a_.mul(value, real(x_.scale)); });
  }

  void of_keys(TileLoader& keys, TileLoader& values, TileLoader& queries, TileLoader& gradient) {
    const bool keys_wanted = device_.wanted(1), values_wanted = device_.wanted(2);
    ThreadSums key_sums, value_sums;
    if (keys_wanted) key_sums = zero(own_columns(width_));
    if (values_wanted) value_sums = zero(own_columns(result_width_));
    const std::int64_t most = divide_up(x_.n, tile_);
    const Ex begin = first_query_tile(tile_);
    fetch(keys, first_);
    fetch(values, first_);
    commit();
    b_.loop(b_.let_within(a_.sub(at(most), begin), 0, most), [&](Ex i) {
      const Ex number = b_.let_within(a_.add(begin, i), 0, most - 1);
      const Ex first_query = b_.let(a_.mul(number, at(tile_)));
      fetch(queries, first_query);
      fetch(gradient, first_query);
      commit();
      arrive();
      const ThreadSums scores = rows_by_rows(keys, queries, width_);
      std::vector<Statistics> of;
      for (std::int64_t j = 0; j < own_; ++j) {
        of.push_back(statistics(a_.add(first_query, own_column(static_cast<std::size_t>(j)))));
      }
      std::vector<std::vector<Ex>> probabilities(scores.size());
      for (std::size_t r = 0; r < scores.size(); ++r) {
        const Ex key = a_.add(first_, own_row(r));
        for (std::size_t j = 0; j < scores[r].size(); ++j) {
          const Ex seen = mask_.visible(a_.add(first_query, own_column(j)), key, ragged_queries(),
                                        ragged_keys());
          probabilities[r].push_back(probability(b_.read(scores[r][j]), of[j], seen));
          store_scores(r, j, probabilities[r][j]);
        }
      }
      b_.barrier();
      if (values_wanted) add_scores_by_rows(value_sums, gradient);
      if (keys_wanted) {
        const ThreadSums centred = rows_by_rows(values, gradient, result_width_);
        b_.barrier();
        for (std::size_t r = 0; r < centred.size(); ++r) {
          for (std::size_t j = 0; j < centred[r].size(); ++j) {
            store_scores(r, j,
                         a_.mul(probabilities[r][j], a_.sub(b_.read(centred[r][j]), of[j].delta)));
          }
        }
        b_.barrier();
        add_scores_by_rows(key_sums, queries);
      }
      // Nobody reads the tiles any more.
      b_.barrier();
    });
    // Nothing may be under way when the block ends.
    b_.call(loop::intrinsic("copy_wait"), {a_.integer(Scalar::i32, 0)});
    if (keys_wanted) {
      store(key_sums, 1, x_.m, x_.d,
            [&](Ex value, std::size_t) { return a_.mul(value, real(x_.scale)); });
    }
    if (values_wanted) {
      store(value_sums, 2, x_.m, x_.e, [](Ex value, std::size_t) { return value; });
    }
  }

  void store(const ThreadSums& sums, std::uint32_t result, std::int64_t rows, std::int64_t columns,
             const std::function<Ex(Ex value, std::size_t row)>& finish) {
    RowStore row_store(b_, rows, columns, device_.store_width(result));
    for (std::size_t i = 0; i < sums.size(); ++i) {
      for (std::size_t c = 0; c < sums[i].size(); c += piece) {
        std::vector<Ex> values;
        for (std::size_t j = 0; j < piece; ++j) {
          values.push_back(b_.let(finish(b_.read(sums[i][c + j]), i)));
        }
        row_store.store(a_.add(first_, own_row(i)), piece_column(c), values,
                        [&](Ex row, Ex column, const std::vector<Ex>& value) {
                          device_.store_result(result, batch_, row, column, value[0]);
                        });
      }
    }
  }

  std::int64_t width_, result_width_;  ///< of a row of keys and of values, padded
  std::int64_t tile_ = 64;             ///< rows
  std::int64_t own_ = 4;               ///< of a thread
  const loop::Buffer* scores_ = nullptr;
  Ex row_ = nullptr, column_ = nullptr;  ///< of the thread
};

}  // namespace

void schedule_attention_exact_device(GroupEmitter& emitter, const DeviceOptions& options) {
  ExactAttention attention(emitter, options);
  if (emitter.group().anchor->is("attention")) {
    attention.forward();
  } else {
    attention.backward();
  }
}

}  // namespace weft::compiler
