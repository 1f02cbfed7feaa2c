#include <limits>
#include <numbers>

#include "compiler/loop/math.h"
#include "compiler/schedules/attention_tiles.h"

/// Attention on a CPU: a query is a vector lane, so that the softmax needs no sums across lanes,
/// and keys and values are read as they lie. For each strip of queries the keys pass in blocks
/// whose scores stay in a first-level cache; the result so far is rescaled where a larger score is
/// found.
namespace weft::compiler {
namespace {

using ir::Node;
using ir::Value;
using loop::Ex;

class AttentionKernel {
 public:
  AttentionKernel(GroupEmitter& emitter, const HostTarget& target)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        node_(*emitter.group().anchor),
        x_(node_),
        tiles_(emitter, target, x_, x_.n),
        keys_{node_.operands[1], x_.m, x_.d},
        values_{node_.operands[2], x_.m, x_.e},
        key_tile_(tiles_.even_tile(x_.m)),
        block_(tiles_per_block * key_tile_) {}

  void run() {
    tiles_.pack({&keys_, &values_});
    const std::int64_t width = tiles_.width();
    queries_ = b_.kernel().local("queries", DType::f32, x_.d * width);
    result_ = b_.kernel().local("result", DType::f32, x_.e * width);
    rows_ = b_.kernel().local("rows", DType::f32, x_.e * width);
    scores_ = b_.kernel().local("scores", DType::f32, block_ * width);
    maximum_ = b_.kernel().local("maximum", DType::f32, width);
    next_maximum_ = b_.kernel().local("next_maximum", DType::f32, width);
    rescale_ = b_.kernel().local("rescale", DType::f32, width);
    total_ = b_.kernel().local("total", DType::f32, width);
    const std::int64_t work = width * x_.m * (x_.d + x_.e) / (x_.causal ? 2 : 1);
    tiles_.for_parts(tiles_.strips(), work, [&](Ex batch, Ex strip) { this->strip(batch, strip); });
  }

 private:
  /// Scores of a block: 12 KiB by AVX-512.
  static constexpr std::int64_t tiles_per_block = 8;

  void strip(Ex batch, Ex number) {
    first_ = a_.mul(number, a_.integer(tiles_.width()));
    // exp(x) is 2^(x log2 e): the factor is applied to the queries once.
    tiles_.transpose(queries_, node_.operands[0], batch, first_, x_.scale * std::numbers::log2e);
    tiles_.fill(result_, x_.e, tiles_.zero());
    tiles_.fill(total_, 1, tiles_.zero());
    tiles_.fill(maximum_, 1, tiles_.real(-std::numeric_limits<double>::infinity()));
    tiles_.fill(next_maximum_, 1, tiles_.real(-std::numeric_limits<double>::infinity()));
    Ex end = a_.integer(x_.m);
    if (x_.causal) {
      const Ex last = a_.add(first_, a_.integer(tiles_.width() + x_.offset()));
      end = b_.let_within(tiles_.smaller(end, last), 1, x_.m);
    }
    const Ex blocks = a_.floor_div(a_.add(end, a_.integer(block_ - 1)), block_);
    b_.loop(blocks, [&](Ex block) {
      const Ex begin = b_.let(a_.mul(block, a_.integer(block_)));
      score(batch, begin, end);
      // Scores are there for whole tiles.
      const Ex left = a_.sub(end, begin);
      const Ex tiles = a_.floor_div(a_.add(left, a_.integer(key_tile_ - 1)), key_tile_);
      const Ex whole = tiles_.smaller(a_.mul(tiles, a_.integer(key_tile_)), a_.integer(block_));
      const Ex count =
          b_.let_within(tiles_.smaller(whole, a_.sub(a_.integer(x_.m), begin)), 1, block_);
      exponentiate(count);
      add_values(batch, begin, count);
    });
    store(batch);
  }

  /// scores_[j, lane], masked, and their maximum.
  void score(Ex batch, Ex begin, Ex end) {
    tiles_.for_tiles_within(
        begin, end, block_, x_.m, key_tile_, [&](Ex first_key, std::int64_t count) {
          const Ex key = b_.let_within(a_.add(begin, first_key), 0, x_.m - count);
          AttentionTiles::Multiply product;
          product.rows = count;
          product.steps = a_.integer(x_.d);
          product.x = [&](std::int64_t r, Ex step) {
            return tiles_.element(keys_, batch, a_.add(key, a_.integer(r)), step);
          };
          product.y = [&](Ex step, Ex lane) {
            return a_.load(queries_, tiles_.in_strip(step, lane));
          };
          product.finish = [&](Ex lane, const std::vector<Ex>& sums) {
            Ex maximum = a_.load(next_maximum_, lane);
            for (std::size_t r = 0; r < sums.size(); ++r) {
              const Ex row = a_.integer(static_cast<std::int64_t>(r));
              Ex value = sums[r];
              if (x_.causal) {
                const Ex last = a_.add(a_.add(first_, lane), a_.integer(x_.offset()));
                value = b_.let(a_.select(a_.less_equal(a_.add(key, row), last), value,
                                         tiles_.real(-std::numeric_limits<double>::infinity())));
              }
              maximum = tiles_.larger(maximum, value);
              b_.store(scores_, tiles_.in_strip(a_.add(first_key, row), lane), value);
            }
            b_.store(next_maximum_, lane, maximum);
          };
          tiles_.multiply(product);
        });
  }

