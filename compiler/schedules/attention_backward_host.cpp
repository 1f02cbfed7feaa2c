#include <algorithm>
#include <numbers>

#include "compiler/loop/math.h"
#include "compiler/schedules/attention_tiles.h"
#include "compiler/schedules/divide.h"

/// The gradients of attention on a CPU, in one pass over blocks of queries for each strip of keys:
/// a key is a vector lane, the probabilities are computed again from the softmax's denominator. The
/// gradients of a strip's keys and values stay in its block's memory; those of queries, which are
/// sums over keys, are added up in a workspace, in parts that a second phase sums.
namespace weft::compiler {
namespace {

using ir::Node;
using ir::Value;
using loop::Ex;
using loop::Role;

class AttentionBackwardKernel {
 public:
  AttentionBackwardKernel(GroupEmitter& emitter, const HostTarget& target)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        node_(*emitter.group().anchor),
        x_(node_),
        tiles_(emitter, target, x_, x_.m),
        queries_{node_.operands[0], x_.n, x_.d},
        keys_{node_.operands[1], x_.m, x_.d},
        gradient_{node_.operands[5], x_.n, x_.e},
        query_tile_(tiles_.even_tile(x_.n)),
        block_(tiles_per_block * query_tile_) {
    for (const Value output : emitter.group().outputs) {
      const bool further = output.node == &node_ && output.index > 0;
      wanted_[further ? output.index : 0] = true;
    }
  }

  void run() {
    // Heads alone may be too few to occupy a machine.
    constexpr std::int64_t enough_parts = 16;
    parts_ = std::clamp<std::int64_t>(enough_parts / x_.batches, 1, tiles_.strips());
    const std::int64_t sums = wanted_[0] ? x_.batches * parts_ * x_.n * x_.d : 0;
    sums_offset_ = tiles_.pack({&queries_, &keys_, &gradient_}, sums);
    const std::int64_t width = tiles_.width();
    key_strip_ = local("keys", x_.d * width);
    value_strip_ = local("values", x_.e * width);
    key_gradient_ = local("key_gradient", x_.d * width);
    value_gradient_ = local("value_gradient", x_.e * width);
    rows_ = local("rows", std::max(x_.d, x_.e) * width);
    probabilities_ = local("probabilities", block_ * width);
    score_gradient_ = local("score_gradient", block_ * width);
    const std::int64_t work = x_.n * x_.m * (3 * x_.d + 2 * x_.e) / (x_.causal ? 2 : 1) / parts_;
    tiles_.for_parts(parts_, work, [&](Ex batch, Ex part) { this->part(batch, part); });
    if (wanted_[0]) sum_parts();
  }

 private:
  /// Probabilities of a block: 12 KiB by AVX-512.
  static constexpr std::int64_t tiles_per_block = 8;

  const loop::Buffer* local(const char* name, std::int64_t elements) {
    return b_.kernel().local(name, DType::f32, elements);
  }

  /// One value for each query, at every lane.
  Ex of_query(std::size_t operand, Ex query) {
    const Value value = node_.operands[operand];
    std::vector<Ex> index = a_.delinearize(batch_, x_.leading);
    index.push_back(query);
    emitter_.reset();
    return emitter_.value(value, index).re;
  }

  /// Where the sum for a query's element is.
  Ex sum_position(Ex part, Ex query, Ex column) {
    const Ex unit = a_.add(a_.mul(batch_, a_.integer(parts_)), part);
    const Ex row = a_.add(a_.mul(unit, a_.integer(x_.n)), query);
    return a_.add(a_.integer(sums_offset_), a_.add(a_.mul(row, a_.integer(x_.d)), column));
  }

  void part(Ex batch, Ex part) {
    batch_ = batch;
    if (wanted_[0]) {
      b_.loop(x_.n, Role::serial, 1, [&](Ex query) {
        b_.loop(x_.d, Role::vector, tiles_.lanes(), [&](Ex column) {
          b_.store(tiles_.workspace(), sum_position(part, query, column), tiles_.zero());
        });
      });
    }
    // Strips in turn, so that causal work is shared evenly.
    const Ex strips = a_.floor_div(
        a_.add(a_.sub(a_.integer(tiles_.strips()), part), a_.integer(parts_ - 1)), parts_);
    b_.loop(strips, [&](Ex i) {
      const Ex strip = a_.add(a_.mul(i, a_.integer(parts_)), part);
      this->strip(part, b_.let_within(strip, 0, tiles_.strips() - 1));
    });
  }

