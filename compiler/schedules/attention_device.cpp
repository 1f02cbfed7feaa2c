#include "compiler/schedules/attention_device.h"

#include "compiler/schedules/divide.h"
#include "compiler/schedules/schedule.h"

/// Attention on a GPU's matrix units: a block has some queries and passes over tiles of keys and
/// values in shared memory; scores, probabilities and results are registers of the warp whose
/// queries they belong to, and the results so far are rescaled where a larger score is found.
namespace weft::compiler {
namespace {

using ir::Node;
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
      return device_.tile_bytes(row_fragments_ * 16 * warps, width_) +
             2 * (device_.tile_bytes(keys_, width_) + device_.tile_bytes(keys_, result_width_));
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
  void strip(MatrixUnit& unit, TileLoader& queries, TileLoader& keys, TileLoader& values) {
    AttentionProducts products(b_, unit);
    const Ex own_warp = b_.let(a_.floor_div(thread_, warp));
    const FragmentSource query_source = unit.row_source(queries.buffer(), queries.pitch(), true);
    const FragmentSource key_source = unit.column_source(keys.buffer(), keys.pitch(), true);
    // For the second product keys are the contracted axis.
    const FragmentSource value_source = unit.across_source(values.buffer(), values.pitch());
    const Ex own_row = b_.let(a_.mul(own_warp, a_.integer(16 * row_fragments_)));
    const Ex first_query = b_.let(queries.within(own_row, a_.integer(0)));
    const Ex zero = a_.integer(0);

    const WarpSums results = products.zero(row_fragments_, result_width_ / 8);
    AttentionSoftmax softmax(emitter_, x_, unit, b_.let(a_.add(first_, own_row)), row_fragments_);

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
      softmax.mask(scores, first_key);
      RowFactors rescale;
      const WarpValues probabilities = softmax.exponentiate(scores, rescale);
      softmax.rescale(results, rescale);
      products.add(results, probabilities, value_source, b_.let(values.stage(stage)));
      if (!keys.copies() || !values.copies()) {
        b_.condition(a_.less(next, count), [&] { finish(next); });
      }
    });
    const RowFactors reciprocals = softmax.finish(batch_);
    RowStore rows(b_, x_.n, x_.e, device_.store_width(0));
    products.store(
        results, b_.let(a_.add(first_, own_row)), rows,
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
  const bool f32 = emitter.group().anchor->operand_type(0).dtype == DType::f32;
  if (f32 && !options.tf32) {
    schedule_attention_exact_device(emitter, options);
  } else if (!f32 && suits_attention_wgmma(AttentionExtents(*emitter.group().anchor), options)) {
    schedule_attention_wgmma(emitter, options);
  } else {
    AttentionForward(emitter, options).run();
  }
}

}  // namespace weft::compiler