  /// scores_ becomes 2^(scores_ - maximum); what was found before is to be rescaled.
  void exponentiate(Ex count) {
    tiles_.for_lanes([&](Ex lane) {
      const Ex maximum = b_.let(a_.load(next_maximum_, lane));
      const Ex rescale = b_.let(loop::exp2(a_, a_.sub(a_.load(maximum_, lane), maximum)));
      loop::Accumulator* total = b_.declare(loop::Scalar::f32, loop::Combine::add, tiles_.zero());
      b_.assign(total, a_.mul(a_.load(total_, lane), rescale));
      b_.loop(count, [&](Ex j) {
        const Ex position = tiles_.in_strip(j, lane);
        const Ex value = b_.let(loop::exp2(a_, a_.sub(a_.load(scores_, position), maximum)));
        b_.store(scores_, position, value);
        b_.accumulate(total, value);
      });
      b_.store(total_, lane, b_.read(total));
      b_.store(rescale_, lane, rescale);
      b_.store(maximum_, lane, maximum);
    });
  }

  /// result_[c, lane] = rescale * result_ + sum_j v[j, c] scores_[j, lane].
  void add_values(Ex batch, Ex begin, Ex count) {
    tiles_.for_tiles(x_.e, tiles_.even_tile(x_.e), [&](Ex column, std::int64_t columns) {
      AttentionTiles::Multiply product;
      product.rows = columns;
      product.steps = count;
      const auto position = [&](std::int64_t r, Ex lane) {
        return tiles_.in_strip(a_.add(column, a_.integer(r)), lane);
      };
      product.initial = [&](std::int64_t r, Ex lane) {
        return a_.mul(a_.load(result_, position(r, lane)), a_.load(rescale_, lane));
      };
      product.x = [&](std::int64_t r, Ex step) {
        return tiles_.element(values_, batch, a_.add(begin, step), a_.add(column, a_.integer(r)));
      };
      product.y = [&](Ex step, Ex lane) { return a_.load(scores_, tiles_.in_strip(step, lane)); };
      product.finish = [&](Ex lane, const std::vector<Ex>& sums) {
        for (std::size_t r = 0; r < sums.size(); ++r) {
          b_.store(result_, position(static_cast<std::int64_t>(r), lane), sums[r]);
        }
      };
      tiles_.multiply(product);
    });
  }

  void store(Ex batch) {
    const auto reciprocal = [&](Ex lane) { return a_.div(tiles_.real(1), a_.load(total_, lane)); };
    tiles_.store_transposed(result_, rows_, 0, batch, first_, reciprocal);
    const Value normaliser{const_cast<Node*>(&node_), 1};
    if (!emitter_.is_output(normaliser)) return;
    tiles_.for_lanes([&](Ex lane) {
      const Ex row = a_.add(first_, lane);
      const Ex logarithm = a_.add(a_.load(maximum_, lane), loop::log2(a_, a_.load(total_, lane)));
      const Ex inside = x_.n % tiles_.width() == 0 ? nullptr : a_.less(row, a_.integer(x_.n));
      emitter_.store(normaliser, a_.add(a_.mul(batch, a_.integer(x_.n)), row),
                     {a_.mul(logarithm, tiles_.real(std::numbers::ln2)), nullptr}, inside);
    });
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const Node& node_;
  AttentionExtents x_;
  AttentionTiles tiles_;
  AttentionRows keys_, values_;
  std::int64_t key_tile_;
  std::int64_t block_;  ///< keys of a block
  Ex first_ = nullptr;  ///< query of the strip
  // Strips: of d, e, e (by rows), keys of a block, and one for each query.
  const loop::Buffer* queries_ = nullptr;
  const loop::Buffer* result_ = nullptr;
  const loop::Buffer* rows_ = nullptr;
  const loop::Buffer* scores_ = nullptr;
  const loop::Buffer* maximum_ = nullptr;
  const loop::Buffer* next_maximum_ = nullptr;
  const loop::Buffer* rescale_ = nullptr;
  const loop::Buffer* total_ = nullptr;
};

}  // namespace

void schedule_attention(GroupEmitter& emitter, const HostTarget& target) {
  AttentionKernel(emitter, target).run();
}

}  // namespace weft::compiler