  void strip(Ex part, Ex number) {
    first_ = b_.let(a_.mul(number, a_.integer(tiles_.width())));
    tiles_.transpose(key_strip_, keys_.value, batch_, first_, x_.scale * std::numbers::log2e);
    tiles_.transpose(value_strip_, node_.operands[2], batch_, first_, 1);
    tiles_.fill(key_gradient_, x_.d, tiles_.zero());
    tiles_.fill(value_gradient_, x_.e, tiles_.zero());
    Ex start = a_.integer(0);
    if (x_.causal) {
      const Ex seen =
          a_.binary(loop::Binary::maximum, a_.integer(0), a_.sub(first_, a_.integer(x_.offset())));
      start = b_.let_within(a_.mul(a_.floor_div(seen, query_tile_), a_.integer(query_tile_)), 0,
                            x_.n - 1);
    }
    const Ex blocks =
        a_.floor_div(a_.add(a_.sub(a_.integer(x_.n), start), a_.integer(block_ - 1)), block_);
    b_.loop(blocks, [&](Ex block) {
      const Ex begin = b_.let_within(a_.add(start, a_.mul(block, a_.integer(block_))), 0, x_.n - 1);
      const Ex count = b_.let_within(
          tiles_.smaller(a_.integer(block_), a_.sub(a_.integer(x_.n), begin)), 1, block_);
      for_queries(begin, [&](Ex first, std::int64_t rows) { probabilities(begin, first, rows); });
      for_queries(begin, [&](Ex first, std::int64_t rows) { score_gradient(begin, first, rows); });
      if (wanted_[1]) add_to(key_gradient_, x_.d, queries_, score_gradient_, begin, count);
      if (wanted_[2]) add_to(value_gradient_, x_.e, gradient_, probabilities_, begin, count);
      if (wanted_[0]) {
        for_queries(begin,
                    [&](Ex first, std::int64_t rows) { query_gradient(part, begin, first, rows); });
      }
    });
    const auto constant = [&](double value) {
      return [this, value](Ex) { return tiles_.real(value); };
    };
    if (wanted_[1]) {
      tiles_.store_transposed(key_gradient_, rows_, 1, batch_, first_, constant(x_.scale));
    }
    if (wanted_[2]) tiles_.store_transposed(value_gradient_, rows_, 2, batch_, first_, constant(1));
  }

  void for_queries(Ex begin, const std::function<void(Ex first, std::int64_t rows)>& body) {
    tiles_.for_tiles_within(begin, a_.integer(x_.n), block_, x_.n, query_tile_, body);
  }

  /// probabilities_[i, lane] = 2^(scores - log2 of the denominator), 0 where masked.
  void probabilities(Ex begin, Ex first, std::int64_t rows) {
    const Ex query = b_.let_within(a_.add(begin, first), 0, x_.n - rows);
    AttentionTiles::Multiply product = by_strip(queries_, key_strip_, query, rows);
    product.finish = [&](Ex lane, const std::vector<Ex>& sums) {
      for (std::size_t r = 0; r < sums.size(); ++r) {
        const Ex row = a_.integer(static_cast<std::int64_t>(r));
        const Ex normaliser =
            a_.mul(of_query(3, a_.add(query, row)), tiles_.real(std::numbers::log2e));
        Ex value = loop::exp2(a_, a_.sub(sums[r], normaliser));
        if (x_.causal) {
          const Ex last = a_.add(a_.add(query, row), a_.integer(x_.offset()));
          value = a_.select(a_.less_equal(a_.add(first_, lane), last), value, tiles_.zero());
        }
        b_.store(probabilities_, tiles_.in_strip(a_.add(first, row), lane), value);
      }
    };
    tiles_.multiply(product);
  }

  /// score_gradient_ = probabilities_ * (g v^T - delta).
  void score_gradient(Ex begin, Ex first, std::int64_t rows) {
    const Ex query = b_.let_within(a_.add(begin, first), 0, x_.n - rows);
    AttentionTiles::Multiply product = by_strip(gradient_, value_strip_, query, rows);
    product.finish = [&](Ex lane, const std::vector<Ex>& sums) {
      for (std::size_t r = 0; r < sums.size(); ++r) {
        const Ex row = a_.integer(static_cast<std::int64_t>(r));
        const Ex position = tiles_.in_strip(a_.add(first, row), lane);
        const Ex centred = a_.sub(sums[r], of_query(4, a_.add(query, row)));
        b_.store(score_gradient_, position, a_.mul(a_.load(probabilities_, position), centred));
      }
    };
    tiles_.multiply(product);
  }

  /// Rows of queries by a strip of keys.
  AttentionTiles::Multiply by_strip(const AttentionRows& operand, const loop::Buffer* strip,
                                    Ex query, std::int64_t rows) {
    AttentionTiles::Multiply product;
    product.rows = rows;
    product.steps = a_.integer(operand.columns);
    product.x = [this, &operand, query](std::int64_t r, Ex step) {
      return tiles_.element(operand, batch_, a_.add(query, a_.integer(r)), step);
    };
    product.y = [this, strip](Ex step, Ex lane) {
      return a_.load(strip, tiles_.in_strip(step, lane));
    };
    return product;
  }

