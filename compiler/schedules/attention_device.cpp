#include "compiler/schedules/attention_strips.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/thread_indices.h"

/// Attention on a GPU's matrix units: a block has some queries and passes over tiles of keys and
/// values in shared memory; scores, probabilities and results are registers of the warp whose
/// queries they belong to, and the results so far are rescaled where a larger score is found.
namespace weft::compiler {
namespace {

using ir::Node;
using loop::Ex;

constexpr std::int64_t warps = 4;
constexpr std::int64_t longest_row = 256;

class AttentionForward : AttentionStrips {
 public:
  AttentionForward(GroupEmitter& emitter, const DeviceOptions& options)
      : AttentionStrips(emitter),
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
    constexpr std::int64_t threads = warps * warp;
    TileLoader queries = device_.loader("queries", device_.matrix(0), strip_, 1, threads);
    TileLoader keys = device_.loader("keys", device_.matrix(1), keys_, 2, threads);
    TileLoader values = device_.loader("values", device_.matrix(2), keys_, 2, threads);
    phase(x_.n, strip_, threads, true, [&] {
      MatrixUnit unit(b_, device_.type(), b_.let(a_.floor_mod(thread_, warp)));
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

    const WarpSums results = products.zero(row_fragments_, result_width_ / 8);
    AttentionSoftmax softmax(emitter_, x_, unit, b_.let(a_.add(first_, own_row)), row_fragments_);

    const Ex count = key_tiles(strip_, keys_);
    TilePipeline pipeline = passing(keys, values, x_.m, keys_, {.stages = 2, .ahead = 1});
    pipeline.keep(queries, batch_, first_);
    pipeline.run(a_.integer(0), count, [&](Ex number) {
      const Ex stage = pipeline.stage(number);
      const Ex first_key = b_.let(a_.mul(number, a_.integer(keys_)));

      const WarpSums scores = products.zero(row_fragments_, keys_ / 8);
      products.add(scores, query_source, first_query, key_source, b_.let(keys.stage(stage)),
                   width_);
      softmax.mask(scores, first_key);
      RowFactors rescale;
      const WarpValues probabilities = softmax.exponentiate(scores, rescale);
      softmax.rescale(results, rescale);
      products.add(results, probabilities, value_source, b_.let(values.stage(stage)));
    });
    const RowFactors reciprocals = softmax.finish(batch_);
    store(products, results, b_.let(a_.add(first_, own_row)), 0, x_.n, x_.e,
          [&](Ex value, std::size_t r, std::size_t half) {
            return a_.mul(value, reciprocals[r][half]);
          });
  }

  std::int64_t width_, result_width_;  ///< of a row of keys and of values, padded
  std::int64_t row_fragments_ = 1;     ///< of a warp
  std::int64_t keys_ = 0;              ///< of a tile
  std::int64_t strip_ = 0;             ///< queries of a block
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