  /// sums[c, lane] += sum_i operand[i, c] factors[i, lane] over the queries of a block.
  void add_to(const loop::Buffer* sums, std::int64_t columns, const AttentionRows& operand,
              const loop::Buffer* factors, Ex begin, Ex count) {
    tiles_.for_tiles(columns, tiles_.even_tile(columns), [&](Ex column, std::int64_t rows) {
      const auto position = [&](std::int64_t r, Ex lane) {
        return tiles_.in_strip(a_.add(column, a_.integer(r)), lane);
      };
      AttentionTiles::Multiply product;
      product.rows = rows;
      product.steps = count;
      product.initial = [&](std::int64_t r, Ex lane) { return a_.load(sums, position(r, lane)); };
      product.x = [&](std::int64_t r, Ex step) {
        const Ex query = a_.add(begin, step);
        return tiles_.element(operand, batch_, query, a_.add(column, a_.integer(r)));
      };
      product.y = [&](Ex step, Ex lane) { return a_.load(factors, tiles_.in_strip(step, lane)); };
      product.finish = [&](Ex lane, const std::vector<Ex>& values) {
        for (std::size_t r = 0; r < values.size(); ++r) {
          b_.store(sums, position(static_cast<std::int64_t>(r), lane), values[r]);
        }
      };
      tiles_.multiply(product);
    });
  }

  /// The workspace's sums += score_gradient_ k over the keys of the strip; here lanes are columns.
  void query_gradient(Ex part, Ex begin, Ex first, std::int64_t rows) {
    const Ex query = b_.let_within(a_.add(begin, first), 0, x_.n - rows);
    const std::int64_t width = tiles_.width();
    const Ex count = x_.m % width == 0
                         ? a_.integer(width)
                         : tiles_.smaller(a_.integer(width), a_.sub(a_.integer(x_.m), first_));
    tiles_.for_tiles(x_.d, width, [&](Ex column, std::int64_t columns) {
      const auto position = [&](std::int64_t r, Ex lane) {
        return sum_position(part, a_.add(query, a_.integer(r)), a_.add(column, lane));
      };
      AttentionTiles::Multiply product;
      product.rows = rows;
      product.steps = count;
      product.lanes = columns;
      product.initial = [&](std::int64_t r, Ex lane) {
        return a_.load(tiles_.workspace(), position(r, lane));
      };
      product.x = [&](std::int64_t r, Ex step) {
        return a_.load(score_gradient_, tiles_.in_strip(a_.add(first, a_.integer(r)), step));
      };
      product.y = [&](Ex step, Ex lane) {
        const Ex key = a_.add(first_, step);
        return tiles_.element(keys_, batch_, key, a_.add(column, lane));
      };
      product.finish = [&](Ex lane, const std::vector<Ex>& values) {
        for (std::size_t r = 0; r < values.size(); ++r) {
          b_.store(tiles_.workspace(), position(static_cast<std::int64_t>(r), lane), values[r]);
        }
      };
      tiles_.multiply(product);
    });
  }

  void sum_parts() {
    const std::int64_t total = x_.batches * x_.n;
    const std::int64_t chunk = std::clamp<std::int64_t>(block_elements / x_.d, 1, total);
    b_.phase(divide_up(total, chunk), [&](Ex block) {
      for_chunk(emitter_, block, total, chunk, [&](Ex first, std::int64_t extent) {
        b_.loop(extent, Role::serial, 1, [&](Ex i) {
          const std::vector<Ex> at =
              a_.delinearize(b_.let_within(a_.add(first, i), 0, total - 1), {x_.batches, x_.n});
          batch_ = at[0];
          b_.loop(x_.d, Role::vector, tiles_.lanes(), [&](Ex column) {
            Ex sum = a_.load(tiles_.workspace(), sum_position(a_.integer(0), at[1], column));
            for (std::int64_t part = 1; part < parts_; ++part) {
              const Ex position = sum_position(a_.integer(part), at[1], column);
              sum = a_.add(sum, a_.load(tiles_.workspace(), position));
            }
            tiles_.store_result(0, at[0], at[1], column, a_.mul(sum, tiles_.real(x_.scale)));
          });
        });
      });
    });
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const Node& node_;
  AttentionExtents x_;
  AttentionTiles tiles_;
  AttentionRows queries_, keys_, gradient_;
  std::int64_t query_tile_;
  std::int64_t block_;  ///< queries of a block
  bool wanted_[3] = {};
  std::int64_t parts_ = 1;
  std::int64_t sums_offset_ = 0;
  Ex batch_ = nullptr;
  Ex first_ = nullptr;  ///< key of the strip
  // Strips: of d and e, and of a block of queries.
  const loop::Buffer* key_strip_ = nullptr;
  const loop::Buffer* value_strip_ = nullptr;
  const loop::Buffer* key_gradient_ = nullptr;
  const loop::Buffer* value_gradient_ = nullptr;
  const loop::Buffer* rows_ = nullptr;
  const loop::Buffer* probabilities_ = nullptr;
  const loop::Buffer* score_gradient_ = nullptr;
};

}  // namespace

void schedule_attention_backward(GroupEmitter& emitter, const HostTarget& target) {
  AttentionBackwardKernel(emitter, target).run();
}

}  // namespace weft::compiler
